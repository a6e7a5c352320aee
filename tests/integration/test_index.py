"""Indexes on three nodes: made while the topic is written to, each node with its own set; looked up on every
node; deleted and damaged under a stopped node, and made again; dropped.
"""

import glob
import json
import os
import time

from cluster import expect, main, run, wait_for

KEYS = 997
COUNT = 30000
ALL = "time,key=btree,key=bloom"


def lines(first, count):
    return "".join(f"k{n % KEYS}:value {n}\n" for n in range(first, first + count)).encode()


def indexes(cluster, node, topic="t"):
    done = run("topic", "describe", topic, "--json", "-s", cluster.address(node))
    return {row["index"]: row for row in json.loads(done.stdout).get("indexes", [])}


def wait_ready(cluster, node, names):
    def look():
        rows = indexes(cluster, node)
        return sorted(rows) == sorted(names) and all(
            row["state"] == "ready" and row["left"] == 0 for row in rows.values())
    wait_for(f"the indexes of node {node} are ready: {indexes(cluster, node)}", look, timeout=90)


def read(cluster, node, *options):
    done = run("consume", "t", "--json", "-s", cluster.address(node), *options)
    return ([json.loads(line)["offset"] for line in done.stdout.splitlines()],
            json.loads(done.stderr.splitlines()[-1]))


def check(cluster, node, end, few=True):
    for key in (0, 5, 996):
        wanted = list(range(key, end, KEYS))
        got, report = read(cluster, node, "--key", f"k{key}")
        expect(got == wanted, f"key k{key} of node {node}: {len(got)} records, not {len(wanted)}")
        got, latest = read(cluster, node, "--key", f"k{key}", "--latest")
        expect(got == wanted[-1:], f"the latest of k{key} of node {node}: {got}, not {wanted[-1]}")
        if few:
            expect(latest["records_scanned"] < end / 4, f"latest k{key} of node {node}: {latest}")
    got, report = read(cluster, node, "--key", "nobody")
    expect(got == [], f"of nobody on node {node}: {got}")
    if few:
        expect(report["records_scanned"] < end / 4 and report["segments_skipped"] > 0,
               f"nobody on node {node}: {report}")


def files(cluster, node):
    return sorted(glob.glob(f"{cluster.data(node)}/indexes/*/*"))


def log_has(cluster, node, text):
    with open(cluster.log_path(node), encoding="utf-8", errors="replace") as log:
        return text in log.read()


def flip(path, bit):
    with open(path, "r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def test(cluster):
    cluster.start_all()
    run("topic", "create", "t", "--segment-bytes", "32K", "-s", cluster.servers())
    run("produce", "t", "-K", ":", "-s", cluster.servers(), input=lines(0, COUNT))
    # Under load: what comes meanwhile is in them, too.
    run("topic", "alter", "t", "--index", ALL, "-s", cluster.servers())
    run("topic", "alter", "t", "--index", "key=bloom", "--on", "2", "-s", cluster.servers())
    for part in range(5):
        run("produce", "t", "-K", ":", "-s", cluster.servers(), input=lines(COUNT + part * 1000, 1000))
    end = COUNT + 5000
    expect(cluster.wait_equal("t") == end, "not all records are there")
    for node in cluster.ids():
        wait_ready(cluster, node, ["key=bloom"] if node == 2 else ALL.split(","))
        check(cluster, node, end, few=node != 2)
    expect(not any(path.endswith(".keys") for path in files(cluster, 2)), files(cluster, 2))
    deleted_and_damaged(cluster, end)
    dropped(cluster, end)


def deleted_and_damaged(cluster, end):
    node = 3
    cluster.kill(node, how=15)
    paths = files(cluster, node)
    kinds = {suffix: [path for path in paths if path.endswith(suffix)]
             for suffix in (".timeindex", ".bloom", ".keys")}
    expect(all(kinds.values()), f"not all kinds of files: {paths}")
    os.unlink(kinds[".bloom"][0])
    os.unlink(kinds[".timeindex"][-1])
    for at, (suffix, some) in enumerate(sorted(kinds.items())):
        flip(some[len(some) // 2], 8 * os.path.getsize(some[len(some) // 2]) * (at + 1) // 5)
    cluster.start(node, wait=True)
    expect(cluster.wait_equal("t") == end, "the node has not all records")
    check(cluster, node, end, few=False)
    read(cluster, node, "--since", "1h")
    wait_for("damage is named", lambda: log_has(cluster, node, "event=index_damaged"))
    wait_for("the key index was made again",
             lambda: log_has(cluster, node, "index=btree reason"))
    wait_ready(cluster, node, ALL.split(","))
    check(cluster, node, end)


def dropped(cluster, end):
    run("topic", "alter", "t", "--index", "none", "-s", cluster.servers())
    run("topic", "alter", "t", "--index", "default", "--on", "2", "-s", cluster.servers())
    for node in cluster.ids():
        wait_for(f"node {node} has no index files", lambda: not files(cluster, node))
        check(cluster, node, end, few=False)


if __name__ == "__main__":
    main(test)
