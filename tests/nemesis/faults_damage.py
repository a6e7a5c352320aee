"""Bits that flip, in files of a node that is stopped or runs."""

import os
import signal
import time

import damage
from cluster import Failed, wait_for
from fault import ENDS, Fault
from nodes import SCRUB_MIB


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
            # Two passes at most, on a busy machine.
            rest = 6 * (node.place.disk.used() >> 20) / SCRUB_MIB
            wait_for(f"node {node.number} has read everything again", passed, 120 + rest)
