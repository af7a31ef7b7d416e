"""Draws how many times the clear text each path takes, as SVG: a dot and a square a network."""

import math
from collections.abc import Callable
from html import escape
from typing import Final

from picture import STYLE
from published import CLAIMS
from rows import PATHS, Comparison, Row

WIDTH, LEFT, RIGHT, TOP, ROW = 760, 170, 710, 74, 44
COLOUR_OF: Final = {"lr": "a", "mlp": "b", "mlp-relu": "c", "cnn": "d"}


def draw(found: Comparison, batch: int) -> str:
    """Return the picture of one batch: marks of networks, and what the talk says as a bar."""
    shown = [path for path in PATHS if path != PATHS[0]]
    rows = [row for row in found.rows if row.batch == batch]
    ratios = [row.figures.ratio for row in rows if row.figures]
    most = math.ceil(math.log10(max([*ratios, *(claim.most for claim in CLAIMS)]) * 1.05))
    bottom = TOP + ROW * len(shown)

    def x(ratio: float) -> float:
        return LEFT + (RIGHT - LEFT) * max(0.0, math.log10(ratio)) / most

    parts = [
        f'<line class="grid" x1="{x(10**power):.1f}" x2="{x(10**power):.1f}" y1="{TOP}" '
        f'y2="{bottom}"/><text x="{x(10**power):.1f}" y="{bottom + 20}" '
        f'text-anchor="middle">{10**power:,}</text>'
        for power in range(most + 1)
    ]
    for claim in CLAIMS:
        for path in claim.paths:
            y = TOP + ROW * shown.index(path)
            from_x, to_x = x(claim.least), x(claim.most)
            parts.append(
                f'<g class="band"><rect x="{from_x - 2:.1f}" y="{y + 6}" '
                f'width="{to_x - from_x + 4:.1f}" height="{ROW - 12}"><title>'
                f"{escape(f'the talk: {claim.technique} {claim.said}')}</title></rect></g>"
            )
    for number, path in enumerate(shown):
        middle = TOP + ROW * (number + 0.5)
        parts.append(
            f'<text x="{LEFT - 12}" y="{middle + 4:.1f}" text-anchor="end">{escape(path)}</text>'
        )
        parts += _marks([row for row in rows if row.path == path], x, middle)
    return _page(found, batch, parts, bottom)


def _marks(rows: list[Row], x: Callable[[float], float], middle: float) -> list[str]:
    """Return a dot and a square for each network; where no network has any, why."""
    parts = []
    for place, row in enumerate(rows):
        found, at = row.figures, middle - 9 + 6 * place
        if found is None:
            continue
        told = f"{row.path}, {row.net}, batch {row.batch}: {found.ratio:,.1f} times in process"
        mark = f'<circle cx="{x(found.ratio):.1f}" cy="{at:.1f}" r="4"/>'
        if found.over_served:
            told += f", {found.over_served:,.1f} times served"
            left = x(found.over_served) - 3
            mark += f'<rect x="{left:.1f}" y="{at - 3:.1f}" width="6" height="6"/>'
        css = COLOUR_OF.get(row.net, "a")
        parts.append(f'<g class="{css}">{mark}<title>{escape(told)}</title></g>')
    if not parts and rows:
        why = escape("; ".join(dict.fromkeys(row.absent for row in rows)))
        parts.append(f'<text x="{LEFT + 8}" y="{middle + 4:.1f}" font-style="italic">{why}</text>')
    return parts


def _page(found: Comparison, batch: int, parts: list[str], bottom: float) -> str:
    samples = "one sample" if batch == 1 else f"{batch} samples"
    title = f"Times the clear text, {samples} a request; dots: in process, squares: served"
    keys = [
        f'<g class="{COLOUR_OF.get(name, "a")}"><rect x="{LEFT + 110 * place}" y="36" width="10" '
        f'height="10"/><text x="{LEFT + 15 + 110 * place}" y="46">{escape(name)}</text></g>'
        for place, name in enumerate(found.nets)
    ]
    talk = LEFT + 110 * len(found.nets)
    keys.append(
        f'<g class="band"><rect x="{talk}" y="36" width="10" height="10"/></g>'
        f'<text x="{talk + 15}" y="46">the talk</text>'
    )
    height = math.ceil(bottom) + 40
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape(title)}</title><style>{STYLE}</style>",
            f'<text x="{LEFT}" y="22" font-weight="600">{escape(title)}</text>',
            *keys,
            *parts,
            "</svg>\n",
        ]
    )
