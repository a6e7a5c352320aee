"""What the sections of tests/bench/run measure with: three nodes, loads, floors, processes.

Standard library only. A section is a module measure_NAME.py: NAME; steps(options, number), what it
does in a round; ratios(rounds, options) and tables(rounds, options), and plots(rounds, options), of
what was found. A step is a Step: what it finds is kept under its key.
"""

import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections import namedtuple

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.dont_write_bytecode = True
for place in ("integration", "nemesis"):
    sys.path.insert(0, os.path.join(ROOT, "tests", place))

# Where it is has to be known first. pylint: disable=wrong-import-position
import cluster as cluster_of_tests
from cluster import Cluster, Failed, expect, wait_for

NODES = 3
SIZES = (100, 1024)
# Bytes of payload in a floor writer's journal write: what one client's largest batch brings.
FLOOR_BATCH = 256 * 1024
CONNECTIONS_MAX = 256  # of one `quorlog bench`
LONG_TURN_MS = 10

# seconds: what it takes, about; run(lab): what it found, or None.
Step = namedtuple("Step", ("key", "seconds", "run"))

COULD_FAIL = (Failed, OSError, subprocess.SubprocessError, ValueError, LookupError)


def by_turns(items, number):
    """The other way round in each second round, so that coming later is no property of anything."""
    return list(items) if number % 2 else list(reversed(items))


# ---- of processes ----

def memory_of(status):
    """The most that was ever resident, and what is the process's own now, in bytes."""
    found = {name: int(re.search(rf"^{name}:\s*(\d+) kB", status, re.MULTILINE).group(1)) << 10
             for name in ("VmHWM", "RssAnon")}
    return {"peak": found["VmHWM"], "own": found["RssAnon"]}


def turns_between(before, after):
    """What the raft threads' loops did between two answers of cluster status: how many turns took
    more than LONG_TURN_MS, and how long the longest one was, at most."""
    found = {"turns": 0, "long": 0, "longest_ms": 0.0}
    old = {node["id"]: node["raft_turns"] for node in before["nodes"] if "raft_turns" in node}
    for node in after["nodes"]:
        if "raft_turns" not in node or node["id"] not in old:
            continue
        now, then = node["raft_turns"], old[node["id"]]
        found["turns"] += now["count"] - then["count"]
        found["long"] += now["long_count"] - then["long_count"]
        found["longest_ms"] = max(found["longest_ms"], longest_ms(then, now))
    return found


def longest_ms(then, now):
    if now["max_us"] > then["max_us"]:
        return now["max_us"] / 1e3
    counts = then["octaves"] + [0] * (len(now["octaves"]) - len(then["octaves"]))
    grown = [i for i, (a, b) in enumerate(zip(counts, now["octaves"])) if b > a]
    return min(2 ** (grown[-1] + 1), now["max_us"]) / 1e3 if grown else 0.0


# ---- floors ----

def floor_key(mode, size=None, second="buffered"):
    return f"floor {mode}" if size is None else f"floor {mode} {size} {second}"


def floor_step(options, mode, size=None, second="buffered", key=None):
    """key: for one that is measured beside what it is compared with, and not once in a round."""
    args = [mode]
    if size is not None:
        args += ["--record-size", str(size), "--batch-bytes", str(FLOOR_BATCH), "--second", second]
    # Before it measures writers, it fills their journals' segments.
    seconds = options.floor_seconds + (1.2 if mode in ("disk", "latency") else 0.5)
    return Step(key or floor_key(mode, size, second), seconds, lambda lab: lab.floor(*args))


# ---- loads ----

def produce_key(size, in_flight, connections, via):
    return f"produce {size} {in_flight} {connections} {via}"


def joined(parts):
    """One load of several clients: rates add up, and the worst client's latency counts."""
    found = dict(parts[0])
    for name in ("records", "records_per_s", "mb_per_s"):
        found[name] = sum(part[name] for part in parts)
    for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms"):
        found[name] = max(part[name] for part in parts)
    found["errors"] = {}
    for part in parts:
        for name, count in part["errors"].items():
            found["errors"][name] = found["errors"].get(name, 0) + count
    return found


