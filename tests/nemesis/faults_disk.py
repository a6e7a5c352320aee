"""Disks that wait, are slow, full, or lose their power."""

import os
import threading

from fault import ENDS, Fault
from sandbox import Throttle

RESERVE = 24 << 20  # as nodes.OPTIONS
DARK = (*ENDS, "damage_found")  # what a node may say without its disk, before it is killed


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
            self.cluster.disallow(node, *ENDS)
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
            self.cluster.disallow(node, *DARK)
        return spent
