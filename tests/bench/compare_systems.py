"""Three nodes of each system that tests/bench/compare measures: started, asked, loaded, and one of them killed.

Standard library only.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "integration"))

# Where cluster.py is has to be known first. pylint: disable=wrong-import-position
import cluster as cluster_of_tests
from cluster import Cluster, expect, free_ports, wait_for

NODES = 3
KILL_STREAM = "killed"
KILL_INTERVAL_MS = 5
KILL_SIZE = 100
ACKNOWLEDGED_AGAIN_S = 60


# ---- of a process ----

def cpu_s(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return cpu_s_of(file.read(), os.sysconf("SC_CLK_TCK"))


def cpu_s_of(stat, ticks):
    """User and system time in a line of /proc/PID/stat, whose second field may hold anything."""
    fields = stat.rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / ticks


def memory(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return memory_of(file.read())


def memory_of(status):
    """Bytes that are resident."""
    return int(re.search(r"^VmRSS:\s*(\d+) kB", status, re.MULTILINE).group(1)) << 10


def children_cpu_s():
    times = os.times()
    return times.children_user + times.children_system


# ---- three servers ----

class Servers:
    """Three processes of a system, numbered from 0. What a system adds: command(), ready(),
    leader(), create(), drop(), stored(), whole(), and clients."""

    ports_each = 2

    def __init__(self, options):
        self.options = options
        self.dir = tempfile.mkdtemp(prefix="quorlog-compare-", dir=options.dir)
        self.ports = free_ports(NODES * self.ports_each)
        self.processes = [None] * NODES

    def client_port(self, node):
        return self.ports[node]

    def peer_port(self, node):
        return self.ports[NODES + node]

    def address(self, node):
        return f"127.0.0.1:{self.client_port(node)}"

    def data(self, node):
        return os.path.join(self.dir, f"node{node}")

    def log_path(self, node):
        return os.path.join(self.dir, f"node{node}.log")

    def environment(self):
        return None

    def start(self, node):
        os.makedirs(self.data(node), 0o700, exist_ok=True)
        with open(self.log_path(node), "ab") as log:
            self.processes[node] = subprocess.Popen(
                self.command(node), stdout=log, stderr=log, env=self.environment())

    def start_all(self):
        for node in range(NODES):
            self.start(node)
        wait_for("all nodes are ready", self.ready, 60)

    def running(self):
        return [node for node, process in enumerate(self.processes)
                if process is not None and process.poll() is None]

    def pids(self):
        expect(len(self.running()) == NODES, "a server has ended")
        return [process.pid for process in self.processes]

    def kill(self, node):
        self.processes[node].send_signal(signal.SIGKILL)
        self.processes[node].wait(30)

    def wait_leader(self, stream):
        def look():
            leader = self.leader(stream)
            return (leader,) if leader in self.running() else None
        return wait_for("a leader", look, 60)[0]

    def show_logs(self, lines=15):
        for node in range(NODES):
            if os.path.exists(self.log_path(node)):
                with open(self.log_path(node), encoding="utf-8", errors="replace") as log:
                    print(f"--- {self.log_path(node)}\n{''.join(log.readlines()[-lines:])}",
                          file=sys.stderr)

    def close(self):
        for process in self.processes:
            if process is not None and process.poll() is None:
                process.kill()  # What it wrote is removed.
        for process in self.processes:
            if process is not None:
                process.wait(30)
        shutil.rmtree(self.dir, ignore_errors=True)

    def load_program(self, name, node, stream, *args):
        return [os.path.join(self.options.build, "tests", "bench", name), "--server",
                self.address(node), "--stream", stream, *args]


class Quorlog(Servers):
    """As the tests start it; nodes are numbered from 1 there."""

    def __init__(self, options):
        super().__init__(options)
        tempfile.tempdir = self.dir
        self.cluster = Cluster(NODES)
        self.ports = self.cluster.ports

    def start(self, node):
        self.cluster.start(node + 1)
        self.processes[node] = self.cluster.nodes[node + 1]

    def log_path(self, node):
        return self.cluster.log_path(node + 1)

    def ready(self):
        return self.whole(None)

    def leader(self, stream):
        leader = self.cluster.leader()
        return leader - 1 if leader else None

    def run(self, *args):
        return cluster_of_tests.run(*args, "-s", self.cluster.servers()).stdout

    def create(self, stream):
        self.run("topic", "create", stream)

    def drop(self, stream):
        self.run("topic", "delete", stream)

    def stored(self, stream):
        return json.loads(self.run("topic", "describe", stream, "--json"))["end"]

    def whole(self, stream):
        status = self.cluster.status((self.leader(stream) or 0) + 1)
        nodes = status["nodes"] if status else []
        return len(nodes) == NODES and all(
            n["state"] in ("leader", "follower") and n["lag"] == 0 and not n.get("holes")
            for n in nodes)

    def load_command(self, node, stream, size, in_flight):
        return [self.options.quorlog, "bench", "produce", "--json", "-s", self.address(node), "--topic",
                stream, "--size", str(size), "--inflight", str(in_flight), "--seconds",
                str(self.options.seconds)]

    def client(self, node, stream):
        return FedClient([self.options.quorlog, "produce", stream, "--json", "-s", self.address(node),
                          "--timeout", str(ACKNOWLEDGED_AGAIN_S * 1000)])


class JetStream(Servers):
    sync = None

    def config(self, node):
        routes = ", ".join(f"nats-route://127.0.0.1:{self.peer_port(i)}" for i in range(NODES))
        sync = f", sync_interval: {self.sync}" if self.sync else ""
        return (f"server_name: n{node}\n"
                f"listen: 127.0.0.1:{self.client_port(node)}\n"
                f"jetstream {{ store_dir: {json.dumps(self.data(node))}{sync} }}\n"
                f"cluster {{ name: compare, listen: 127.0.0.1:{self.peer_port(node)}, "
                f"routes: [{routes}] }}\n")

    def command(self, node):
        path = os.path.join(self.dir, f"node{node}.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.config(node))
        return [self.options.programs["nats-server"], "-c", path]

    def ask(self, subject, request=None, timeout=5):
        """The answer of JetStream's API through any node, or None."""
        for node in self.running():
            try:
                answer = json.loads(nats_request(
                    self.client_port(node), f"$JS.API.{subject}",
                    json.dumps(request).encode() if request else b"", timeout))
            except (OSError, ValueError):
                continue
            return answer
        return None

    def demand(self, subject, request=None):
        answer = self.ask(subject, request, timeout=20)
        expect(answer and "error" not in answer, f"{subject}: {answer}")
        return answer

    def ready(self):
        """A stream of three replicas is refused until all servers know each other."""
        answer = self.ask("STREAM.CREATE.ready", self.stream_config("ready"))
        if not answer or "error" in answer:
            return False
        self.drop("ready")
        return True

    @staticmethod
    def stream_config(stream):
        return {"name": stream, "subjects": [stream], "storage": "file", "num_replicas": NODES,
                "retention": "limits"}

    def create(self, stream):
        self.demand(f"STREAM.CREATE.{stream}", self.stream_config(stream))
        wait_for("the stream's replicas are current", lambda: self.whole(stream), 60)

    def drop(self, stream):
        self.demand(f"STREAM.DELETE.{stream}")

    def stored(self, stream):
        return self.demand(f"STREAM.INFO.{stream}")["state"]["last_seq"]

    def leader(self, stream):
        return nats_leader(self.ask(f"STREAM.INFO.{stream}"))

    def whole(self, stream):
        return nats_whole(self.ask(f"STREAM.INFO.{stream}"))

    def load_command(self, node, stream, size, in_flight):
        return self.load_program("compare_nats", node, stream, "--size", str(size), "--inflight",
                                 str(in_flight), "--seconds", str(self.options.seconds))

    def client(self, node, stream):
        return StampsClient(self.load_program("compare_nats", node, stream, *STAMPS))


