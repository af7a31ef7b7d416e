"""Draws what was predicted against what was measured, and what a plan takes, as SVG."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

WIDTH: Final = 720
HEIGHT: Final = 440
LEFT, RIGHT, TOP, BOTTOM = 80, 690, 60, 380
LIGHT: Final = {"a": "#0b63ce", "b": "#a05a00", "c": "#b3261e", "d": "#2e7d32"}
DARK: Final = {"a": "#6fb1ff", "b": "#f0b35a", "c": "#ff8a80", "d": "#7bd389"}
"""As in the plots of `wardian bench serving`: a contrast of 3:1 or more on their ground."""
Points = Sequence[tuple[float, float, str]]
"""x, y and what a tool tip says."""


def _colours(colours: Mapping[str, str]) -> str:
    return "".join(
        f".{css} polyline{{stroke:{colour}}}.{css} circle,.{css} rect,.{css} path{{fill:{colour}}}"
        for css, colour in colours.items()
    )


STYLE: Final = f"""\
svg{{font:13px system-ui,sans-serif;background:#fff;color:#1c2330}}
text{{fill:#1c2330}}.grid{{stroke:#d5dae2}}.axis{{stroke:#1c2330}}
polyline{{fill:none;stroke-width:2}}path.band,.band rect{{fill:#1c2330;opacity:.15}}
{_colours(LIGHT)}
@media (prefers-color-scheme:dark){{svg{{background:#14181f;color:#e4e8ef}}
text{{fill:#e4e8ef}}.grid{{stroke:#343b47}}.axis{{stroke:#e4e8ef}}
path.band,.band rect{{fill:#e4e8ef}}
{_colours(DARK)}}}
"""


class Axes:
    """Two logarithmic axes over whole decades."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        """Cover all of `xs` and `ys`, which are above 0."""
        self.x0, self.x1 = _decades(xs)
        self.y0, self.y1 = _decades(ys)

    def x(self, value: float) -> float:
        """Return the place of `value` from the left."""
        return LEFT + (RIGHT - LEFT) * (math.log10(value) - self.x0) / (self.x1 - self.x0)

    def y(self, value: float) -> float:
        """Return the place of `value` from above."""
        return BOTTOM - (BOTTOM - TOP) * (math.log10(value) - self.y0) / (self.y1 - self.y0)

    def lines(self, across: str, up: str) -> list[str]:
        """Return the grid, its figures and what the axes are called."""
        drawn = []
        for power in range(self.x0, self.x1 + 1):
            x = self.x(10**power)
            drawn.append(
                f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{BOTTOM}"/>'
                f'<text x="{x:.1f}" y="{BOTTOM + 20}" text-anchor="middle">{_decade(power)}</text>'
            )
        for power in range(self.y0, self.y1 + 1):
            y = self.y(10**power)
            drawn.append(
                f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_decade(power)}</text>'
            )
        middle = (LEFT + RIGHT) / 2
        turned = f'transform="translate(18 {(TOP + BOTTOM) / 2}) rotate(-90)"'
        return [
            *drawn,
            f'<text x="{middle}" y="{BOTTOM + 44}" text-anchor="middle">{escape(across)}</text>',
            f'<text {turned} text-anchor="middle">{escape(up)}</text>',
        ]


def _decade(power: int) -> str:
    return f"{10**power:,}" if power >= 0 else f"{10.0**power:g}"


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low = math.floor(math.log10(min(values)))
    return low, max(low + 1, math.ceil(math.log10(max(values)) - 1e-9))


def _page(title: str, parts: Sequence[str], names: Sequence[tuple[str, str]]) -> str:
    keys = [
        f'<g class="{css}"><rect x="{LEFT + 150 * place}" y="34" width="10" height="10"/>'
        f'<text x="{LEFT + 15 + 150 * place}" y="44">{escape(name)}</text></g>'
        for place, (css, name) in enumerate(names)
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    lines = [
        head,
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<text x="{LEFT}" y="22" font-weight="600">{escape(title)}</text>',
        *keys,
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def draw_check(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return every p99 as measured (across) and as predicted (up), in a band of 20 %."""
    values = [row[kind]["p99_ms"] for row in rows for kind in ("measured", "predicted")]
    axes = Axes(values, values)
    ends = [10.0**axes.x0, 10.0**axes.x1]
    clip = (10.0**axes.y0, 10.0**axes.y1)

    def corner(value: float, factor: float) -> str:
        return f"{axes.x(value):.1f},{axes.y(min(max(value * factor, clip[0]), clip[1])):.1f}"

    band = [corner(value, 1.2) for value in ends] + [corner(v, 0.8) for v in reversed(ends)]
    parts = axes.lines("measured p99, ms", "predicted p99, ms")
    parts.append(f'<path class="band" d="M{" L".join(band)} Z"/>')
    for row in rows:
        css = {"digits": "a", "heavy": "b"}[row["model"]]
        told, seen = row["predicted"]["p99_ms"], row["measured"]["p99_ms"]
        tip = f"{row['model']}, {row['workers']} workers, {row['load']}: {seen:.1f} -> {told:.1f}"
        parts.append(
            f'<g class="{css}"><circle cx="{axes.x(seen):.1f}" cy="{axes.y(told):.1f}" r="4">'
            f"<title>{escape(tip)}</title></circle></g>"
        )
    names = [("a", "digits"), ("b", "heavy"), ("band", "band: 20 %")]
    return _page("p99: predicted against measured", parts, names)


def draw_plan(series: Mapping[str, Points]) -> str:
    """Return how many of each kind (up) a rate takes (across); what is below 1 is one."""
    drawn = {name: [(x, max(1.0, y), tip) for x, y, tip in line] for name, line in series.items()}
    points = [point for line in drawn.values() for point in line]
    axes = Axes([x for x, _, _ in points], [y for _, y, _ in points])
    parts = axes.lines("requests a second", "processes, one core each")
    names = []
    for css, (name, line) in zip("abcd", drawn.items(), strict=False):
        names.append((css, name))
        places = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y, _ in line)
        dots = "".join(
            f'<circle cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="3">'
            f"<title>{escape(tip)}</title></circle>"
            for x, y, tip in line
        )
        parts.append(f'<g class="{css}"><polyline points="{places}"/>{dots}</g>')
    return _page("What a rate takes", parts, names)
