"""Members that come and go, and leaders that hand over."""

import threading
import time

from fault import ENDS, Fault


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
