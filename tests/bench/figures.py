"""What tests/bench/run makes of its rounds: medians, spreads, targets, tables. Standard library only.

A round is a dictionary: what each step of it found, by the step's key. What failed is missing there.
A ratio is a figure that can be compared with a target, or with an earlier run on the same machine:
its value is the median of the rounds' own values, as floors and loads of one round met the same.
"""

import statistics

# A verdict is said of what has a target.
OK, MISSED, NONE = "ok", "**missed**", ""


def values(rounds, get):
    """get(round) of the rounds that have all that it looks for."""
    found = []
    for one in rounds:
        try:
            found.append(get(one))
        except (KeyError, ZeroDivisionError):
            continue
    return found


def median(rounds, get):
    """None when no round has it."""
    found = values(rounds, get)
    return statistics.median(found) if found else None


def spread(found):
    """How far the middle half of the values reaches: an outlier alone makes no difference."""
    if len(found) < 2:
        return 0.0
    low, _, high = statistics.quantiles(found, n=4, method="inclusive")
    return high - low


class Ratio:
    """limit: the target, None if it has none. worst: not the median counts, but the worst round."""

    def __init__(self, key, name, found, limit=None, at_most=True, unit="", worst=False):
        self.key, self.name, self.unit = key, name, unit
        self.found = found
        self.limit, self.at_most = limit, at_most
        if worst:
            self.value = max(found) if at_most else min(found)
        else:
            self.value = statistics.median(found)
        self.spread = spread(found)

    def verdict(self):
        if self.limit is None:
            return NONE
        met = self.value <= self.limit if self.at_most else self.value >= self.limit
        return OK if met else MISSED

    def as_object(self):
        return {"key": self.key, "name": self.name, "value": self.value, "spread": self.spread,
                "limit": self.limit, "at_most": self.at_most, "unit": self.unit,
                "verdict": self.verdict().strip("*"), "rounds": self.found}


def ratio(key, name, rounds, get, **more):
    """A list of one ratio, or of none when no round has what it is made of."""
    found = values(rounds, get)
    return [Ratio(key, name, found, **more)] if found else []


# ---- tables ----

def number(value, unit=""):
    """Three digits that say something: 1274215, 127, 12.7, 0.127."""
    if value is None:
        return "-"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{digits}f}{' ' + unit if unit else ''}"


def counted(count, noun):
    return f"{count} {noun}{'' if count == 1 else 's'}"


def mib(size):
    return "-" if size is None else f"{size / 2**20:.0f} MiB"


def table(head, rows):
    if not rows:
        return []
    lines = ["", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def ratio_table(ratios):
    def target(one):
        if one.limit is None:
            return "-"
        return f"at {'most' if one.at_most else 'least'} {number(one.limit, one.unit)}"

    return table(("ratio", "is", "middle half of the rounds", "target", ""),
                 [(one.name, number(one.value, one.unit),
                   f"± {number(one.spread / 2)}" if len(one.found) > 1 else "-", target(one), one.verdict())
                  for one in ratios])


# ---- the document ----

def marks(section):
    return (f"<!-- run {section}: written by tests/bench/run -->\n",
            f"<!-- end of run {section} -->\n")


def replace_section(text, section, content):
    """The document with a section's region replaced; a ValueError when it has not exactly one."""
    begin, end = marks(section)
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"the document has no region '{begin.strip()}' to '{end.strip()}'")
    before, rest = text.split(begin)
    return before + begin + content + end + rest.split(end)[1]