class JetStreamSync(JetStream):
    sync = "always"


class Etcd(Servers):
    ports_each = 3

    def __init__(self, options):
        super().__init__(options)
        # One port for gRPC and another for HTTP, where etcd can do that: it advises against one for both.
        self.own_http = "--listen-client-http-urls" in output(options.programs["etcd"], "--help")

    def http_address(self, node):
        return f"127.0.0.1:{self.ports[2 * NODES + node]}" if self.own_http else self.address(node)

    def environment(self):
        return {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}

    def command(self, node):
        members = ",".join(f"n{i}=http://127.0.0.1:{self.peer_port(i)}" for i in range(NODES))
        peer, client = f"http://127.0.0.1:{self.peer_port(node)}", f"http://{self.address(node)}"
        http = ["--listen-client-http-urls", f"http://{self.http_address(node)}"] if self.own_http else []
        return [self.options.programs["etcd"], *http, "--name", f"n{node}", "--data-dir", self.data(node),
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--initial-cluster", members, "--initial-cluster-state", "new",
                "--initial-cluster-token", os.path.basename(self.dir),
                "--quota-backend-bytes", str(8 << 30),  # 2 GiB are soon full.
                "--logger", "zap", "--log-level", "warn"]

    def status(self, node):
        """What the member says of itself, or None."""
        request = urllib.request.Request(f"http://{self.http_address(node)}/v3/maintenance/status", b"{}")
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:
                return json.load(answer)
        except (OSError, ValueError, urllib.error.URLError):
            return None

    def statuses(self):
        return [self.status(node) if node in self.running() else None for node in range(NODES)]

    def ready(self):
        return self.whole(None)

    def create(self, stream):
        """A prefix of keys needs none."""

    def drop(self, stream):
        """Deleting keys would only add revisions: they stay until the servers' data goes."""

    def leader(self, stream):
        return etcd_leader(self.statuses())

    def stored(self, stream):
        return int(self.status(self.wait_leader(stream))["header"]["revision"])

    def whole(self, stream):
        return etcd_whole(self.statuses())

    def load_command(self, node, stream, size, in_flight):
        return self.load_program("compare_etcd", node, stream, "--size", str(size), "--inflight",
                                 str(in_flight), "--seconds", str(self.options.seconds),
                                 "--connections", str(min(self.options.connections, in_flight)))

    def client(self, node, stream):
        # Each begins with number 1 again, but a key may be put again.
        return StampsClient(self.load_program("compare_etcd", node, stream, *STAMPS))


