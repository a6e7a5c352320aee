"""A follower that was away while much was written takes new records at once and fetches the rest in the
background: it shows progress, survives kill -9 in the middle and its source's death, and ends with the
same bytes; so does one whose topics were removed.

--megabytes N: how much is written meanwhile (40); 5120 is what a follower of a busy cluster may miss.
"""

import argparse
import json
import os
import shutil
import threading
import time

from cluster import expect, main, run, wait_for

OPTIONS = argparse.ArgumentParser()
OPTIONS.add_argument("--megabytes", type=int, default=40)
ARGS = OPTIONS.parse_args()

VALUE = ("v" * 4000).encode()


def write(cluster, topic, megabytes, begin=0):
    """Numbered lines; returns how many, and megabytes a second."""
    count = megabytes * 250
    piece = 2500
    start = time.monotonic()
    for first in range(0, count, piece):
        lines = b"".join(b"%d %s\n" % (begin + i, VALUE)
                         for i in range(first, min(first + piece, count)))
        run("produce", topic, "-s", cluster.servers(), input=lines, timeout=600)
    return count, megabytes / (time.monotonic() - start)


def node(cluster, number):
    status = cluster.status(number)
    if not status:
        return None
    return next(n for n in status["nodes"] if n["id"] == number)


def has_holes(cluster, number):
    status = node(cluster, number)
    return status and status["holes"] > 0


def wait_complete(cluster, number, timeout):
    def look():
        status = node(cluster, number)
        return status and status["holes"] == 0 and status["state"] in ("follower", "leader")
    wait_for(f"node {number} is complete", look, timeout)


def read_at(cluster, number, topic, offset):
    done = run("consume", topic, "-o", str(offset), "-n", "1", "-f", "%o %v\\n", "-s",
               cluster.address(number), "--timeout", "5000", check=False)
    return done.stdout.split(b" ")[:2] if done.returncode == 0 and done.stdout else None


def check_same(cluster, topics):
    """The same bytes on all nodes: the digest says it of the whole chain, the dump of each record."""
    for topic in topics:
        cluster.wait_equal(topic, timeout=120)
        if ARGS.megabytes > 200:
            continue
        first = cluster.dump(1, topic)
        for number in cluster.ids():
            expect(cluster.dump(number, topic) == first, f"{topic} differs on node {number}")


def check_status_text(cluster, number):
    text = run("cluster", "status", "-s", cluster.address(number)).stdout.decode()
    expect("records missing" in text, f"cluster status does not show what is missing:\n{text}")
    health = run("cluster", "health", "-s", cluster.address(number), check=False)
    expect(health.returncode == 10 and b"incomplete" in health.stdout,
           f"cluster health: exit {health.returncode}: {health.stdout.decode()}")


class Trickle(threading.Thread):
    """Records one after another, all the while; what was acknowledged must be there at the end."""

    def __init__(self, cluster, topic):
        super().__init__(daemon=True)
        self.cluster = cluster
        self.topic = topic
        self.stopping = threading.Event()
        self.acked = []
        self.start()

    def run(self):
        number = 0
        while not self.stopping.is_set():
            done = run("produce", self.topic, "--json", "--timeout", "30000", "-s",
                       self.cluster.servers(), input=b"t%d\n" % number, check=False)
            if done.returncode == 0:
                self.acked.append((json.loads(done.stdout)["offset"], b"t%d" % number))
            number += 1
            time.sleep(0.05)

    def stop(self):
        self.stopping.set()
        self.join(60)


def catch_up(cluster, away, trickle):
    """The follower is back; everything happens while its gap fills. Megabytes a second produced
    then."""
    leader = cluster.wait_leader()
    wait_for("the follower has holes", lambda: has_holes(cluster, away), 60)
    check_status_text(cluster, away)
    # New records are applied and served there at once.
    before = node(cluster, away)
    mark = json.loads(run("produce", "new", "--json", "-s", cluster.servers(), input=b"x\n").stdout)
    served = wait_for("a new record is read from the node with holes",
                      lambda: read_at(cluster, away, "new", mark["offset"]), 20)
    expect(served[0] == str(mark["offset"]).encode(), f"read {served}")
    expect(has_holes(cluster, away), "the gap was filled before a new record could be read")
    _, filling = write(cluster, "speed", max(4, ARGS.megabytes // 8))
    expect(has_holes(cluster, away), "the gap was filled before the rate was measured")
    progress = wait_for("it gets on", lambda: (n := node(cluster, away)) and
                        n["missing"] < before["missing"] and n["filled"] > 0 and
                        n["fill_left_s"] > 0 and n, 60)
    expect(progress["missing"] > 0, "nothing was missing any more")
    # kill -9 in the middle: what was put in stays.
    cluster.kill(away)
    cluster.start(away, wait=True)
    again = wait_for("it is back", lambda: node(cluster, away), 20)
    print(f"missing: {before['missing']} at first, {progress['missing']} when it was killed, "
          f"{again['missing']} after the restart")
    expect(0 < again["missing"] < before["missing"], "a restart does not go on where it stopped")
    # The death of whom it asks: a follower is asked before the leader.
    source = next(i for i in cluster.ids() if i not in (away, leader))
    cluster.kill(source)
    left = again["missing"]
    wait_for("it gets on without its source",
             lambda: (n := node(cluster, away)) and n["missing"] < left, 60)
    cluster.start(source, wait=True)
    expect(len(trickle.acked) > 0, "nothing could be written meanwhile")
    return filling


def test(cluster):
    cluster.start_all()
    for topic in ("big", "new", "trickle", "speed"):
        run("topic", "create", topic, "-s", cluster.servers())
    write(cluster, "big", 2)
    away = cluster.followers()[0]
    cluster.kill(away)
    write(cluster, "big", ARGS.megabytes, begin=10 ** 6)
    trickle = Trickle(cluster, "trickle")
    cluster.start(away, wait=True)
    filling = catch_up(cluster, away, trickle)
    trickle.stop()
    wait_complete(cluster, away, 60 + ARGS.megabytes)
    _, alone = write(cluster, "speed", max(4, ARGS.megabytes // 8))
    print(f"produced {filling:.1f} MB/s while the gap was filled, {alone:.1f} MB/s without: "
          f"{100 * filling / alone:.0f} %")
    check_same(cluster, ("big", "new", "trickle", "speed"))
    written = dict(trickle.acked)
    for line in cluster.dump(away, "trickle").splitlines():
        offset, value = line.split(b" ", 1)
        expect(written.pop(int(offset), value) == value, f"another value at {offset}")
    expect(not written, f"acknowledged and not there: {written}")
    lose_topics(cluster)
    check_same(cluster, ("big", "new", "trickle", "speed"))


def lose_topics(cluster):
    """Everything under topics/ is removed while the node is down; its journal is not."""
    lost = cluster.followers()[-1]
    cluster.kill(lost)
    topics = os.path.join(cluster.data(lost), "group-1", "topics")
    for name in os.listdir(topics):
        shutil.rmtree(os.path.join(topics, name))
    cluster.start(lost, wait=True)
    wait_for("the loss is seen", lambda: has_holes(cluster, lost), 30)
    with open(cluster.log_path(lost), encoding="utf-8") as log:
        expect("event=damage_found" in log.read(), "the loss was not told")
    wait_complete(cluster, lost, 60 + ARGS.megabytes)


if __name__ == "__main__":
    main(test, options=["--snapshot-size", "1M", "--trailing-size", "64K", "--segment-size", "4M",
                        "--fill-rate", "8M" if ARGS.megabytes <= 200 else "64M"])
