"""One thing that `wardian doctor` looked for, and what it found."""

import enum
from dataclasses import dataclass


class State(enum.StrEnum):
    """What there is of it."""

    YES = "yes"
    NO = "no"
    RISK = "risk"
    """It is here, but in a way that costs something."""
    UNKNOWN = "unknown"
    """The system does not tell."""


class Group(enum.StrEnum):
    """Where it is shown."""

    MACHINE = "Machine"
    ENCLAVES = "Hardware enclaves"
    PROTECTIONS = "Protections of the kernel"
    SOFTWARE = "Software"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the screen.

    Attributes:
        group: where it is shown.
        name: what was looked for, at most 15 characters.
        state: what there is of it.
        detail: what was found, or that it was not.
        cost: what does not work, or is at risk, because of it; empty if `state` is YES.
        remedy: how to get it; empty if there is no way, or nothing to get.
        notes: sentences that belong to it, a line each.
    """

    group: Group
    name: str
    state: State
    detail: str
    cost: str = ""
    remedy: str = ""
    notes: tuple[str, ...] = ()


def yes(group: Group, name: str, detail: str, *, notes: tuple[str, ...] = ()) -> Finding:
    """Return that it is here."""
    return Finding(group=group, name=name, state=State.YES, detail=detail, notes=notes)


def lacking(
    group: Group,
    name: str,
    detail: str,
    *,
    cost: str,
    remedy: str = "",
    state: State = State.NO,
    notes: tuple[str, ...] = (),
) -> Finding:
    """Return that it is not here, or here in a way that costs something."""
    return Finding(
        group=group, name=name, state=state, detail=detail, cost=cost, remedy=remedy, notes=notes
    )


def in_bytes(count: int) -> str:
    """Return `count` bytes for a person: "512 B", "4.0 GiB"; -1 is no limit."""
    if count < 0:
        return "no limit"
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
