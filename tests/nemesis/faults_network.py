"""The network between the nodes, and their clocks."""

import threading
import time

from cluster import expect
from fault import Fault


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
