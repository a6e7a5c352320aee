"""A backup is made of a cluster that takes writes; again, it copies only what is new; interrupted at any
time it leaves the one before; damaged, it says where, and nothing is restored from it. A new cluster
that is restored from it has the same records, offsets, digests and producers, and goes on."""

import json
import os
import random
import shutil
import signal
import subprocess
import time

from cluster import QUORLOG, Cluster, Producer, expect, main, run, wait_for
import wire

HEADER = 32  # of a store file


def backup(cluster, where, *args, code=0):
    done = run("backup", where, "--json", "-s", cluster.servers(), "--timeout", "5000", *args,
               check=False, timeout=120)
    expect(done.returncode == code, f"backup {args}: exit {done.returncode}, not {code}: "
           f"{done.stderr.decode()}")
    return json.loads(done.stdout) if code == 0 else done.stderr.decode()


def verify(where, code=0):
    done = run("backup", "--verify", where, "--json", check=False)
    expect(done.returncode == code, f"backup --verify: exit {done.returncode}, not {code}: "
           f"{done.stderr.decode()}")
    return json.loads(done.stdout) if code == 0 else done.stderr.decode()


def describe(cluster, node, topic):
    return json.loads(run("topic", "describe", topic, "--json", "-s", cluster.address(node)).stdout)


def fill(cluster, topic, count, size=100):
    data = "".join(f"{topic} {i} {'x' * size}\n" for i in range(count)).encode()
    run("produce", topic, "-s", cluster.servers(), input=data)


def stores(where):
    found = []
    for folder, _, names in os.walk(os.path.join(where, "topics")):
        found += [os.path.join(folder, name) for name in names if name.endswith(".store")]
    return sorted(found)


# ---- a producer by hand: its sequence goes on in the new cluster ----

def numbered(producer, epoch, sequence, value):
    body = wire.message((1, wire.message((1, value))))
    return wire.BATCH.pack(wire.BATCH_MAGIC, 0, wire.BATCH.size + len(body), 1, 0, 0, 0, 0,
                           producer, epoch, 0, sequence, wire.crc32c(body), 0, bytes(32)) + body


def ask(cluster, node, kind, header, body=b""):
    with wire.Connection(cluster.ports[node - 1]) as connection:
        connection.greet()
        return connection.ask(wire.frame(kind, header, body, request_id=7))


def produce_numbered(cluster, producer, epoch, sequence, value):
    answer = ask(cluster, 1, wire.PRODUCE, wire.message((1, "numbered")),
                 numbered(producer, epoch, sequence, value))
    expect(answer.kind == wire.PRODUCE_REPLY, f"sequence {sequence}: {answer.fields()}")
    found = answer.fields()
    return found.get(1, 0), bool(found.get(5, 0))


def begin_numbered(cluster):
    run("topic", "create", "numbered", "-s", cluster.servers())
    found = ask(cluster, 1, wire.INIT_PRODUCER, b"").fields()
    producer, epoch = found[1], found.get(2, 0)
    for sequence in range(3):
        expect(produce_numbered(cluster, producer, epoch, sequence, f"n{sequence}") ==
               (sequence, False), "the first batches")
    return producer, epoch


def check_numbered(new, producer, epoch):
    expect(produce_numbered(new, producer, epoch, 2, "n2") == (2, True),
           "a batch from before the backup is not known")
    expect(produce_numbered(new, producer, epoch, 3, "n3") == (3, False), "the sequence does not go on")


# ---- under load, and again ----

def check_under_load(cluster, where):
    fill(cluster, "bulk", 500, 2000)
    producer = Producer(cluster, "busy", "w", pause=0.001)
    time.sleep(0.5)
    first = backup(cluster, where)
    expect(first["copied"] > 0 and first["linked"] == 0, f"{first}")
    expect(first["node"] != cluster.leader(), "the leader was read from, and there are followers")
    held = verify(where)
    expect(held["index"] == first["index"] and held["records"] == first["records"], f"{held} {first}")
    files = {path: os.stat(path).st_mtime_ns for path in stores(where)}
    time.sleep(0.5)
    second = backup(cluster, where)
    expect(second["index"] > first["index"], "nothing is newer")
    expect(0 < second["records"] < first["records"] + len(producer.acked), f"{second}")
    expect(second["copied"] < first["copied"], f"all was copied again: {first} {second}")
    for path, changed in files.items():
        expect(os.stat(path).st_mtime_ns == changed, f"{path} was written again")
    expect(verify(where)["records"] == first["records"] + second["records"], "not the sum of both")
    expect(producer.stop() == 0, f"produce failed: {producer.errors}")


