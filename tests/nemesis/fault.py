"""What a fault is: it draws its parameters from the run's random numbers, can be injected and healed, and
says in a line what it does.

A fault of scope "net" needs no particular state and may go along with another one. The others begin
with a healthy cluster and leave one behind, so that no two of them together take more than a minority's
copies.
"""

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
