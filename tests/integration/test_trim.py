"""Trims and retention on three real nodes: asked of a follower, the start is the same, to the record, on
all nodes, also after restarts and on a node that was away and needs a snapshot; files go; bounds by
records and bytes hold under load; verify, prove, backup and cursors go on with what is left.
"""

import json
import os
import re
import sys
import tempfile
import threading

from cluster import expect, main, run, wait_for

OPTIONS = ["--retention-interval-ms", "200", "--segment-size", "16K", "--snapshot-size", "256K", "--batch-size-max", "4K",
           "--trailing-size", "0"]


def describe(cluster, node, topic):
    done = run("topic", "describe", topic, "--json", "-s", cluster.address(node), check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def wait_start(cluster, topic, start):
    for node in cluster.ids():
        wait_for(f"{topic} begins at {start} on node {node}",
                 lambda node=node: (describe(cluster, node, topic) or {}).get("start") == start)


def produce(cluster, topic, count, first=0):
    lines = b"".join(b"%d %s\n" % (first + i, b"v" * 400) for i in range(count))
    run("produce", topic, "--create", "-s", cluster.servers(), input=lines)


def trim(cluster, topic, before, node=None, check=True):
    server = cluster.address(node) if node else cluster.servers()
    done = run("topic", "trim", topic, "--before", str(before), "--json", "-s", server, check=check)
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr.decode()


def read(cluster, node, topic, *options):
    done = run("consume", topic, *options, "-f", "%o %v\\n", "-s", cluster.address(node),
               check=False)
    return done.returncode, done.stdout.decode().splitlines(), done.stderr.decode()


def offsets(lines):
    return [int(line.split()[0]) for line in lines]


def stores(cluster, node, topic):
    names = []
    for path, _, files in os.walk(cluster.data(node)):
        if os.path.basename(path).startswith(topic + "-"):
            names += [name for name in files if name.endswith(".store")]
    return sorted(names)


def check_exact(cluster):
    """Through a follower; the same everywhere, and readers see it."""
    produce(cluster, "exact", 1000)
    node = cluster.followers()[0]
    before = len(stores(cluster, node, "exact"))
    expect(before > 10, f"the topic has {before} files")
    answer = trim(cluster, "exact", 703, node)
    expect(answer["start"] == 703, f"trimmed to 703: {answer}")
    wait_start(cluster, "exact", 703)
    for node in cluster.ids():
        code, lines, _ = read(cluster, node, "exact", "-o", "start")
        expect(code == 0 and offsets(lines) == list(range(703, 1000)),
               f"node {node} gives 703 to 999: {offsets(lines)[:3]}")
        code, lines, err = read(cluster, node, "exact", "-o", "702", "-n", "1")
        expect(code != 0 and not lines and "begins at 703" in err,
               f"node {node} says what is gone: {err}")
        wait_for(f"files go on node {node}",
                 lambda node=node: len(stores(cluster, node, "exact")) < before / 2)
    expect(trim(cluster, "exact", 10)["start"] == 703, "nobody trims back")
    text = trim(cluster, "exact", 1001, check=False)
    expect(isinstance(text, str) and "beyond the end" in text, f"beyond the end: {text}")
    text = trim(cluster, "nothing", 5, check=False)
    expect(isinstance(text, str) and "no such topic" in text, f"an unknown topic: {text}")
    expect(trim(cluster, "exact", "@2020-01-01T00:00:00Z")["start"] == 703, "nothing is so old")


def check_tools(cluster):
    """What is left can be verified, proven, backed up, and read from a cursor."""
    done = run("verify", "exact", "-s", cluster.servers(), check=False)
    expect(done.returncode == 0, f"verify: {done.stdout.decode()} {done.stderr.decode()}")
    with tempfile.TemporaryDirectory() as scratch:
        proof = os.path.join(scratch, "proof")
        run("prove", "exact", "990", "-o", proof, "-s", cluster.servers())
        run("prove", "--check", proof)
        done = run("prove", "exact", "703", "-s", cluster.servers(), check=False)
        expect(done.returncode == 1 and b"nothing to chain it to" in done.stderr,
               f"the first batch cannot be proven: {done.stderr.decode()}")
        copy = os.path.join(scratch, "backup")
        for _ in range(2):
            done = run("backup", copy, "-s", cluster.servers(), check=False)
            expect(done.returncode == 0, f"backup: {done.stderr.decode()}")
        run("backup", "--verify", copy)
    run("cursor", "set", "exact", "c", "710", "-s", cluster.servers())
    expect(trim(cluster, "exact", 720)["start"] == 720, "trimmed past the cursor")


def check_restart(cluster):
    for node in cluster.ids():
        cluster.kill(node)
    cluster.start_all()
    cluster.wait_leader()
    wait_start(cluster, "exact", 720)
    produce(cluster, "exact", 10, 1000)
    cluster.wait_equal("exact")
    wait_start(cluster, "exact", 720)


def check_lagging(cluster):
    """One is away, the others trim and take snapshots; it comes back without what it lacks."""
    node = cluster.followers()[0]
    cluster.kill(node)
    produce(cluster, "exact", 3000, 1010)
    trim(cluster, "exact", 2222)
    produce(cluster, "exact", 3000, 4010)
    trim(cluster, "exact", 5555)
    cluster.start(node, wait=True)
    wait_start(cluster, "exact", 5555)
    cluster.wait_equal("exact")
    code, lines, _ = read(cluster, node, "exact", "-o", "start")
    expect(code == 0 and offsets(lines) == list(range(5555, 7010)), "the one that was away has it all")
    done = run("verify", "exact", "-s", cluster.servers(), check=False)
    expect(done.returncode == 0, f"verify: {done.stdout.decode()} {done.stderr.decode()}")


def check_bounds(cluster):
    """Bounds hold while somebody writes, and a stream that is overtaken is told."""
    run("topic", "create", "bound", "--retention-records", "500", "-s", cluster.servers())
    run("topic", "create", "size", "--retention-bytes", "65536", "-s", cluster.servers())
    threads = [threading.Thread(target=produce, args=(cluster, name, 4000)) for name in ("bound", "size")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_start(cluster, "bound", 3500)
    state = {}

    def is_small():
        state.update({node: describe(cluster, node, "size") for node in cluster.ids()})
        starts = {topic["start"] for topic in state.values() if topic}
        return len(starts) == 1 and 4000 * 400 > 65536 and min(starts) > 3000
    wait_for("the size is bounded on all nodes", is_small)
    start = state[cluster.ids()[0]]["start"]
    code, lines, _ = read(cluster, cluster.ids()[0], "size", "-o", "start")
    expect(code == 0 and offsets(lines) == list(range(start, 4000)), "what is left is whole")
    text = run("topic", "describe", "bound", "-s", cluster.servers()).stdout.decode()
    expect(re.search(r"next +offset 3500 goes now|next +offset 3500 goes when 1 more record is", text), f"foretold: {text}")


def test(cluster):
    cluster.start_all()
    cluster.wait_leader()
    check_exact(cluster)
    check_tools(cluster)
    check_restart(cluster)
    check_lagging(cluster)
    check_bounds(cluster)


if __name__ == "__main__":
    sys.exit(main(test, options=OPTIONS))
