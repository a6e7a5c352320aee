"""Filtered reads on three nodes, against a model: by key, headers, text and time, of every codec, from
every node, while it is written to, and with a node's files damaged.
"""

import glob
import json
import time

from cluster import expect, main, run, wait_for

BATCHES = 24
COUNT = 250


def model():
    """(key, kind, value, codec), by offset; all of a batch have its kind and codec."""
    records = []
    for b in range(BATCHES):
        for i in range(COUNT):
            n = b * COUNT + i
            records.append((f"user{n * n % 97}", ("order", "payment", "refund")[b % 3],
                            f"line {n} of {'many' if n % 5 else 'few'}", ("none", "lz4", "zstd")[b % 3]))
    return records


def write(cluster, records):
    """Times between the batches, in microseconds since 1970."""
    times = []
    for b in range(BATCHES):
        part = records[b * COUNT:(b + 1) * COUNT]
        data = "".join(f"{key}:{value}\n" for key, _, value, _ in part).encode()
        times.append(time.time_ns() // 1000)
        run("produce", "t", "--create", "-K", ":", "-H", f"kind={part[0][1]}", "-H", "common=1",
            "--compression", part[0][3], "--atomic", "-s", cluster.servers(), input=data)
    return times


def read(cluster, node, *options):
    """(offsets, the report) of a filtered consume of a node."""
    done = run("consume", "t", "--json", "-s", cluster.address(node), *options)
    offsets = [json.loads(line)["offset"] for line in done.stdout.splitlines()]
    return offsets, json.loads(done.stderr.splitlines()[-1])


def moment(micros):
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(micros // 1_000_000))
    return f"{seconds}.{micros % 1_000_000:06d}Z"


def expect_records(cluster, records, wanted, *options, scanned=None):
    offsets = [n for n, record in enumerate(records) if wanted(n, record)]
    for node in cluster.ids():
        got, report = read(cluster, node, *options)
        expect(got == offsets, f"{options} of node {node}: {len(got)} records, not {len(offsets)}")
        expect(report["records_scanned"] == (len(records) if scanned is None else scanned),
               f"{options} of node {node}: {report}")


def test(cluster):
    cluster.start_all()
    records = model()
    times = write(cluster, records)
    expect(cluster.wait_equal("t") == len(records), "not all records are there")
    expect_records(cluster, records, lambda n, r: r[0] == "user4", "--key", "user4")
    expect_records(cluster, records, lambda n, r: r[1] == "payment", "--header", "kind=payment")
    expect_records(cluster, records, lambda n, r: True, "--header", "common")
    expect_records(cluster, records, lambda n, r: False, "--header", "kind=none")
    expect_records(cluster, records, lambda n, r: "few" in r[2] and "77" in r[2],
                   "--grep", "few", "--grep", "77")
    expect_records(cluster, records, lambda n, r: r[1] == "refund" and r[0] == "user4" and "many" in r[2],
                   "--header", "kind=refund", "-k", "user4", "-g", "many")
    by_time(cluster, records, times)
    latest(cluster, records)
    bad_filters(cluster)
    where_files_are_damaged(cluster, records)


def by_time(cluster, records, times):
    since, until = moment(times[10]), moment(times[20])
    inside = range(10 * COUNT, 20 * COUNT)
    expect_records(cluster, records, lambda n, r: n in inside, "--since", since, "--until", until,
                   scanned=len(inside))
    expect_records(cluster, records, lambda n, r: n in inside and r[0] == "user4", "--since", since,
                   "--until", until, "--key", "user4", scanned=len(inside))
    expect_records(cluster, records, lambda n, r: n >= 10 * COUNT, "--since", since,
                   scanned=len(records) - 10 * COUNT)
    expect_records(cluster, records, lambda n, r: True, "--since", "1h")
    expect_records(cluster, records, lambda n, r: False, "--until", "1h", scanned=0)
    done = run("consume", "t", "-o", f"@{since}", "-n", "1", "-f", "%o\\n", "-s", cluster.address(1))
    expect(done.stdout == f"{10 * COUNT}\n".encode(), f"-o @{since}: {done.stdout}")


def latest(cluster, records):
    last = max(n for n, r in enumerate(records) if r[0] == "user4")
    for node in cluster.ids():
        got, _ = read(cluster, node, "--key", "user4", "--latest")
        expect(got == [last], f"the latest of node {node}: {got}, not {last}")
        got, _ = read(cluster, node, "--key", "nobody", "--latest")
        expect(got == [], f"the latest of nobody on node {node}: {got}")
    done = run("consume", "t", "--key", "user4", "-n", "3", "-f", "%o\\n", "-s", cluster.servers())
    first = [n for n, r in enumerate(records) if r[0] == "user4"][:3]
    expect([int(line) for line in done.stdout.split()] == first, f"the first three: {done.stdout}")
    expect(b"scanned " in done.stderr and b"skipped 0 segments" in done.stderr, done.stderr.decode())


def bad_filters(cluster):
    cases = [
        (("--header", "="), b"a header filter is NAME=VALUE or NAME; got '='"),
        (("--grep", ""), b"a text to search for has at least one byte"),
        (("--since", "yesterday"), b"option '--since': 'yesterday' is not a time: write 2026-11-22T10"),
        (("--since", "1h", "--until", "2h"), b"since must be before its until"),
        (("--latest",), b"option '--latest' goes with '--key'"),
        (("--latest", "--key", "k", "--follow"), b"not with --follow"),
        (("--until", "1h", "--follow"), b"exclude each other"),
        (("--grep", "x" * 4097), b"at most 4096 bytes"),
        (tuple(["--header", "a"] * 17), b"at most 16 conditions"),
    ]
    for options, text in cases:
        done = run("consume", "t", *options, "-s", cluster.address(1), check=False)
        expect(done.returncode == 2 and text in done.stderr, f"{options}: {done}")
        expect(done.stdout == b"", f"{options}: {done.stdout}")


def where_files_are_damaged(cluster, records):
    """A node whose copy is damaged under it answers with what others have."""
    node = cluster.followers()[0]
    stores = glob.glob(f"{cluster.data(node)}/**/*.store", recursive=True)
    expect(stores, "no store on the disk")
    for path in stores:
        with open(path, "r+b") as store:
            store.seek(5000)
            store.write(b"damage")
    wanted = [n for n, r in enumerate(records) if r[0] == "user4"]
    got, report = read(cluster, node, "--key", "user4")
    expect(got == wanted, f"of a damaged node: {len(got)} records, not {len(wanted)}")
    expect(report["records_scanned"] >= len(records), f"of a damaged node: {report}")
    wait_for("the node has met the damage", lambda: found_damage(cluster, node))


def found_damage(cluster, node):
    with open(cluster.log_path(node), encoding="utf-8", errors="replace") as log:
        return "event=damage_found" in log.read()


if __name__ == "__main__":
    main(test)
