"""Compaction on three real nodes: of each key the latest record stays, everywhere, at its offset, and
tombstones go in the end; files shrink; readers in the middle go on; a restart changes nothing; what
cannot be compacted is refused, and one is told why.
"""

import json
import subprocess
import sys

from cluster import QUORLOG, expect, main, run, wait_for

OPTIONS = ["--retention-interval-ms", "100", "--snapshot-size", "128K", "--batch-size-max", "4K"]
KEYS = 20
DEAD = 5  # keys that are deleted in the end


def describe(cluster, node, topic):
    done = run("topic", "describe", topic, "--json", "-s", cluster.address(node), check=False)
    if done.returncode != 0:
        return None
    found = json.loads(done.stdout)
    state = found.get("compaction") or {}
    expect(state.get("next") != "dirty" or state["to"] > state["clean_to"],
           f"what is done is told to come next: {state}")
    return found


def produce(cluster, topic, lines, check=True):
    text = "".join(line + "\n" for line in lines).encode()
    return run("produce", topic, "-K", ":", "-s", cluster.servers(), input=text, check=check)


class Table:
    """What a topic's keys are to be, and how many records were written."""

    def __init__(self):
        self.now = {}
        self.written = 0

    def lines(self, pairs):
        lines = []
        for key, value in pairs:
            self.now[key] = (self.written, value)
            self.written += 1
            lines.append(f"{key}:{value}")
        return lines

    def alive(self):
        return {key: at for key, at in self.now.items() if at[1]}


def read(cluster, node, topic, *options):
    done = run("consume", topic, *options, "-f", "%o %k %v\\n", "-s", cluster.address(node))
    records = []
    for line in done.stdout.decode().splitlines():
        offset, key, value = line.split(" ", 2)
        records.append((int(offset), key, value))
    return records


def check_view(cluster, topic, table):
    """On every node: offsets go up, and the latest record of each key is what it has to be.

    A follower may be behind what the leader has answered for: it is waited for.
    """
    for node in cluster.ids():
        wait_for(f"node {node} has all of {topic}", lambda node=node:
                 (describe(cluster, node, topic) or {}).get("end") == table.written)
        records = read(cluster, node, topic, "-o", "start")
        offsets = [offset for offset, _, _ in records]
        expect(offsets == sorted(set(offsets)), f"node {node}: offsets are not in order")
        latest = {key: (offset, value) for offset, key, value in records}
        seen = {key: at for key, at in latest.items() if at[1]}
        expect(seen == table.alive(), f"node {node}: {len(seen)} keys differ from what was written")


def wait_clean(cluster, topic, offset, tombstones=0):
    """Until every node's copy is clean so far."""
    for node in cluster.ids():
        def is_clean(node=node):
            state = (describe(cluster, node, topic) or {}).get("compaction")
            return (state and state["clean_to"] >= offset and state["cleaned_to"] >= offset and
                    state["tombstones_below"] >= tombstones)
        wait_for(f"{topic} is clean to {offset} on node {node}", is_clean, 60)


def follow(cluster, topic):
    return subprocess.Popen([QUORLOG, "consume", topic, "-F", "-o", "start", "-f", "%o %k %v\\n", "-s",
                             cluster.servers()], stdout=subprocess.PIPE)


def check_compaction(cluster, table):
    run("topic", "create", "kv", "--compact", "on", "--segment-bytes", "4K", "--tombstone-ms", "500ms",
        "-s", cluster.servers())
    first = follow(cluster, "kv")
    expect(first.stdout is not None, "a reader")
    produce(cluster, "kv", table.lines((f"k{n % KEYS}", f"{n} " + "v" * 60) for n in range(2000)))
    expect(first.stdout.readline().startswith(b"0 k0 0 "), "a reader begins")
    cluster.wait_equal("kv")
    before = {node: describe(cluster, node, "kv")["size"] for node in cluster.ids()}
    produce(cluster, "kv", table.lines((f"k{n}", "") for n in range(DEAD)))
    dead_below = table.written
    produce(cluster, "kv", table.lines((f"k{DEAD + n % (KEYS - DEAD)}", f"{n} " + "w" * 60) for n in range(300)))
    check_view(cluster, "kv", table)
    wait_clean(cluster, "kv", dead_below, dead_below)
    for node in cluster.ids():
        state = describe(cluster, node, "kv")
        dirty = state["end"] - state["compaction"]["cleaned_to"]
        count = len(read(cluster, node, "kv", "-o", "start"))
        expect(count <= dirty + KEYS, f"node {node} has {count} records, {dirty} of them are not clean")
        expect(state["size"] < before[node] / 2, f"node {node}: {before[node]} bytes are {state['size']} now")
        expect(state["end"] == table.written, f"node {node}: the end is {state['end']}")
        wait_for(f"tombstones go on node {node}", lambda node=node: not any(
            key == f"k{n}" for _, key, _ in read(cluster, node, "kv", "-o", "start") for n in range(DEAD)))
    check_view(cluster, "kv", table)
    return first


