"""All nodes are restarted, one after another, under load; no operation fails at any client: producers
get every answer, streams go on at the next record, single requests are answered.

    test_rolling.py [--rounds N]      of all nodes; default 1
"""

import json
import signal
import subprocess
import sys
import threading
import time

from cluster import QUORLOG, Failed, Producer, check_copies, expect, main, run, wait_for

ROUNDS = int(sys.argv[sys.argv.index("--rounds") + 1]) if "--rounds" in sys.argv else 1


class Follower(threading.Thread):
    """A followed stream; every record once, in order, without a gap."""

    def __init__(self, cluster, topic, first):
        super().__init__(daemon=True)
        servers = cluster.servers().split(",")
        self.process = subprocess.Popen(
            [QUORLOG, "consume", topic, "-o", "start", "--follow", "-f", "%o\\n", "-s",
             ",".join(servers[first:] + servers[:first])],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.next = 0
        self.wrong = None
        self.start()

    def run(self):
        for line in self.process.stdout:
            if int(line) != self.next and self.wrong is None:
                self.wrong = f"offset {int(line)} came, {self.next} was next"
            self.next = int(line) + 1

    def stop(self, end):
        wait_for(f"a stream reaches {end}", lambda: self.next >= end or self.wrong)
        expect(self.process.poll() is None,
               f"a stream ended: {self.process.poll()}: {self.process.stderr}")
        self.process.send_signal(signal.SIGINT)
        self.process.wait(10)
        self.join(10)
        expect(self.wrong is None, f"a stream: {self.wrong}")


class Asker(threading.Thread):
    """Single requests, one after another, to whichever node answers."""

    def __init__(self, cluster, *args):
        super().__init__(daemon=True)
        self.args = args
        self.cluster = cluster
        self.stopping = threading.Event()
        self.done = 0
        self.failures = []
        self.start()

    def run(self):
        while not self.stopping.is_set():
            try:
                run(*self.args, "-s", self.cluster.servers())
                self.done += 1
            except Failed as failure:
                self.failures.append(str(failure))
            time.sleep(0.05)

    def stop(self):
        self.stopping.set()
        self.join(60)
        expect(not self.failures, f"{len(self.failures)} requests failed: {self.failures[:3]}")
        expect(self.done > 0, "nothing was asked")


def healthy(cluster):
    done = run("cluster", "health", "--json", "-s", cluster.servers(), check=False)
    return done.returncode == 0 and json.loads(done.stdout)["healthy"]


def caught_up(cluster):
    status = cluster.status()
    return status and all(n["lag"] < 100 and n["state"] != "unreachable" for n in status["nodes"])


def restart(cluster, node):
    cluster.kill(node, how=signal.SIGTERM)
    expect(cluster.nodes[node].returncode == 0, f"node {node}: {cluster.nodes[node].returncode}")
    cluster.start(node, wait=True)
    wait_for("health", lambda: healthy(cluster) and caught_up(cluster))


def test(cluster):
    cluster.start_all()
    run("topic", "create", "events", "-s", cluster.servers())
    producers = [Producer(cluster, "events", f"p{i}", pause=0.003) for i in range(4)]
    wait_for("records", lambda: all(len(p.acked) > 10 for p in producers))
    followers = [Follower(cluster, "events", i) for i in range(3)]
    askers = [Asker(cluster, "consume", "events", "-o", "start", "-n", "5"),
              Asker(cluster, "topic", "describe", "events"),
              Asker(cluster, "topic", "create", "events", "--if-missing")]
    elections = 0
    for _ in range(ROUNDS):
        for node in cluster.ids():
            elections += cluster.wait_leader() == node
            restart(cluster, node)
    restart(cluster, cluster.wait_leader())  # At least one was the leader.
    for producer in producers:
        code = producer.stop()
        expect(code == 0 and not producer.errors.startswith("quorlog:"),
               f"producer {producer.name}: exit {code}: {producer.errors}")
        expect(len(producer.acked) == producer.sent, f"{producer.name}: not all is acknowledged")
    for asker in askers:
        asker.stop()
    count = check_copies(cluster, "events", producers)
    expect(count == sum(p.sent for p in producers), "a record that was sent is missing")
    for follower in followers:
        follower.stop(count)
    print(f"{ROUNDS * cluster.count + 1} restarts, {elections + 1} of a leader: {count} records, "
          f"{sum(a.done for a in askers)} requests, no failure", flush=True)


if __name__ == "__main__":
    main(test)
