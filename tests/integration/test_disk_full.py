"""Disks that fill up: a node says so, appends are refused with a known outcome, reads go on, a leader
short of room hands over, nothing stops, and all comes back by itself when there is room.

Each node has a small file system of its own (tmpfs), so this needs root, or user namespaces.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

from cluster import expect, main, run, wait_for

SIZE = "72M"
RESERVE = 24 << 20
OPTIONS = ["--disk-reserve", "24M", "--journal-segment-size", "1M", "--segment-size", "1M",
           "--snapshot-size", "4M", "--trailing-size", "1M", "--inflight-size", "2M"]
IN_NAMESPACE = "QUORLOG_TEST_IN_NAMESPACE"


def run_in_namespace():
    """Runs this program again where it may mount; 77 (skipped) where that cannot be had. What is
    mounted there is gone afterwards."""
    unshare = ["unshare", "--mount"]
    if os.geteuid() != 0:
        unshare += ["--user", "--map-root-user"]
    try:
        probe = subprocess.run([*unshare, "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"],
                               capture_output=True, timeout=20, check=False)
        reason = probe.stderr.decode().strip()
    except FileNotFoundError:
        probe, reason = None, "unshare is not installed"
    if probe is None or probe.returncode != 0:
        print(f"skipped: no file system can be mounted here, not even in a namespace ({reason})")
        sys.exit(77)
    base = tempfile.mkdtemp(prefix="quorlog-disks-")
    done = subprocess.run([*unshare, sys.executable, "-B", *sys.argv], check=False,
                          env={**os.environ, IN_NAMESPACE: "1", "TMPDIR": base})
    if done.returncode == 0:
        shutil.rmtree(base, ignore_errors=True)
    sys.exit(done.returncode)


def mount_disks(cluster):
    for node in cluster.ids():
        os.makedirs(cluster.data(node), exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", cluster.data(node)],
                       check=True)


def filler(cluster, node):
    return os.path.join(cluster.data(node), "filler")


def fill(cluster, node, leave):
    """Another program takes all of a node's disk but `leave` bytes."""
    stat = os.statvfs(cluster.data(node))
    size = stat.f_bavail * stat.f_frsize - leave
    with open(filler(cluster, node), "ab") as file:
        os.posix_fallocate(file.fileno(), file.tell(), size)


def clear(cluster, node):
    os.unlink(filler(cluster, node))


def node_status(cluster, node):
    status = cluster.status()
    return {n["id"]: n for n in status["nodes"]}[node] if status else None


def wait_short(cluster, node, short):
    wait_for(f"node {node} says {'that it is short' if short else 'that it has room'}",
             lambda: (node_status(cluster, node) or {}).get("disk_short") == short)


def produce(cluster, line, timeout=10000, check=True):
    return run("produce", "t", "--timeout", str(timeout), "-s", cluster.servers(),
               input=line.encode(), check=check)


def check_alive(cluster):
    for node in cluster.ids():
        expect(cluster.running(node), f"node {node} has ended")


def full_leader(cluster, written):
    """A leader short of room hands over to one that has it; producers hardly notice."""
    leader = cluster.wait_leader()
    fill(cluster, leader, RESERVE - (4 << 20))
    wait_short(cluster, leader, True)
    wait_for("another node leads", lambda: cluster.leader() not in (None, leader))
    written.append("after the handover\n")
    produce(cluster, written[-1])
    health = run("cluster", "health", "-s", cluster.servers(), check=False)
    expect(health.returncode == 10 and b"short of room" in health.stdout, f"{health.stdout}")
    return leader


def full_follower(cluster, node, written):
    """A follower whose disk is full takes no more, lags, and does not stop; the others go on."""
    fill(cluster, node, 1 << 20)
    wait_for("nothing is taken from others", lambda: node_status(cluster, node)["disk_critical"])
    ballast = os.path.join(cluster.data(node), "group-1", "ballast")
    wait_for("the ballast is given up", lambda: not os.path.exists(ballast))
    for i in range(16):
        written.append(f"{i} {'x' * 250000}\n")
        produce(cluster, written[-1])
    check_alive(cluster)
    expect(node_status(cluster, node)["lag"] > 0, "the full node took all that came")
    told = run("consume", "t", "-n", "1", "-s", cluster.address(node)).stdout
    expect(told == written[0].encode(), "the full node does not serve what it has")


