"""Draws latency against load as an SVG file, readable on light and on dark ground."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from wardian.errors import ConfigError
from wardian.serving.loadgen.report import Report

WIDTH: Final = 720
HEIGHT: Final = 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 690, 50, 360
_SERIES: Final = (("p50", "p50_ms", "a"), ("p90", "p90_ms", "b"), ("p99", "p99_ms", "c"))
_LIGHT: Final = {"a": "#0b63ce", "b": "#a05a00", "c": "#b3261e"}
_DARK: Final = {"a": "#6fb1ff", "b": "#f0b35a", "c": "#ff8a80"}
"""The colours have a contrast of 3:1 or more on their ground (WCAG 2.2, 1.4.11)."""


def _colours(colours: Mapping[str, str]) -> str:
    return "".join(
        f".{css} polyline{{stroke:{colour}}}.{css} circle,.{css} rect{{fill:{colour}}}"
        for css, colour in colours.items()
    )


# Plain rules, no variables: not every viewer of SVG knows those.
_STYLE: Final = f"""\
svg{{font:13px system-ui,sans-serif;background:#fff;color:#1c2330}}
text{{fill:#1c2330}}.grid{{stroke:#d5dae2}}.axis{{stroke:#1c2330}}
polyline{{fill:none;stroke-width:2}}
{_colours(_LIGHT)}
@media (prefers-color-scheme:dark){{svg{{background:#14181f;color:#e4e8ef}}
text{{fill:#e4e8ef}}.grid{{stroke:#343b47}}.axis{{stroke:#e4e8ef}}
{_colours(_DARK)}}}
"""


@dataclass(frozen=True, slots=True)
class _Scale:
    """From figures to places; the loads linear, the times logarithmic."""

    top_load: float
    low_ms: float
    high_ms: float

    def x(self, load: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * load / self.top_load

    def y(self, ms: float) -> float:
        low, high = math.log10(self.low_ms), math.log10(self.high_ms)
        part = (math.log10(min(max(ms, self.low_ms), self.high_ms)) - low) / (high - low)
        return _BOTTOM - (_BOTTOM - _TOP) * part


def draw_curve(reports: Sequence[Report], *, title: str) -> str:
    """Return an SVG picture of latency against load.

    Args:
        reports: of open loads; each is a point at the rate that was asked for. A load of which
            nothing was answered, or not everything was, is marked with a cross below the axis.
        title: above the picture.

    Raises:
        ConfigError: there is no point to draw.
    """
    points = [each for each in reports if each.rate is not None]
    shown = [each for each in points if each.p50_ms is not None]
    if not shown:
        raise ConfigError("nothing was answered in an open loop, so there is no curve to draw")
    times = [ms for each in shown for _, name, _ in _SERIES if (ms := getattr(each, name))]
    scale = _Scale(
        top_load=_round_up(max(each.rate or 0.0 for each in points)),
        low_ms=10 ** math.floor(math.log10(max(min(times, default=0.01), 1e-3))),
        high_ms=10 ** math.ceil(math.log10(max(*times, 0.002)) + 1e-9),
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<text x="{_LEFT}" y="24" font-weight="600">{escape(title)}</text>',
        *_axes(scale),
        *(line for series in _SERIES for line in _series(series, shown, scale)),
        *(_cross(each, scale) for each in points if not _whole(each)),
        *_keys(any(not _whole(each) for each in points)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _whole(report: Report) -> bool:
    """Say whether every request that arrived was answered."""
    return not report.errors and not report.not_started and report.answered > 0


def _series(series: tuple[str, str, str], reports: Sequence[Report], scale: _Scale) -> list[str]:
    label, name, css = series
    places = [
        (scale.x(each.rate or 0.0), scale.y(getattr(each, name) or 0.0), each) for each in reports
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
    dots = [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{each.rate:,.0f}/s: {label} '
        f"{getattr(each, name):.2f} ms</title></circle>"
        for x, y, each in places
    ]
    return [f'<g class="{css}">', f'<polyline points="{line}"/>', *dots, "</g>"]


def _cross(report: Report, scale: _Scale) -> str:
    x, y = scale.x(report.rate or 0.0), _BOTTOM + 2
    lost = report.failed + report.not_started
    return (
        f'<g class="c"><polyline points="{x - 4:.1f},{y - 4} {x + 4:.1f},{y + 4}"/>'
        f'<polyline points="{x - 4:.1f},{y + 4} {x + 4:.1f},{y - 4}"/>'
        f"<title>{report.rate:,.0f}/s: {lost:,} not answered</title></g>"
    )


def _axes(scale: _Scale) -> list[str]:
    lines = []
    decade = scale.low_ms
    while decade <= scale.high_ms * 1.001:
        for step in (1, 2, 5):
            ms = decade * step
            if ms > scale.high_ms * 1.001:
                break
            y = scale.y(ms)
            lines.append(
                f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{ms:g}</text>'
            )
        decade *= 10
    for number in range(6):
        load = scale.top_load * number / 5
        lines.append(
            f'<text x="{scale.x(load):.1f}" y="{_BOTTOM + 22}" text-anchor="middle">{load:,.0f}'
            "</text>"
        )
    center, middle = (_LEFT + _RIGHT) / 2, (_TOP + _BOTTOM) / 2
    return [
        *lines,
        f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="{_BOTTOM}" y2="{_BOTTOM}"/>',
        f'<text x="{center}" y="{_BOTTOM + 44}" text-anchor="middle">requests a second</text>',
        f'<text transform="translate(18 {middle}) rotate(-90)" text-anchor="middle">ms</text>',
    ]


def _keys(crosses: bool) -> list[str]:  # noqa: FBT001
    keys = [
        f'<g class="{css}"><rect x="{_RIGHT - 180 + 60 * place}" y="32" width="10" '
        f'height="10"/><text x="{_RIGHT - 165 + 60 * place}" y="42">{label}</text></g>'
        for place, (label, _, css) in enumerate(_SERIES)
    ]
    if crosses:
        keys.append(
            f'<text x="{_LEFT}" y="42" font-size="11">&#215; not every request was answered</text>'
        )
    return keys


def _round_up(load: float) -> float:
    """Return a round number that is not below `load`."""
    unit = 10.0 ** math.floor(math.log10(max(load, 1.0)))
    return next(unit * step for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if unit * step >= load)
