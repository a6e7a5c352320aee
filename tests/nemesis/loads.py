"""What the clients are: tests/nemesis/load, which writes a history for the checker, or, where that is not
built, producers whose acknowledgements are compared with all copies in the end."""

import os
import signal
import subprocess
import time

from cluster import Producer, check_copies, expect, run

LOAD = os.environ.get("NEMESIS_LOAD", "build/tests/nemesis/load")


class HistoryLoad:
    """The C program."""

    def __init__(self, cluster, out, options):
        self.cluster = cluster
        self.out = out
        self.history = os.path.join(out, "load.jsonl")
        self.dumped = os.path.join(out, "dump.jsonl")
        self.errors = open(os.path.join(out, "load.log"), "ab")
        self.options = options
        self.process = None

    @staticmethod
    def there():
        return os.access(LOAD, os.X_OK)

    def start(self):
        args = [LOAD, "--servers", self.cluster.client_servers(), "--out", self.history, "--series",
                os.path.join(self.out, "series.jsonl"), "--clients", str(self.options["clients"]),
                "--seed", str(self.options["seed"]), "--seconds", "100000"]
        if self.options["rate"]:
            args += ["--rate", str(self.options["rate"])]
        self.process = subprocess.Popen(args, stdout=self.errors, stderr=self.errors,
                                        stdin=subprocess.DEVNULL, start_new_session=True)

    def running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(120)
        expect(code == 0, f"the load ended with {code}: see {self.errors.name}")

    def dump(self, timeout):
        """What every node holds; they have so many seconds to answer."""
        done = subprocess.run([LOAD, "--servers", self.cluster.servers(), "--out", self.dumped,
                               "--dump-only", "--timeout", str(timeout)], stdout=self.errors,
                              stderr=self.errors, timeout=900, check=False)
        expect(done.returncode == 0, f"the dump ended with {done.returncode}: see {self.errors.name}")

    def histories(self):
        return [self.history, self.dumped]

    def verdict(self):
        """Nothing that a history would not tell."""
        return {}

    def close(self):
        if self.running():
            self.process.kill()
            self.process.wait()
        self.errors.close()


class Copies:
    """What cluster.check_copies wants of a cluster."""

    def __init__(self, cluster):
        self.cluster = cluster

    def ids(self):
        return [node.number for node in self.cluster.members()]

    def running(self, node):
        return self.cluster.nodes[node].alive()

    def address(self, node):
        return self.cluster.nodes[node].place.address()

    def servers(self):
        return self.cluster.client_servers()

    def wait_equal(self, topic):
        del topic
        self.cluster.wait_healthy()

    def dump(self, node, topic):
        return run("consume", topic, "-o", "start", "-f", "%o %v\\n", "-s", self.address(node),
                   "--linearizable", timeout=300).stdout


class PlainLoad:
    """`quorlog produce`, some of them."""

    TOPIC = "plain"

    def __init__(self, cluster, _out, options):
        self.cluster = cluster
        self.options = options
        self.producers = []

    def start(self):
        run("topic", "create", self.TOPIC, "-s", self.cluster.client_servers())
        pause = 1 / max(1, (self.options["rate"] or 500) // self.options["clients"])
        self.producers = [Producer(Copies(self.cluster), self.TOPIC, f"p{i}", pause=pause)
                          for i in range(self.options["clients"])]

    def running(self):
        return all(p.process.poll() is None for p in self.producers)

    def stop(self):
        for producer in self.producers:
            code = producer.stop()
            expect(code == 0, f"producer {producer.name}: exit {code}: {producer.errors}")

    def dump(self, _timeout):
        count = check_copies(Copies(self.cluster), self.TOPIC, self.producers)
        sent = sum(p.sent for p in self.producers)
        expect(count == sent, f"{count} records, {sent} were sent and acknowledged")

    def histories(self):
        return []

    def verdict(self):
        return {"records": sum(p.sent for p in self.producers)}

    def close(self):
        for producer in self.producers:
            if producer.process.poll() is None:
                producer.process.kill()
                producer.process.wait()


def make(cluster, out, options):
    if HistoryLoad.there():
        return HistoryLoad(cluster, out, options)
    print("nemesis: tests/nemesis/load is not built: plain producers, and no history", flush=True)
    return PlainLoad(cluster, out, options)


def wait_begun(load, seconds=1.0):
    time.sleep(seconds)
    expect(load.running(), "the load has ended")
