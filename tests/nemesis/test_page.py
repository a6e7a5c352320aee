"""A run's page: all sections are there, it is well-formed, it needs nothing from elsewhere, and its figures are right."""

import html.parser
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
VOID = {"meta", "br", "hr", "img", "input", "link"}
OPTIONAL_END = {"th"}  # as the page writes table heads


class Outline(html.parser.HTMLParser):
    """Whether tags are closed in the order in which they were opened; ids; text."""

    def __init__(self):
        super().__init__()
        self.open = []
        self.ids = []
        self.text = []
        self.attributes = []
        self.wrong = []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += attrs

    def handle_endtag(self, tag):
        while self.open and self.open[-1] != tag and self.open[-1] in OPTIONAL_END:
            self.open.pop()
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def second(t, **more):
    return {"t": t, "seconds": 1.0, "records": 1000, "bytes": 100000, "delivered": 10, "produce_ok": 50,
            "produce_fail": 1, "produce_unknown": 0, "produce_p50_ms": 1.5, "produce_p99_ms": 20.0,
            "produce_max_ms": 30.0, "errors": {"EXPECT_FAILED": 1}, "pauses": [], **more}


def rule(name, checked, violations=0, examples=()):
    return {"rule": name, "meaning": f"what {name} says", "checked": checked, "violations": violations,
            "examples": list(examples)}


EVENTS = [
    {"t": 100.5, "kind": "leader", "node": 1, "term": 2},
    {"t": 110.0, "end": 112.0, "kind": "kill", "node": 1, "leader": True, "text": "SIGKILL <the leader>"},
    {"t": 110.6, "kind": "leader", "node": 2, "term": 3},
    {"t": 120.0, "end": 121.0, "kind": "kill", "node": 2, "leader": True, "text": "SIGKILL"},
    {"t": 130.0, "end": 131.0, "kind": "kill", "node": 1, "text": "SIGKILL, a follower"},
    {"t": 140.0, "end": 150.0, "kind": "partition", "node": 3, "text": "one way"},
    {"t": 155.0, "kind": "note", "text": "healed"},
]


