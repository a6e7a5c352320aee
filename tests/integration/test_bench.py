"""quorlog bench on three nodes: each mode for a moment, what it counts, what it prints, how it ends.

Nothing here says how fast anything is. That an open loop accounts for coordinated omission is shown by
counts: while a node does not run, no record that was planned for that time can be answered in time.
"""

import json
import os
import pty
import select
import signal
import subprocess
import time

from cluster import QUORLOG, expect, main, run, wait_for

RATE = 1000


def bench(cluster, *args, servers=None, **more):
    return run("bench", *args, "-s", servers or cluster.servers(), timeout=120, **more)


def start(cluster, *args, servers=None):
    return subprocess.Popen([QUORLOG, "bench", *args, "--json", "-s", servers or cluster.servers()],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process, code=0):
    """Its object and what it says on standard error."""
    out, errors = process.communicate(timeout=60)
    expect(process.returncode == code, f"exit {process.returncode}, not {code}: {errors.decode()}")
    return json.loads(out) if out else None, errors.decode()


def end_of(cluster, topic, node=None):
    done = run("topic", "describe", topic, "--json", "-s",
               cluster.address(node) if node else cluster.servers(), "--timeout", "2000", check=False)
    return json.loads(done.stdout)["end"] if done.returncode == 0 else 0


def check_sums(figures):
    total = sum(figures[fate] for fate in ("acknowledged", "failed", "unanswered", "unsent"))
    expect(figures["planned"] == total, f"planned and what became of it: {figures}")
    expect(figures["late"] >= figures["late_full"], f"late: {figures}")
    slower = list(figures["slower_than_ms"].values())
    expect(slower == sorted(slower, reverse=True) and slower[0] <= total, f"slower: {slower}")


def check_nodes(cluster, figures):
    leaders = [n for n in figures["nodes"] if n["state"] == "leader"]
    expect([n["id"] for n in leaders] == [figures["leader"]], f"leaders: {figures['nodes']}")
    expect({n["address"] for n in figures["nodes"]} == {cluster.address(i) for i in cluster.ids()},
           f"addresses: {figures['nodes']}")
    for node in figures["nodes"]:
        expect(node["memory"] > 0 and node["cpu_s_per_million"] > 0, f"a node's cost: {node}")
    expect(figures["records_per_journal_write"] > 0, "no journal writes")


# ---- the modes ----

def closed_loop(cluster):
    done = bench(cluster, "produce", "--json", "--topic", "closed", "--topics", "3", "-C", "2",
                 "-i", "6", "--seconds", "1")
    figures = json.loads(done.stdout)
    expect(done.stderr == b"", f"on a pipe nothing is said: {done.stderr}")
    expect(figures["mode"] == "closed" and figures["durability"] == "fsync on a majority", str(figures))
    expect(figures["topics"] == 3 and figures["connections"] == 2 and figures["inflight"] == 6, str(figures))
    expect(figures["records"] > 0 and figures["records_per_s"] > 0 and figures["mb_per_s"] > 0, str(figures))
    expect(figures["p50_ms"] <= figures["p99_ms"] <= figures["p999_ms"] <= figures["max_ms"], str(figures))
    expect(figures["replicas_min"] >= 2 and figures["voters"] == 3, f"durability: {figures}")
    expect(figures["errors"] == {} and not figures["interrupted"], str(figures))
    expect("planned" not in figures and "streams" not in figures, "a closed loop has no plan")
    check_nodes(cluster, figures)
    ends = [cluster.wait_equal(f"closed-{i}") for i in range(3)]
    expect(sum(ends) >= figures["records"] and min(ends) > 0, f"records of the topics: {ends}")
    expect(end_of(cluster, "closed") == 0, "a topic without a number was made, too")


def open_loop(cluster):
    done = bench(cluster, "produce", "--json", "--topic", "open", "--rate", str(RATE), "--seconds", "1",
                 "-C", "3", "--size", "50")
    figures = json.loads(done.stdout)
    expect(figures["mode"] == "open" and figures["rate"] == RATE, str(figures))
    expect(figures["planned"] == RATE and figures["acknowledged"] == RATE, f"counts: {figures}")
    check_sums(figures)
    check_nodes(cluster, figures)
    # The second that warms up is not measured, but it is written.
    expect(cluster.wait_equal("open") == 2 * RATE, "other records than those of two seconds")


