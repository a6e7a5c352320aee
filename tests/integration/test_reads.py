"""Reads that can be reasoned about, on real processes: linearizable ones through every node while
leaders are killed and paused, one of them deposed while it was; a bound on the lag; a followed stream
whose node dies; what was written, by its token.

    test_reads.py [--rounds N]      leaders that are killed, and paused; default 3
"""

import json
import signal
import subprocess
import sys
import threading
import time

from cluster import QUORLOG, expect, main, run, wait_for

ROUNDS = int(sys.argv[sys.argv.index("--rounds") + 1]) if "--rounds" in sys.argv else 3


def produce(cluster, value, servers=None):
    """Writes one record; its offset and token."""
    done = run("produce", "t", "--json", "-s", servers or cluster.servers(), "--timeout", "30000",
               input=f"{value}\n".encode())
    answer = json.loads(done.stdout)
    return answer["offset"], answer["token"]


def consume(cluster, node, *options, timeout=20000, check=True):
    """Offsets that a node shows, or None when it does not in time."""
    done = run("consume", "t", "-o", "start", "-f", "%o\\n", "-s", cluster.address(node),
               "--timeout", str(timeout), *options, check=check)
    return [int(line) for line in done.stdout.split()] if done.returncode == 0 else None


class Reader(threading.Thread):
    """Reads linearizably through one node, again and again; each must show all that was
    acknowledged before it began."""

    def __init__(self, cluster, node, acked):
        super().__init__(daemon=True)
        self.cluster = cluster
        self.node = node
        self.acked = acked  # [highest acknowledged offset]
        self.stopping = False
        self.count = 0
        self.failure = None

    def run(self):
        while not self.stopping:
            before = self.acked[0]
            seen = consume(self.cluster, self.node, "--linearizable", timeout=3000, check=False)
            if seen is None:
                time.sleep(0.05)  # It is down, or has found no leader: never wrong.
                continue
            if len(seen) <= before:
                self.failure = f"node {self.node} shows {len(seen)} records after {before} was acked"
                return
            self.count += 1


def linearizable_under_faults(cluster):
    acked = [-1]
    readers = [Reader(cluster, node, acked) for node in cluster.ids()]
    acked[0], _ = produce(cluster, "first")
    for reader in readers:
        reader.start()

    def write(count):
        for _ in range(count):
            acked[0] = max(acked[0], produce(cluster, "v")[0])

    for i in range(ROUNDS):
        write(5)
        leader = cluster.wait_leader()
        if i % 2 == 0:
            cluster.kill(leader)
            write(5)
            cluster.start(leader, wait=True)
        else:
            cluster.pause(leader)
            write(5)
            cluster.resume(leader)
        write(3)
    for reader in readers:
        reader.stopping = True
    for reader in readers:
        reader.join(30)
        expect(reader.failure is None, reader.failure)
        expect(reader.count > 0, f"nothing was read through node {reader.node}")
    print(f"{sum(r.count for r in readers)} linearizable reads through all nodes, none was stale")


def deposed_leader(cluster):
    """The first thing that a paused leader meets when it goes on is a read."""
    for _ in range(ROUNDS):
        old = cluster.wait_leader()
        others = [i for i in cluster.ids() if i != old]
        offset, _ = produce(cluster, "before")
        cluster.pause(old)
        wait_for("another leader", lambda: any(
            (cluster.status(i) or {}).get("leader") not in (0, None, old) for i in others))
        offset, _ = produce(cluster, "meanwhile",
                            ",".join(cluster.address(i) for i in others))
        read = subprocess.Popen(
            [QUORLOG, "consume", "t", "-o", "start", "-f", "%o\\n", "-s", cluster.address(old),
             "--linearizable", "--timeout", "20000"], stdout=subprocess.PIPE)
        time.sleep(0.2)  # It has connected: the kernel accepts for the process.
        cluster.resume(old)
        out, _ = read.communicate(timeout=30)
        expect(read.returncode == 0, "the old leader does not answer")
        expect(len(out.split()) > offset, "a read through the deposed leader is stale")
    print(f"{ROUNDS} reads through leaders that had been deposed in their sleep: none was stale")