def check_readers(cluster, table, first):
    """One that was in the middle goes on to the end; one that begins in the middle finds the rest."""
    for node in cluster.ids():
        records = read(cluster, node, "kv", "-o", "1000")
        expect(all(offset >= 1000 for offset, _, _ in records), f"node {node} gives nothing below 1000")
        expect(len(records) >= KEYS - DEAD, f"node {node} gives the rest")
    produce(cluster, "kv", table.lines([("last", "one")]))
    seen = {}
    last = -1
    for line in first.stdout:
        offset, key, value = line.decode().rstrip("\n").split(" ", 2)
        expect(int(offset) > last, f"a reader was given {offset} after {last}")
        last = int(offset)
        seen[key] = (last, value)
        if key == "last":
            break
    first.kill()
    first.wait()
    expect({k: v for k, v in seen.items() if v[1]} == table.alive(), "a reader saw the latest of each key")


def check_restart(cluster, table):
    before = {node: describe(cluster, node, "kv")["compaction"]["clean_to"] for node in cluster.ids()}
    for node in cluster.ids():
        cluster.kill(node)
    cluster.start_all()
    cluster.wait_equal("kv")
    check_view(cluster, "kv", table)
    for node in cluster.ids():
        wait_for(f"node {node} knows that the topic is clean to {before[node]}", lambda node=node:
                 describe(cluster, node, "kv")["compaction"]["clean_to"] >= before[node])
    produce(cluster, "kv", table.lines((f"k{n % KEYS}", f"{n} " + "x" * 60) for n in range(1000)))
    wait_clean(cluster, "kv", table.written - 200)
    check_view(cluster, "kv", table)


def refused(cluster, text, *args, **more):
    done = run(*args, "-s", cluster.servers(), check=False, **more)
    said = done.stderr.decode()
    expect(done.returncode != 0 and text in said, f"{' '.join(args)}: '{text}' is not in '{said}'")


def check_refusals(cluster):
    refused(cluster, "retention-records at 0 only", "topic", "create", "no", "--compact", "on", "--retention-ms", "1d")
    refused(cluster, "retention-records at 0 only", "topic", "alter", "kv", "--retention-bytes", "1G")
    refused(cluster, "is not on, off or default", "topic", "alter", "kv", "--compact", "yes")
    refused(cluster, "tombstone-ms", "topic", "alter", "kv", "--tombstone-ms", "101000d")
    refused(cluster, "key", "produce", "kv", input=b"no key\n")
    run("produce", "plain", "--create", "-s", cluster.servers(), input=b"1\n2\n3\n")
    refused(cluster, "the record at offset 0 has no key", "topic", "alter", "plain", "--compact", "on")
    run("topic", "trim", "plain", "--before", "3", "-s", cluster.servers())
    produce(cluster, "plain", ["a:1"])
    run("topic", "alter", "plain", "--compact", "on", "-s", cluster.servers())
    refused(cluster, "no such topic", "topic", "alter", "nothing", "--compact", "on")
    shown = run("topic", "describe", "plain", "-s", cluster.servers()).stdout.decode()
    expect("compact            on" in shown and "clean     to offset" in shown, shown)
    run("topic", "alter", "plain", "--compact", "off", "--retention-records", "5", "-s", cluster.servers())


def test(cluster):
    table = Table()
    cluster.start_all()
    cluster.wait_leader()
    first = check_compaction(cluster, table)
    check_readers(cluster, table, first)
    check_refusals(cluster)
    check_restart(cluster, table)


if __name__ == "__main__":
    sys.exit(main(test, options=OPTIONS))
