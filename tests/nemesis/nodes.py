"""A cluster of real processes behind the link proxy, one disk each; who supervises them, reads their
logs, and does what an operator would do."""

import json
import os
import re
import signal
import subprocess
import threading
import time

from cluster import QUORLOG, Failed, free_ports, run, wait_for
from sandbox import Disk

RESTART_S = 1.0  # a supervisor waits so long before it starts again what ended by itself
FAILURES_MAX = 20  # that are told
TOLD_MAX = 2  # of one node's events of one kind
SCRUB_MIB = 64  # a second: more than the load writes
OPTIONS = ["--scrub-rate", f"{SCRUB_MIB}M", "--segment-size", "1M", "--snapshot-size", "4M", "--trailing-size", "1M",
           "--journal-segment-size", "4M", "--inflight-size", "2M", "--disk-reserve", "24M"]
BROKEN = re.compile(r"assertion failed|Sanitizer|runtime error:|stack smashing|corrupted size")
EVENT = re.compile(r"^\S+ (ERROR|WARN|INFO|DEBUG) node=\d+ mod=\S+ event=(\S+)(.*)$")
TEXT = re.compile(r'\btext=(?:"((?:[^"\\]|\\.)*)"|(\S+))')
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


def reason(fields):
    """What an event gives as its text."""
    found = TEXT.search(fields)
    return (found.group(1) or found.group(2)) if found else "for no reason that it tells"


class Node:
    """A number that a node has, in a place (an address, a disk) that it has for now."""

    def __init__(self, number, place, joins):
        self.number = number
        self.place = place
        self.joins = joins
        self.process = None
        self.wanted = False  # a supervisor keeps it running
        self.paused = False
        self.handled = False  # whoever started it deals with its end: it is not started again
        self.tolerated = False  # it may end by itself; it is started again
        self.ended_at = None
        self.log_at = 0
        self.log_rest = b""
        self.refusal = None  # its last words, when it would not start
        self.allowed = {}  # event → when that stops being expected

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        """Only to a process of ours that was not waited for."""
        if self.alive():
            self.process.send_signal(number)


class Place:
    """Where a node can be: an address for clients, a disk."""

    def __init__(self, index, port, disk):
        self.index = index
        self.port = port
        self.disk = disk
        self.node = None

    def address(self):
        return f"127.0.0.1:{self.port}"


