"""From a tree's values to typed ones, and to the report, by the table of keys."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from wardian.compat.zoo.keys import Fate, Flag, Key, Names, Text
from wardian.compat.zoo.report import Report
from wardian.compat.zoo.yaml_tree import Entry, Scalar, Sequence
from wardian.errors import ConfigError

_INTEGER = re.compile(r"\A[+-]?[0-9]{1,10}\Z")
_FLAGS: Final = {"true": True, "false": False}


@dataclass(slots=True)
class Values:
    """The values of one table, by the keys' names, and where each stands in the report."""

    file: str
    report: Report
    by_key: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def take(self, entries: Iterable[Entry], keys: Mapping[str, Key], *, group: str = "") -> None:
        """Take `entries` in; `keys` are known by their name, or path of 0.9, in lower case.

        Raises:
            ConfigError: a value is not of its key's kind, or two names of one key are both there.
        """
        for entry in entries:
            key = keys.get(f"{group}{entry.name}".lower())
            number = self.report.note(self.file, entry.line, f"{group}{entry.name}", key)
            if key is None:
                continue
            if key.name in self.numbers:
                raise ConfigError(
                    f"{self.file}, line {entry.line}: {key.name}: is set already by its other name"
                )
            self.numbers[key.name] = number
            value = _typed(entry, key, self.file)
            if key.fate is Fate.CANNOT and not value:
                self.report.amend(number, Fate.NOT_NEEDED, "it asks for nothing here")
            if value is not None and not key.secret:
                self.by_key[key.name] = value


def _typed(entry: Entry, key: Key, file: str) -> Any:
    """Return the value of `entry` as `key` has it; None if it is empty.

    Raises:
        ConfigError: it is none. Says what is expected, never what is there.
    """
    value = entry.value
    if isinstance(value, Scalar) and value.null:
        return None
    wrong = f"{file}, line {entry.line}: {key.name}"
    if key.kind is Names:
        if isinstance(value, Sequence) and all(isinstance(each, Scalar) for each in value.items):
            return tuple(each.text for each in value.items if isinstance(each, Scalar))
        raise ConfigError(f"{wrong}: expected a list of names")
    if not isinstance(value, Scalar):
        raise ConfigError(f"{wrong}: expected one value, not a collection")
    made: Any = value.text
    if key.kind is Flag:
        made = _FLAGS.get(value.text.lower())
        if made is None:
            raise ConfigError(f"{wrong}: expected true or false")
    elif key.kind is not Text:
        if not _INTEGER.match(value.text):
            raise ConfigError(f"{wrong}: expected a whole number")
        made = int(value.text)
    try:
        return msgspec.convert(made, key.kind)
    except msgspec.ValidationError as err:
        raise ConfigError(f"{wrong}: {err}") from err
