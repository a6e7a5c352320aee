"""Bit flips in the files of a node, and what its operator does about it (docs/operations.md, "A node does
not start")."""

import glob
import os
import re
import struct

# What a refusal says → what docs/operations.md says to do. The first that fits counts.
INSTRUCTIONS = (
    (r"identity' is damaged|identity'.*version|identity", "identity"),
    (r"belongs to node |belongs to cluster |configured for cluster", "identity"),
    (r"\.journal' ", "replace"),
    (r"/snapshot'", "replace"),
    (r"/ballot'", "replace"),
    (r"/disk'", "replace"),
    (r"belongs to another disk", "replace"),
    (r"this node's copy of topic '.*' is damaged", "replace"),
)


def instruction(refusal):
    """identity: write it anew; replace: the disk counts as lost; None: nobody was told what to do."""
    for pattern, action in INSTRUCTIONS:
        if re.search(pattern, refusal):
            return action
    return None


def flip(path, position, bit):
    """One bit."""
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1 << bit]))
        file.flush()
        os.fsync(file.fileno())


def group(node):
    return os.path.join(node.place.disk.data, "group-1")


def stores(node):
    """For each topic its files, oldest first; files that hold nothing yet are left out."""
    found = {}
    for path in sorted(glob.glob(os.path.join(group(node), "topics", "*", "*.store"))):
        if os.path.getsize(path) > 32:
            found.setdefault(os.path.dirname(path), []).append(path)
    return list(found.values())


def batches(path):
    """(position, size) of what counts in a journal's file: headers and entries. What a recycled file
    held before carries another segment's number (src/raft_fsm/journal.h)."""
    with open(path, "rb") as file:
        data = file.read()
    segment = struct.unpack_from("<Q", data, 8)[0]
    found = []
    at = 512
    while at + 64 <= len(data):
        magic, _, of, _, _, _, size = struct.unpack_from("<IIQQQII", data, at)
        if magic != 0x424A4C51 or of != segment:
            break
        found.append((at, 64 + size))
        at += (64 + size + 511) // 512 * 512
    return found


def journal_places(paths):
    """(path, position, size) of everything that counts in all of a journal, in order."""
    return [(path, at, size) for path in paths for at, size in batches(path)]


def sealed(node):
    return [path for files in stores(node) for path in files[:-1]]


def active(node):
    return [files[-1] for files in stores(node)]


def files_named(*pattern):
    def look(node):
        return sorted(glob.glob(os.path.join(group(node), *pattern)))
    return look


def identity(node):
    return [os.path.join(node.place.disk.data, "identity")]


# kind of file → where they are
FILES = {
    "topic-sealed": sealed,
    "topic-active": active,
    "topic-index": files_named("topics", "*", "*.index"),
    "snapshot": files_named("snapshot"),
    "journal": files_named("journal", "*.journal"),
    "journal-spare": files_named("journal", "*.spare"),
    "ballot": files_named("ballot"),
    "ballot-both": files_named("ballot"),
    "disk": files_named("disk"),
    "identity": identity,
}
ONLINE = ("topic-sealed", "topic-active")  # what is read again while a node runs


def draw(rng, kind, paths):
    """Some flips of such files, ([(path, position, bit)], whether the node must refuse to start then).
    At most one for each file, but for ballot-both, which is one for each slot."""
    if kind == "ballot-both":
        return [(paths[0], slot * 4096 + rng.randrange(44), rng.randrange(8)) for slot in (0, 1)], True
    if kind == "ballot":
        return [(paths[0], rng.choice((0, 4096)) + rng.randrange(44), rng.randrange(8))], False
    if kind == "journal":
        places = journal_places(paths)
        path, position, size = place = rng.choice(places)
        # The last one is the seal: a torn one is none.
        return ([(path, position + rng.randrange(size), rng.randrange(8))], place != places[-1])
    chosen = rng.sample(paths, min(len(paths), rng.choice((1, 1, 2, 4))))
    flips = [(path, rng.randrange(os.path.getsize(path)), rng.randrange(8)) for path in chosen
             if os.path.getsize(path) > 0]
    return flips, kind == "snapshot" and bool(flips)


def mend_identity(node, other):
    """As the instructions say: after another node's, with this node's number, and no checksum yet."""
    with open(os.path.join(other.place.disk.data, "identity"), encoding="ascii") as file:
        text = file.read()
    text = re.sub(r"node_id = \d+", f"node_id = {node.number}", text)
    text = re.sub(r"version = \d+", "version = 2", text)
    text = re.sub(r"checksum = .*\n", "", text)
    if node.joins:
        text = re.sub(r"origin = .*", "origin = join", text)
    with open(identity(node)[0], "w", encoding="ascii") as file:
        file.write(text)
