"""What no client would send, to real nodes: each gets its error, and the node goes on, with the
memory and the descriptors that it had before.

    test_bad_input.py [--frames N] [--seed N]      default 60000 random frames
"""

import collections
import json
import os
import random
import re
import resource
import select
import signal
import socket
import sys
import time

import wire
from cluster import Failed, expect, main, run, wait_for


def option(name, default):
    return int(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else default


FRAMES = option("--frames", 60000)
SEED = option("--seed", 4711)
HELLO_MS = 1500
FRAMES_EACH = 1000  # of one connection
RSS_GROWTH_MAX = 96 << 20
LINE_MAX = 1024
CONNECTIONS = 2000
OPTIONS = ("--threads", "2", "--hello_timeout_ms", f"{HELLO_MS}ms", "--stall_timeout_ms", "1s",
           "--connection_queue_size", "256K", "--requests_size_max", "32M")


def resident_bytes(cluster, node):
    with open(f"/proc/{cluster.nodes[node].pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read()).group(1)) * 1024


def descriptors(cluster, node):
    """How many of what kind. A deleted topic keeps its files until the next snapshot
    (src/raft_fsm/fsm.h): those of all topics but t are not counted."""
    kinds = collections.Counter()
    directory = f"/proc/{cluster.nodes[node].pid}/fd"
    for fd in os.listdir(directory):
        try:
            path = os.readlink(os.path.join(directory, fd))
        except FileNotFoundError:
            continue  # It was closed since.
        if "/topics/" not in path or "/topics/t-" in path:
            kinds[re.sub(r"\d+", "N", path)] += 1
    return kinds


class Attack:
    """One node under attack, and what it takes to see that it goes on."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.node = cluster.followers()[0]
        self.port = cluster.ports[self.node - 1]
        run("topic", "create", "t", "-s", cluster.address(self.node))
        with self.connection() as connection:
            self.cluster_id = connection.greet().fields()[3].decode()
        self.count = 0

    def disk(self, node):
        """The id of a node's disk, which it shows with its hello."""
        with open(os.path.join(self.cluster.data(node), "group-1", "disk"), encoding="ascii") as file:
            return int(file.readline().split("=")[1], 16)

    def connection(self):
        return wire.Connection(self.port)

    def client(self):
        connection = self.connection()
        answer = connection.greet()
        expect(answer is not None and answer.kind == wire.HELLO_REPLY, "a fine hello is refused")
        return connection

    def works(self, after):
        """A record goes in and comes out again."""
        self.count += 1
        value = f"after {after}, {self.count}".encode()
        expect(self.cluster.running(self.node), f"the node ended after {after}")
        with self.client() as connection:
            answer = connection.ask(wire.produce("t", wire.batch(wire.record(value))))
            expect(answer and answer.kind == wire.PRODUCE_REPLY,
                   f"no produce after {after}: {answer}")
            reply = answer.fields()
            answer = connection.ask(wire.frame(wire.CONSUME, wire.message(
                (1, "t"), (3, reply.get(1, 0)), (8, reply[4]))))
            expect(answer and answer.kind == wire.CONSUME_REPLY,
                   f"no consume after {after}: {answer}")
            expect(answer.body[wire.BATCH.size:] == wire.record(value),
                   f"after {after} another record came back: {answer.body}")

    def refused(self, what, answer, code, text):
        """The answer is this error; its text is UTF-8 and says so."""
        expect(answer is not None, f"{what}: no answer")
        expect(answer.kind == wire.ERROR, f"{what}: was taken: {answer}")
        actual, said, _ = answer.error()
        expect(actual == code and re.search(text, said), f"{what}: error {actual} '{said}', "
               f"not {code} '{text}'")

    def ends(self, what, connection):
        expect(connection.receive() is None, f"{what}: the connection goes on")


# ---- the first bytes of a connection ----

def first_bytes(attack):
    good = wire.hello()
    junk = wire.message((1, "x" * 40))
    huge = r"is over the limit of 4096"
    cases = [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", -14, "not an HTTP port"),
        ("HTTP POST", b"POST /produce HTTP/1.1\r\n\r\n", -14, "not an HTTP port"),
        ("TLS", bytes.fromhex("160301020001000001fc0303") + bytes(40), -14, "not a TLS port"),
        ("zeros", bytes(64), -33, "fewer than its prefix has"),
        ("4 GiB", b"\xff" * 64, -14, huge),
        ("a hello of 4 GiB", wire.frame(wire.HELLO, junk, size=0xFFFFFFFF), -14, huge),
        ("a hello of 2 GiB", wire.frame(wire.HELLO, junk, size=1 << 31), -14, huge),
        ("a size of 19", wire.frame(wire.HELLO, size=19), -33, "fewer than its prefix has"),
        ("a header beyond the frame", wire.frame(wire.HELLO, junk, header_size=len(junk) + 1), -33,
         "claims a header of"),
        ("a header of 2 GiB", wire.frame(wire.HELLO, junk, header_size=1 << 31), -14,
         "frame header of 2147483648 bytes is over the limit of 65536"),
        ("a wrong CRC", wire.frame(wire.HELLO, junk, crc=1), -22, "checksum is 00000001"),
        ("a flipped bit", good[:30] + bytes([good[30] ^ 4]) + good[31:], -22, "checksum"),
        ("no hello", wire.consume("t"), -33, "first frame of a connection must be HELLO"),
        ("a hello that is no protobuf", wire.frame(wire.HELLO, b"\xff" * 9), -33, "cannot be dec"),
        ("version 0", wire.hello(version=0), -15, "version 0 is not spoken here, but version 1"),
        ("version 2", wire.hello(version=2), -15, "version 2 is not spoken here"),
        ("a kind of its own", wire.hello(kind=7), -33, "unknown kind of connection: 7"),
        ("another cluster", wire.hello(cluster_id="0" * 32), -19, "not of '0000"),
        ("a cluster id that is no text", wire.hello(cluster_id=b"\xff\xfe"), -33, "cluster_id"),
        ("a cluster id of 300 bytes", wire.hello(cluster_id="x" * 300), -19, "of 300 bytes"),
        ("a client that is no text", wire.hello(client=b"\x80"), -33, "field 'client'"),
    ]
    to, other = attack.node, attack.node % 3 + 1
    for kind, name in (wire.NODE, "node"), (wire.PEER, "peer"):
        cases += [
            (f"a {name} of another cluster", wire.hello(kind=kind, cluster_id="1" * 32,
                                                        node_id=other, to=to), -19, "not of '1111"),
            (f"a {name} of no cluster", wire.hello(kind=kind, node_id=other, to=to), -19, "not of"),
            (f"a {name} for another", wire.hello(kind=kind, cluster_id=attack.cluster_id,
                                                 node_id=other, to=other), -2, "this is node"),
            (f"a {name} without a number", wire.hello(kind=kind, cluster_id=attack.cluster_id,
                                                      to=to), -2, "the number 0 cannot connect"),
            (f"a {name} without a disk", wire.hello(kind=kind, cluster_id=attack.cluster_id,
                                                    node_id=other, to=to), -33, "the id of its disk"),
            (f"the node itself as a {name}", wire.hello(kind=kind, cluster_id=attack.cluster_id,
                                                        node_id=to, to=to), -2, "cannot connect"),
        ]
    for what, data, code, text in cases:
        with attack.connection() as connection:
            connection.send(data)
            attack.refused(what, connection.receive(), code, text)
            attack.ends(what, connection)
        attack.works(what)


def truncated(attack):
    """A hello and a produce, cut at each byte, and the other side gone."""
    data = wire.hello() + wire.produce("t", wire.batch(wire.record(b"cut", b"key")))
    for cut in range(len(data)):
        with attack.connection() as connection:
            connection.send(data[:cut])
            connection.socket.shutdown(socket.SHUT_WR)
            answer = connection.receive()
            while answer is not None:
                expect(answer.kind == wire.HELLO_REPLY, f"cut at {cut}: answered {answer.kind}")
                answer = connection.receive()
    attack.works("cuts")


# ---- after the hello ----

def out_of_turn(attack):
    for kind, name in (wire.HELLO, "a second hello"), (wire.RAFT, "a raft message"):
        with attack.client() as connection:
            data = wire.hello() if kind == wire.HELLO else wire.frame(kind, bytes(32))
            attack.refused(name, connection.ask(data), -33, f"type {kind} out of turn")
            attack.ends(name, connection)
        attack.works(name)


def as_a_peer(attack):
    """Random messages in the name of a member, and of a node that nobody knows: a new one may be
    heard of before it is a member, so its hello is taken, as raft has it."""
    rng = random.Random(SEED)
    other = attack.node % 3 + 1
    for node, disk in (other, attack.disk(other)), (99, 99):
        for i in range(50):
            with attack.connection() as connection:
                answer = connection.greet(kind=wire.PEER, cluster_id=attack.cluster_id,
                                          node_id=node, disk=disk, to=attack.node)
                expect(answer.kind == wire.HELLO_REPLY, f"peer {node}: {answer}")
                kind = wire.RAFT if i % 5 else rng.randrange(7, 60)
                connection.send(wire.frame(kind, rng.randbytes(rng.randrange(80)),
                                           rng.randbytes(rng.randrange(400))))
                answer = connection.receive()
                if node != other or answer is None or answer.kind != wire.ERROR or \
                        answer.error()[0] != -24:  # The member itself dials, too, and is taken.
                    attack.refused(f"peer {node}", answer, -33,
                                   "message|a connection for raft messages")
                attack.ends(f"peer {node}", connection)
    attack.works("raft messages")


def bad_batches(attack):
    one = wire.record(b"x")
    stamped = "must be 0 in a produced batch"
    cases = [
        ("a wrong body CRC", wire.batch(one, body_crc=1), -22, "does not match body_crc32c"),
        ("no records", wire.batch(one, count=0), -2, "record_count is 0"),
        ("one record too many", wire.batch(one, count=2), -2, "says 2, but the body has 1 record"),
        ("one too few", wire.batch(one * 3, count=2), -2, "says 2, but the body has 3 records"),
        ("4 billion", wire.batch(one, count=0xFFFFFFFF), -2, "says 4294967295, but"),
        ("an unknown field", wire.batch(one + b"\x10\x01"), -2, "tag 0x10"),
        ("a record that is longer than its body", wire.batch(b"\x0a\x7fx"), -2, "ends within"),
        ("a body that is no records", wire.batch(b"hello"), -2, "something else than a record"),
        ("no body", wire.batch(b""), -2, "too few for a batch"),
        ("half a header", wire.batch(one)[:50], -2, "50 bytes are too few"),
        ("nothing", b"", -2, "0 bytes are too few"),
        ("another magic", wire.batch(one, magic=7), -2, "magic is 0x00000007"),
        ("a size that lies", wire.batch(one, size=4096), -2, "size says 4096, but"),
        ("a stamped CRC", wire.batch(one, header_crc=1), -2, f"header_crc32c {stamped}"),
        ("a stamped offset", wire.batch(one, base_offset=1), -2, f"base_offset {stamped}"),
        ("a stamped index", wire.batch(one, raft_index=1), -2, f"raft_index {stamped}"),
        ("a stamped term", wire.batch(one, raft_term=1), -2, f"raft_term {stamped}"),
        ("a stamped time", wire.batch(one, append_time=-1), -2, f"append_time_us {stamped}"),
        ("a stamped digest", wire.batch(one, digest=bytes(31) + b"x"), -2, f"digest {stamped}"),
        ("an unknown codec", wire.batch(one, attributes=3), -2, "name an unknown codec; 0 .none"),
        ("a sparse batch", wire.batch(one, attributes=8), -2, "may name its codec .0 to 2. and nothing"),
        ("a compacted batch", wire.batch(one, attributes=24), -2, "may name its codec"),
        ("an unknown attribute", wire.batch(one, attributes=32), -2, "may name its codec"),
        ("plain bytes said to be lz4", wire.batch(one, attributes=1), -2, "lz4: no frame begins"),
        ("plain bytes said to be zstd", wire.batch(one, attributes=2), -2, "zstd: no frame begins"),
        ("a reserved field", wire.batch(one, reserved=1), -2, "reserved field is not 0"),
        ("a sequence of nobody", wire.batch(one, sequence=5), -2, "but no id"),
        ("an unknown producer", wire.batch(one, producer_id=1 << 60), -25, "unknown producer"),
        ("a record over the limit", wire.batch(wire.record(bytes(1 << 20)), body_crc=0), -14,
         "over the limit of 1048576"),
    ]
    with attack.client() as connection:
        for i, (what, batch, code, text) in enumerate(cases):
            answer = connection.ask(wire.produce("t", batch, request_id=i))
            attack.refused(what, answer, code, text)
            expect(answer.request_id == i, f"{what}: the answer to {answer.request_id}")
            expect(not answer.fields().get(5), f"{what}: the outcome is known")
    attack.works("bad batches")


def bad_names(attack):
    cases = [("nowhere", -20, "no such topic|unknown topic"), ("", -2, "empty"), ("../etc", -2, "character 3"),
             ("/", -2, "character 1"), ("a/b", -2, "character 2"), ("..", -2, r"'\.' or '\.\.'"),
             ("x" * 300, -2, "300 characters, more than 200"), ("x" * 201, -2, "more than 200"),
             ("a\x01", -2, "character 2"), ("a\n", -2, "character 2"), ("a b", -2, "character 2"),
             ("-a", -2, "start with '-'"), ("ä", -2, "character 1"), (b"t\0x", -2, "without zeros"),
             (b"\xff", -2, "UTF-8"), (b"\xc0\xaf", -2, "UTF-8")]
    one = wire.batch(wire.record(b"x"))
    with attack.client() as connection:
        for name, code, text in cases:
            requests = {
                "produce": wire.produce(name, one), "consume": wire.consume(name),
                "stream": wire.frame(wire.CONSUME_STREAM,
                                     wire.message((1, wire.message((1, name))), (2, 100))),
                "describe": wire.frame(wire.TOPIC_DESCRIBE, wire.message((1, name))),
                "delete": wire.frame(wire.TOPIC_DELETE, wire.message((1, name))),
                "create": wire.frame(wire.TOPIC_CREATE, wire.message((1, name)))}
            for verb, data in requests.items():
                if verb != "create" or code == -2:
                    attack.refused(f"{verb} {name!r}", connection.ask(data), code, text)
        for start, offset, code, text in ((9, 0, -2, "unknown kind of start: 9"),
                                          (0, 1 << 63, -6, "offset 9223372036854775808 is not")):
            attack.refused(f"start {start}", connection.ask(wire.consume("t", start, offset)), code,
                           text)
        attack.refused("a request of the future", connection.ask(wire.frame(77)), -35, "type 77")
        attack.refused("a stream from nowhere", connection.ask(wire.frame(wire.CONSUME_STREAM)), -2,
                       "not from where")
    attack.works("bad names")


# ---- at random ----

def random_frames(rng, table, count):
    """count well-formed frames of any type with headers of no sense; one in ten is a request for
    the topic r whose header was damaged by a bit, so that some are for s, b, R … but none for t."""
    frames = []
    for i in range(count):
        kind = rng.choice(table)
        header = rng.randbytes(rng.randrange(1, 24))
        if i % 10 == 0:
            damaged = bytearray(wire.message((1, "r"), (2, rng.getrandbits(20)), (3, 1)))
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            header = bytes(damaged)
        frames.append(wire.frame(kind, header, rng.randbytes(rng.randrange(12)), i))
    return frames


def garbage(attack, rng, table, frames):
    """One connection: frames that are answered, then bytes that end it. Counts the answers."""
    with attack.client() as connection:
        connection.send(b"".join(frames))
        connection.send(wire.frame(wire.PING, request_id=1 << 40))
        answers = 0
        answer = connection.receive()
        while answer is not None and answer.request_id != 1 << 40:
            if answer.kind == wire.ERROR and answers % 50 == 0:
                answer.error()
            expect(answer.request_id < len(frames), f"an answer to nothing: {answer.request_id}")
            answers += 1
            answer = connection.receive()
        expect(answer is not None, "the connection ended at a well-formed frame")
        connection.send(wire.frame(rng.choice(table), crc=rng.getrandbits(32)) + rng.randbytes(64))
        while answer is not None:
            answer = connection.receive()
    return answers


def at_random(attack):
    rng = random.Random(SEED)
    skipped = (wire.HELLO, wire.RAFT)  # They end the connection.
    table = [kind for kind in range(52) if kind not in skipped]
    table += [rng.randrange(52, 65536) for _ in range(20)]
    sent = answered = 0
    while sent < FRAMES:
        # Checksums take the time: each set of frames is sent over a few connections, shuffled.
        frames = random_frames(rng, table, min(FRAMES_EACH, FRAMES - sent))
        for _ in range(5):
            if sent < FRAMES:
                rng.shuffle(frames)
                answered += garbage(attack, rng, table, frames)
                sent += len(frames)
    expect(answered > sent * 0.8, f"{sent} frames had {answered} answers only")
    for _ in range(200):
        with attack.connection() as connection:
            connection.send(rng.randbytes(rng.randrange(4, 300)))
            connection.socket.shutdown(socket.SHUT_WR)
            while connection.receive() is not None:
                pass
    # Some were requests that made sense, and their topics have files.
    servers = attack.cluster.servers()
    for line in run("topic", "list", "--json", "-s", servers).stdout.splitlines():
        name = json.loads(line)["name"]
        if name != "t":
            run("topic", "delete", name, "-s", servers)
    attack.works("random frames")


# ---- too slow, too many ----

def slow_loris(attack):
    """A byte now and then: the hello has to be whole in time, however much of it came."""
    data = wire.hello()
    with attack.connection() as connection:
        begin = time.monotonic()
        answer = None
        for i in range(len(data) - 1):
            connection.send(data[i:i + 1])
            if select.select([connection.socket], [], [], 0.1)[0]:
                answer = connection.receive()
                break
        spent = time.monotonic() - begin
        attack.refused("slow-loris", answer, -10, f"no complete hello came within {HELLO_MS} ms")
        expect(HELLO_MS / 1000 - 0.2 < spent < HELLO_MS / 1000 + 2, f"after {spent:.1f} s")
        attack.ends("slow-loris", connection)
    attack.works("slow-loris")


def never_reads(attack):
    """Asks for much and takes nothing: the node stops reading there, and gives it up."""
    value = bytes(60000)
    with attack.client() as connection:
        for _ in range(16):
            answer = connection.ask(wire.produce("t", wire.batch(wire.record(value))))
            expect(answer.kind == wire.PRODUCE_REPLY, f"produce: {answer}")
    before = resident_bytes(attack.cluster, attack.node)
    peak = before
    with attack.client() as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.socket.setblocking(False)
        data = wire.consume("t", 1) * 200
        end = time.monotonic() + 20
        sent = 0
        while time.monotonic() < end:
            peak = max(peak, resident_bytes(attack.cluster, attack.node))
            try:
                sent += connection.socket.send(data[sent % len(data):])
            except BlockingIOError:
                time.sleep(0.02)
            except (BrokenPipeError, ConnectionResetError):
                break
        expect(time.monotonic() < end, f"still up after {sent} bytes of requests")
        expect(peak - before < RSS_GROWTH_MAX, f"{(peak - before) >> 20} MiB for {sent} bytes")
    attack.works("a client that never reads")


def too_many(attack):
    """connections_max clients are served, some more are told so, and where there are too many even
    for that (256 more) the others are turned away without a word, and the log says why."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < CONNECTIONS + 100:
        print(f"too_many: left out, {hard} descriptors are too few", file=sys.stderr)
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CONNECTIONS + 100), hard))
    connections = []
    taken = told = dropped = 0
    for _ in range(CONNECTIONS):  # Each says hello at once: its time runs.
        connections.append(attack.connection())
        try:
            connections[-1].send(wire.hello())
        except (BrokenPipeError, ConnectionResetError):
            pass  # Turned away already: receive finds the end.
    for connection in connections:
        answer = connection.receive()
        if answer is None:
            dropped += 1
        elif answer.kind == wire.HELLO_REPLY:
            taken += 1
        else:
            attack.refused("a connection too many", answer, -34, "connections_max")
            told += 1
    expect(taken == 1024 and told > 0 and dropped <= CONNECTIONS - 1024 - told,
           f"{taken} clients were taken, {told} were told, {dropped} dropped")
    if dropped > 0:
        with open(attack.cluster.log_path(attack.node), "rb") as log:
            expect(log.read().count(b"event=connection_dropped reason=LIMIT") == dropped,
                   f"the log does not tell of {dropped} connections")
    for connection in connections:
        connection.close()
    wait_for("room for clients again", lambda: works_again(attack))


def works_again(attack):
    with attack.connection() as connection:
        answer = connection.greet()
        return answer is not None and answer.kind == wire.HELLO_REPLY


# ---- all of it ----

def check_logs(cluster):
    for node in cluster.ids():
        with open(cluster.log_path(node), "rb") as log:
            for line in log:
                expect(len(line) <= LINE_MAX, f"node {node} logs {len(line)} bytes: {line[:200]}")
                expect(re.fullmatch(rb"\d{4}-\S+Z (INFO|WARN) node=\d mod=\w+ event=\w+.*\n", line),
                       f"node {node} logs: {line}")
                line.decode()


def test(cluster):
    cluster.start_all()
    attack = Attack(cluster)
    # Connections go to the two threads in turn, and three a round bring each kind to both: each
    # thread has its connections to all other nodes then.
    for _ in range(8):
        attack.works("nothing")
        for _ in range(2):
            with attack.client() as connection:
                connection.ask(wire.frame(wire.STATUS))
    garbage(attack, random.Random(1), [77], random_frames(random.Random(1), [77, 16, 18], 2000))
    resident = resident_bytes(cluster, attack.node)
    open_before = descriptors(cluster, attack.node)
    for attempt in (first_bytes, truncated, out_of_turn, as_a_peer, bad_batches, bad_names,
                    slow_loris, never_reads, too_many, at_random):
        begin = time.monotonic()
        attempt(attack)
        attack.works(attempt.__name__)
        try:
            wait_for(f"as few descriptors again after {attempt.__name__}",
                     lambda: not descriptors(cluster, attack.node) - open_before)
        except Failed as failure:
            more = descriptors(cluster, attack.node) - open_before
            raise Failed(f"{failure}: {dict(more)} too many") from failure
        grown = resident_bytes(cluster, attack.node) - resident
        print(f"{attempt.__name__}: {time.monotonic() - begin:.1f} s, grown {grown >> 10} KiB")
        expect(grown < RSS_GROWTH_MAX, f"{grown >> 20} MiB more after {attempt.__name__}")
    cluster.wait_equal("t")
    cluster.kill(*cluster.ids(), how=signal.SIGTERM)
    codes = [cluster.nodes[node].returncode for node in cluster.ids()]
    expect(codes == [0, 0, 0], f"the nodes end with {codes}")
    check_logs(cluster)


if __name__ == "__main__":
    main(test, OPTIONS)
