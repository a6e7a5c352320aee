"""A checker of proofs that shares nothing with the program: docs/protocol.md, json and hashlib.

    proof.py FILE [DIGEST]      prints what is proven; exit 1 when nothing is
"""

import hashlib
import json
import struct
import sys

# magic, header_crc32c, size, record_count, base_offset: the beginning of a batch's header
BEGIN = struct.Struct("<IIIIQ")


class Wrong(Exception):
    """The proof proves nothing."""


def require(condition, text):
    if not condition:
        raise Wrong(text)


def unhex(text, size=None):
    require(text == text.lower() and (size is None or len(text) == 2 * size), f"no digits: {text}")
    return bytes.fromhex(text)


def check(text, head=None):
    """The bytes of a proof; (topic, offset, head offset, head digest)."""
    lines = text.split(b"\n")
    require(len(lines) >= 4 and lines.pop() == b"", "too few lines, or an end that is none")
    require(lines[-1] == b'{"sha256":"%s"}' % hashlib.sha256(
        b"".join(line + b"\n" for line in lines[:-1])).hexdigest().encode(), "the sum")
    first, *links, last = [json.loads(line) for line in lines[:-1]]
    require(set(first) == {"quorlog_proof", "topic", "offset", "previous", "batch"}, "first line")
    require(first["quorlog_proof"] == 1, "version")

    batch = unhex(first["batch"])
    digest = unhex(first["previous"], 32)
    magic, _, size, count, base = BEGIN.unpack_from(batch)
    require(magic == 0x31424C51 and size == len(batch), "not a batch")
    require(base <= first["offset"] < base + count, "the batch does not hold the offset")
    require(base > 0 or digest == bytes(32), "something before the beginning")
    digest = hashlib.sha256(digest + batch[8:72] + hashlib.sha256(batch[104:]).digest()).digest()
    require(digest == batch[72:104], "the batch's digest")
    end = base + count
    for link in links:
        require(set(link) == {"fields", "body"}, "a link")
        fields = unhex(link["fields"], 64)
        _, count, base = struct.unpack_from("<IIQ", fields)
        require(base == end and count > 0, "a link that does not follow")
        digest = hashlib.sha256(digest + fields + unhex(link["body"], 32)).digest()
        end = base + count
    require(last == {"head": {"offset": end, "digest": digest.hex()}}, "the head")
    require(head is None or head == digest.hex(), "another head")
    return first["topic"], first["offset"], end, digest.hex()


if __name__ == "__main__":
    try:
        with open(sys.argv[1], "rb") as file:
            print(*check(file.read(), *sys.argv[2:3]))
    except (Wrong, ValueError, KeyError, TypeError, struct.error) as wrong:
        sys.exit(f"proves nothing: {wrong}")
