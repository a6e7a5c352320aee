"""Bit flips in the files of a node, and what its operator does about it (docs/operations.md, "A node does
not start")."""

import glob
import os
import re

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


def used(path):
    """Bytes of a journal's file up to the last one that is not zero; what was recycled has old bytes
    behind it."""
    with open(path, "rb") as file:
        return len(file.read().rstrip(b"\0"))


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
    """Some flips of such files: [(path, position, bit)]. At most one for each file, but for
    ballot-both, which is one for each slot."""
    if kind == "ballot-both":
        return [(paths[0], slot * 4096 + rng.randrange(44), rng.randrange(8)) for slot in (0, 1)]
    if kind == "ballot":
        return [(paths[0], rng.choice((0, 4096)) + rng.randrange(44), rng.randrange(8))]
    chosen = rng.sample(paths, min(len(paths), rng.choice((1, 1, 2, 4))))
    if kind == "journal":
        chosen = chosen[:1]
    flips = []
    for path in chosen:
        size = used(path) if kind.startswith("journal") else os.path.getsize(path)
        if size > 0:
            flips.append((path, rng.randrange(size), rng.randrange(8)))
    return flips


def mend_identity(node, other):
    """As the instructions say: after another node's, with this node's number."""
    with open(os.path.join(other.place.disk.data, "identity"), encoding="ascii") as file:
        text = file.read()
    text = re.sub(r"node_id = \d+", f"node_id = {node.number}", text)
    with open(identity(node)[0], "w", encoding="ascii") as file:
        file.write(text)