CLASSES = {"quorlog": Quorlog, "jetstream": JetStream, "jetstream-sync": JetStreamSync, "etcd": Etcd}


# ---- what systems tell ----

def output(*command):
    done = subprocess.run(command, capture_output=True, check=False)
    return done.stdout.decode().strip() if done.returncode == 0 else ""

def nats_request(port, subject, payload, timeout):
    """The answer to a request to a NATS server, by its text protocol."""
    inbox = f"_INBOX.compare.{os.getpid()}.{time.monotonic_ns()}"
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection, \
            connection.makefile("rb") as stream:
        connection.sendall(
            b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n' +
            f"SUB {inbox} 1\r\nPUB {subject} {inbox} {len(payload)}\r\n".encode() + payload + b"\r\n")
        return nats_answer(stream, connection.sendall)


def nats_answer(stream, send):
    """The first message on the stream."""
    while True:
        line = stream.readline()
        if not line.endswith(b"\r\n"):
            raise OSError("the connection ended")
        words = line.split()
        verb = words[0].upper() if words else b""
        if verb == b"PING":
            send(b"PONG\r\n")
        elif verb == b"-ERR":
            raise OSError(line.decode().strip())
        elif verb == b"MSG":
            return stream.read(int(words[-1]))
        elif verb == b"HMSG":  # "No responders" is nothing but headers.
            raise OSError(stream.read(int(words[-1]))[:int(words[-2])].decode().strip())


