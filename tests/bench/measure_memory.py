"""Memory of the nodes: the most that was resident, under every load, and when others do not keep up."""

import select
import socket
import struct

import wire
from figures import Ratio, mib, ratio, table
from measure import Step, expect

NAME = "memory"
CLUSTER = True
MEMORY_MAX = 256 << 20  # by default
MEMORY_SET = 128 << 20  # with --memory, which is kept, too
TOPIC = "stuck"
RETENTION = 1 << 30  # What is written goes again, or minutes at full speed would fill the disk.
ARGUMENTS = ("--retention-interval-ms", "5000")


class StuckReader:
    """Asks a node for all it has, with endless credit, and reads nothing of what comes."""

    def __init__(self, port, topic):
        self.connection = wire.Connection(port)
        self.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        self.connection.greet()
        start = wire.message((1, topic), (2, 1))
        self.connection.send(wire.frame(wire.CONSUME_STREAM, wire.message((1, start), (2, 1 << 50)),
                                        request_id=2))
        for number in range(32):
            self.connection.send(wire.frame(wire.CONSUME, wire.message((1, topic), (2, 1), (6, 16 << 20)),
                                            request_id=3 + number))

    def check(self):
        """It is sent what it asked for: what waits for it first is an answer, and no error."""
        ready, _, _ = select.select([self.connection.socket], [], [], 20)
        expect(ready, "nothing comes for a reader that does not read")
        _, _, kind = struct.unpack_from("<IIH", self.connection.socket.recv(16, socket.MSG_PEEK))
        expect(kind == wire.CONSUME_REPLY, f"a frame of type {kind} comes for a reader that does not read")

    def close(self):
        self.connection.close()


def stopped_key(memory):
    return "stopped" if memory == MEMORY_MAX else f"stopped {memory >> 20}M"


def stopped_step(options, memory, seconds):
    """On nodes of its own, where they are told how much memory they may take."""
    def run(lab):
        if memory != MEMORY_MAX:
            lab.close()
            lab.open((*ARGUMENTS, "--memory", str(memory)))
        return measure(lab)

    def measure(lab):
        topic = lab.new_topic(TOPIC)
        lab.run("topic", "create", topic, "--retention-bytes", str(RETENTION))
        lab.load("--topic", topic, "--size", "1024", "--inflight", "4096", seconds=1)
        stopped, other = lab.cluster.followers()
        readers = [StuckReader(lab.cluster.ports[node - 1], topic)
                   for node in (lab.cluster.wait_leader(), other)]
        for reader in readers:
            reader.check()
        lab.cluster.pause(stopped)
        try:
            found = lab.load("--topic", topic, "--size", "1024", "--inflight", "4096",
                             seconds=seconds)
        finally:
            lab.cluster.resume(stopped)
        behind = lab.memory()
        lab.cluster.wait_equal(topic, 120 + seconds)
        for reader in readers:
            reader.close()
        expect(lab.whole(), "not all nodes follow")
        return {"seconds": seconds, "records_per_s": found["records_per_s"], "before": behind, **lab.memory()}
    return Step(stopped_key(memory), seconds + (6 if options.quick else 12), run)


def steps(options, number):
    """Once: it takes minutes when it is to say most."""
    if number != options.rounds:
        return []
    return [stopped_step(options, MEMORY_MAX, options.stopped_seconds),
            stopped_step(options, MEMORY_SET, min(options.stopped_seconds, 10))]


def peaks(rounds):
    """By what was going on: the most of any node in any round, and its own at the end."""
    found = {}
    for one in rounds:
        for key, memory in one.items():
            if key.startswith("memory ") and key != f"memory {NAME}":
                name = key.removeprefix("memory ")
                before = found.get(name, (0, 0))
                found[name] = (max(before[0], *memory["peaks"]), max(before[1], *memory["owns"]))
    return found


def ratios(rounds, _options):
    found = []
    for name, (peak, _) in sorted(peaks(rounds).items()):
        found.append(Ratio(f"memory {name}", f"the most that was resident of a node while {name} was measured",
                           [peak / 2**20], limit=MEMORY_MAX / 2**20, unit="MiB"))
    for memory, text in ((MEMORY_MAX, ""), (MEMORY_SET, f", --memory {MEMORY_SET >> 20}M")):
        found += ratio(f"memory {stopped_key(memory)}",
                       f"with a follower stopped, and readers that never read{text}", rounds,
                       lambda one, m=memory: max(one[stopped_key(m)]["peaks"]) / 2**20, limit=memory / 2**20, unit="MiB")
    return found


def tables(rounds, _options):
    stopped = [(memory, one[stopped_key(memory)]) for memory in (MEMORY_MAX, MEMORY_SET) for one in rounds
               if stopped_key(memory) in one]
    lines = table(("measured meanwhile", "the most that was resident of a node (VmHWM)", "a node's own at the end (RssAnon)"),
                  [(name, mib(peak), mib(own)) for name, (peak, own) in sorted(peaks(rounds).items())])
    return lines + table(("memory; a follower stopped, s", "records/s meanwhile", "most resident before it went on",
                          "and when it had caught up"),
                         [(f"{mib(memory)}; {one['seconds']}", f"{one['records_per_s']:.0f}", mib(max(one["before"]["peaks"])),
                           mib(max(one["peaks"]))) for memory, one in stopped])


def plots(_rounds, _options):
    return {}