class NemesisCluster:
    """Nodes 1 … count begin it; others join later. Clients reach a place directly, nodes one another
    through the proxy."""

    def __init__(self, base, proxy, history, options):
        """options: count, kinds (of disks), disk_size, faketime, lying_disks (a library, or None)."""
        self.base = base
        self.proxy = proxy
        self.history = history
        self.options = options
        self.lock = threading.RLock()
        self.nodes = {}
        self.advertised = {}  # node → its address before the proxy
        self.failures = []
        self.unexpected = {}  # (node, what) → how often
        self.counts = {}
        self.next_number = options["count"] + 1
        self.leader_seen = (0, 0)
        self.stopping = threading.Event()
        self.watcher = None
        ports = free_ports(2 * options["count"] + 4)
        self.spare_ports = ports[options["count"] + 2:]
        self.places = []
        for i in range(options["count"] + 2):  # two more, for members that come and go
            kind = options["kinds"][i % len(options["kinds"])]
            disk = None if i >= options["count"] else self.make_disk(i, kind)
            self.places.append(Place(i, ports[i], disk))
        for i in range(options["count"]):
            self.advertise(i + 1)
        self.bootstrap = ",".join(f"{i + 1}={self.advertised[i + 1]}"
                                  for i in range(options["count"]))
        for i in range(options["count"]):
            self.settle(i + 1, self.places[i], False)

    def make_disk(self, index, kind):
        return Disk(kind, self.base, f"disk{index + 1}", self.options["disk_size"])

    def count(self, what, by=1):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + by

    def fail(self, text):
        """Something that has to hold did not; the run goes on to its end and is no success."""
        with self.lock:
            self.failures.append(text)
            if len(self.failures) > FAILURES_MAX:
                return  # The first ones tell.
        self.history.note("failure", text)
        print(f"FAILED: {text}", flush=True)

    def fail_of(self, node, what, text):
        """As fail(), but not for ever the same."""
        told = self.unexpected.get((node.number, what), 0)
        self.unexpected[node.number, what] = told + 1
        if told < TOLD_MAX:
            self.fail(f"node {node.number}, {text}")

    # ---- places and numbers ----

    def advertise(self, number):
        port = self.spare_ports.pop() if self.spare_ports else free_ports(1)[0]
        self.advertised[number] = f"127.0.0.1:{port}"

    def settle(self, number, place, joins):
        node = Node(number, place, joins)
        place.node = node
        with self.lock:
            self.nodes[number] = node
        self.proxy.node(number, self.advertised[number], place.address())
        return node

    def forget(self, node):
        """It is no member any more, and its place is empty."""
        self.kill(node)
        self.proxy.remove(node.number)
        node.place.node = None
        with self.lock:
            del self.nodes[node.number]

    def members(self):
        with self.lock:
            return [self.nodes[number] for number in sorted(self.nodes)]

    def running(self):
        return [node for node in self.members() if node.alive() and not node.paused]

    def servers(self, nodes=None):
        return ",".join(node.place.address() for node in nodes or self.members())

    def client_servers(self):
        """For clients that stay: all places where a member may be."""
        return ",".join(place.address() for place in self.places[:self.options["count"]])

    # ---- processes ----

    def log_path(self, node):
        return os.path.join(self.base, f"node{node.number}.log")

    def start(self, node, handled=False):
        """handled: the caller looks at whether it would start."""
        place = node.place
        args = [QUORLOG, "serve", "--id", str(node.number), "--listen", place.address(),
                "--advertise", self.advertised[node.number], "--data", place.disk.data, *OPTIONS]
        if node.joins:
            others = [n for n in self.members() if n is not node]
            args += ["--join", ",".join(self.advertised[n.number] for n in others)]
        else:
            args += ["--bootstrap", self.bootstrap]
        env = dict(os.environ)
        preloaded = [FAKETIME] if self.options["faketime"] else []
        if self.options["lying_disks"]:
            args += ["--direct-io", "off"]
            preloaded.append(self.options["lying_disks"])
        if preloaded:
            env["LD_PRELOAD"] = ":".join(preloaded)
        if self.options["faketime"]:
            env.update(FAKETIME_TIMESTAMP_FILE=self.clock_path(place),
                       FAKETIME_CACHE_DURATION="1", FAKETIME_DONT_FAKE_MONOTONIC="1")
        with self.lock:
            node.refusal = None
            node.handled = handled
            node.ended_at = None
            with open(self.log_path(node), "ab") as log:
                node.process = subprocess.Popen(args, stdout=log, stderr=log, env=env,
                                                stdin=subprocess.DEVNULL, start_new_session=True)
            node.wanted = True
            node.paused = False

    def clock_path(self, place):
        return os.path.join(self.base, f"clock{place.index + 1}")

    def set_clock(self, place, text):
        path = self.clock_path(place)
        with open(path + ".new", "w", encoding="ascii") as file:
            file.write(text + "\n")
        os.replace(path + ".new", path)

    def start_all(self):
        for place in self.places:
            self.set_clock(place, "+0")
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()
        for node in self.members():
            self.start(node)
        self.wait_healthy(60)

    def kill(self, *nodes, how=signal.SIGKILL):
        """Ends processes and waits for it; a supervisor does not start them again."""
        with self.lock:
            for node in nodes:
                node.wanted = False
                node.signal(how)
                if node.paused:
                    node.signal(signal.SIGCONT)
                    node.paused = False
        for node in nodes:
            if node.process is None:
                continue
            try:
                node.process.wait(30)
            except subprocess.TimeoutExpired:
                self.fail(f"node {node.number} did not end within 30 s of signal {how}")
                node.signal(signal.SIGKILL)
                node.process.wait()

    def pause(self, node):
        node.paused = True
        node.signal(signal.SIGSTOP)

    def resume(self, node):
        node.signal(signal.SIGCONT)
        node.paused = False

    # ---- watching ----

    def allow(self, node, *events, seconds=None):
        """These ERROR lines are expected of it; None: to the end of the run."""
        end = float("inf") if seconds is None else time.monotonic() + seconds
        with self.lock:
            for event in events:
                node.allowed[event] = max(end, node.allowed.get(event, 0))

    def disallow(self, node, *events):
        """They are not any more; what is expected to the end of the run stays so."""
        with self.lock:
            for event in events:
                if node.allowed.get(event) != float("inf"):
                    node.allowed.pop(event, None)

    def watch(self):
        """Reads the logs, and starts again what ended by itself, as a supervisor does."""
        while not self.stopping.wait(0.05):
            for node in self.members():
                with self.lock:
                    self.read_log(node)
                    self.supervise(node)

    def supervise(self, node):
        if not node.wanted or node.process is None or node.process.poll() is None:
            return
        if node.ended_at is None:
            self.read_log(node)
            node.ended_at = time.monotonic()
            code = node.process.returncode
            if code < 0:
                self.fail(f"node {node.number} was ended by signal {-code}")
            elif node.refusal and not (node.handled or node.tolerated):
                self.fail_of(node, "refusal", f"would not start: {node.refusal}")
            self.count("ended by itself")
        elif time.monotonic() - node.ended_at > RESTART_S and not node.handled:
            self.start(node)

    def read_log(self, node):
        try:
            with open(self.log_path(node), "rb") as log:
                log.seek(node.log_at)
                data = log.read()
        except FileNotFoundError:
            return
        node.log_at += len(data)
        lines = (node.log_rest + data).split(b"\n")
        node.log_rest = lines.pop()
        for line in lines:
            self.judge(node, line.decode(errors="replace"))

    def judge(self, node, line):
        if BROKEN.search(line):
            self.fail(f"node {node.number}: {line}")
            return
        if line.startswith("quorlog: "):
            node.refusal = line[len("quorlog: "):]
            return
        found = EVENT.match(line)
        if not found:
            return
        level, event, rest = found.groups()
        if event == "leader_changed":
            self.see_leader(rest)
        elif event == "damage_found":
            self.count("damage found")
        if event == "node_failed" and node.handled:
            node.refusal = reason(rest)  # It had started, and was told by the others.
        elif level == "ERROR":
            if time.monotonic() > node.allowed.get(event, 0):
                self.fail_of(node, event, f"unexpected: {line}")

    def see_leader(self, rest):
        fields = dict(re.findall(r"(\w+)=(\S+)", rest))
        leader, term = int(fields.get("leader", 0)), int(fields.get("term", 0))
        if leader != 0 and term > self.leader_seen[1]:
            self.leader_seen = (leader, term)
            self.count("leaders")
            self.history.page_event(kind="leader", node=leader, term=term)

    # ---- asking ----

    def status(self, nodes=None):
        """cluster status as one of them sees it, or None."""
        for node in nodes or self.running():
            done = run("cluster", "status", "--json", "-s", node.place.address(), "--timeout",
                       "1000", check=False)
            if done.returncode == 0:
                return json.loads(done.stdout)
        return None

    def leader(self):
        """The node that leads, as far as a majority can say; None when none is known."""
        votes = {}
        for node in self.running():
            status = self.status([node])
            if status and status["leader"]:
                key = max((n["term"] for n in status["nodes"]), default=0), status["leader"]
                votes[key] = votes.get(key, 0) + 1
        for _, number in sorted(votes, reverse=True):
            if number in self.nodes:
                return self.nodes[number]
        return None

    def wait_leader(self, timeout=30):
        return wait_for("a leader", self.leader, timeout)

    def healthy(self):
        if any(not node.alive() or node.paused for node in self.members()):
            return False
        for node in self.members():
            done = run("cluster", "health", "--json", "-s", node.place.address(), "--timeout",
                       "2000", check=False)
            if done.returncode != 0:
                return False
        status = self.status()
        return bool(status) and (sorted(n["id"] for n in status["nodes"]) ==
                                 [node.number for node in self.members()]) and all(
            n["role"] == "voter" and n["holes"] == 0 and n["lag"] < 2000 for n in status["nodes"])

    def wait_healthy(self, timeout=90):
        """How long it took. What fails meanwhile ends the waiting."""
        begin = time.monotonic()
        known = len(self.failures)

        def look():
            if len(self.failures) > known:
                raise Failed(self.failures[known])
            return self.healthy()
        wait_for("a healthy cluster", look, timeout)
        return time.monotonic() - begin

    def wait_up(self, node, timeout=60):
        """Until it answers; its refusal, if it does not start but says why."""
        def look():
            if self.status([node]):
                return "up"
            return None if node.alive() or node.refusal is None else node.refusal
        said = wait_for(f"node {node.number} answers or refuses", look, timeout)
        return None if said == "up" else said

    # ---- what an operator does ----

    def change(self, *args, wait=90):
        """quorlog cluster …, given again while it goes on where it stopped."""
        text = ""
        for _ in range(3):
            done = run("cluster", *[str(a) for a in args], "-s", self.servers(self.running()),
                       "--wait", str(wait), check=False, timeout=wait + 60)
            text = done.stdout.decode() + done.stderr.decode()
            if done.returncode == 0:
                return text
            time.sleep(1)
        raise Failed(f"cluster {' '.join(str(a) for a in args)}: {text}")

    def join(self, place):
        """A new node, under a number that was never used, on an empty disk there; it is no member
        yet."""
        if place.disk is None:
            place.disk = self.make_disk(place.index, self.options["kinds"][
                place.index % len(self.options["kinds"])])
        else:
            place.disk.new()
        number = self.next_number
        self.next_number += 1
        self.advertise(number)
        node = self.settle(number, place, True)
        self.start(node)
        refusal = self.wait_up(node)
        if refusal:
            raise Failed(f"node {number} does not join: {refusal}")
        return node

    def replace(self, node):
        """Its disk is lost: a new one, with a new number, in its place."""
        self.kill(node)
        place = node.place
        self.proxy.remove(node.number)
        with self.lock:
            del self.nodes[node.number]
        fresh = self.join(place)
        self.change("replace", node.number, fresh.number, self.advertised[fresh.number])
        self.count("replaced")
        return fresh

    def swap_places(self, node, place):
        """It moves, with its disk, to a place that is empty."""
        self.kill(node, how=signal.SIGTERM)
        left = node.place
        left.disk, place.disk = place.disk, left.disk
        left.node, place.node = None, node
        node.place = place
        self.proxy.move(node.number, place.address())
        self.start(node)

    def rescue(self):
        """Whatever a fault that failed has left is ended, so that all the rest can be looked at."""
        self.proxy.heal()
        for node in self.members():
            disk = node.place.disk
            disk.thaw()
            disk.clear()
            if node.paused:
                self.resume(node)
            if disk.off:
                self.kill(node)
                disk.power_on()
            if not node.alive():
                self.start(node)

    def close(self):
        """All processes end, all disks are taken away. Nodes that do not end cleanly are told."""
        nodes = self.members()
        for node in nodes:
            if node.place.disk is not None:
                node.place.disk.thaw()
        try:
            self.kill(*nodes, how=signal.SIGTERM)
        finally:
            self.stopping.set()
            if self.watcher is not None:
                self.watcher.join(10)
            for node in nodes:
                self.read_log(node)
            for place in self.places:
                if place.disk is not None:
                    place.disk.unmount()
