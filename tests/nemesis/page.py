#!/usr/bin/env python3
"""Makes DIR/index.html of a nemesis run's directory: what was done when, what clients saw, the verdict.

    page.py DIR

One file that needs nothing else, for light and dark screens. README.md says what DIR holds. Exit codes: 0; 1: DIR lacks
what has to be there.
"""

import html
import json
import math
import os
import sys

from page_plot import Figure, text_time

# What others' competition explains is no error.
EXPECTED_ERRORS = {"EXPECT_FAILED", "CURSOR_CONFLICT", "CURSOR_UNKNOWN"}
NO_FAULTS = {"leader", "note"}
PAUSE_BEGINS_S = 1.0  # so long after a kill a pause has to begin to be its
FLOOR_MS = 50.0  # shorter pauses are not in the series

STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --card: #f6f7f9; --ink: #1c2330; --dim: #5f6b7c; --line: #d9dee6;
  --good: #17803d; --bad: #c02626; --blue: #2563c9; --orange: #c2600c; --red: #c02626; --violet: #7c3fc4;
  --band: rgba(194, 96, 12, 0.10); --mark: #9a5a10;
  --n1: #2563c9; --n2: #0d8a72; --n3: #b45309; --n4: #7c3fc4; --n5: #b03060; }
@media (prefers-color-scheme: dark) { :root { --back: #12161d; --card: #1a2029; --ink: #e4e9f0; --dim: #98a4b5;
  --line: #303947; --good: #4cc77a; --bad: #ff7b72; --blue: #6aa5ff; --orange: #f0a355; --red: #ff7b72;
  --violet: #b78cf2; --band: rgba(240, 163, 85, 0.13); --mark: #e0a860;
  --n1: #6aa5ff; --n2: #45c8ab; --n3: #f0a355; --n4: #b78cf2; --n5: #ee7fa6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 28px 24px 60px; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 24px; margin: 0 0 2px; } h2 { font-size: 17px; margin: 34px 0 10px; }
p { margin: 6px 0; } .dim { color: var(--dim); }
.verdict { display: flex; gap: 16px; align-items: baseline; border-left: 6px solid var(--good); background: var(--card);
  padding: 12px 18px; margin: 16px 0; border-radius: 0 6px 6px 0; }
.verdict.fail { border-color: var(--bad); }
.verdict strong { font-size: 22px; color: var(--good); white-space: nowrap; }
.verdict.fail strong { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin: 16px 0; }
.tile { background: var(--card); border-radius: 6px; padding: 10px 14px; }
.tile b { display: block; font-size: 20px; font-variant-numeric: tabular-nums; }
.tile span { color: var(--dim); font-size: 13px; }
code, pre { font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
pre { background: var(--card); border-radius: 6px; padding: 10px 14px; overflow-x: auto; margin: 8px 0; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 600; color: var(--dim); font-size: 13px; }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.scroll { overflow-x: auto; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }
details summary { cursor: pointer; color: var(--dim); margin: 8px 0; }
svg { width: 100%; height: auto; display: block; min-width: 760px; }
svg text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: var(--dim); }
svg text.title { fill: var(--ink); font-weight: 600; font-size: 13px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .curve { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
"""


def escape(value):
    return html.escape(str(value), quote=True)


def number(value):
    """12 345 678 with thin spaces; a float with three digits."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.3f}".rstrip("0").rstrip(".").replace(",", "\u202f")
    return f"{int(value):,}".replace(",", "\u202f")


def read_object(path):
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def read_lines(path):
    """The objects of a file of lines; a last line that was cut is left out."""
    found = []
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
    except OSError:
        return []
    return [value for value in found if isinstance(value, dict) and "t" in value]


def quantile(values, share):
    """The smallest one that `share` of all are at or below."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def per_second(second, count):
    return count / max(second.get("seconds", 1.0), 0.001)


class Run:
    """What the directory holds."""

    def __init__(self, directory):
        self.about = read_object(os.path.join(directory, "run.json"))
        self.series = read_lines(os.path.join(directory, "series.jsonl"))
        self.events = sorted(read_lines(os.path.join(directory, "events.jsonl")),
                             key=lambda event: event["t"])
        self.check = read_object(os.path.join(directory, "check.json"))
        times = [s["t"] for s in self.series] + [e["t"] for e in self.events]
        about = self.about or {}
        self.begin = about.get("from", min(times, default=0.0))
        self.end = max(about.get("to", 0.0), max((s["t"] for s in self.series), default=0.0),
                       self.begin + 1)
        self.faults = [e for e in self.events if e.get("kind") not in NO_FAULTS]

    def kinds(self):
        return list(dict.fromkeys(e["kind"] for e in self.faults))

    def recoveries(self):
        """By kind, for faults that hit the leader: ms from the fault to the first acknowledgement behind the pause."""
        pauses = sorted(tuple(p) for s in self.series for p in s.get("pauses", []))
        found = {}
        for event in self.faults:
            if not event.get("leader") or event["t"] > self.end:
                continue
            t = event["t"]
            pause = next((p for p in pauses if p[1] > t), None)
            its = pause is not None and pause[0] < t + PAUSE_BEGINS_S
            found.setdefault(event["kind"], []).append((pause[1] - t) * 1e3 if its else FLOOR_MS)
        return found

    def total(self, key):
        return sum(s.get(key, 0) for s in self.series)

    @staticmethod
    def errors(second):
        return per_second(second, sum(count for name, count in second.get("errors", {}).items()
                                      if name not in EXPECTED_ERRORS))


# ---- sections ----

def verdict_section(run):
    about = run.about
    good = about.get("verdict") == "pass"
    check = run.check
    if check is None:
        told = "No history was judged."
    elif check.get("holds"):
        told = "The recorded history keeps every promise."
    else:
        told = f"{sum(r['violations'] for r in check['rules'])} violations in the recorded history."
    reason = about.get("reason") or told
    return (f'<div class="verdict {"pass" if good else "fail"}"><strong>'
            f'{"PASS" if good else "FAIL"}</strong><span>{escape(reason)}</span></div>')


def tiles_section(run):
    tiles = [(number(run.total("records")), "records acknowledged"),
             (number(len(run.faults)), "faults"),
             (text_time(run.end - run.begin), "under load")]
    if run.check is not None:
        rules = run.check.get("rules", [])
        tiles.append((number(sum(r["checked"] for r in rules)), "facts checked"))
        tiles.append((number(sum(r["violations"] for r in rules)), "violations"))
    produced = sum(run.total(f"produce_{o}") for o in ("ok", "fail", "unknown"))
    if produced:
        share = 100.0 * run.total("produce_unknown") / produced
        tiles.append((f"{share:.2f} %", "of produces with unknown outcome"))
    return '<div class="tiles">' + "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for value, name in tiles) + "</div>"


def parameters_section(run):
    hidden = {"verdict", "reason", "command", "from", "to"}
    rows = [(k, v) for k, v in run.about.items()
            if k not in hidden and isinstance(v, (int, float, str, bool))]
    cells = "".join(f"<tr><td>{escape(k)}</td><td class=n>{escape(shown(v))}</td></tr>"
                    for k, v in rows)
    command = escape(run.about.get("command", ""))
    return ("<h2 id=parameters>Again</h2>"
            f"<pre>{command}</pre>"
            f"<details><summary>Parameters and counts</summary><table>{cells}</table></details>")


def shown(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value < 10000:
        return str(value)  # A seed's or a port's digits are not grouped.
    return str(value) if isinstance(value, str) else number(value)


def timeline_section(run):
    figure = Figure(run.begin, run.end)
    seconds = figure.thin(run.series)
    figure.fault_bands(run.faults)
    rate = [(s["t"], per_second(s, s["records"])) for s in seconds]
    figure.panel("Acknowledged records a second", 120)
    figure.linear([("--blue", "records", rate)])
    figure.panel("Latency of acknowledged produces, ms", 150)
    figure.logarithmic([
        ("--blue", "p50", [(s["t"], s["produce_p50_ms"]) for s in seconds if s["produce_ok"]]),
        ("--orange", "p99", [(s["t"], s["produce_p99_ms"]) for s in seconds if s["produce_ok"]])])
    figure.panel("Errors and unknown outcomes a second", 80)
    figure.bars([("--red", "errors", [(s["t"], run.errors(s)) for s in seconds]),
                 ("--violet", "unknown produces", [(s["t"], per_second(s, s["produce_unknown"]))
                                                for s in seconds])])
    figure.leaders([e for e in run.events if e.get("kind") == "leader"])
    figure.fault_rows(run.kinds(), run.faults)
    figure.notes([e for e in run.events if e.get("kind") == "note"])
    return ("<h2 id=time>What happened</h2><p class=dim>Shaded: a fault lasted. Refusals that others' competition explains "
            "(a lost race for an offset or a cursor) are not among the errors.</p>"
            f'<div class="scroll">{figure.svg()}</div>')


def faults_section(run):
    rows = []
    for kind in sorted(run.kinds()):
        its = [e for e in run.faults if e["kind"] == kind]
        lasted = [e["end"] - e["t"] for e in its if "end" in e]
        longest = f"{max(lasted):.1f} s" if lasted else ""
        median = f"{quantile(lasted, 0.5):.1f} s" if lasted else ""
        leaders = sum(1 for e in its if e.get("leader"))
        rows.append(f"<tr><td>{escape(kind)}</td><td class=n>{len(its)}</td><td class=n>{leaders}</td>"
                    f"<td class=n>{median}</td><td class=n>{longest}</td></tr>")
    if not rows:
        return "<h2 id=faults>Faults</h2><p>None.</p>"
    listed = "".join(
        f"<tr><td class=n>{e['t'] - run.begin:.1f}</td><td>{escape(e['kind'])}</td>"
        f"<td class=n>{escape(e.get('node', ''))}</td><td>{escape(e.get('text', ''))}</td></tr>"
        for e in run.faults)
    return ("<h2 id=faults>Faults</h2><table><tr><th>kind<th class=n>count<th class=n>of the leader"
            "<th class=n>lasted, median<th class=n>longest</tr>" + "".join(rows) + "</table>"
            "<details><summary>All of them</summary><table><tr><th class=n>s<th>kind<th class=n>node<th>what</tr>"
            f"{listed}</table></details>")


def recovery_section(run):
    rows = []
    for kind, found in sorted(run.recoveries().items()):
        rows.append(f"<tr><td>{escape(kind)}</td><td class=n>{len(found)}</td>"
                    f"<td class=n>{number(round(quantile(found, 0.5)))}</td>"
                    f"<td class=n>{number(round(quantile(found, 0.99)))}</td>"
                    f"<td class=n>{number(round(max(found)))}</td></tr>")
    if not rows:
        return "<h2 id=recovery>Recovery</h2><p>No fault hit a leader.</p>"
    return ("<h2 id=recovery>Recovery</h2><p class=dim>From a fault that hits the leader to the next acknowledged produce "
            f"of any client, ms. Shorter pauses than {FLOOR_MS:.0f} ms count as that.</p>"
            "<table><tr><th>fault of the leader<th class=n>n<th class=n>p50<th class=n>p99<th class=n>max</tr>"
            + "".join(rows) + "</table>")


def rules_section(run):
    if run.check is None:
        return "<h2 id=rules>Rules</h2><p>There is no check.json: no history was judged.</p>"
    rows = []
    for rule in run.check.get("rules", []):
        bad = rule["violations"] > 0
        mark = ('<span class="bad">violated</span>' if bad else
                '<span class="good">holds</span>' if rule["checked"] else
                '<span class="dim">nothing to check</span>')
        rows.append(f"<tr><td><code>{escape(rule['rule'])}</code></td><td>{escape(rule.get('meaning', ''))}</td>"
                    f"<td class=n>{number(rule['checked'])}</td><td class=n>{number(rule['violations'])}</td>"
                    f"<td>{mark}</td></tr>")
    return ("<h2 id=rules>Rules</h2><table><tr><th>rule<th>what holds<th class=n>facts<th class=n>violations<th></tr>"
            + "".join(rows) + "</table>")


def violations_section(run):
    found = [(r["rule"], r["violations"], r.get("examples", []))
             for r in (run.check or {}).get("rules", []) if r["violations"] > 0]
    if not found:
        return ""
    parts = ["<h2 id=violations>Violations</h2>"]
    for rule, count, examples in found:
        shown_examples = "\n".join(escape(text) for text in examples)
        parts.append(f"<p><code>{escape(rule)}</code>: {number(count)}</p><pre>{shown_examples}</pre>")
    return "".join(parts)


def operations_section(run):
    if run.check is None or "operations" not in run.check:
        return ""
    rows = "".join(
        f"<tr><td>{escape(kind)}</td>" + "".join(
            f"<td class=n>{number(counts.get(o, 0))}</td>" for o in ("ok", "fail", "unknown")) + "</tr>"
        for kind, counts in run.check["operations"].items() if kind != "event")
    stale = run.check.get("staleness", {})
    told = ""
    if stale.get("reads"):
        told = (f"<p class=dim>{number(stale['reads'])} local reads, which promise nothing about their age, were behind by "
                f"p50 {stale['p50_us'] / 1e3:.1f} ms, p99 {stale['p99_us'] / 1e3:.1f} ms, "
                f"at most {stale['max_us'] / 1e3:.1f} ms.</p>")
    return ("<h2 id=operations>Operations</h2><table><tr><th>kind<th class=n>ok<th class=n>failed<th class=n>unknown</tr>"
            f"{rows}</table>{told}")


def page(run):
    about = run.about
    subtitle = " · ".join(str(part) for part in (
        about.get("started"), about.get("version"),
        f"{about['nodes']} nodes" if "nodes" in about else None,
        f"seed {about['seed']}" if "seed" in about else None) if part)
    sections = [verdict_section, tiles_section, violations_section, timeline_section, recovery_section,
                faults_section, rules_section, operations_section, parameters_section]
    return ("<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">"
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
            f"<title>Quorlog nemesis: {escape(about.get('verdict', '?'))}</title>"
            f"<style>{STYLE}</style></head>\n<body>\n<h1>Quorlog nemesis</h1>"
            f"<p class=dim>{escape(subtitle)}</p>\n"
            + "\n".join(section(run) for section in sections) + "\n</body>\n</html>\n")


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    directory = sys.argv[1]
    run = Run(directory)
    if run.about is None:
        print(f"page.py: {directory} has no run.json", file=sys.stderr)
        return 1
    path = os.path.join(directory, "index.html")
    with open(path, "w", encoding="utf-8") as file:
        file.write(page(run))
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
