"""Processes that end, or stand still."""

import signal
import time

from fault import Fault


class Kill(Fault):
    """SIGKILL."""

    name = "kill"
    tells = True
    weight = 6
    about = "SIGKILL of the leader, a follower, a minority, a majority or all; started again after " \
            "0 to 3 s; up to 3 times"
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
