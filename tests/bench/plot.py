"""Plots of docs/plots: panels over one logarithmic axis, drawn as tests/nemesis draws its runs."""

import html
import math
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "nemesis"))

# Where it is has to be known first. pylint: disable=wrong-import-position
from page_plot import WIDTH, Figure

PANEL_HEIGHT = 130
COLORS = ("--c1", "--c2", "--c3", "--c4")
STYLE = """<style>
svg { --c1: #1f6feb; --c2: #d9480f; --c3: #2b8a3e; --c4: #862e9c; --text: #333; --line: #d8d8d8; --back: #fff;
      font: 12px sans-serif; }
@media (prefers-color-scheme: dark) {
  svg { --c1: #79b8ff; --c2: #ffa657; --c3: #7ee787; --c4: #d2a8ff; --text: #ddd; --line: #444; --back: #161b22; } }
text { fill: var(--text); }
.title { font-weight: 600; }
.grid { stroke: var(--line); stroke-width: 1; }
.curve { fill: none; stroke-width: 2; }
</style>"""


class Chart(Figure):
    """Over numbers that grow by factors."""

    def __init__(self, places, title, texts=None):
        """texts: what stands below the places; the numbers by default."""
        super().__init__(math.log10(places[0]), math.log10(max(places[-1], 1.01 * places[0])))
        self.places = places
        self.texts = texts or [str(place) for place in places]
        self.axis_title = title
        self.empty = True

    def x(self, t):
        return super().x(math.log10(t))

    def add_panel(self, title, curves, logarithmic=False):
        """curves: (name, [(place, value)]), at most as many as there are colours; None: no value."""
        curves = [(color, name, [(place, value) for place, value in points if value is not None])
                  for color, (name, points) in zip(COLORS, curves)]
        curves = [curve for curve in curves if curve[2]]
        if not curves:
            return
        self.empty = False
        self.panel(title, PANEL_HEIGHT)
        if logarithmic:
            self.logarithmic(curves)
        else:
            self.linear(curves)
            self.legend(curves)

    def curve(self, color, points):
        super().curve(color, points)
        for t, y in points:
            self.add(f'<circle cx="{self.x(t):.1f}" cy="{y:.1f}" r="3" style="fill:var({color})"/>')

    def axis(self):
        y = self.y - 8
        for place, text in zip(self.places, self.texts):
            x = self.x(place)
            self.parts.insert(0, f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="26" y2="{y:.1f}" '
                                 'stroke-dasharray="2 4"/>')
            self.label(x, y + 16, text, "middle")
        self.label(WIDTH / 2, y + 34, self.axis_title, "middle")
        self.y = y + 44

    def drawn(self, name, label):
        """{name: SVG text}, or nothing when there was nothing to draw."""
        if self.empty:
            return {}
        self.axis()
        return {name: f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.y:.0f}" role="img" '
                      f'aria-label="{html.escape(label)}">\n{STYLE}\n'
                      f'<rect width="{WIDTH}" height="{self.y:.0f}" style="fill:var(--back)"/>\n'
                      + "\n".join(self.parts) + "\n</svg>\n"}