def check_interrupted(cluster, where):
    """Killed at some time: the backup that was there is there still, and the next run completes it."""
    rng = random.Random(4)
    for i in range(6):
        fill(cluster, "bulk", 400, 2000)
        before = verify(where)
        process = subprocess.Popen([QUORLOG, "backup", where, "-s", cluster.servers(), "--rate",
                                    "2M"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.01, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        after = verify(where)
        expect(after["index"] >= before["index"], f"the backup went back: {before} {after}")
    backup(cluster, where)
    names = [name for _, _, names in os.walk(where) for name in names]
    expect(not [n for n in names if n.endswith(".tmp")], f"something is left: {names}")
    expect(len([n for n in names if n.startswith("manifest-")]) == 1, f"{names}")


def check_links(cluster, where):
    """Sealed files of a node on this machine are linked, the last one is copied."""
    node = cluster.followers()[0]
    first = backup(cluster, where, "--data", cluster.data(node))
    expect(first["linked"] > first["copied"] > 0, f"not linked: {first}")
    shared = [path for path in stores(where) if os.stat(path).st_nlink > 1]
    expect(len(shared) > 2, f"{shared}")
    held = verify(where)
    expect(held["records"] == first["records"], f"{held} {first}")
    fill(cluster, "bulk", 1500, 2000)
    wait_for("the follower has it", lambda: describe(cluster, node, "bulk")["end"] ==
             describe(cluster, cluster.leader(), "bulk")["end"])
    again = backup(cluster, where, "--data", cluster.data(node))
    expect(again["linked"] > again["copied"], f"not linked the second time: {again}")
    expect(verify(where)["records"] == first["records"] + again["records"], "not the sum")


def check_topics(cluster, where):
    """Some topics; then one is deleted."""
    only = backup(cluster, where, "--topic", "busy", "-t", "numbered")
    expect(only["topics"] == 2, f"{only}")
    expect("nowhere" in backup(cluster, where, "--topic", "nowhere", code=1), "an unknown topic")
    run("topic", "create", "gone", "-s", cluster.servers())
    fill(cluster, "gone", 10)
    expect(backup(cluster, where)["topics"] == 4, "not all topics")
    expect(any("/gone-" in path for path in stores(where)), "gone is not there")
    run("topic", "delete", "gone", "-s", cluster.servers())
    wait_for("the deletion is everywhere", lambda: all(
        b'"gone"' not in run("topic", "list", "--json", "-s", cluster.address(i)).stdout
        for i in cluster.ids()))
    expect(backup(cluster, where)["topics"] == 3, "a deleted topic is still in")
    expect(not any("/gone-" in path for path in stores(where)), "a deleted topic's files stay")


# ---- damage ----

def copy_of(where, name):
    copy = where + "-" + name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(where, copy)
    return copy


def damage(path, position):
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1]))


def check_damage(cluster, where):
    copy = copy_of(where, "damaged")
    path = next(p for p in stores(copy) if "/busy-" in p)
    rng = random.Random(5)
    with open(path, "rb") as file:
        data = file.read()
    at = HEADER + wire.BATCH.unpack_from(data, HEADER)[2]  # the second batch
    size = wire.BATCH.unpack_from(data, at)[2]
    for position in [at + rng.randrange(size) for _ in range(12)] + [3, 20]:
        damage(path, position)
        text = verify(copy, code=1)
        expect(path in text, f"byte {position}: the file is not named: {text}")
        expect(position < HEADER or f" {at}" in text, f"byte {position}: not at {at}: {text}")
        damage(path, position)
    verify(copy)
    for name in ("BACKUP", next(n for n in os.listdir(copy) if n.startswith("manifest-"))):
        whole = os.path.join(copy, name)
        for _ in range(10):
            position = rng.randrange(os.path.getsize(whole))
            damage(whole, position)
            verify(copy, code=1)
            damage(whole, position)
    damage(path, at + size - 1)
    data = os.path.join(cluster.dir, "from-damaged")
    done = restore(copy, data, 1, "1=127.0.0.1:1", check=False)
    expect(done.returncode == 1 and path in done.stderr.decode(), f"{done}")
    expect(not os.path.exists(data), "a directory was made from a damaged backup")
    os.unlink(path)
    expect(path in verify(copy, code=1), "a missing file is not named")


