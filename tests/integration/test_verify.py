"""verify says that equal copies are equal, and that a copy that is behind is no other one; it names the
first difference between two histories, a byte that rotted on a disk, and a node that it cannot ask."""

import json
import os
import struct

from cluster import expect, main, run
import wire

HEADER = 32  # of a store file


def produce(cluster, topic, values, servers=None):
    for value in values:  # a batch each
        run("produce", topic, "-s", servers or cluster.servers(), input=value.encode())


def verify(cluster, *args, code=0):
    done = run("verify", "--json", "-s", cluster.servers(), "--timeout", "3000", *args, check=False,
               timeout=120)
    expect(done.returncode == code, f"verify {args}: exit {done.returncode}, not {code}: "
           f"{done.stdout.decode()} {done.stderr.decode()}")
    return {line["topic"]: line for line in map(json.loads, done.stdout.splitlines())}


def store(cluster, node, topic):
    topics = os.path.join(cluster.data(node), "group-1", "topics")
    name = next(n for n in os.listdir(topics) if n.rsplit("-", 1)[0] == topic)
    return os.path.join(topics, name, "0" * 20 + ".store")


def batches(data):
    """(position, header fields) of each batch in a store file's bytes."""
    at = HEADER
    found = []
    while at < len(data):
        found.append((at, wire.BATCH.unpack_from(data, at)))
        at += found[-1][1][2]
    return found


def flip(path, position):
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x40]))


def states(line):
    return {node["id"]: node["state"] for node in line["nodes"]}


def check_equal(cluster):
    for args in ([], ["--deep"], ["--deep", "--rate", "1M"], ["a"]):
        said = verify(cluster, *args)
        expect(said["a"]["equal"] and said["a"]["end"] == 20, f"a: {said['a']}")
        expect(set(states(said["a"]).values()) == {"read"}, f"a: {said['a']}")
        expect("b" not in said or said["b"]["end"] == 0, f"b: {said.get('b')}")
    text = run("verify", "a", "-s", cluster.servers()).stdout.decode()
    expect(text.startswith("a: equal on 3 nodes, offsets 0 to 19, digest "), text)
    done = run("verify", "nowhere", "-s", cluster.servers(), check=False)
    expect(done.returncode == 1 and b"nowhere" in done.stderr, "an unknown topic is not told")


def check_rot(cluster):
    """A byte of a body changes on a follower's disk: the headers do not know, --deep finds it."""
    follower = cluster.followers()[0]
    path = store(cluster, follower, "a")
    with open(path, "rb") as file:
        at, header = batches(file.read())[7]
    flip(path, at + wire.BATCH.size + 3)
    expect(verify(cluster, "a")["a"]["equal"], "headers are whole")
    said = verify(cluster, "a", "--deep", code=1)["a"]
    node = next(n for n in said["nodes"] if n["id"] == follower)
    expect(node["state"] == "damaged" and node["offset"] == header[4], f"{said}")
    expect(".store" in node["text"] and str(at) in node["text"],
           f"neither file nor position {at}: {node['text']}")
    expect(sorted(states(said).values()) == ["damaged", "read", "read"], f"{said}")
    text = run("verify", "a", "--deep", "-s", cluster.servers(), check=False).stdout.decode()
    expect(f"node {follower}: damaged at offset {header[4]}" in text, text)
    flip(path, at + wire.BATCH.size + 3)
    expect(verify(cluster, "a", "--deep")["a"]["equal"], "mended, but not equal")


def check_behind_and_lost(cluster):
    node = cluster.followers()[0]
    cluster.kill(node)
    produce(cluster, "a", ["late"] * 5)
    done = run("verify", "a", "-s", cluster.servers(), "--timeout", "3000", check=False)
    expect(done.returncode == 10, f"a node that is down: exit {done.returncode}")
    expect(f"node {node} ".encode() in done.stderr, f"not named: {done.stderr}")
    expect(b"equal on 2 nodes" in done.stdout, f"{done.stdout}")
    cluster.start(node, wait=True)
    cluster.wait_equal("a")
    expect(verify(cluster)["a"]["end"] == 25, "a does not end at 25")


def rewrite(path, number):
    """Another value in a batch, and all digests behind it: the log of another history."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    previous = bytes(32)
    for place, (at, header) in enumerate(batches(data)):
        size = header[2]
        if place == number:
            data[at + size - 1] ^= 1
        body = bytes(data[at + wire.BATCH.size:at + size])
        data[at + 64:at + 68] = struct.pack("<I", wire.crc32c(body))
        previous = wire.chain(previous, data[at:at + wire.BATCH.size], body)
        data[at + 72:at + 104] = previous
        data[at + 4:at + 8] = struct.pack("<I", wire.crc32c(bytes(data[at + 8:at + 104])))
    with open(path, "wb") as file:
        file.write(data)
    return batches(data)[number][1][4]


def check_divergence(cluster):
    """Another history in one node's files, made by hand, under a node that does not look: the digests
    differ from that batch on, and verify names it."""
    node = cluster.followers()[-1]
    path = store(cluster, node, "a")
    offset = rewrite(path, 11)
    said = verify(cluster, "a", code=1)["a"]
    expect(said["offset"] == offset == 11, f"not at 11 but at {said['offset']}")
    expect(said["differs"] == "body, digest", f"what differs: {said['differs']}")
    groups = {n["id"]: n["group"] for n in said["nodes"]}
    expect(all((groups[i] == groups[node]) == (i == node) for i in groups), f"{groups}")
    text = run("verify", "-s", cluster.servers(), check=False).stdout.decode()
    expect("different from offset 11 on; what differs: body, digest" in text, text)
    expect(f"node {node}: offsets 11 to 11" in text, text)


def test(cluster):
    cluster.start_all()
    for topic in ("a", "b"):
        run("topic", "create", topic, "-s", cluster.servers())
    produce(cluster, "a", [f"value-{i}" for i in range(20)])
    cluster.wait_equal("a")
    check_equal(cluster)
    check_rot(cluster)
    check_behind_and_lost(cluster)
    check_divergence(cluster)


if __name__ == "__main__":
    main(test)
