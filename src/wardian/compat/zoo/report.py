"""What became of each key of a file: its line, its fate, and no value."""

import re
from dataclasses import dataclass, field

import msgspec

from wardian.compat.zoo.keys import Fate, Key

_NAME = re.compile(r"\A[A-Za-z][A-Za-z0-9_.-]{0,63}\Z")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One key of one file.

    Attributes:
        file: its name.
        line: where the key stands.
        key: its name as written there; "?" for what is no name.
        fate: what becomes of it.
        told: the rest, in words.
    """

    file: str
    line: int
    key: str
    fate: Fate
    told: str


@dataclass(slots=True)
class Report:
    """The findings of one run, in order, and what keeps the result from being whole."""

    findings: list[Finding] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Why a model is not among what was written, one line each."""

    def note(self, file: str, line: int, name: str, key: Key | None) -> int:
        """Add a key as the table has it, None: it is unknown; return its number."""
        fate, told = Fate.UNKNOWN, "no version of Cluster Serving has it; leave it out"
        if key is not None:
            fate, told = key.fate, key.told
        shown = name if _NAME.match(name) else "?"  # a slip may have made a value part of it
        self.findings.append(Finding(file=file, line=line, key=shown, fate=fate, told=told))
        return len(self.findings) - 1

    def amend(self, number: int | None, fate: Fate, told: str) -> None:
        """Say what became of a key's own value; None: the file does not set the key."""
        if number is not None:
            found = self.findings[number]
            self.findings[number] = msgspec.structs.replace(found, fate=fate, told=told)
