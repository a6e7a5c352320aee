"""Real clusters of real processes on loopback, for tests: start, kill, produce, dump, compare.

Standard library only. A test is a program: exit code 0 when all held; what did not is said on stderr.
"""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

QUORLOG = os.environ.get("QUORLOG", "build/src/cli/quorlog")


class Failed(Exception):
    """Something that has to hold did not."""


def expect(condition, text):
    if not condition:
        raise Failed(text)


def free_ports(count):
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def run(*args, timeout=60, check=True, **more):
    """Runs quorlog; returns the finished process with its output as text."""
    done = subprocess.run([QUORLOG, *args], capture_output=True, timeout=timeout, **more)
    if check and done.returncode != 0:
        raise Failed(f"quorlog {' '.join(args)}: exit {done.returncode}: {done.stderr.decode()}")
    return done


def wait_for(what, condition, timeout=30.0):
    """Waits until condition() is true; its last value."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"not within {timeout} s: {what}")
        time.sleep(0.02)


class Cluster:
    """Nodes 1 … count; each may run or not."""

    def __init__(self, count=3, options=()):
        self.dir = tempfile.mkdtemp(prefix="quorlog-test-")
        self.count = count
        self.options = list(options)
        self.ports = free_ports(count)
        self.nodes = {}
        self.bootstrap = ",".join(f"{i}={self.address(i)}" for i in self.ids())

    def ids(self):
        return range(1, self.count + 1)

    def address(self, node):
        return f"127.0.0.1:{self.ports[node - 1]}"

    def servers(self):
        return ",".join(self.address(i) for i in self.ids())

    def data(self, node):
        return os.path.join(self.dir, f"node{node}")

    def log_path(self, node):
        return os.path.join(self.dir, f"node{node}.log")

    def start(self, node, wait=False):
        args = [QUORLOG, "serve", "--id", str(node), "--listen", self.address(node), "--data",
                self.data(node), "--bootstrap", self.bootstrap, *self.options]
        with open(self.log_path(node), "ab") as log:
            self.nodes[node] = subprocess.Popen(args, stdout=log, stderr=log)
        if wait:
            wait_for(f"node {node} answers", lambda: self.status(node))

    def start_all(self):
        for node in self.ids():
            self.start(node)
        return self.wait_leader()

    def kill(self, *nodes, how=signal.SIGKILL):
        for node in nodes:
            self.nodes[node].send_signal(how)
        for node in nodes:
            self.nodes[node].wait(30)

    def pause(self, node):
        self.nodes[node].send_signal(signal.SIGSTOP)

    def resume(self, node):
        self.nodes[node].send_signal(signal.SIGCONT)

    def running(self, node):
        return node in self.nodes and self.nodes[node].poll() is None

    def status(self, node=None):
        """cluster status as a node sees it, or None."""
        for i in [node] if node else self.ids():
            if not self.running(i):
                continue
            done = run("cluster", "status", "--json", "-s", self.address(i), "--timeout", "1000",
                       check=False)
            if done.returncode == 0:
                return json.loads(done.stdout)
        return None

    def leader(self):
        status = self.status()
        return status["leader"] if status else None

    def wait_leader(self, timeout=30.0):
        def look():
            status = self.status()
            return status if status and status["leader"] and self.running(status["leader"]) else None
        return wait_for("a leader", look, timeout)["leader"]

    def followers(self):
        leader = self.wait_leader()
        return [i for i in self.ids() if i != leader and self.running(i)]

    def wait_equal(self, topic, timeout=60.0):
        """Waits until all running nodes have the same end and digest; returns the end."""
        def look():
            seen = set()
            for i in self.ids():
                if not self.running(i):
                    continue
                done = run("topic", "describe", topic, "--json", "-s", self.address(i), "--timeout",
                           "1000", check=False)
                if done.returncode != 0:
                    return None
                info = json.loads(done.stdout)
                seen.add((info["end"], info["digest"]))
            return list(seen)[0] if len(seen) == 1 else None
        return wait_for(f"equal copies of {topic} on all nodes", look, timeout)[0]

    def dump(self, node, topic):
        """All records of a node's copy: the bytes that consume prints, 'offset value' lines."""
        return run("consume", topic, "-o", "start", "-f", "%o %v\\n", "-s", self.address(node),
                   timeout=300).stdout

    def close(self, keep=False):
        for process in self.nodes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        codes = {}
        for node, process in self.nodes.items():
            try:
                codes[node] = process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                codes[node] = None
        if keep:
            print(f"data and logs are kept in {self.dir}", file=sys.stderr)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)
        return codes

    def show_logs(self, lines=25):
        for node in self.ids():
            if os.path.exists(self.log_path(node)):
                with open(self.log_path(node), encoding="utf-8", errors="replace") as log:
                    tail = log.readlines()[-lines:]
                code = self.nodes[node].poll() if node in self.nodes else None
                state = "running" if code is None else f"ended with {code}"
                print(f"--- node {node} ({state})\n{''.join(tail)}", file=sys.stderr)


