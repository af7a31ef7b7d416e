"""The findings on one screen: at most 45 lines of at most 120 columns."""

from collections.abc import Iterable, Sequence

import click

from wardian._internal.wire import printable
from wardian.cli.doctor.finding import Finding, Group, State

MAX_LINES, MAX_COLUMNS = 45, 120
_NAME_COLUMNS = 15
_COLOURS = {State.YES: "green", State.NO: "yellow", State.RISK: "red", State.UNKNOWN: "cyan"}
_MARKS = {State.YES: " yes", State.NO: "  no", State.RISK: "risk", State.UNKNOWN: "   ?"}
_TEXT_COLUMN = len(" yes ") + _NAME_COLUMNS + 1
_OF_SGX = frozenset({"SGX", "SGX driver", "SGX provision", "Gramine"})


def render(findings: Sequence[Finding]) -> list[str]:
    """Return the lines of the screen, with colours; what does not fit, `--json` has.

    Every finding has a line with what its lack costs, and every remedy has one, below the last of
    the findings that it helps. Notes get the lines that are left.
    """
    lines: list[str] = []
    notes: list[tuple[int, tuple[str, ...]]] = []
    for group in Group:
        members = [finding for finding in findings if finding.group is group]
        lines += [click.style(group.value, bold=True)] if members else []
        following = [*(finding.remedy for finding in members[1:]), ""]
        for finding, next_remedy in zip(members, following, strict=True):
            lines.append(_line(finding))
            if finding.remedy and finding.remedy != next_remedy:
                lines.append(_below(click.style(_cut(f"get it: {finding.remedy}"), fg="blue")))
            notes += [(len(lines), finding.notes)] if finding.notes else []
    for at, sentences in reversed(notes):  # from below, so that the places above stay right
        lines[at:at] = _fitting(sentences, MAX_LINES - len(lines) - 1)
    return [*lines, verdict(findings)]


def verdict(findings: Iterable[Finding]) -> str:
    """Return what enclaves this machine can run, in a sentence."""
    states = {finding.name: finding.state for finding in findings}
    here = {name for name, state in states.items() if state is State.YES}
    quotes = states.get("SGX quoting") in {State.YES, State.RISK}
    if here >= _OF_SGX and quotes:
        return f"Enclaves on this machine: {click.style('SGX hardware', fg='green', bold=True)}"
    kind = click.style("SIMULATED", fg="yellow", bold=True)
    return f"Enclaves on this machine: {kind}, which protect nobody from this machine"


def _line(finding: Finding) -> str:
    mark = click.style(_MARKS[finding.state], fg=_COLOURS[finding.state], bold=True)
    told = "; ".join(part for part in (finding.detail, finding.cost) if part)
    return f"{mark} {finding.name:<{_NAME_COLUMNS}} {_cut(told)}"


def _below(text: str) -> str:
    return " " * _TEXT_COLUMN + text


def _fitting(notes: Sequence[str], room: int) -> list[str]:
    """Return as many of the notes as there is room for, and say so where that is not all."""
    shown = list(notes)
    if len(shown) > room:
        shown = shown[: max(0, room - 1)]
        shown += [f"and {len(notes) - len(shown)} more: wardian doctor --json"] if room > 0 else []
    return [_below(click.style(_cut(note), dim=True)) for note in shown]


def _cut(text: str) -> str:
    """Return `text` fit for a terminal: it may come from a file or from another program."""
    shown, columns = printable(text), MAX_COLUMNS - _TEXT_COLUMN
    return shown if len(shown) <= columns else shown[: columns - 3] + "..."
