"""Where bits flip: only where they count, and what is expected of a node then."""

import os
import random
import struct
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))

import damage  # pylint: disable=wrong-import-position
import nodes  # pylint: disable=wrong-import-position


def batch(segment, sequence, size):
    head = struct.pack("<IIQQQII", 0x424A4C51, 0, segment, sequence, 1, 1, size)
    whole = head.ljust(64, b"\0") + b"x" * size
    return whole.ljust((len(whole) + 511) // 512 * 512, b"\0")


class DamageTest(unittest.TestCase):
    """On files made here."""

    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)

    def file(self, name, data):
        path = os.path.join(self.dir.name, name)
        with open(path, "wb") as file:
            file.write(data)
        return path

    def journal(self, segment, sizes, rest=b""):
        header = struct.pack("<IIQ", 0x534A4C51, 1, segment).ljust(512, b"\0")
        data = header + b"".join(batch(segment, i, size) for i, size in enumerate(sizes))
        return self.file(f"{segment:016}.journal", data + rest)

    def test_what_a_recycled_file_held_before_does_not_count(self):
        path = self.journal(7, [10, 600, 0], batch(3, 9, 100) + bytes(2048))
        self.assertEqual(damage.batches(path), [(512, 74), (1024, 664), (2048, 64)])

    def test_flips_of_a_journal_are_in_what_counts_and_must_be_refused_but_for_the_seal(self):
        paths = [self.journal(7, [10, 600]), self.journal(8, [5, 0], batch(3, 9, 100))]
        places = damage.journal_places(paths)
        self.assertEqual(len(places), 4)
        seen = set()
        for seed in range(200):
            flips, refused = damage.draw(random.Random(seed), "journal", paths)
            (path, position, bit), = flips
            self.assertIn(bit, range(8))
            place, = [p for p in places if p[0] == path and p[1] <= position < p[1] + p[2]]
            self.assertEqual(refused, place != places[-1])
            seen.add(place)
        self.assertEqual(seen, set(places))

    def test_a_flip_changes_one_bit(self):
        path = self.file("x", bytes(100))
        damage.flip(path, 42, 3)
        with open(path, "rb") as file:
            self.assertEqual(file.read(), bytes(42) + b"\x08" + bytes(57))

    def test_one_slot_of_a_ballot_may_be_lost_and_both_may_not(self):
        path = self.file("ballot", bytes(8192))
        flips, refused = damage.draw(random.Random(1), "ballot", [path])
        self.assertEqual((len(flips), refused), (1, False))
        flips, refused = damage.draw(random.Random(1), "ballot-both", [path])
        self.assertEqual([position // 4096 for _, position, _ in flips], [0, 1])
        self.assertTrue(refused)

    def test_each_refusal_has_its_instruction(self):
        for text, action in (
                ("'/d/identity' is damaged: restore it", "identity"),
                ("the data directory '/d' belongs to cluster 'x' (y), but", "identity"),
                ("the data directory '/d' belongs to node 7, but", "identity"),
                ("'/d/group-1/journal/01.journal' at 512: a batch", "replace"),
                ("'/d/group-1/snapshot' does not match its checksum", "replace"),
                ("'/d/group-1/ballot' at 0 and at 4096: neither slot is valid", "replace"),
                ("'/d/group-1/disk' is damaged: this disk", "replace"),
                ("node 2 refused: the id of node 1 belongs to another disk: a node", "replace"),
                ("listen: 127.0.0.1:1: address already in use", None)):
            self.assertEqual(damage.instruction(text), action, text)

    def test_what_a_started_node_ends_with_is_understood_as_well(self):
        fields = (' reason=WRONG_DISK text="node 1 refused: the id of node 7 belongs to another disk: '
                  'a \\"node\\"" next="empty the directory"')
        self.assertEqual(damage.instruction(nodes.reason(fields)), "replace")
        self.assertTrue(nodes.reason(fields).endswith('a \\"node\\"'))
        self.assertEqual(nodes.reason(" text=short"), "short")
        self.assertIn("no reason", nodes.reason(" reason=IO"))


if __name__ == "__main__":
    unittest.main()
