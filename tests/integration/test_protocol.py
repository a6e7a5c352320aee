"""docs/protocol.md cannot rot: the frames in it are what a node takes and says, byte for byte but
for times and what hangs on them, and its table of errors is that of src/base/err.h."""

import hashlib
import os
import re
import subprocess
import tempfile

import wire
from cluster import QUORLOG, Failed, expect, free_ports, wait_for

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
APPEND_TIME = 6  # in ProduceReply


def read(*path):
    with open(os.path.join(SOURCE, *path), encoding="utf-8") as file:
        return file.read()


def vectors(text):
    """{name: bytes} of the ```hex blocks."""
    found = {}
    for name, block in re.findall(r"^```hex (\S+)\n(.*?)^```$", text, re.S | re.M):
        lines = (line.split("#")[0] for line in block.splitlines())
        found[name] = bytes.fromhex(" ".join(lines))
    return found


def check_errors(text):
    source = read("src", "base", "err.h").replace("\\\n", " ")
    defined = re.findall(r'X\((\w+), (-?\d+), (\w+), (\w+),\s*"([^"]*)"\)', source)
    expect(len(defined) > 30 and defined[0][0] == "OK", "err.h is not understood")
    rows = [f"| {number} | {name} | {outcome} | {'yes' if retry == 'true' else 'no'} | {words} |"
            for name, number, outcome, retry, words in defined[1:]]
    table = re.findall(r"^\| -\d+ \|.*\|$", text, re.M)
    for row in rows:
        expect(row in table, f"docs/protocol.md lacks {row}")
    expect(len(table) == len(rows), f"{len(table)} errors in the table, {len(rows)} in err.h")


def zstd_raw(data):
    """A frame of Zstandard with its contents as they are, in one block, and their size."""
    return (bytes.fromhex("28b52ffd20") + bytes([len(data)]) +
            (len(data) << 3 | 1).to_bytes(3, "little") + data)


def check_made(found):
    """The requests are what their description says."""
    made = {
        "hello": wire.frame(wire.HELLO, wire.message((1, 1), (6, "example 1.0")), request_id=1),
        "topic-create": wire.frame(wire.TOPIC_CREATE, wire.message((1, "t")), request_id=2),
        "produce": wire.frame(wire.PRODUCE, wire.message((1, "t")),
                              wire.batch(wire.record(b"hello", b"k")), 3),
        "consume": wire.frame(wire.CONSUME, wire.message((1, "t"), (2, 1)), request_id=4),
        "consume-beyond": wire.frame(wire.CONSUME, wire.message((1, "t"), (3, 7)), request_id=5),
        "cursor-set": wire.frame(wire.CURSOR_SET, wire.message((1, "t"), (2, "c"), (3, 1), (5, 1)),
                                 request_id=6),
        "topic-alter": wire.frame(
            wire.TOPIC_ALTER, wire.message((1, "t"), (4, wire.message((1, 604800000), (7, 3))),
                                           (5, bytes([1, 7]))), request_id=7),
        "consume-filtered": wire.frame(wire.CONSUME, wire.message(
            (1, "t"), (2, 1), (16, wire.message((1, 1), (2, "k")))), request_id=8),
        "produce-compressed": wire.frame(wire.PRODUCE, wire.message((1, "t")), wire.batch(
            zstd_raw(wire.record(b"hello", b"k")), attributes=2), 9),
        "topic-trim": wire.frame(wire.TOPIC_TRIM, wire.message((1, "t"), (4, 1)), request_id=8),
        "topic-compact": wire.frame(
            wire.TOPIC_ALTER, wire.message((1, "t"), (4, wire.message((4, 1), (5, 3600000))),
                                           (5, bytes([1, 4, 5]))), request_id=10),
    }
    for name, data in made.items():
        expect(found[name] == data, f"{name} is {found[name].hex(' ')}, not {data.hex(' ')}")


def same(name, frame):
    """What a frame says without times: they, and sums over them, differ each time."""
    found = frame.fields()
    if name.startswith("produce"):
        found.pop(APPEND_TIME)
    body = bytearray(frame.body)
    if name.startswith("consume"):
        stamped = wire.BATCH.unpack_from(body)
        expect(stamped[1] == wire.crc32c(body[8:wire.BATCH.size]), f"{name}: header_crc32c")
        expect(stamped[12] == wire.crc32c(body[wire.BATCH.size:]), f"{name}: body_crc32c")
        digest = hashlib.sha256(bytes(32) + body[8:72] +
                                hashlib.sha256(body[wire.BATCH.size:]).digest()).digest()
        expect(stamped[14] == (bytes(32) if "filtered" in name else digest), f"{name}: digest")
        body[4:8] = bytes(4)  # header_crc32c
        body[24:48] = bytes(24)  # raft_index and raft_term, as the elections went; append_time_us
        body[72:104] = bytes(32)
    varying = {"produce-reply": (3, 4), "topic-create-reply": (2,), "cursor-set-reply": (1, 2, 3),
               "consume-reply": (6,), "topic-alter-reply": (2, 3), "topic-trim-reply": (2, 3),
               "topic-compact-reply": (2, 3), "consume-filtered-reply": (6, 7), "produce-compressed-reply": (3, 4)}
    for number in varying.get(name, ()):  # As the elections went.
        expect(found.pop(number) > 0, f"{name}: field {number}")
    return frame.kind, frame.flags, frame.request_id, found, bytes(body)


def check_said(port, found):
    replies = {"hello": "hello-reply", "topic-create": "topic-create-reply",
               "produce": "produce-reply", "consume": "consume-reply", "consume-beyond": "error",
               "cursor-set": "cursor-set-reply", "topic-alter": "topic-alter-reply",
               "consume-filtered": "consume-filtered-reply",
               "produce-compressed": "produce-compressed-reply",
               "topic-trim": "topic-trim-reply", "topic-compact": "topic-compact-reply"}
    with wire.Connection(port) as connection:
        for name, reply in replies.items():
            answer = connection.ask(found[name])
            expect(answer is not None, f"{name} ends the connection")
            said, told = same(reply, answer), same(reply, wire.Frame(found[reply]))
            expect(said == told, f"{reply} is {said}, but docs/protocol.md has {told}")
    expect(set(found) == {*replies, *replies.values()}, f"unknown blocks: {set(found)}")


def main():
    text = read("docs", "protocol.md")
    found = vectors(text)
    check_errors(text)
    expect(wire.crc32c(b"123456789") == 0xE3069283 and "E3069283" in text, "CRC-32C")
    check_made(found)
    with tempfile.TemporaryDirectory(prefix="quorlog-test-") as directory:
        port = free_ports(1)[0]
        # A node alone under the address of the page: its cluster id follows from its name.
        with subprocess.Popen([QUORLOG, "serve", "--listen", f"127.0.0.1:{port}", "--advertise",
                               "127.0.0.1:7437", "--data", os.path.join(directory, "data")],
                              stderr=subprocess.DEVNULL) as node:
            try:
                wait_for("the node leads", lambda: leads(port))
                check_said(port, found)
            finally:
                node.terminate()
    print("test_protocol.py: ok")


def leads(port):
    try:
        with wire.Connection(port) as connection:
            return connection.greet().fields().get(6)
    except ConnectionRefusedError:
        return None


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        raise SystemExit(f"FAILED: {failure}") from failure