def end_to_end(cluster):
    """Two topics of three streams each, from followers; all decoded, or only some."""
    leader = cluster.wait_leader()
    for topic, sample in (("all", None), ("some", 1)):
        done = bench(cluster, "end-to-end", "--json", "--topic", topic, "--topics", "2", "-C", "2",
                     "--rate", "500", "--seconds", "1", "--streams", "6", "--stream-connections", "4",
                     *(("--sample", str(sample)) if sample else ()))
        figures = json.loads(done.stdout)
        check_sums(figures)
        check_nodes(cluster, figures)
        expect(figures["mode"] == "end-to-end" and figures["planned"] == figures["acknowledged"] == 500,
               f"counts: {figures}")
        expect(figures["delivered"] == 3 * 1000 and figures["missing"] == 0, f"deliveries: {figures}")
        expect(figures["foreign"] == 0 and figures["stream_errors"] == {}, str(figures))
        for name, count in (("planned_to_acknowledged", 500), ("acknowledged_to_delivered", 1500),
                            ("planned_to_delivered", 1500)):
            latency = figures[name]
            expect(latency["records"] == count, f"{name}: {latency}")
            expect(latency["p50_ms"] <= latency["p99_ms"] <= latency["p999_ms"] <= latency["max_ms"],
                   f"{name}: {latency}")
        expect(figures["planned_to_delivered"]["max_ms"] >= figures["acknowledged_to_delivered"]["max_ms"],
               str(figures))
        readers = {r["server"]: r["streams"] for r in figures["readers"]}
        expect(sum(readers.values()) == 6 and figures["stream_connections"] == 4, f"readers: {readers}")
        expect(set(readers) == {cluster.address(i) for i in cluster.ids() if i != leader},
               f"readers of others than the followers: {readers}")
        if sample:
            expect(500 <= figures["looked_at"] <= 3000 and figures["sample"] == 1, str(figures))
        else:
            expect(figures["looked_at"] == 3000 and figures["sample"] == 6, str(figures))
        expect([cluster.wait_equal(f"{topic}-{i}") for i in range(2)] == [500, 500], "written")


def passes_over_what_others_wrote(cluster):
    run("topic", "create", "mixed", "-s", cluster.servers())
    process = start(cluster, "end-to-end", "--topic", "mixed", "--rate", "100", "--seconds", "60",
                    "--streams", "2", "--sample", "1")
    wait_for("it writes", lambda: end_of(cluster, "mixed") > 0)
    run("produce", "mixed", "-s", cluster.servers(), input=b"x\n" * 10)
    run("produce", "mixed", "-s", cluster.servers(), input=b"y" * 200 + b"\n")
    wait_for("it measures", lambda: end_of(cluster, "mixed") > 150)
    process.send_signal(signal.SIGINT)
    figures, _ = finish(process)
    expect(figures["foreign"] >= 11 and figures["missing"] == 0, f"others' records: {figures}")


def people(cluster):
    """What a person sees: a table, and progress only on a terminal."""
    done = bench(cluster, "produce", "--topic", "table", "--seconds", "1", "-i", "4")
    for name in ("load", "durability", "throughput", "latency", "slower than", "journal", "node 1",
                 "node 2", "node 3", "this program", "errors", "retries"):
        expect(any(line.startswith(name) for line in done.stdout.decode().splitlines()),
               f"no line '{name}' in {done.stdout.decode()}")
    master, slave = pty.openpty()
    process = subprocess.Popen([QUORLOG, "bench", "end-to-end", "--topic", "table", "--rate", "200",
                                "--seconds", "3", "-s", cluster.servers()], stdout=subprocess.PIPE,
                               stderr=slave)
    os.close(slave)
    shown = b""
    while process.poll() is None or select.select([master], [], [], 0)[0]:
        if select.select([master], [], [], 0.1)[0]:
            try:
                shown += os.read(master, 4096)
            except OSError:  # The other side is closed, and all has been read.
                break
    out = process.communicate(timeout=60)[0].decode()
    os.close(master)
    expect(process.returncode == 0, f"exit {process.returncode}: {out} {shown}")
    for text in (b"warming up", b"s left", b"records/s", b"p99", b"delivered/s"):
        expect(text in shown, f"'{text}' was not shown: {shown}")
    for name in ("streams", "delivered", "rate kept", "late"):
        expect(any(line.startswith(name) for line in out.splitlines()), f"no line '{name}' in {out}")


# ---- what a stall does ----

def stall(cluster):
    """The node that passes the records on does not run for half a second: every record that was
    planned for that time is slow, however fast the machine is, and those beyond what may be under
    way are handed in late."""
    inflight = 64
    node = cluster.followers()[0]
    other = next(i for i in cluster.ids() if i != node)
    process = start(cluster, "produce", "--topic", "stall", "--rate", str(RATE), "--seconds", "60",
                    "-i", str(inflight), servers=cluster.address(node))
    # More than a second's records: it is being measured.
    wait_for("it measures", lambda: end_of(cluster, "stall", other) > 1.2 * RATE)
    cluster.pause(node)
    begin = time.monotonic()
    time.sleep(0.5)
    stopped = time.monotonic() - begin
    cluster.resume(node)
    end = end_of(cluster, "stall", other)
    wait_for("it goes on", lambda: end_of(cluster, "stall", other) > end + RATE)
    process.send_signal(signal.SIGINT)
    figures, _ = finish(process)
    check_sums(figures)
    expect(figures["interrupted"] and figures["acknowledged"] == figures["planned"], f"counts: {figures}")
    expect(cluster.wait_equal("stall") == RATE + figures["planned"], "records were lost, or written twice")
    slow = figures["slower_than_ms"]["100"]
    expect(slow >= RATE * (stopped - 0.1) - 2, f"{slow} slow records in a stall of {stopped:.3f} s")
    late = figures["late_full"]
    expect(late >= RATE * (stopped - 0.01) - inflight - 2, f"{late} late ones in {stopped:.3f} s")
    expect(figures["late_max_ms"] >= 1000 * (stopped - 0.05) - 1000 * inflight / RATE,
           f"the latest by {figures['late_max_ms']} ms in {stopped:.3f} s")
    expect(slow <= figures["planned"] / 100 or figures["p99_ms"] >= 100,
           f"p99 {figures['p99_ms']} ms with {slow} of {figures['planned']} above 100 ms")