class Producer(threading.Thread):
    """A `quorlog produce --json` fed with numbered values, until stopped; knows what was
    acknowledged where."""

    def __init__(self, cluster, topic, name, pause=0.0, servers=None, limit=None):
        super().__init__(daemon=True)
        self.name = name
        self.pause = pause
        self.limit = limit
        self.stopping = threading.Event()
        self.sent = 0
        self.acked = []  # (value, offset)
        self.errors = None
        self.process = subprocess.Popen(
            [QUORLOG, "produce", topic, "--json", "--timeout", "60000", "-s",
             servers or cluster.servers()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.start()

    def value(self, number):
        return f"{self.name}-{number}"

    def run(self):
        self.reader.start()
        try:
            while not self.stopping.is_set() and (self.limit is None or self.sent < self.limit):
                self.process.stdin.write(f"{self.value(self.sent)}\n".encode())
                self.process.stdin.flush()
                self.sent += 1
                if self.pause:
                    time.sleep(self.pause)
            self.process.stdin.close()
        except BrokenPipeError:
            pass

    def read(self):
        for line in self.process.stdout:
            answer = json.loads(line)
            self.acked.append((self.value(len(self.acked)), answer["offset"]))

    def stop(self, timeout=120):
        self.stopping.set()
        self.join(timeout)
        self.reader.join(timeout)
        self.process.wait(timeout)
        self.errors = self.process.stderr.read().decode()
        return self.process.returncode


def check_copies(cluster, topic, producers):
    """What was acknowledged is on every node, once, at its offset; offsets are dense; copies are
    identical. Returns the number of records."""
    cluster.wait_equal(topic)
    dumps = {node: cluster.dump(node, topic) for node in cluster.ids() if cluster.running(node)}
    first = next(iter(dumps.values()))
    for node, dump in dumps.items():
        expect(dump == first, f"the copy on node {node} differs")
    records = [line.split(" ", 1) for line in first.decode().splitlines()]
    for place, (offset, _) in enumerate(records):
        expect(int(offset) == place, f"offset {offset} at place {place}: not dense")
    values = {}
    for offset, value in records:
        expect(value not in values, f"{value} is there twice: at {values.get(value)} and {offset}")
        values[value] = int(offset)
    for producer in producers:
        last = -1
        for value, offset in producer.acked:
            expect(values.get(value) == offset,
                   f"{value} was acknowledged at {offset}, but is at {values.get(value)}")
            expect(offset > last, f"{value} at {offset} is out of order")
            last = offset
        for value in (producer.value(i) for i in range(len(producer.acked), producer.sent)):
            if value in values:
                expect(values[value] > last, f"{value} (unacknowledged) is out of order")
    known = sum(p.sent for p in producers)
    expect(len(records) <= known, f"{len(records)} records, but only {known} were sent")
    return len(records)


def main(test, options=(), count=3):
    """Runs a test on a cluster of its own; keeps data and shows logs when it fails. What was wrong,
    and how to see it again, is said last."""
    cluster = Cluster(count, options)
    reason = None
    begin = time.monotonic()
    try:
        test(cluster)
    except (Failed, subprocess.TimeoutExpired) as failure:
        reason = str(failure)
    except Exception:  # A test that is wrong itself is told as any other.
        reason = traceback.format_exc().rstrip()
    except BaseException:
        cluster.close()
        raise
    if reason is not None:
        cluster.show_logs()
    cluster.close(keep=reason is not None)
    name = os.path.basename(sys.argv[0])
    print(f"{name}: {'ok' if reason is None else 'FAILED'} ({time.monotonic() - begin:.1f} s)", flush=True)
    if reason is not None:
        print(f"again: QUORLOG={QUORLOG} {shlex.join(['python3', '-B', *sys.argv])}\nFAILED: {reason}",
              file=sys.stderr)
        sys.exit(1)
    sys.exit(0)
