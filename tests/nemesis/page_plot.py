"""The figure of page.py: panels over one time axis, as SVG text. Colours are the page's CSS variables."""

import html
import math

WIDTH = 1130
LEFT = 118
RIGHT = 30
POINTS_MAX = 600
ROW = 20


def text_time(seconds):
    """1:02:03, 4:05 or 12.5 s."""
    if seconds < 90:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    minutes, rest = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def text_number(value):
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"


def nice(value):
    """1, 2 or 5 times a power of ten, at least value."""
    power = 10 ** math.floor(math.log10(value))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= value * 0.999)


class Figure:
    """Grows downwards, a panel or row at a time."""

    def __init__(self, begin, end):
        self.begin = begin
        self.end = end
        self.y = 6.0  # where the next thing begins
        self.top = 0.0  # of the present panel, and its height
        self.height = 0.0
        self.bands = []
        self.parts = []

    def x(self, t):
        share = (t - self.begin) / (self.end - self.begin)
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(share, 0.0), 1.0)

    def add(self, text):
        self.parts.append(text)

    def label(self, x, y, text, anchor="start", css=""):
        self.add(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{css}>{html.escape(str(text))}</text>')

    def thin(self, series):
        """No more than POINTS_MAX: sums, means and maxima of neighbours."""
        step = math.ceil(len(series) / POINTS_MAX) or 1
        if step == 1:
            return series
        return [self.merge(series[i:i + step]) for i in range(0, len(series), step)]

    @staticmethod
    def merge(group):
        merged = dict(group[-1])
        for key in ("seconds", "records", "produce_ok", "produce_unknown"):
            merged[key] = sum(s.get(key, 0) for s in group)
        merged["produce_p50_ms"] = sorted(s["produce_p50_ms"] for s in group)[len(group) // 2]
        merged["produce_p99_ms"] = max(s["produce_p99_ms"] for s in group)
        merged["errors"] = {}
        for second in group:
            for name, count in second.get("errors", {}).items():
                merged["errors"][name] = merged["errors"].get(name, 0) + count
        return merged

    # ---- panels ----

    def fault_bands(self, faults):
        """Shades these in every panel that follows."""
        self.bands = [(self.x(e["t"]), self.x(e.get("end", e["t"]))) for e in faults]

    def panel(self, title, height):
        self.label(LEFT, self.y + 12, title, css=' class="title"')
        self.top = self.y + 20
        self.height = height
        for left, right in self.bands:
            self.add(f'<rect x="{left:.1f}" y="{self.top:.1f}" width="{max(right - left, 1.2):.1f}" '
                     f'height="{height}" style="fill:var(--band)"/>')
        self.y = self.top + height + 14

    def line_at(self, y, text):
        self.add(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        self.label(LEFT - 8, y + 4, text, "end")

    def legend(self, curves):
        x = WIDTH - RIGHT
        for color, name, _ in reversed(curves):
            x -= 7 * len(name)
            self.label(x, self.top - 8, name)
            self.add(f'<rect x="{x - 15:.1f}" y="{self.top - 17:.1f}" width="10" height="10" rx="2" '
                     f'style="fill:var({color})"/>')
            x -= 32

    def curve(self, color, points):
        if points:
            path = " ".join(f"{self.x(t):.1f},{y:.1f}" for t, y in points)
            self.add(f'<polyline class="curve" style="stroke:var({color})" points="{path}"/>')

    def linear(self, curves):
        top = nice(max((v for _, _, points in curves for _, v in points), default=0) or 1)
        place = self.place(top)
        for share in (0, 0.5, 1):
            self.line_at(place(top * share), text_number(top * share))
        for color, _, points in curves:
            self.curve(color, [(t, place(v)) for t, v in points])

    def place(self, top):
        return lambda value: self.top + self.height * (1 - min(value / top, 1))

    def logarithmic(self, curves):
        values = [v for _, _, points in curves for _, v in points if v > 0] or [1]
        low = math.floor(math.log10(min(values)))
        high = max(math.ceil(math.log10(max(values))), low + 1)

        def place(value):
            share = (math.log10(max(value, 10 ** low)) - low) / (high - low)
            return self.top + self.height * (1 - min(max(share, 0), 1))

        for power in range(low, high + 1):
            self.line_at(place(10 ** power), text_number(10.0 ** power))
        for color, _, points in reversed(curves):  # The first one on top.
            self.curve(color, [(t, place(v)) for t, v in points])
        self.legend(curves)

    def bars(self, stacks):
        totals = {}
        for _, _, points in stacks:
            for t, value in points:
                totals[t] = totals.get(t, 0) + value
        top = nice(max(totals.values(), default=0) or 1)
        place = self.place(top)
        for share in (0, 1):
            self.line_at(place(top * share), text_number(top * share))
        width = max((WIDTH - LEFT - RIGHT) / max(len(totals), 1) * 0.8, 1)
        base = dict.fromkeys(totals, 0)
        for color, name, points in stacks:
            for t, value in points:
                if value <= 0:
                    continue
                upper, lower = place(base[t] + value), place(base[t])
                base[t] += value
                self.add(f'<rect x="{self.x(t) - width:.1f}" y="{upper:.1f}" width="{width:.1f}" '
                         f'height="{lower - upper:.1f}" style="fill:var({color})">'
                         f'<title>{html.escape(name)}: {value:g}</title></rect>')
        self.legend(stacks)

    # ---- rows ----

    def row(self, name):
        self.label(LEFT - 8, self.y + 13, name, "end")
        self.add(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{self.y + ROW - 1:.1f}" '
                 f'y2="{self.y + ROW - 1:.1f}"/>')
        self.y += ROW
        return self.y - ROW

    def bar(self, y, event_times, style, title, text=""):
        left, right = (self.x(t) for t in event_times)
        width = max(right - left, 2.4)
        self.add(f'<rect x="{left:.1f}" y="{y + 3:.1f}" width="{width:.1f}" height="{ROW - 7}" rx="1.5" '
                 f'style="{style}"><title>{html.escape(title)}</title></rect>')
        if text and width > 7 * len(text) + 6:
            self.label(left + width / 2, y + 13.5, text, "middle", ' style="fill:var(--back);font-weight:600"')

    def leaders(self, events):
        """Who led when; no node: nobody."""
        if not events:
            return
        y = self.row("leader")
        changes = [e for before, e in zip([{}] + events, events) if e.get("node") != before.get("node")]
        for event, after in zip(changes, changes[1:] + [{"t": self.end}]):
            node = event.get("node")
            if node:
                term = f", term {event['term']}" if event.get("term") else ""
                self.bar(y, (event["t"], after["t"]), f"fill:var(--n{(int(node) - 1) % 5 + 1})",
                         f"node {node} leads from {text_time(event['t'] - self.begin)}{term}", str(node))

    def fault_rows(self, kinds, faults):
        for kind in kinds:
            y = self.row(kind)
            for event in faults:
                if event["kind"] == kind:
                    node = f"node {event['node']}: " if event.get("node") else ""
                    lasted = f", {event['end'] - event['t']:.1f} s" if "end" in event else ""
                    self.bar(y, (event["t"], event.get("end", event["t"])), "fill:var(--mark)",
                             f"{text_time(event['t'] - self.begin)}{lasted}: {node}{event.get('text', kind)}")

    def notes(self, events):
        if not events:
            return
        y = self.row("notes")
        for event in events:
            x = self.x(event["t"])
            self.add(f'<circle cx="{x:.1f}" cy="{y + 9.5:.1f}" r="4" style="fill:var(--violet)">'
                     f'<title>{html.escape(text_time(event["t"] - self.begin))}: '
                     f'{html.escape(str(event.get("text", "")))}</title></circle>')

    # ---- the whole ----

    def axis(self):
        step = nice((self.end - self.begin) / 10)  # of what is longer than a day
        for multiple in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200):
            if multiple >= (self.end - self.begin) / 11:
                step = multiple
                break
        y = self.y + 4
        t = 0.0
        while t <= self.end - self.begin:
            x = self.x(self.begin + t)
            self.parts.insert(0, f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="26" y2="{y:.1f}" '
                                 'stroke-dasharray="2 4"/>')
            self.label(x, y + 14, text_time(t), "middle")
            t += step
        self.y = y + 22

    def svg(self):
        self.axis()
        return (f'<svg viewBox="0 0 {WIDTH} {self.y:.0f}" role="img" aria-label="The run over time">'
                + "\n".join(self.parts) + "</svg>")