def lag(cluster):
    """A follower whose leader and peers sleep cannot know; one that can, answers."""
    offset, _ = produce(cluster, "lag")
    time.sleep(0.3)
    for node in cluster.ids():
        seen = consume(cluster, node, "--max-lag", "250")
        expect(len(seen) > offset, f"node {node} lags by more than it may")
    awake = cluster.followers()[0]
    asleep = [i for i in cluster.ids() if i != awake]
    for node in asleep:
        cluster.pause(node)
    time.sleep(0.5)
    done = run("consume", "t", "-s", cluster.address(awake), "--max-lag", "250", "--timeout", "1000",
               check=False)
    expect(done.returncode == 1 and b"no leader told node" in done.stderr,
           f"a cut off node says {done.stderr.decode()}")
    expect(consume(cluster, awake) is not None, "a local read has to go on")
    for node in asleep:
        cluster.resume(node)
    cluster.wait_leader()
    # One that sleeps is left for another, by itself.
    asleep = cluster.followers()[0]
    other = cluster.followers()[1]
    cluster.pause(asleep)
    begin = time.monotonic()
    done = run("consume", "t", "-f", "%o\\n", "--max-lag", "250", "--timeout", "20000", "-s",
               f"{cluster.address(asleep)},{cluster.address(other)}")
    expect(len(done.stdout.split()) > offset, "the other node does not show it")
    expect(time.monotonic() - begin < 15, "it took too long to leave a node that sleeps")
    cluster.resume(asleep)


def followed(cluster):
    """The node of a running stream is killed: it goes on, without a gap, nothing twice."""
    begin = len(consume(cluster, cluster.wait_leader(), "--linearizable"))
    follow = subprocess.Popen(
        [QUORLOG, "consume", "t", "--follow", "-o", str(begin), "-f", "%o\\n", "-n", "40", "-s",
         cluster.servers(), "--max-lag", "2000"], stdout=subprocess.PIPE)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(follow.stdout), daemon=True)
    reader.start()
    killed = 0
    for i in range(40):
        produce(cluster, f"f{i}")
        if i in (10, 25):
            wait_for("the stream goes on", lambda: len(lines) > i - 2)
            for node in cluster.followers():  # Whichever it reads from, it has to leave it.
                cluster.kill(node)
                cluster.start(node, wait=True)
                killed += 1
    follow.wait(60)
    reader.join(10)
    expect([int(line) for line in lines] == list(range(begin, begin + 40)),
           f"the stream has {len(lines)} records, or not in order")
    print(f"a followed stream read on while {killed} nodes were killed")


def made_again(cluster):
    """A topic is deleted and made again under its name while it is followed: the consumer is told,
    and does not go on in the middle of the other one."""
    servers = cluster.servers()
    run("topic", "create", "again", "-s", servers)
    run("produce", "again", "-s", servers, input=b"old\n" * 10)
    follow = subprocess.Popen([QUORLOG, "consume", "again", "--follow", "-o", "start", "-s", servers],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = [follow.stdout.readline() for _ in range(10)]
    run("topic", "delete", "again", "-s", servers)
    run("topic", "create", "again", "-s", servers)
    run("produce", "again", "-s", servers, input=b"new\n" * 30)
    rest, errors = follow.communicate(timeout=30)
    expect(lines == [b"old\n"] * 10 and rest == b"", f"it has read on: {rest[:100]}")
    expect(follow.returncode == 1 and b"'again'" in errors, f"it says {errors}")
    # With a cursor it is the topic of now from the beginning, on whichever node.
    for i in range(8):
        run("topic", "delete", "again", "-s", servers)
        run("topic", "create", "again", "-s", servers)
        done = run("consume", "again", "--cursor", f"c{i}", "-s", servers)
        expect(done.stdout == b"", f"an empty topic has {done.stdout[:100]}")
        run("produce", "again", "-s", servers, input=b"new\n" * 30)
    print("a topic that was made again is not taken for the old one")


def tokens(cluster):
    for node in cluster.ids():
        for _ in range(3):
            offset, token = produce(cluster, "own", cluster.address(node))
            for other in cluster.ids():
                seen = consume(cluster, other, "--at-least", str(token))
                expect(len(seen) > offset, f"node {other} does not show what token {token} wrote")


def test(cluster):
    cluster.start_all()
    run("topic", "create", "t", "-s", cluster.servers())
    tokens(cluster)
    made_again(cluster)
    deposed_leader(cluster)
    linearizable_under_faults(cluster)
    lag(cluster)
    followed(cluster)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main(test)