def most_full(cluster, full, written):
    """Too few disks have room: refused, with a known outcome, and nothing was written."""
    other = next(i for i in cluster.ids() if i != full)
    fill(cluster, other, RESERVE // 2 + (4 << 20))
    wait_short(cluster, other, True)
    begin = time.monotonic()
    refused = wait_for("an append is refused",
                       lambda: refuse(cluster))
    expect(time.monotonic() - begin < 20, "it took too long to be refused")
    expect(b"nearly full" in refused and b"1 are not written" in refused, f"{refused}")
    topic = run("topic", "create", "more", "--timeout", "1500", "-s", cluster.servers(),
                check=False)
    expect(topic.returncode == 1 and b"nearly full" in topic.stderr, f"{topic.stderr}")
    check_alive(cluster)
    for node in cluster.ids():
        if node != full:
            found = run("consume", "t", "-s", cluster.address(node)).stdout
            expect(found == "".join(written).encode(), f"node {node} does not serve what it has")
    return other


def refuse(cluster):
    done = produce(cluster, "refused\n", timeout=1500, check=False)
    expect(done.returncode == 1, "an append was taken although too few disks have room")
    return done.stderr if b"nearly full" in done.stderr else None


def own_data(cluster, written):
    """The cluster's own data fill the disks; then a topic is deleted, and that makes room."""
    run("topic", "create", "big", "-s", cluster.servers())
    data = b"".join(b"%d %s\n" % (i, b"y" * 200000) for i in range(400))
    done = run("produce", "big", "--timeout", "4000", "-s", cluster.servers(), input=data,
               check=False, timeout=120)
    told = re.search(r"\((\d+) of \d+ lines are acknowledged(?:, (\d+) may or may not be written)?, "
                     r"\d+ are not written\)", done.stderr.decode())
    expect(done.returncode == 1 and told, f"{done.returncode} {done.stderr}")
    acknowledged, unknown = int(told[1]), int(told[2] or 0)  # unknown: when the leader changed
    check_alive(cluster)
    end = cluster.wait_equal("big")
    expect(acknowledged <= end <= acknowledged + unknown, f"{end} records, but {told[0]}")
    refused = wait_for("an append is refused", lambda: refuse(cluster))
    expect(b"1 are not written" in refused, f"{refused}")
    run("topic", "delete", "big", "-s", cluster.servers())
    for node in cluster.ids():
        wait_short(cluster, node, False)
    written.append("room again\n")
    produce(cluster, written[-1])


def test(cluster):
    mount_disks(cluster)
    cluster.start_all()
    for node in cluster.ids():
        expect(os.path.getsize(os.path.join(cluster.data(node), "group-1", "ballast")) > 0,
               "there is no ballast")
    status = node_status(cluster, 1)
    expect(status["disk_reserve"] == RESERVE and not status["disk_short"] and
           0 < status["disk_free"] < status["disk_size"], f"{status}")
    written = ["first\n"]
    run("topic", "create", "t", "-s", cluster.servers())
    produce(cluster, written[0])
    full = full_leader(cluster, written)
    full_follower(cluster, full, written)
    other = most_full(cluster, full, written)
    clear(cluster, other)
    wait_short(cluster, other, False)
    written.append("most have room\n")
    produce(cluster, written[-1], timeout=20000)
    clear(cluster, full)
    wait_short(cluster, full, False)
    cluster.wait_equal("t")
    for node in cluster.ids():
        expect(cluster.dump(node, "t") == b"".join(b"%d %s" % (i, line.encode())
                                                   for i, line in enumerate(written)),
               f"node {node} has another log")
    own_data(cluster, written)
    health = run("cluster", "health", "--json", "-s", cluster.servers(), check=False)
    expect(json.loads(health.stdout)["healthy"], f"{health.stdout}")
    wait_for("the ballast is back", lambda: all(os.path.exists(
        os.path.join(cluster.data(i), "group-1", "ballast")) for i in cluster.ids()))
    check_alive(cluster)


if __name__ == "__main__":
    if IN_NAMESPACE not in os.environ:
        run_in_namespace()
    main(test, options=OPTIONS)
