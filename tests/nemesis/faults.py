"""What can be done to a cluster: each fault draws its parameters from the run's random numbers, can be
injected and healed, and says in a line what it does.

A fault of scope "net" needs no particular state and may go along with another one. The others begin
with a healthy cluster and leave one behind, so that no two of them together take more than a minority's
copies.
"""

import os
import signal
import threading
import time

import damage
from cluster import Failed, expect, wait_for
from sandbox import Throttle

RESERVE = 24 << 20  # as nodes.OPTIONS
DARK = ("failed", "node_failed", "damage_found")  # without its disk, before it is killed
ENDS = ("failed", "node_failed")  # what a node says that ends because of its disk, or its members


class Fault:
    """name, scope, needs (what sandbox.probe must have found), about: for people."""

    name = ""
    scope = "node"
    needs = ()
    about = ""
    seconds = (0.5, 4.0)  # how long it is held
    weight = 1  # how often it is drawn, compared with others
    tells = False  # it writes its own events

    def __init__(self, cluster, rng):
        self.cluster = cluster
        self.rng = rng
        self.hold = rng.uniform(*self.seconds)
        self.leader_was = None
        self.begin = 0.0
        self.victims = []

    @classmethod
    def variants(cls):
        """Each is run once by --each; a run draws one."""
        return [None]

    def draw(self, variant):
        """Chooses victims and parameters; returns them as text."""
        raise NotImplementedError

    def inject(self):
        raise NotImplementedError

    def heal(self):
        raise NotImplementedError

    # ---- choosing ----

    def nodes(self):
        return self.cluster.members()

    def leader(self):
        self.leader_was = self.cluster.wait_leader()
        return self.leader_was

    def minority(self):
        return (len(self.nodes()) - 1) // 2

    def choose(self, who):
        """Nodes: leader, follower, minority, majority, all."""
        leader = self.leader()
        others = [n for n in self.nodes() if n is not leader]
        self.rng.shuffle(others)
        if who == "leader":
            self.victims = [leader]
        elif who == "follower":
            self.victims = others[:1]
        elif who == "minority":
            self.victims = ([leader] + others)[:self.minority()]
        elif who == "majority":
            self.victims = ([leader] + others)[:len(self.nodes()) // 2 + 1]
        else:
            self.victims = [leader] + others
        return self.victims

    def numbers(self, nodes=None):
        return ",".join(str(n.number) for n in nodes or self.victims)

    def hits_leader(self):
        return self.leader_was is not None and self.leader_was in self.victims

    def recover_health(self, timeout=90):
        return self.cluster.wait_healthy(timeout)


# ---- processes ----

class Kill(Fault):
    """SIGKILL."""

    name = "kill"
    tells = True
    weight = 6
    about = "SIGKILL of the leader, a follower, a minority, a majority or all; started again after 0 to 3 s; up to 3 times"
    seconds = (0.0, 3.0)

    @classmethod
    def variants(cls):
        return ["leader", "leader", "follower", "minority", "majority", "all"]

    def draw(self, variant):
        self.times = self.rng.choice((1, 1, 2, 3))
        self.who = variant
        self.choose(variant)
        return f"SIGKILL, {variant} ({self.numbers()}), {self.times} times, down {self.hold:.1f} s"

    def inject(self):
        for again in range(self.times):
            if again:
                time.sleep(self.rng.uniform(0.1, 1.5))
                self.choose(self.who)
            self.killed_at = time.monotonic()
            self.cluster.kill(*self.victims)
            self.cluster.count("kills", len(self.victims))
            if again + 1 < self.times:
                time.sleep(self.hold / self.times)
                self.heal()

    def heal(self):
        for node in self.victims:
            self.cluster.start(node)
        led = self.hits_leader()
        self.cluster.history.fault(
            self.killed_at, self.name, f"SIGKILL, {self.who} ({self.numbers()})",
            node=(self.leader_was if led else self.victims[0]).number, leader=led or None)


class Pause(Fault):
    """SIGSTOP."""

    name = "pause"
    weight = 2
    about = "SIGSTOP of the leader, a follower, a minority or all for 0.2 to 6 s, then SIGCONT"
    seconds = (0.2, 6.0)

    @classmethod
    def variants(cls):
        return ["leader", "leader", "follower", "minority", "all"]

    def draw(self, variant):
        self.choose(variant)
        return f"SIGSTOP, {variant} ({self.numbers()}), {self.hold:.1f} s"

    def inject(self):
        for node in self.victims:
            self.cluster.pause(node)
            self.cluster.count("pauses")

    def heal(self):
        for node in self.victims:
            self.cluster.resume(node)


class RollingRestart(Fault):
    """SIGTERM, one after another."""

    name = "rolling-restart"
    about = "SIGTERM and start of every node, one after another, waiting for health, the leader last"
    seconds = (0.0, 0.0)

    def draw(self, variant):
        self.choose("all")
        self.victims.reverse()
        return f"SIGTERM of {self.numbers()}, one after another"

    def inject(self):
        for node in self.victims:
            self.cluster.kill(node, how=signal.SIGTERM)
            code = node.process.returncode
            if code != 0:
                self.cluster.fail(f"node {node.number} exited with {code} when told to stop")
            self.cluster.start(node)
            self.cluster.wait_healthy()
        self.cluster.count("restarts", len(self.victims))

    def heal(self):
        pass


# ---- the network ----

class Partition(Fault):
    """Some lanes pass nothing."""

    name = "partition"
    weight = 2
    scope = "net"
    about = "isolate one node or the leader; a minority with the leader; one direction of one node; " \
            "a bridge; a ring of majorities; bytes held (block), lost (drop), or connections cut " \
            "first; 0.5 to 8 s"
    seconds = (0.5, 8.0)
    kind = "partitions"

    @classmethod
    def variants(cls):
        return ["one", "leader", "minority", "deaf", "mute", "deaf-leader", "mute-leader", "bridge",
                "ring"]

    def draw(self, variant):
        self.way = self.rng.choice(("block", "drop", "cut"))
        self.lanes = self.shape(variant)
        return f"{variant} ({self.numbers()}), {self.way}, {self.hold:.1f} s"

    def shape(self, variant):
        """Pairs (from, to) that pass nothing."""
        everyone = self.nodes()
        victim = "leader" if "leader" in variant else "follower"
        self.choose(victim if variant != "minority" else "minority")
        inside = set(self.victims)
        outside = [n for n in everyone if n not in inside]
        out = [(a.number, b.number) for a in inside for b in outside]
        back = [(b, a) for a, b in out]
        if variant.startswith("deaf"):
            return back
        if variant.startswith("mute"):
            return out
        if variant == "bridge":  # one sees all, those left of it do not see those right of it
            middle, rest = self.victims[0], outside
            half = max(1, len(rest) // 2)
            pairs = [(a.number, b.number) for a in rest[:half] for b in rest[half:]]
            self.victims = rest
            expect(middle not in rest, "the bridge")
            return pairs + [(b, a) for a, b in pairs]
        if variant == "ring":  # each sees its neighbours on a ring, enough for a majority
            self.victims = everyone[:]
            self.rng.shuffle(self.victims)
            ring, count = self.victims, len(everyone)
            reach = count // 4 + 1 if count > 3 else 1
            pairs = []
            for i, a in enumerate(ring):
                for j, b in enumerate(ring):
                    away = min((i - j) % count, (j - i) % count)
                    if away > reach or (count == 3 and {i, j} == {0, 2}):
                        pairs.append((a.number, b.number))
            return pairs
        return out + back

    def close_lanes(self):
        for a, b in self.lanes:
            if self.way == "cut":
                self.cluster.proxy.cut(a, b)
            (self.cluster.proxy.drop if self.way == "drop" else self.cluster.proxy.block)(a, b)

    def open_lanes(self):
        for a, b in self.lanes:
            self.cluster.proxy.open(a, b)

    def inject(self):
        self.close_lanes()
        self.cluster.count(self.kind)

    def heal(self):
        self.open_lanes()


class Flap(Partition):
    """A partition that comes and goes."""

    name = "flap"
    weight = 1
    about = "a partition as above that comes and goes every 50 to 500 ms, for 1 to 8 s"
    seconds = (1.0, 8.0)

    def draw(self, variant):
        text = super().draw(variant)
        self.low, self.high = sorted((self.rng.uniform(0.05, 0.5), self.rng.uniform(0.05, 0.5)))
        self.times = [self.rng.uniform(self.low, self.high) for _ in range(200)]
        return f"{text}, every {self.low * 1000:.0f} to {self.high * 1000:.0f} ms"

    def inject(self):
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.flap, daemon=True)
        self.thread.start()
        self.cluster.count(self.kind)

    def flap(self):
        for i, pause in enumerate(self.times):
            (self.open_lanes if i % 2 else self.close_lanes)()
            if self.stop.wait(pause):
                return

    def heal(self):
        self.stop.set()
        self.thread.join()
        self.open_lanes()


class SlowLinks(Fault):
    """Delay, jitter, rate."""

    name = "slow-links"
    scope = "net"
    about = "all lanes, those of one node or of the leader: 5 to 400 ms late, with jitter, or 100 KB " \
            "to 2 MB a second; 1 to 8 s"
    seconds = (1.0, 8.0)

    @classmethod
    def variants(cls):
        return ["all", "one", "leader"]

    def draw(self, variant):
        self.choose({"all": "all", "one": "follower", "leader": "leader"}[variant])
        self.delay = int(self.rng.choice((5, 20, 60, 150, 400)) * self.rng.uniform(0.8, 1.2))
        self.jitter = int(self.delay * self.rng.choice((0, 0.2, 0.9)))
        self.rate = self.rng.choice((0, 0, 100_000, 500_000, 2_000_000))
        return f"{variant} ({self.numbers()}): {self.delay} ± {self.jitter} ms, " \
               f"{self.rate or 'any number of'} bytes/s, {self.hold:.1f} s"

    def lanes(self):
        for victim in self.victims:
            for other in self.nodes():
                if other is not victim:
                    yield victim.number, other.number
                    yield other.number, victim.number

    def inject(self):
        for a, b in self.lanes():
            self.cluster.proxy.delay(a, b, self.delay, self.jitter)
            self.cluster.proxy.rate(a, b, self.rate)
        self.cluster.count("slow links")

    def heal(self):
        for a, b in self.lanes():
            self.cluster.proxy.delay(a, b, 0)
            self.cluster.proxy.rate(a, b, 0)


class Cut(Fault):
    """RST."""

    name = "cut"
    scope = "net"
    about = "every connection between nodes is reset, 1 to 10 times, 20 to 500 ms apart"
    seconds = (0.0, 0.2)

    def draw(self, variant):
        self.times = self.rng.randrange(1, 11)
        self.pauses = [self.rng.uniform(0.02, 0.5) for _ in range(self.times)]
        return f"RST of all connections, {self.times} times"

    def inject(self):
        for pause in self.pauses:
            self.cluster.proxy.cut("*", "*")
            time.sleep(pause)
        self.cluster.count("cuts", self.times)

    def heal(self):
        pass


# ---- disks ----

class StallDisk(Fault):
    """Writes wait."""

    name = "stall-disk"
    needs = ("ext4",)
    about = "every write to the disk of the leader, a follower or all waits (the file system is " \
            "frozen): once for 0.5 to 5 s, or again and again for 20 to 300 ms"
    seconds = (0.5, 5.0)

    @classmethod
    def variants(cls):
        return ["leader", "follower", "all"]

    def draw(self, variant):
        self.choose(variant)
        self.beat = self.rng.choice((None, self.rng.uniform(0.02, 0.3)))
        return f"{variant} ({self.numbers()}), {self.hold:.1f} s" + (
            f", {self.beat * 1000:.0f} ms each" if self.beat else "")

    def inject(self):
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.stall, daemon=True)
        self.thread.start()
        self.cluster.count("disk stalls", len(self.victims))

    def stall(self):
        while not self.stop.is_set():
            for node in self.victims:
                try:
                    node.place.disk.freeze()
                except OSError as error:
                    self.cluster.fail(f"freeze: {error}")
                    return
            self.stop.wait(self.beat)
            for node in self.victims:
                node.place.disk.thaw()
            if self.beat is None:
                return
            self.stop.wait(self.beat / 2)

    def heal(self):
        self.stop.set()
        self.thread.join()
        for node in self.victims:
            node.place.disk.thaw()