def nats_leader(info):
    name = ((info or {}).get("cluster") or {}).get("leader", "")
    return int(name[1:]) if re.fullmatch(r"n\d+", name) else None


def nats_whole(info):
    replicas = ((info or {}).get("cluster") or {}).get("replicas") or []
    return (nats_leader(info) is not None and len(replicas) == NODES - 1 and
            all(r.get("current") and not r.get("offline") for r in replicas))


def etcd_leader(statuses):
    for node, status in enumerate(statuses):
        if status and status.get("leader", "0") == status["header"]["member_id"]:
            return node
    return None


def etcd_whole(statuses):
    if not all(statuses) or etcd_leader(statuses) is None:
        return False
    applied = [int(status.get("raftAppliedIndex", status["raftIndex"])) for status in statuses]
    return len({status["leader"] for status in statuses}) == 1 and max(applied) - min(applied) < 100


# ---- clients around a kill ----

STAMPS = ("--stamps", "--interval-ms", str(KILL_INTERVAL_MS), "--size", str(KILL_SIZE), "--inflight",
          "20000", "--seconds", "600", "--timeout-ms", str(ACKNOWLEDGED_AGAIN_S * 1000))


class StampsClient:
    """Sends a record every few milliseconds, whatever became of those before; tells when each that
    was acknowledged was sent and acknowledged (nanoseconds of the monotonic clock)."""

    def __init__(self, command, **more):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        **more)
        self.pairs = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            sent, acknowledged = line.split()
            self.pairs.append((int(sent), int(acknowledged)))

    def since(self, moment):
        return since(self.pairs, moment)

    def stop(self):
        self.process.kill()
        self.reader.join(30)
        self.process.wait(30)
        self.process.stdout.close()
        self.process.stderr.close()


class FedClient(StampsClient):
    """The same with `quorlog produce`, which takes records on stdin and prints a line for each."""

    def __init__(self, command):
        self.sent = []
        self.stopping = threading.Event()
        super().__init__(command, stdin=subprocess.PIPE)
        self.feeder = threading.Thread(target=self.feed, daemon=True)
        self.feeder.start()

    def feed(self):
        line = b"x" * KILL_SIZE + b"\n"
        try:
            while not self.stopping.wait(KILL_INTERVAL_MS / 1e3):
                self.sent.append(time.monotonic_ns())
                self.process.stdin.write(line)
                self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # No acknowledgement comes: that is noticed.

    def read(self):
        for _ in self.process.stdout:
            self.pairs.append((self.sent[len(self.pairs)], time.monotonic_ns()))

    def stop(self):
        self.stopping.set()
        self.feeder.join(30)
        super().stop()
        self.process.stdin.close()


def since(pairs, moment):
    """When the first of the records that were sent after the moment was acknowledged, or None."""
    return min((acknowledged for sent, acknowledged in list(pairs) if sent > moment), default=None)


def kill_leader(servers):
    """Which node it was, and milliseconds from the kill to the first acknowledgement of what was
    sent after it, of two clients, each through a node that survives."""
    leader = servers.wait_leader(KILL_STREAM)
    clients = [servers.client(node, KILL_STREAM) for node in range(NODES) if node != leader]
    try:
        wait_for("every client is acknowledged", lambda: all(c.pairs for c in clients))
        time.sleep(0.5)
        moment = time.monotonic_ns()
        servers.kill(leader)
        wait_for("records are acknowledged again",
                 lambda: any(c.since(moment) for c in clients), ACKNOWLEDGED_AGAIN_S)
        again = min(filter(None, (c.since(moment) for c in clients)))
    finally:
        for client in clients:
            client.stop()
    return leader, (again - moment) / 1e6