class Lab:
    """A cluster of three nodes while a section is measured. found: what this round has so far."""

    def __init__(self, options, found):
        self.options = options
        self.found = found
        self.cluster = None
        self.topics = 0

    # ---- the cluster ----

    def open(self, arguments=()):
        tempfile.tempdir = self.options.dir
        cluster_of_tests.QUORLOG = self.options.quorlog
        self.cluster = Cluster(NODES, arguments)
        self.cluster.start_all()
        wait_for("all nodes follow", self.whole, 60)

    def close(self):
        if self.cluster is not None:
            self.cluster.close()
            self.cluster = None

    def whole(self):
        status = self.cluster.status()
        nodes = status["nodes"] if status else []
        return len(nodes) == NODES and all(n["state"] in ("leader", "follower") for n in nodes)

    def check(self):
        """A node that has ended is no measurement's failure: nothing can be measured any more."""
        ended = [i for i in self.cluster.ids() if not self.cluster.running(i)]
        expect(not ended, f"node {ended} has ended")

    def address(self, via):
        leader = self.cluster.wait_leader()
        return self.cluster.address(leader if via == "leader" else self.cluster.followers()[0])

    def run(self, *args, timeout=120, **more):
        return cluster_of_tests.run(*args, "-s", self.cluster.servers(), timeout=timeout, **more)

    def memory(self):
        found = []
        for node in self.cluster.ids():
            with open(f"/proc/{self.cluster.nodes[node].pid}/status", encoding="utf-8") as file:
                found.append(memory_of(file.read()))
        return {"peaks": [m["peak"] for m in found], "owns": [m["own"] for m in found]}

    def timings(self):
        """As the leader tells them: a node that is stopped answers nobody."""
        return json.loads(cluster_of_tests.run("cluster", "status", "--timings", "--json", "-s",
                                               self.address("leader")).stdout)

    # ---- programs ----

    def ask(self, *command, timeout=120):
        done = subprocess.run(command, capture_output=True, timeout=timeout, check=False)
        expect(done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}: "
                                     f"{done.stderr.decode().strip()}")
        return json.loads(done.stdout)

    def floor(self, *args):
        return self.ask(self.options.floor, *args, "--json", "--dir", self.options.dir,
                        "--seconds", str(self.options.floor_seconds))

    def bench(self, what, *args, servers=None, seconds=None):
        seconds = ["--seconds", str(seconds or self.options.seconds)] if what != "consume" else []
        return self.ask(self.options.quorlog, "bench", what, "--json", "-s",
                        servers or self.cluster.servers(), *args, *seconds,
                        timeout=120 + (int(seconds[1]) if seconds else 0))

    def load(self, *args, via="leader", seconds=None):
        """bench produce, with what the raft threads' loops did meanwhile."""
        before = self.timings()
        found = self.bench("produce", *args, servers=self.address(via), seconds=seconds)
        expect(found["p50_ms"] > 0, "no record was acknowledged in the seconds that count")
        found["raft_turns"] = turns_between(before, self.timings())
        return found

    def produce(self, size, in_flight, connections, via, topic, **more):
        """in_flight: on all connections together, at least one each."""
        clients = math.ceil(connections / CONNECTIONS_MAX)
        args = ["--topic", topic, "--size", str(size), "--connections", str(connections // clients),
                "--inflight", str(max(1, in_flight // connections))]
        if clients == 1:
            return self.load(*args, via=via, **more)
        return self.produce_many(clients, args, via)

    def produce_many(self, clients, args, via):
        command = [self.options.quorlog, "bench", "produce", "--json", "-s", self.address(via), *args,
                   "--seconds", str(self.options.seconds)]
        before = self.timings()
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                   for _ in range(clients)]
        parts = []
        try:
            for one in running:
                out, errors = one.communicate(timeout=120 + self.options.seconds)
                expect(one.returncode == 0, f"{' '.join(command)}: {errors.decode().strip()}")
                parts.append(json.loads(out))
        finally:
            for one in running:
                if one.poll() is None:
                    one.kill()
                    one.communicate()
        found = joined(parts)
        found["raft_turns"] = turns_between(before, self.timings())
        return found

    def fill(self, topic, size, record=1024):
        """Records of so many bytes until the topic has `size` of them."""
        line = b"x" * (record - 1) + b"\n"  # A newline is no part of a value; a record is more than that.
        lines = line * 1024
        left = size
        with subprocess.Popen([self.options.quorlog, "produce", topic, "--create", "-s", self.address("leader")],
                              stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            try:
                while left > 0:
                    piece = lines if left >= len(lines) else line * max(1, left // record)
                    process.stdin.write(piece)
                    left -= len(piece)
                process.stdin.close()
            except BrokenPipeError:
                pass  # Why, is said on stderr.
            errors = process.stderr.read().decode().strip()
            expect(process.wait(300) == 0, f"filling {topic}: {errors}")

    def new_topic(self, name):
        """A name that no topic has, whatever failed before."""
        self.topics += 1
        return f"{name}-{self.topics}"

    def drop(self, topic):
        self.run("topic", "delete", topic)

    def stores(self, topic):
        """The files of a topic on all nodes."""
        return [os.path.join(directory, name)
                for node in self.cluster.ids() for directory, _, names in os.walk(self.cluster.data(node))
                for name in names if name.endswith(".store") and f"/{topic}-" in directory + "/"]


def forget(paths):
    """The files' pages leave the page cache: written first, as only what is clean goes."""
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
