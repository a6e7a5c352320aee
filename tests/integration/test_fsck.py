"""quorlog fsck and quorlog dump on the directories of real nodes: nothing to say of clean ones, also after a kill;
each kind of damage is named with its file; and what the node then does at its next start is what was said."""

import glob
import json
import os
import shutil
import signal

from cluster import Cluster, Failed, expect, main, run, wait_for

TOPIC = "t"
OPTIONS = ["--segment-size", "32K", "--snapshot-size", "256K", "--trailing-size", "64K", "--scrub-rate", "0"]


def fsck(data, code=None):
    """What is found, and the summary."""
    done = run("fsck", "--json", data, check=False)
    lines = [json.loads(line) for line in done.stdout.decode().splitlines()]
    expect(code is None or done.returncode == code,
           f"fsck of {data} ends with {done.returncode}, not {code}: {lines[:5]} {done.stderr.decode()}")
    return lines[:-1], lines[-1] if lines else None


def items(path, *args, code=0):
    done = run("dump", "--json", *args, path, check=False, timeout=120)
    expect(done.returncode == code, f"dump of {path} ends with {done.returncode}: {done.stderr.decode()}")
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def fill(cluster, count, begin):
    data = "".join(f"{begin + i} {'v' * 200}\n" for i in range(count)).encode()
    run("produce", TOPIC, "-s", cluster.servers(), "-k", "key", input=data, timeout=120)


def flip(path, position):
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x20]))


def found(cluster, node, *pattern):
    paths = sorted(glob.glob(os.path.join(cluster.data(node), "group-1", *pattern)))
    expect(paths, f"node {node} has no {pattern}")
    return paths


def clean(cluster, node, counts):
    for how in (signal.SIGTERM, signal.SIGKILL):
        data = cluster.data(node)
        done = run("fsck", data, check=False)
        expect(done.returncode == 2 and b"stop it first" in done.stderr, f"a running node: {done}")
        live = items(data)
        expect(any(item["kind"] == "batch" for item in live), "a running node's batches are not dumped")
        cluster.kill(node, how=how)
        findings, summary = fsck(data, 0)
        expect(not [f for f in findings if f["what"] not in ("torn", "leftover")], f"not clean: {findings}")
        expect(summary["records"] >= counts, f"{summary} has too few records")
        cluster.start(node, wait=True)
    cluster.wait_equal(TOPIC)


def damage(cluster, node):
    """(what, a file, what its bytes are replaced by, the level, whether the node starts)"""
    stores = found(cluster, node, "topics", f"{TOPIC}-*", "*.store")
    indexes = found(cluster, node, "topics", f"{TOPIC}-*", "*.index")
    group = os.path.join(cluster.data(node), "group-1")
    yield "a body", stores[1], lambda path: flip(path, 32 + 104 + 9), "repaired", True
    yield "a header", stores[2], lambda path: flip(path, 32 + 50), "repaired", True
    yield "a store's head", stores[3], lambda path: flip(path, 17), "repaired", True
    yield "a hole", stores[4], os.unlink, "note", True
    yield "an index", indexes[1], lambda path: flip(path, 40), "repaired", True
    yield "no index", indexes[2], os.unlink, "repaired", True
    yield "swapped stores", stores[6], lambda path: shutil.copy(stores[5], path), "repaired", True
    yield "a stray file", os.path.join(group, "core"), lambda path: open(path, "wb").close(), "note", True
    yield "a slot", os.path.join(group, "ballot"), lambda path: flip(path, 4096 + 18), "repaired", True
    yield "the snapshot", os.path.join(group, "snapshot"), lambda path: flip(path, 30), "act", False
    yield "the identity", os.path.join(cluster.data(node), "identity"), lambda path: flip(path, 60), "act", False
    yield "the journal", found(cluster, node, "journal", "*.journal")[0], lambda path: flip(path, 530), "act", False
    yield "the ballot", os.path.join(group, "ballot"), os.unlink, "act", False


def starts(cluster, node):
    """Whether it comes up."""
    cluster.start(node)

    def look():
        if not cluster.running(node):
            return "ended"
        return "up" if cluster.status(node) is not None else None
    return wait_for(f"node {node} is up or ends", look, timeout=30) == "up"


def test_damage(cluster, node):
    cluster.kill(node, how=signal.SIGTERM)
    data = cluster.data(node)
    copy = data + ".copy"
    shutil.copytree(data, copy)
    for what, path, change, level, comes_up in list(damage(cluster, node)):
        change(path)
        findings, summary = fsck(data, 0 if level == "note" else 1)
        named = [f for f in findings if os.path.basename(path) in f["path"] + f["text"] or
                 (what == "a hole" and f["what"] == "hole")]
        expect(named, f"{what}: {path} is not named in {findings}")
        order = ("note", "repaired", "act")
        worst = max((f["level"] for f in findings), key=order.index)
        expect(worst == level, f"{what}: {worst} and not {level}: {findings}")
        expect(summary["clean"] == (level == "note"), f"{what}: {summary}")
        up = starts(cluster, node)
        expect(up == comes_up, f"{what}: fsck says {level}, the node {'starts' if up else 'does not start'}")
        cluster.kill(node, how=signal.SIGKILL)
        shutil.rmtree(data)
        shutil.copytree(copy, data)
    shutil.rmtree(copy)
    cluster.start(node, wait=True)


def test_dump(cluster, node, count):
    values = [item for item in items(found(cluster, node, "topics", f"{TOPIC}-*")[0], "--records")
              if item["kind"] == "record"]
    expect([item["offset"] for item in values] == list(range(count)), "not every record is dumped")
    expect(values[7]["value"].startswith("7 v") and values[7]["key"] == "key", f"{values[7]}")
    part = items(found(cluster, node, "topics", f"{TOPIC}-*")[0], "--records", "--from", "100", "--limit", "50")
    expect(len([item for item in part if item["kind"] != "file"]) == 50, "--limit does not hold")
    expect(min(item["offset"] for item in part if item["kind"] == "record") == 100, "--from does not hold")
    members = [item for item in items(found(cluster, node, "snapshot")[0]) if item["kind"] == "member"]
    expect(sorted(item["id"] for item in members) == list(cluster.ids()), f"{members}")
    victim = found(cluster, node, "ballot")[0]
    expect(items(victim)[1]["node"] == node, "the ballot")


def test(cluster: Cluster):
    cluster.start_all()
    cluster.wait_leader()
    run("topic", "create", TOPIC, "-s", cluster.servers())
    for begin in range(0, 4000, 500):
        fill(cluster, 500, begin)
    cluster.wait_equal(TOPIC)
    node = cluster.followers()[0]
    test_dump(cluster, node, 4000)
    clean(cluster, node, 4000)
    test_damage(cluster, node)
    cluster.wait_equal(TOPIC)
    if not all(cluster.running(n) for n in cluster.ids()):
        raise Failed("a node has ended")


if __name__ == "__main__":
    main(test, OPTIONS)
