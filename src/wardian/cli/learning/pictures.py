"""Pictures of a run: a number against its rounds, in SVG, without a script."""

from collections.abc import Sequence
from html import escape
from math import isfinite
from typing import Final

Series = list[tuple[int, float]]

STYLE: Final = """\
svg{font:12px system-ui,sans-serif;width:23rem;max-width:100%}
polyline{fill:none;stroke:#0b63ce;stroke-width:2}circle{fill:#0b63ce}.grid{stroke:#d5dae2}
.limit{stroke:#b3261e;stroke-width:2;stroke-dasharray:6 4}
@media (prefers-color-scheme:dark){text{fill:#e4e8ef}.grid{stroke:#343b47}
polyline{stroke:#6fb1ff}circle{fill:#6fb1ff}.limit{stroke:#ff8a80}}
"""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 360, 200, 56, 168, 34


def draw(name: str, series: Series, *, limit: float | None = None) -> str:
    """Return an SVG picture of `series` by round; what is no finite number is left out.

    Args:
        name: stands above it.
        series: rounds and numbers, in order.
        limit: where the numbers have to end: a line across, in sight, and 0 is where they begin.
    """
    finite = [(x, y) for x, y in series if isfinite(y)]
    if not finite:
        return ""
    ends = [y for _, y in finite] + ([] if limit is None else [0.0, limit])
    low, high = min(ends), max(ends)
    first, last = finite[0][0], finite[-1][0]
    room = (high - low) or abs(high) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (_WIDTH - _LEFT - 16) * (x - first) / max(1, last - first)
        return across, _BOTTOM - (_BOTTOM - _TOP) * (y - low) / room

    points = [place(x, y) for x, y in finite]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    end_x, end_y = points[-1]
    heights = [(value, place(first, value)[1]) for value in (low, (low + high) / 2, high)]
    across = "" if limit is None else _across("limit", place(first, limit)[1])
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"><title>{escape(name)} by round</title>'
        f'<text x="{_LEFT}" y="20" font-weight="600">{escape(name)}</text>{_grid(heights)}'
        f'{across}<polyline points="{line}"/><circle cx="{end_x:.1f}" cy="{end_y:.1f}" r="3"/>'
        f'<text x="{_LEFT}" y="{_BOTTOM + 22}">{first}</text>'
        f'<text x="{_WIDTH - 16}" y="{_BOTTOM + 22}" text-anchor="end">round {last}: '
        f"{finite[-1][1]:.4g}</text></svg>\n"
    )


def _grid(heights: Sequence[tuple[float, float]]) -> str:
    return "".join(
        f'{_across("grid", y)}<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
        f"{value:.4g}</text>"
        for value, y in dict.fromkeys(heights)
    )


def _across(kind: str, y: float) -> str:
    return f'<line class="{kind}" x1="{_LEFT}" x2="{_WIDTH - 16}" y1="{y:.1f}" y2="{y:.1f}"/>'