# ---- restore ----

def restore(where, data, node, bootstrap, *args, check=True):
    return run("restore", where, "--data", data, "--id", str(node), "--bootstrap", bootstrap,
               "--cluster", "new", "--json", *args, check=check)


def restored_cluster(cluster, where, topics):
    new = Cluster(3, options=cluster.options)
    names = set()
    for node in new.ids():
        said = json.loads(restore(where, new.data(node), node, new.bootstrap).stdout)
        expect(said["topics"] == topics, f"{said}")
        names.add(said["cluster"])
    expect(len(names) == 1, f"three names: {names}")
    name = names.pop()
    expect(name.startswith("new-") and len(name) == 12, name)
    done = restore(where, new.data(1), 1, new.bootstrap, check=False)
    expect(done.returncode == 1 and b"is not empty" in done.stderr, f"over another node: {done}")
    new.options += ["--cluster", name]
    return new


def check_same(old, new, topics, held):
    for topic in topics:
        for node in new.ids():
            info = describe(new, node, topic)
            expect({k: info[k] for k in ("id", "start", "end", "digest", "created")} == held[topic],
                   f"{topic} on node {node}: {info}, not {held[topic]}")
            expect(new.dump(node, topic) == old.dump(1, topic), f"{topic}: other records on {node}")


def check_restore(cluster, where, producer):
    for topic in ("busy", "bulk", "numbered"):
        cluster.wait_equal(topic)
    backup(cluster, where)
    held = {t: {k: v for k, v in describe(cluster, 1, t).items()
                if k in ("id", "start", "end", "digest", "created")}
            for t in ("busy", "bulk", "numbered")}
    new = restored_cluster(cluster, where, 3)
    ok = False
    try:
        new.start_all()
        check_same(cluster, new, held, held)
        check_numbered(new, *producer)
        writer = Producer(new, "busy", "later", limit=50)
        writer.join(60)
        expect(writer.stop() == 0 and len(writer.acked) == 50, f"{writer.errors}")
        expect(writer.acked[0][1] == held["busy"]["end"], "offsets do not go on")
        run("topic", "create", "fresh", "-s", new.servers())
        new.kill(*new.ids())
        new.start_all()
        for topic in ("busy", "bulk", "numbered", "fresh"):
            new.wait_equal(topic)
        expect(run("verify", "--deep", "-s", new.servers()).returncode == 0, "copies differ")
        expect("of cluster" in backup(new, where, code=1), "a backup of another cluster is written over")
        ok = True
    finally:
        if not ok:
            new.show_logs()
        new.close(keep=not ok)


def check_part(cluster, where):
    """One topic of all, for a cluster of one node."""
    alone = Cluster(1, options=cluster.options)
    backup(cluster, where, "--topic", "numbered")
    said = json.loads(restore(where, alone.data(1), 1, alone.bootstrap).stdout)
    alone.options += ["--cluster", said["cluster"]]
    try:
        alone.start_all()
        expect(alone.dump(1, "numbered") == cluster.dump(1, "numbered"), "other records")
        listed = run("topic", "list", "--json", "-s", alone.servers()).stdout
        expect(len(listed.splitlines()) == 1, f"{listed}")
    finally:
        alone.close()


def test(cluster):
    cluster.start_all()
    for topic in ("busy", "bulk"):
        run("topic", "create", topic, "-s", cluster.servers())
    producer = begin_numbered(cluster)
    where = os.path.join(cluster.dir, "backup")
    check_under_load(cluster, where)
    check_interrupted(cluster, where)
    check_links(cluster, os.path.join(cluster.dir, "links"))
    check_topics(cluster, os.path.join(cluster.dir, "topics"))
    check_damage(cluster, where)
    check_restore(cluster, where, producer)
    check_part(cluster, os.path.join(cluster.dir, "part"))


if __name__ == "__main__":
    main(test, options=["--segment-size", "1M", "--snapshot-size", "2M", "--trailing-size", "256K"])
