"""Bits that rot in the files of a running node: reads through it stay right, the scrubber finds the
damage and repairs it from the other nodes, byte by byte; so does a node that starts with damage. A
node that has no other says clearly what is lost."""

import glob
import hashlib
import os
import sys
import time

from cluster import Cluster, Failed, expect, main, run, wait_for

TOPIC = "t"
OPTIONS = ["--segment-size", "128K", "--snapshot-size", "256K", "--trailing-size", "64K",
           "--scrub-rate", "64M"]


def fill(cluster, count, begin):
    data = "".join(f"{begin + i} {'v' * 300}\n" for i in range(count)).encode()
    run("produce", TOPIC, "-s", cluster.servers(), input=data, timeout=120)


def stores(cluster, node):
    """The files that hold the topic's batches, oldest first."""
    return sorted(glob.glob(os.path.join(cluster.data(node), "**", f"{TOPIC}-*", "*.store"),
                            recursive=True))


def hashes(cluster, node):
    result = {}
    for path in stores(cluster, node):
        with open(path, "rb") as file:
            result[os.path.basename(path)] = hashlib.sha256(file.read()).hexdigest()
    return result


def flip(path, position):
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x10]))


def node_status(cluster, node):
    status = cluster.status(node)
    if status is None:
        return None
    return {n["id"]: n for n in status["nodes"]}[node]


def leftovers(cluster, node):
    return [path for kind in ("damaged", "fill") for path in
            glob.glob(os.path.join(cluster.data(node), "**", f"*.store.{kind}"), recursive=True)]


def wait_repaired(cluster, node, reference, damage):
    """Until the node has found so much, lacks nothing, and its files are those of the others."""
    def look():
        status = node_status(cluster, node)
        return (status and status["scrub_damage"] >= damage and status["holes"] == 0 and
                hashes(cluster, node) == hashes(cluster, reference))
    wait_for(f"node {node} is repaired", look, timeout=40)


def test_read_meets_damage(cluster, node, reference, dump):
    victim = stores(cluster, node)[1]
    flip(victim, os.path.getsize(victim) // 2)
    expect(cluster.dump(node, TOPIC) == dump, "a read through the damaged node is not right")
    wait_repaired(cluster, node, reference, 1)
    expect(cluster.dump(node, TOPIC) == dump, "a read after the repair is not right")


def test_scrubber_finds_it(cluster, node, reference):
    files = stores(cluster, node)
    before = node_status(cluster, node)["scrub_damage"]
    for place, victim in enumerate(files[1:6:2]):  # nobody reads: body, a header, the last byte
        flip(victim, [5000, 32 + 20, os.path.getsize(victim) - 1][place])
    wait_repaired(cluster, node, reference, before + 3)


def test_two_nodes_at_once(cluster, nodes, reference, dump):
    """Each has what the other lost."""
    before = [node_status(cluster, node)["scrub_damage"] for node in nodes]
    for place, node in enumerate(nodes):
        flip(stores(cluster, node)[3 + place], 20000)
    for node in nodes:
        expect(cluster.dump(node, TOPIC) == dump, f"a read through node {node} is not right")
    for place, node in enumerate(nodes):
        wait_repaired(cluster, node, reference, before[place] + 1)


def test_damage_at_start(cluster, node, reference, dump):
    cluster.kill(node)
    files = stores(cluster, node)
    os.unlink(files[0])
    flip(files[1], 16)  # the file's own header
    flip(files[2], os.path.getsize(files[2]) - 200)  # its last batch: the index tells
    cluster.start(node, wait=True)
    with open(cluster.log_path(node), encoding="utf-8") as log:
        text = log.read()
    expect("event=damage_found" in text and "position" in text,
           "damage found at start is not told with its place")
    expect(cluster.dump(node, TOPIC) == dump, "a read through the restarted node is not right")
    wait_repaired(cluster, node, reference, 0)


def test_alone():
    """One node, no other copy: a clear error, and all else can be read."""
    cluster = Cluster(1, OPTIONS)
    try:
        cluster.start(1, wait=True)
        run("topic", "create", TOPIC, "-s", cluster.servers())
        for i in range(5):
            fill(cluster, 400, i * 400)
        victim = stores(cluster, 1)[1]
        flip(victim, 40000)
        done = run("consume", TOPIC, "-o", "start", "-f", "%o\\n", "-s", cluster.address(1),
                   check=False)
        expect(done.returncode == 1, f"damage gave exit {done.returncode}")
        error = done.stderr.decode()
        expect(os.path.basename(victim) in error and "position" in error,
               f"the error does not say where the damage is: {error}")
        wait_for("it is told", lambda: node_status(cluster, 1)["scrub_damage"] > 0)
        expect(node_status(cluster, 1)["holes"] == 0, "what may be the last copy was taken away")
        tail = run("consume", TOPIC, "-o", "-1", "-f", "%o\\n", "-s", cluster.address(1))
        expect(tail.stdout == b"1999\n", f"what is not damaged cannot be read: {tail.stdout}")
    except Failed:
        cluster.show_logs()
        raise
    finally:
        cluster.close()


def test(cluster):
    cluster.start_all()
    run("topic", "create", TOPIC, "-s", cluster.servers())
    for i in range(8):
        fill(cluster, 400, i * 400)
    cluster.wait_equal(TOPIC)
    reference = cluster.wait_leader()
    first, second = [node for node in cluster.ids() if node != reference]
    dump = cluster.dump(reference, TOPIC)
    expect(hashes(cluster, first) == hashes(cluster, reference), "the files differ to begin with")
    expect(len(stores(cluster, first)) >= 7, "too few segments for this test")
    test_read_meets_damage(cluster, first, reference, dump)
    test_scrubber_finds_it(cluster, second, reference)
    test_two_nodes_at_once(cluster, (first, second), reference, dump)
    test_damage_at_start(cluster, first, reference, dump)
    fill(cluster, 400, 3200)
    cluster.wait_equal(TOPIC)
    for node in (first, second):
        wait_for(f"node {node} keeps no damaged file once all is whole",
                 lambda node=node: not leftovers(cluster, node))
    passed = node_status(cluster, first)["scrub_passed_ms"]
    expect(passed == 0 or abs(passed / 1000 - time.time()) < 600, "the last pass was not lately")
    test_alone()


if __name__ == "__main__":
    sys.exit(main(test, options=OPTIONS))