class Page(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)
        self.about = {"verdict": "pass", "reason": "", "command": "tests/nemesis/run --seed 7", "seed": 7654321,
                      "nodes": 3, "seconds": 60, "from": 100.0, "to": 160.0, "kills": 12}
        self.series = [second(100.0 + i) for i in range(1, 61)]
        self.series[10]["pauses"] = [[109.990, 110.400]]  # The first kill: 400 ms.
        self.series[20]["pauses"] = [[119.999, 120.800]]  # The second: 800 ms.
        self.series[40].update(produce_unknown=3, errors={"TIMEOUT": 4, "EXPECT_FAILED": 9})
        self.check = {"holds": True, "operations": {"produce": {"ok": 3000, "fail": 60, "unknown": 3}},
                      "staleness": {"reads": 5, "p50_us": 0, "p99_us": 1000, "max_us": 2000},
                      "rules": [rule("durability", 60000), rule("progress", 0)]}

    def put(self, name, text):
        with open(os.path.join(self.dir.name, name), "w", encoding="utf-8") as file:
            file.write(text)

    def make(self, events=None):
        self.put("run.json", json.dumps(self.about))
        self.put("series.jsonl", "".join(json.dumps(s) + "\n" for s in self.series))
        self.put("events.jsonl", "".join(json.dumps(e) + "\n" for e in (EVENTS if events is None else events)))
        if self.check is not None:
            self.put("check.json", json.dumps(self.check))
        done = subprocess.run([sys.executable, "-B", os.path.join(HERE, "page.py"), self.dir.name],
                              capture_output=True, timeout=30, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(os.path.join(self.dir.name, "index.html"), encoding="utf-8") as file:
            return file.read()

    def outline(self, page):
        outline = Outline()
        outline.feed(page)
        outline.close()
        self.assertEqual(outline.wrong, [])
        self.assertEqual(outline.open, [])
        return outline

    def figure(self, page):
        return xml.etree.ElementTree.fromstring(re.search(r"<svg.*</svg>", page, re.DOTALL).group())

    def cells(self, page, section, first):
        """A row's cells, in the section of that id, by its first cell."""
        part = page.split(f"<h2 id={section}>")[1].split("<h2 ")[0]
        row = next(r for r in re.findall(r"<tr><td.*?</tr>", part) if re.sub("<.*?>", "", r.split("</td>")[0]) == first)
        return [re.sub("<.*?>", "", cell) for cell in row.split("</td>")[:-1]]

    def test_all_sections_are_there_and_well_formed(self):
        page = self.make()
        outline = self.outline(page)
        self.assertEqual(outline.ids, ["time", "recovery", "faults", "rules", "operations", "parameters"])
        text = " ".join(outline.text)
        self.assertIn("PASS", text)
        self.assertIn("tests/nemesis/run --seed 7", text)
        self.assertIn("7654321", text)
        self.assertLess(page.index('class="verdict pass"'), page.index("<h2"))

    def test_nothing_comes_from_elsewhere(self):
        page = self.make()
        for name, value in self.outline(page).attributes:
            self.assertNotIn(name, ("src", "href", "srcset", "data", "action"), value)
        for forbidden in ("http:", "https:", "url(", "@import", "<script", "<link"):
            self.assertNotIn(forbidden, page)

    def test_the_figure_shows_every_fault_and_leader(self):
        figure = self.figure(self.make())
        titles = [e.text for e in figure.iter() if e.tag == "title"]
        for told in ("SIGKILL <the leader>", "SIGKILL, a follower", "one way", "node 2 leads", "healed"):
            self.assertEqual(sum(told in title for title in titles), 1, told)
        self.assertEqual(len([e for e in figure.iter() if e.get("class") == "curve"]), 3)
        self.assertIn("errors: 4", titles)  # without those of competition
        self.assertIn("unknown produces: 3", titles)

    def test_recovery_is_from_the_fault_to_the_end_of_its_pause(self):
        page = self.make()
        self.assertEqual(self.cells(page, "recovery", "kill"), ["kill", "2", "400", "800", "800"])
        self.assertEqual(self.cells(page, "faults", "kill"), ["kill", "3", "2", "1.0 s", "2.0 s"])
        self.assertEqual(self.cells(page, "faults", "partition")[1], "1")

    def test_violations_come_before_everything_else(self):
        self.about.update(verdict="fail", reason="durability <broken>")
        self.check.update(holds=False)
        self.check["rules"][0] = rule("durability", 60000, 2, ["record 5 & record 6 are gone", "line 9"])
        page = self.make()
        self.outline(page)
        self.assertIn('class="verdict fail"', page)
        self.assertIn("durability &lt;broken&gt;", page)
        self.assertLess(page.index("<h2 id=violations>"), page.index("<h2 id=time>"))
        self.assertIn("record 5 &amp; record 6 are gone", page)
        self.assertEqual(self.cells(page, "rules", "durability")[3:], ["2", "violated"])
        self.assertEqual(self.cells(page, "rules", "progress")[4], "nothing to check")

    def test_a_run_that_has_hardly_anything_has_a_page(self):
        self.series, self.check = [], None
        page = self.make(events=[])
        self.outline(page)
        self.assertIn("no history was judged", page)
        self.assertNotIn("<h2 id=violations>", page)

    def test_a_long_run_is_thinned(self):
        self.series = [second(100.0 + i) for i in range(1, 7201)]
        self.about["to"] = 7300.0
        page = self.make()
        for curve in (e for e in self.figure(page).iter() if e.get("class") == "curve"):
            self.assertLessEqual(len(curve.get("points").split()), 600)
        self.assertIn("7\u202f200\u202f000", page)  # all records, all the same

    def test_without_a_run_there_is_no_page(self):
        done = subprocess.run([sys.executable, "-B", os.path.join(HERE, "page.py"), self.dir.name],
                              capture_output=True, timeout=30, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"run.json", done.stderr)


if __name__ == "__main__":
    unittest.main()
