"""What a manifest changes against the one before it, for people and for programs."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from wardian.broker.mesh.manifest import MeshManifest
from wardian.broker.mesh.trust import UNPROTECTED, UNPROTECTED_ROLES

_LEFT_OUT: Final = frozenset({"name", "version", "signature"})
"""Of lines: what names them, and what follows from the rest."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a manifest adds, removes or changes.

    Attributes:
        subject: "mesh", "role NAME", "model NAME version N" or "secret NAME".
        kind: which of the three.
        fields: what differs, by name: the value before and the value after, null where there is
            none. Of lists: what is gone and what is new.
    """

    subject: str
    kind: Literal["added", "removed", "changed"]
    fields: dict[str, tuple[Any, Any]]

    @property
    def said(self) -> tuple[str, ...]:
        """The change in lines of text, the subject first."""
        head = f"{self.subject}: {self.kind}"
        if self.kind != "removed" and self.subject.removeprefix("role ") in UNPROTECTED_ROLES:
            head = f"{head}  {UNPROTECTED}"
        return (head, *(f"  {_said(name, *pair)}" for name, pair in self.fields.items()))


def changes(before: MeshManifest | None, after: MeshManifest) -> tuple[Change, ...]:
    """Return what `after` changes against `before`, or all of it where there is none before."""
    old, new = _subjects(before) if before is not None else {}, _subjects(after)
    found = [_change(subject, old.get(subject), new.get(subject)) for subject in {**old, **new}]
    return tuple(change for change in found if change is not None)


def _subjects(manifest: MeshManifest) -> dict[str, dict[str, Any]]:
    """Return everything that a manifest speaks of, by subject, each as its fields."""
    trust = msgspec.structs.asdict(manifest.trust)
    found = {"mesh": {"change_threshold": manifest.change_threshold, **trust}}
    for name, role in manifest.roles.items():
        found[f"role {name}"] = msgspec.structs.asdict(role)
    for line in manifest.owned_lines:
        fields = msgspec.structs.asdict(line) | msgspec.structs.asdict(line.terms)
        found[line.said] = {
            name: value for name, value in fields.items() if name not in _LEFT_OUT | {"terms"}
        }
    return found


def _change(
    subject: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> Change | None:
    """Return how `subject` changes; None if it does not."""
    kind: Literal["added", "removed", "changed"] = "changed"
    if before is None or after is None:
        kind = "added" if before is None else "removed"
    old, new = before or {}, after or {}
    fields = {
        name: _parted(old.get(name), new.get(name))
        for name in {**old, **new}
        if (old.get(name) or None) != (new.get(name) or None)  # no list is an empty one
    }
    return Change(subject=subject, kind=kind, fields=fields) if fields else None


def _parted(before: object, after: object) -> tuple[Any, Any]:
    """Return the two values; of lists only what the other has not."""
    old, new = (() if value is None else value for value in (before, after))
    if not isinstance(old, tuple) or not isinstance(new, tuple):
        return before, after
    return (
        [value for value in old if value not in new],
        [value for value in new if value not in old],
    )


def _said(name: str, before: object, after: object) -> str:
    if isinstance(before, list) and isinstance(after, list):
        parts = [f"-{value}" for value in before] + [f"+{value}" for value in after]
        return f"{name}: {' '.join(parts)}"
    if before is None:
        return f"{name}: {after}"
    return f"{name}: {before} -> {'none' if after is None else after}"
