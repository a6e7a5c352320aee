"""Cursors: a consumer goes on where its cursor stands, whoever is killed; nothing is skipped, and the
cursor never goes back; two consumers of one cursor are told of each other; cursors outlive all
restarts and an install through a snapshot. Shared reading: each record to one, in order per key."""

import json
import random
import signal
import subprocess
import threading
import time

from cluster import QUORLOG, Producer, expect, main, run, wait_for

TOPIC = "events"
KILLS = 5


class Consumer:
    """A `quorlog consume --cursor` that prints offsets and keys; what it printed, as it came."""

    def __init__(self, cluster, *args, servers=None):
        self.process = subprocess.Popen(
            [QUORLOG, "consume", TOPIC, "-f", "%o %k\\n", "-s", servers or cluster.servers(), *args],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            if line.endswith(b"\n"):  # else it was killed while it wrote
                self.lines.append(line.decode().rstrip("\n"))

    def offsets(self):
        return [int(line.split(" ")[0]) for line in list(self.lines)]

    def wait_printed(self, count):
        wait_for(f"{count} records are printed", lambda: len(self.lines) >= count or not self.alive())
        expect(len(self.lines) >= count, f"the consumer ended: {self.process.poll()}")

    def alive(self):
        return self.process.poll() is None

    def end(self, how=None, timeout=40):
        """Its exit code and what it said."""
        if how:
            self.process.send_signal(how)
        code = self.process.wait(timeout)
        self.reader.join(timeout)
        return code, self.process.stderr.read().decode()


def get(cluster, name, node=None, at_least=0, check=True):
    done = run("cursor", "get", TOPIC, name, "--json", "--at-least", str(at_least), "-s",
               cluster.address(node) if node else cluster.servers(), check=check)
    return json.loads(done.stdout) if done.returncode == 0 else None


class Watcher(threading.Thread):
    """Asks node after node for a cursor, each for at least what was seen before."""

    def __init__(self, cluster, name):
        super().__init__(daemon=True)
        self.cluster, self.name = cluster, name
        self.stopping = threading.Event()
        self.seen = []
        self.wrong = None
        self.token = 0

    def run(self):
        while not self.stopping.is_set():
            node = random.choice([i for i in self.cluster.ids() if self.cluster.running(i)] or [1])
            done = run("cursor", "get", TOPIC, self.name, "--json", "--at-least", str(self.token),
                       "--timeout", "2000", "-s", self.cluster.address(node), check=False)
            if done.returncode == 0:
                now = json.loads(done.stdout)
                if self.seen and now["offset"] < self.seen[-1]:
                    self.wrong = f"back from {self.seen[-1]} to {now['offset']} on node {node}"
                self.seen.append(now["offset"])
                self.token = now["token"]
            time.sleep(0.02)

    def stop(self):
        self.stopping.set()
        self.join(30)
        expect(self.wrong is None, f"the cursor went {self.wrong}")
        return self.seen


def kills(cluster):
    """Consumers are killed, and half of the time the leader with them."""
    producer = Producer(cluster, TOPIC, "p", pause=0.001)
    watcher = Watcher(cluster, "k")
    watcher.start()
    printed = set()
    last = -1
    for round_number in range(KILLS):
        consumer = Consumer(cluster, "--cursor", "k", "--follow", "--commit-records", "40",
                            "--commit-interval", "50")
        consumer.wait_printed(150)
        leader = cluster.wait_leader() if round_number % 2 else None
        if leader:
            cluster.kill(leader)
        consumer.end(signal.SIGKILL)
        offsets = consumer.offsets()
        expect(offsets == list(range(offsets[0], offsets[0] + len(offsets))),
               "a consumer printed something out of order, twice or not at all")
        expect(offsets[0] <= last + 1, f"{last + 1} … {offsets[0] - 1} were skipped")
        if leader:
            cluster.start(leader, wait=True)
        cluster.wait_leader()
        printed.update(offsets)
        last = max(last, offsets[-1])
    code = producer.stop()
    expect(code == 0, f"producer: exit {code}: {producer.errors}")
    rest = Consumer(cluster, "--cursor", "k")
    code, errors = rest.end(timeout=60)
    expect(code == 0, f"the last consumer: {errors}")
    expect(rest.offsets()[0] <= last + 1, "the last consumer skipped something")
    printed.update(rest.offsets())
    end = cluster.wait_equal(TOPIC)
    expect(printed == set(range(end)), f"{len(printed)} of {end} records were printed")
    seen = watcher.stop()
    expect(len(set(seen)) > KILLS, f"the cursor was seen at {len(set(seen))} places only")
    wait_for("the cursor is at the end",
             lambda: get(cluster, "k", at_least=watcher.token)["offset"] == end)
    print(f"{KILLS} consumers killed, {end} records, cursor seen {len(seen)} times", flush=True)


def ended_in_order(cluster):
    """SIGTERM commits what was printed: it is not printed again."""
    run("cursor", "set", TOPIC, "term", "start", "-s", cluster.servers())
    first = Consumer(cluster, "--cursor", "term", "--follow", "--commit-interval", "60000",
                     "--commit-records", "1000000")
    first.wait_printed(50)
    code, errors = first.end(signal.SIGTERM)
    expect(code == 0, f"SIGTERM: exit {code}: {errors}")
    second = Consumer(cluster, "--cursor", "term", "-n", "1")
    second.end()
    if second.lines:  # else the first has printed all there is
        expect(second.offsets()[0] == first.offsets()[-1] + 1, "the last commit is missing")
    run("cursor", "set", TOPIC, "term", "3", "-s", cluster.servers())
    third = Consumer(cluster, "--cursor", "term", "-o", "end", "-n", "5")
    third.end()
    expect(third.offsets() == [3, 4, 5, 6, 7], f"from 3 on: {third.offsets()}")


def conflicts(cluster):
    """One cursor, two consumers: the older one is told, also when it has nothing to do."""
    servers = cluster.servers()
    old = Consumer(cluster, "--cursor", "two", "--follow", "-o", "end")
    wait_for("the cursor is made", lambda: get(cluster, "two", check=False))
    first = get(cluster, "two")
    new = Consumer(cluster, "--cursor", "two", "--follow")
    wait_for("it is taken over", lambda: get(cluster, "two")["owner"] != first["owner"])
    code, errors = old.end()
    expect(code == 1 and "taken over" in errors, f"the older consumer: exit {code}: {errors}")
    run("produce", TOPIC, "-s", servers, input=b"one\ntwo\n")
    new.wait_printed(2)
    run("cursor", "set", TOPIC, "two", "start", "-s", servers)
    run("produce", TOPIC, "-s", servers, input=b"three\n")
    code, errors = new.end()
    expect(code == 1 and "set by another" in errors, f"cursor set: exit {code}: {errors}")
    # Of many that expect the same revision one is right.
    revision = str(get(cluster, "two", at_least=get(cluster, "two")["token"])["revision"])
    sets = [subprocess.Popen([QUORLOG, "cursor", "set", TOPIC, "two", str(i), "--expect-revision",
                              revision, "-s", cluster.address(1 + i % 3)],
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for i in range(6)]
    codes = [process.wait(30) for process in sets]
    said = [process.stderr.read().decode() for process in sets]
    expect(sorted(codes) == [0, 1, 1, 1, 1, 1], f"exit codes {codes}: {said}")
    winner = codes.index(0)
    for i, text in enumerate(said):
        expect(i == winner or f"is at offset {winner}," in text, f"set {i}: {text}")
    run("cursor", "delete", TOPIC, "two", "-s", servers)


def cursors_on(cluster, node):
    lines = run("cursor", "list", "--json", "-s", cluster.address(node)).stdout.splitlines()
    keys = ("topic", "cursor", "offset", "revision", "owner", "updated", "metadata")
    return [[json.loads(line)[key] for key in keys] for line in lines]


def restarts(cluster):
    """All nodes are killed at once: all have what they had, and agree."""
    for i in range(100):  # more than a page
        run("cursor", "set", TOPIC, f"r{i}", str(i), "-m", f"number {i}", "-s", cluster.servers())
    wait_for("all agree", lambda: cursors_on(cluster, 1) == cursors_on(cluster, 2)
             == cursors_on(cluster, 3))
    before = cursors_on(cluster, 1)
    expect(len(before) == 102, f"{len(before)} cursors")
    cluster.kill(*cluster.ids())
    cluster.start_all()
    for node in cluster.ids():
        wait_for(f"node {node} has them all", lambda n=node: cursors_on(cluster, n) == before)


def first_entry(cluster, node):
    return {n["id"]: n for n in cluster.status()["nodes"]}[node]["first"]


def install(cluster):
    """A node that lacks entries which nobody has any more gets the cursors with the snapshot."""
    servers = cluster.servers()
    away = cluster.followers()[0]
    cluster.kill(away)
    leader = cluster.wait_leader()
    before = {n["id"]: n for n in cluster.status()["nodes"]}[leader]["last"]
    run("cursor", "set", TOPIC, "r7", "70", "-s", servers)
    run("cursor", "delete", TOPIC, "r8", "-s", servers)
    data = b"".join(b"%d %s\n" % (i, b"v" * 2000) for i in range(150))

    def dropped():
        for _ in range(8):
            run("produce", TOPIC, "-s", servers, input=data)
        return first_entry(cluster, leader) > before + 3

    wait_for("the leader has dropped what the follower lacks", dropped)
    there = next(i for i in cluster.ids() if cluster.running(i))
    cluster.start(away, wait=True)
    cluster.wait_equal(TOPIC)
    wait_for("it has the cursors", lambda: cursors_on(cluster, away) == cursors_on(cluster, there))
    expect(get(cluster, "r7", away)["offset"] == 70, "r7 was not installed")
    expect(get(cluster, "r8", away, check=False) is None, "r8 is there still")


def shares(cluster):
    """Three consumers split the topic: all records, each once, each key with one, in order."""
    servers = cluster.servers()
    run("topic", "delete", TOPIC, "-s", servers)
    run("topic", "create", TOPIC, "-s", servers)
    followers = [Consumer(cluster, "--share", f"{i}/3", "--cursor", "s", "--follow")
                 for i in (1, 2, 3)]
    data = b"".join(b"key-%d:%d\n" % (random.randrange(40), i) for i in range(900))
    run("produce", TOPIC, "-K", ":", "-s", servers, input=data)
    run("produce", TOPIC, "-s", servers, input=b"no key\n" * 300)
    end = cluster.wait_equal(TOPIC)
    wait_for("all is printed", lambda: sum(len(f.lines) for f in followers) >= end)
    owners = {}
    found = []
    for number, follower in enumerate(followers):
        code, errors = follower.end(signal.SIGINT)
        expect(code == 0, f"share {number + 1}: exit {code}: {errors}")
        offsets = follower.offsets()
        expect(offsets == sorted(offsets), f"share {number + 1} is out of order")
        expect(len(offsets) > 100, f"share {number + 1} has {len(offsets)} records only")
        found += offsets
        for key in {line.split(" ")[1] for line in follower.lines} - {""}:
            expect(owners.setdefault(key, number) == number, f"{key} went to two consumers")
    expect(sorted(found) == list(range(end)), "not all records were printed, each once")
    expect(len(owners) == 40, f"{len(owners)} keys")
    for i in (1, 2, 3):
        again = Consumer(cluster, "--share", f"{i}/3", "--cursor", "s")
        code, errors = again.end()
        expect(code == 0 and not again.lines, f"share {i} again: {again.lines[:3]} {errors}")
    names = [c[1] for c in cursors_on(cluster, cluster.wait_leader())]
    expect(names == ["s.1-of-3", "s.2-of-3", "s.3-of-3"],
           f"the new topic's cursors, and no other: {names}")


def test(cluster):
    cluster.start_all()
    run("topic", "create", TOPIC, "-s", cluster.servers())
    for part in (kills, ended_in_order, conflicts, restarts, install, shares):
        begin = time.monotonic()
        part(cluster)
        print(f"{part.__name__}: {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main(test, options=["--snapshot-size", "1M", "--trailing-size", "64K"])