class SlowDisk(Fault):
    """Writes are slow."""

    name = "slow-disk"
    needs = ("ext4", "throttle")
    about = "the leader, a follower or all write at most 32 to 1024 KB a second (blkio cgroup); 2 to " \
            "8 s; what goes through the page cache is not slowed"
    seconds = (2.0, 8.0)

    @classmethod
    def variants(cls):
        return ["leader", "follower", "all"]

    def draw(self, variant):
        self.choose(variant)
        self.rate = self.rng.choice((32, 128, 1024)) << 10
        return f"{variant} ({self.numbers()}): {self.rate >> 10} KB/s, {self.hold:.1f} s"

    def inject(self):
        self.throttles = []
        for node in self.victims:
            throttle = Throttle(f"quorlog-nemesis-{os.path.basename(self.cluster.base)}-{node.number}")
            self.throttles.append(throttle)
            throttle.apply(node.process.pid, node.place.disk.device(), self.rate)
        self.cluster.count("slow disks", len(self.victims))

    def heal(self):
        for throttle in self.throttles:
            throttle.remove()


class FullDisk(Fault):
    """No room."""

    name = "full-disk"
    needs = ("mount",)
    about = "another program takes the disk of the leader, a follower or a majority down to below " \
            "the reserve, half of it, or the last byte; 1 to 6 s"
    seconds = (1.0, 6.0)

    @classmethod
    def variants(cls):
        return ["leader", "follower", "majority"]

    def draw(self, variant):
        self.choose(variant)
        self.leave = self.rng.choice((RESERVE - (4 << 20), RESERVE // 2 - (4 << 20), 1 << 20, 0))
        return f"{variant} ({self.numbers()}): {self.leave >> 20} MiB left, {self.hold:.1f} s"

    def inject(self):
        for node in self.victims:
            # docs/operations.md: the last byte, within a tenth of a second, ends a node.
            node.tolerated = True
            self.cluster.allow(node, *ENDS, seconds=600)
            node.place.disk.fill(self.leave)
        self.cluster.count("full disks", len(self.victims))

    def heal(self):
        for node in self.victims:
            node.place.disk.clear()

    def recover_health(self, timeout=90):
        spent = super().recover_health(timeout)
        for node in self.victims:
            node.tolerated = False
            for event in ENDS:
                node.allowed.pop(event, None)
        return spent


class PowerCut(Fault):
    """What was not synced is lost."""

    name = "power-cut"
    weight = 3
    needs = ("ext4",)
    about = "one node, a minority or all lose their power: the file system is shut down without its " \
            "log, the process killed, the disk mounted again"
    seconds = (0.0, 2.0)

    @classmethod
    def variants(cls):
        return ["leader", "follower", "all", "all"]

    def draw(self, variant):
        self.choose(variant)
        self.kill_first = self.rng.random() < 0.3
        return f"{variant} ({self.numbers()}), off for {self.hold:.1f} s" + (
            ", killed before" if self.kill_first else "")

    def inject(self):
        for node in self.victims:
            node.handled = True  # It may see its disk fail and end before it is killed.
            self.cluster.allow(node, *DARK, seconds=self.hold + 120)
        if self.kill_first:
            self.cluster.kill(*self.victims)
        for node in self.victims:
            node.place.disk.power_off()
        self.cluster.kill(*self.victims)
        self.cluster.count("power cuts", len(self.victims))
        if len(self.victims) == len(self.nodes()):
            self.cluster.count("power cuts of all")

    def heal(self):
        for node in self.victims:
            node.place.disk.power_on()
        for node in self.victims:
            self.cluster.start(node)

    def recover_health(self, timeout=90):
        spent = super().recover_health(timeout)
        for node in self.victims:
            for event in DARK:
                node.allowed.pop(event, None)
        return spent


# ---- damage ----

class FlipOffline(Fault):
    """Bits of a stopped node's files."""

    name = "flip-offline"
    weight = 2
    scope = "data"
    about = "bits of one kind of file of a stopped node flip: sealed and active topic files, index, " \
            "snapshot, journal, spare, ballot (one slot, both), disk, identity; then what the " \
            "node's refusal and docs/operations.md say is done"
    seconds = (0.0, 0.5)

    @classmethod
    def variants(cls):
        return list(damage.FILES)

    def draw(self, variant):
        self.kind = variant
        self.choose(self.rng.choice(("leader", "follower")))
        node = self.victims[0]
        if variant == "identity" and node.joins:
            self.kind = "topic-active"  # docs/operations.md: of a node that joined, replace it
        return f"{self.kind} of node {node.number}"

    def inject(self):
        node = self.victims[0]
        # What was acknowledged last is told from a torn write by the seal, which a clean end writes.
        self.cluster.kill(node, how=signal.SIGTERM)
        paths = damage.FILES[self.kind](node)
        if not paths:
            self.kind = "topic-active"
            paths = damage.FILES[self.kind](node)
        flips, self.must_refuse = damage.draw(self.rng, self.kind, paths)
        for path, position, bit in flips:
            damage.flip(path, position, bit)
        self.flips = [f"{os.path.basename(path)}@{position}.{bit}" for path, position, bit in flips]
        self.cluster.count("bit flips", len(flips))
        self.cluster.count(f"bit flips in {self.kind}", len(flips))
        self.cluster.allow(node, "damage_found", "hole_refilled")

    def heal(self):
        node = self.victims[0]
        node.handled = True
        self.cluster.start(node, handled=True)
        refusal = self.cluster.wait_up(node)
        if refusal is None:  # It may find out from the others that it is not who it was.
            refusal = self.wait_verdict(node)
        self.outcome = "goes on"
        if refusal is not None:
            self.outcome = self.obey(node, refusal)
        else:
            node.handled = False
            if self.must_refuse:
                self.cluster.fail(f"node {node.number} starts with damage in {self.flips}")
        self.cluster.count(f"flips: {self.kind}: {self.outcome}", 1 if self.flips else 0)
        self.cluster.history.note("flip", f"{' '.join(self.flips)}: {self.outcome}")

    def wait_verdict(self, node):
        """Until the node is a healthy member, or ends by itself and says why."""
        def look():
            if not node.alive() and node.refusal:
                return node.refusal
            return "healthy" if self.cluster.healthy() else None
        said = wait_for(f"node {node.number} is healthy or refuses, flipped: {self.flips}", look, 90)
        return None if said == "healthy" else said

    def obey(self, node, refusal):
        action = damage.instruction(refusal)
        self.cluster.allow(node, *ENDS, seconds=600)
        if action == "identity":
            damage.mend_identity(node, next(n for n in self.nodes() if n is not node))
            self.cluster.start(node)
            again = self.cluster.wait_up(node)
            if again is None:
                return "refused, identity written anew"
            raise Failed(f"node {node.number}, its identity written anew, says: {again}")
        if action != "replace":
            raise Failed(f"node {node.number}, {self.flips} flipped, says what no instruction fits: "
                         f"{refusal}")
        fresh = self.cluster.replace(node)
        return f"refused, replaced by node {fresh.number}"


class FlipOnline(Fault):
    """Bits of files that a running node serves."""

    name = "flip-online"
    scope = "data"
    about = "bits of topic files of a running node flip; reads and the scrubber have to find and " \
            "repair it"
    seconds = (0.2, 1.0)

    @classmethod
    def variants(cls):
        return list(damage.ONLINE)

    def draw(self, variant):
        self.kind = variant
        self.choose(self.rng.choice(("leader", "follower")))
        return f"{variant} of node {self.victims[0].number}"

    def inject(self):
        node = self.victims[0]
        paths = damage.FILES[self.kind](node)
        self.cluster.allow(node, "damage_found", "hole_refilled")
        flips, _ = damage.draw(self.rng, self.kind, paths) if paths else ([], False)
        for path, position, bit in flips:
            try:
                damage.flip(path, position, bit)
            except FileNotFoundError:
                continue  # Its topic was just deleted.
            self.cluster.count("bit flips")
            self.cluster.count(f"bit flips in {self.kind}, online")

    def heal(self):
        """A whole pass of the scrubber, and whatever it found is fetched again."""
        node = self.victims[0]
        begin = time.time() * 1000

        def passed():
            status = self.cluster.status([node])
            own = status and {n["id"]: n for n in status["nodes"]}.get(node.number)
            return own and own["scrub_passed_ms"] > begin and own["holes"] == 0
        if self.cluster.options["faketime"]:
            time.sleep(2)  # Its clock is not ours; verify reads everything in the end.
        else:
            wait_for(f"node {node.number} has read everything again", passed, 120)


# ---- members ----

class Transfer(Fault):
    """Leadership is handed over."""

    name = "transfer"
    scope = "data"
    about = "leadership is handed over, 1 to 5 times, to a node that is named or to any"
    seconds = (0.0, 0.2)

    def draw(self, variant):
        self.times = self.rng.randrange(1, 6)
        return f"{self.times} times"

    def inject(self):
        for _ in range(self.times):
            self.choose("follower")
            target = [self.victims[0].number] if self.rng.random() < 0.6 else []
            self.cluster.change("transfer", *target, wait=30)
            self.cluster.count("transfers")

    def heal(self):
        pass


class AddRemove(Fault):
    """A member more, a member less."""

    name = "add-remove"
    scope = "data"
    about = "a new node is added; then it, another one or the leader is removed; a third of the " \
            "time some node is killed half way and started again"
    seconds = (0.0, 2.0)

    def draw(self, variant):
        self.killed = self.rng.random() < 0.33
        self.who = self.rng.choice(("new", "leader", "other"))
        return f"add one, remove {self.who}" + (", with a kill half way" if self.killed else "")

    def inject(self):
        place = next(p for p in self.cluster.places if p.node is None)
        fresh = self.cluster.join(place)
        disturb = self.disturb() if self.killed else None
        self.cluster.change("add", fresh.number, self.cluster.advertised[fresh.number])
        if disturb:
            disturb.join()
        self.cluster.count("added")
        self.fresh = fresh

    def disturb(self):
        victim = self.rng.choice([n for n in self.nodes() if not n.joins] or self.nodes())

        def act():
            time.sleep(self.hold / 4)
            self.cluster.kill(victim)
            self.cluster.count("kills")
            time.sleep(0.5)
            self.cluster.start(victim)
        thread = threading.Thread(target=act)
        thread.start()
        return thread

    def heal(self):
        self.cluster.wait_healthy()
        leader = self.cluster.wait_leader()
        victim = {"new": self.fresh, "leader": leader}.get(self.who) or next(
            n for n in self.nodes() if n not in (self.fresh, leader))
        self.victims = [victim]
        victim.handled = True  # It ends by itself when it learns that it is no member.
        self.cluster.allow(victim, *ENDS, seconds=600)
        self.cluster.change("remove", victim.number)
        self.cluster.count("removed")
        place = victim.place
        self.cluster.forget(victim)
        if victim is not self.fresh:
            self.cluster.swap_places(self.fresh, place)


class Replace(Fault):
    """A disk is lost for good."""

    name = "replace"
    scope = "data"
    about = "a node's disk is lost; a new node with a new number takes its place (cluster replace)"
    seconds = (0.0, 2.0)

    def draw(self, variant):
        self.choose(self.rng.choice(("leader", "follower")))
        return f"node {self.numbers()}"

    def inject(self):
        self.cluster.kill(*self.victims)
        self.cluster.count("disks lost")

    def heal(self):
        self.cluster.replace(self.victims[0])


class ClockJump(Fault):
    """The time of day of one node."""

    name = "clock-jump"
    scope = "net"
    needs = ("faketime",)
    about = "the clock of the leader, a follower or all jumps by up to an hour, or runs at half or " \
            "double speed (libfaketime; the monotonic clock does not)"
    seconds = (1.0, 8.0)

    @classmethod
    def variants(cls):
        return ["leader", "follower", "all"]

    def draw(self, variant):
        self.choose(variant)
        self.text = self.rng.choice(("-3600", "+3600", "-10", "+10", "-0.5", "+0 x0.5", "+0 x2"))
        return f"{variant} ({self.numbers()}): {self.text}, {self.hold:.1f} s"

    def inject(self):
        for node in self.victims:
            self.cluster.set_clock(node.place, self.text)
        self.cluster.count("clock jumps", len(self.victims))

    def heal(self):
        for node in self.victims:
            self.cluster.set_clock(node.place, "+0")


from backups import Backup  # noqa: E402 pylint: disable=wrong-import-position,cyclic-import

ALL = (Kill, Pause, Partition, Flap, SlowLinks, Cut, StallDisk, SlowDisk, FullDisk, PowerCut,
       FlipOffline, FlipOnline, RollingRestart, Transfer, AddRemove, Replace, Backup, ClockJump)
BY_NAME = {fault.name: fault for fault in ALL}
