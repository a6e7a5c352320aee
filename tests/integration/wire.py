"""The wire protocol by hand: frames, batches, protobuf fields, for tests that send what no client
would. docs/protocol.md says what the bytes mean. Standard library only."""

import hashlib
import socket
import struct

PREFIX = struct.Struct("<IIHHIQ")  # size, crc32c, type, flags, header_size, request_id
BATCH = struct.Struct("<IIIIQQQqQHHIII32s")
BATCH_MAGIC = 0x31424C51

HELLO, HELLO_REPLY, ERROR, RAFT, PING, PING_REPLY = 1, 2, 3, 4, 5, 6
PRODUCE, PRODUCE_REPLY, CONSUME, CONSUME_REPLY = 16, 17, 18, 19
CONSUME_STREAM, CREDIT, CANCEL, STREAM_END = 20, 21, 22, 23
TOPIC_TRIM = 44
TOPIC_CREATE, TOPIC_CREATE_REPLY, TOPIC_DELETE, TOPIC_LIST, TOPIC_DESCRIBE = 32, 33, 34, 36, 38
TOPIC_ALTER, TOPIC_ALTER_REPLY = 42, 43
INIT_PRODUCER, INIT_PRODUCER_REPLY, STATUS, STATUS_REPLY = 40, 41, 48, 49
CURSOR_GET, CURSOR_GET_REPLY, CURSOR_SET, CURSOR_SET_REPLY = 64, 65, 66, 67
CURSOR_LIST, CURSOR_LIST_REPLY, CURSOR_DELETE, CURSOR_DELETE_REPLY = 68, 69, 70, 71
CLIENT, NODE, PEER = 0, 1, 2


def crc_table():
    table = []
    for i in range(256):
        for _ in range(8):
            i = (i >> 1) ^ (0x82F63B78 if i & 1 else 0)
        table.append(i)
    return table


TABLE = crc_table()


def crc32c(data, crc=0):
    """CRC-32C (Castagnoli); crc: that of what stands before data."""
    table = TABLE
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def chain(previous, header, body):
    """The digest of a batch: what came before, the bytes [8, 72) of its header, its body."""
    return hashlib.sha256(previous + bytes(header[8:72]) + hashlib.sha256(body).digest()).digest()


# ---- protobuf ----

def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def message(*fields):
    """Fields (number, value): ints become varints, str and bytes are length-delimited."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return bytes(out)


def fixed64(number, value):
    """A field of eight bytes."""
    return varint(number << 3 | 1) + struct.pack("<Q", value)


def get_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data):
    """{number: value} of a message; the last one of a number counts."""
    found = {}
    at = 0
    while at < len(data):
        tag, at = get_varint(data, at)
        if tag & 7 == 0:
            found[tag >> 3], at = get_varint(data, at)
        elif tag & 7 == 2:
            size, at = get_varint(data, at)
            found[tag >> 3] = data[at:at + size]
            at += size
        elif tag & 7 == 1:
            found[tag >> 3] = struct.unpack_from("<Q", data, at)[0]
            at += 8
        else:
            raise ValueError(f"wire type {tag & 7}")
    return found


def zigzag(value):
    """The number that a sint stands for."""
    return value >> 1 ^ -(value & 1)


# ---- frames ----

def frame(kind, header=b"", body=b"", request_id=1, flags=0, **lies):
    """A frame; lies replaces size, crc or header_size."""
    rest = struct.pack("<HHIQ", kind, flags, lies.get("header_size", len(header)), request_id)
    crc = lies.get("crc")
    if crc is None:
        crc = crc32c(header, crc32c(rest))
    size = lies.get("size", 20 + len(header) + len(body))
    return struct.pack("<II", size & 0xFFFFFFFF, crc) + rest + header + body


def hello(version=1, kind=CLIENT, cluster_id="", node_id=0, to=0, client="test", disk=0,
          request_id=1):
    """disk: of the node that dials; 0: none, as a client."""
    header = message((1, version), (3, kind), (4, cluster_id), (5, node_id), (6, client), (7, to))
    return frame(HELLO, header + (fixed64(16, disk) if disk else b""), request_id=request_id)


def record(value, key=None):
    return message((1, message((1, value), *([(5, key), (6, 1)] if key is not None else []))))


def batch(body, count=1, **f):
    """A batch as a producer sends it; f replaces header fields."""
    crc = f["body_crc"] if "body_crc" in f else crc32c(body)
    return BATCH.pack(f.get("magic", BATCH_MAGIC), f.get("header_crc", 0),
                      f.get("size", BATCH.size + len(body)), count, f.get("base_offset", 0),
                      f.get("raft_index", 0), f.get("raft_term", 0), f.get("append_time", 0),
                      f.get("producer_id", 0), f.get("epoch", 0), f.get("attributes", 0),
                      f.get("sequence", 0), crc, f.get("reserved", 0),
                      f.get("digest", bytes(32))) + body


def produce(topic, data, request_id=1, deadline_ms=0):
    return frame(PRODUCE, message((1, topic), (2, deadline_ms)), data, request_id)


def consume(topic, start=0, offset=0, request_id=1, wait_ms=0):
    return frame(CONSUME, message((1, topic), (2, start), (3, offset), (7, wait_ms)),
                 request_id=request_id)


class Frame:
    def __init__(self, data):
        (self.size, self.crc, self.kind, self.flags, header_size,
         self.request_id) = PREFIX.unpack_from(data)
        if self.size + 4 != len(data):
            raise ValueError(f"a frame of {len(data)} bytes says {self.size} + 4")
        self.header = data[PREFIX.size:PREFIX.size + header_size]
        self.body = data[PREFIX.size + header_size:]
        if self.crc != crc32c(data[8:PREFIX.size + header_size]):
            raise ValueError("a frame does not match its checksum")

    def fields(self):
        return fields(self.header)

    def __str__(self):
        return f"error {self.error()[:2]}" if self.kind == ERROR else f"a frame of type {self.kind}"

    def error(self):
        """(code, text, the other fields) of an ERROR."""
        if self.kind != ERROR:
            raise ValueError(f"a frame of type {self.kind}, not an error")
        found = self.fields()
        return zigzag(found.get(1, 0)), found.get(3, b"").decode(), found


class Connection:
    """Blocking; every wait has a limit."""

    def __init__(self, port, timeout=20.0):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = bytearray()

    def send(self, data):
        """False: the other side has ended the connection."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def receive(self):
        """The next frame; None at the end."""
        while len(self.data) < 4 or len(self.data) < 4 + int.from_bytes(self.data[:4], "little"):
            try:
                more = self.socket.recv(1 << 20)
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            self.data += more
        size = 4 + int.from_bytes(self.data[:4], "little")
        data = bytes(self.data[:size])
        del self.data[:size]
        return Frame(data)

    def greet(self, **f):
        """Says hello; the answer."""
        self.send(hello(**f))
        return self.receive()

    def ask(self, data):
        self.send(data)
        return self.receive()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()