def hopeless_rate(cluster):
    """More than can be: it says so, ends, and its memory does not grow with what is not sent."""
    process = start(cluster, "produce", "--topic", "hopeless", "--rate", "50000000", "-i", "1",
                    "--seconds", "60")
    wait_for("it writes", lambda: end_of(cluster, "hopeless") > 100)
    time.sleep(1.5)
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    figures, _ = finish(process)
    check_sums(figures)
    expect(not figures["rate_kept"] and figures["unsent"] > 0, f"kept: {figures}")
    expect(figures["behind_ms"] >= 500, f"behind: {figures}")
    expect(resident < 128 << 10, f"{resident} KiB are resident")


def leader_dies(cluster):
    """Batches are sent again, and nothing fails."""
    leader = cluster.wait_leader()
    servers = ",".join([cluster.address(leader)] + [cluster.address(i) for i in cluster.ids() if i != leader])
    process = start(cluster, "produce", "--topic", "dies", "--rate", "500", "--seconds", "60",
                    servers=servers)
    wait_for("it measures", lambda: end_of(cluster, "dies") > 600)
    cluster.pause(leader)  # So that some are certainly under way.
    time.sleep(0.1)
    cluster.kill(leader)
    end = end_of(cluster, "dies")
    wait_for("it goes on", lambda: end_of(cluster, "dies") > end + 500)
    cluster.start(leader, wait=True)
    process.send_signal(signal.SIGINT)
    figures, _ = finish(process)
    check_sums(figures)
    expect(figures["acknowledged"] == figures["planned"] and figures["errors"] == {}, f"{figures}")
    expect(sum(figures["retries"].values()) > 0, f"no retries: {figures}")
    expect(cluster.wait_equal("dies") == 500 + figures["planned"], "records were lost, or written twice")


# ---- how it fails ----

def failures(cluster):
    cases = [
        (("produce", "--rate", "0"), 2, "'--rate': '0' is not in the range 1 to 100000000"),
        (("produce", "--rate", "fast"), 2, "'--rate': 'fast' is not a whole number"),
        (("produce", "--topics", "4001"), 2, "'--topics': '4001' is not in the range 1 to 4000"),
        (("produce", "--connections", "257"), 2, "is not in the range 1 to 256"),
        (("produce", "--compression", "gzip"), 2, "'gzip' is none of none, lz4 and zstd"),
        (("produce", "--topic", "x" * 201), 2, "a topic's name has 1 to 200 characters"),
        (("produce", "--topic", "x" * 199, "--topics", "11"), 2, "1 to 200 characters, its number included"),
        (("end-to-end", "--size", "23"), 2, "'--size': '23' is not in the range 24 to 8388608"),
        (("end-to-end", "--streams", "4097"), 2, "'--streams': '4097' is not in the range 1 to 4096"),
        (("end-to-end", "--sample", "2"), 2, "'--sample': '2' is not in the range 1 to 1"),
        (("end-to-end", "--topics", "3", "--streams", "2"), 2, "2 streams do not follow 3 topics"),
        (("produce", "--topic", "a/b/../c\n", "--seconds", "1"), 1, ""),
        (("produce", "--size", "2M", "--seconds", "1"), 1, "a record of 2097152 bytes: too large"),
        (("produce", "--size", "2M", "--batch-size", "4M", "--seconds", "1"), 1, "the node takes"),
    ]
    for args, code, text in cases:
        done = bench(cluster, *args, check=False)
        expect(done.returncode == code and text in done.stderr.decode(), f"{args}: {done}")
        expect(done.stdout == b"", f"{args}: {done.stdout}")
    process = start(cluster, "produce", "--topic", "gone", "--seconds", "60")
    wait_for("it writes", lambda: end_of(cluster, "gone") > 0)
    run("topic", "delete", "gone", "-s", cluster.servers())
    _, errors = finish(process, 1)
    expect("topic" in errors, f"of a deleted topic: {errors}")
    process = start(cluster, "produce", "--topic", "early", "--seconds", "60")
    wait_for("it is there", lambda: end_of(cluster, "early") > 0)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    expect(process.returncode == 1 and b"interrupted before anything was measured" in errors
           or process.returncode == 0 and json.loads(out)["interrupted"], f"{errors}")


def test(cluster):
    cluster.start_all()
    for part in (closed_loop, open_loop, end_to_end, passes_over_what_others_wrote, people, stall,
                 hopeless_rate, leader_dies, failures):
        begin = time.monotonic()
        part(cluster)
        print(f"{part.__name__}: {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main(test)
