"""Metrics, settings, and records of all kinds by name: what a message carries beside arrays."""

from collections.abc import ItemsView, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, Generic, TypeVar

import numpy as np
from typing_extensions import override

from wardian.errors import FormatError
from wardian.learning.arrays import ArrayRecord, name_of

Number = int | float
Metric = int | float | list[int] | list[float]
Setting = Metric | str | bool | bytes | list[str] | list[bool]
V = TypeVar("V")

MAX_ENTRIES: Final = 1024
"""Of a record, and records of a message."""
MAX_LIST: Final = 65_536
MAX_TEXT_BYTES: Final = 1024**2


class _Record(Mapping[str, V], Generic[V]):
    __slots__ = ("_entries",)
    _kinds: ClassVar[tuple[type, ...]] = ()

    def __init__(self, entries: Mapping[str, V] | None = None) -> None:
        """Hold `entries`.

        Raises:
            FormatError: a name, a value or a number of them that is not accepted.
        """
        given = dict(entries or {})
        if len(given) > MAX_ENTRIES:
            raise FormatError(f"record: {len(given)} entries, at most {MAX_ENTRIES} are accepted")
        for name in given:
            name_of(name, what="record")
        kept = {name: _plain(name, value, self._kinds) for name, value in given.items()}
        self._entries: Mapping[str, V] = MappingProxyType(kept)

    @override
    def __getitem__(self, name: str) -> V:
        return self._entries[name]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    @override
    def __len__(self) -> int:
        return len(self._entries)

    @override
    def items(self) -> ItemsView[str, V]:
        return self._entries.items()

    @override
    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment]

    @override
    def __repr__(self) -> str:  # names, never the values
        return f"{type(self).__name__}({', '.join(self)})"


class MetricRecord(_Record[Metric]):
    """Numbers by name, or lists of numbers; NaN and infinity are numbers here."""

    __slots__ = ()
    _kinds: ClassVar[tuple[type, ...]] = (int, float)


class ConfigRecord(_Record[Setting]):
    """Settings by name: numbers, texts, truth values, bytes, and lists of all but bytes."""

    __slots__ = ()
    _kinds: ClassVar[tuple[type, ...]] = (int, float, str, bool, bytes)


Record = ArrayRecord | MetricRecord | ConfigRecord


class RecordDict(Mapping[str, Record]):
    """Records by name: the content of a message."""

    __slots__ = ("_records",)

    def __init__(self, records: Mapping[str, Record] | None = None) -> None:
        """Hold `records`.

        Raises:
            FormatError: a name, or a number of them, that is not accepted; no record.
        """
        given = dict(records or {})
        if len(given) > MAX_ENTRIES:
            raise FormatError(f"records: {len(given)}, at most {MAX_ENTRIES} are accepted")
        for name, record in given.items():
            name_of(name, what="records")
            if not isinstance(record, Record):
                raise FormatError(f"records: {name} is no record")
        self._records = MappingProxyType(given)

    @override
    def __getitem__(self, name: str) -> Record:
        return self._records[name]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    @override
    def __len__(self) -> int:
        return len(self._records)

    @override
    def items(self) -> ItemsView[str, Record]:
        return self._records.items()

    @override
    def __repr__(self) -> str:
        return f"RecordDict({', '.join(self)})"

    @property
    def array_records(self) -> dict[str, ArrayRecord]:
        """Those that hold arrays."""
        return {n: each for n, each in self.items() if isinstance(each, ArrayRecord)}

    @property
    def metric_records(self) -> dict[str, MetricRecord]:
        """Those that hold metrics."""
        return {n: each for n, each in self.items() if isinstance(each, MetricRecord)}

    @property
    def config_records(self) -> dict[str, ConfigRecord]:
        """Those that hold settings."""
        return {n: each for n, each in self.items() if isinstance(each, ConfigRecord)}


def _plain(name: str, value: Any, kinds: tuple[type, ...]) -> Any:
    """Return `value` as one of `kinds`, or a list of one of them, copied."""
    if isinstance(value, list | tuple):
        return _plain_list(name, [_number(each) for each in value], kinds)
    plain = _number(value)
    if type(plain) not in kinds:
        raise FormatError(f"record: {name}: a value of kind {type(value).__name__}")
    if isinstance(plain, str | bytes) and len(plain) > MAX_TEXT_BYTES:
        raise FormatError(f"record: {name}: longer than {MAX_TEXT_BYTES}")
    if type(plain) is int and not -(2**63) <= plain < 2**63:
        raise FormatError(f"record: {name}: a whole number of more than 64 bits")
    return plain


def _plain_list(name: str, found: list[Any], kinds: tuple[type, ...]) -> list[Any]:
    if len(found) > MAX_LIST:
        raise FormatError(f"record: {name}: at most {MAX_LIST} in a list")
    of = {type(each) for each in found}
    if of == {int, float}:
        return [float(each) for each in found]
    if len(of) > 1 or not of <= {*kinds} - {bytes}:
        raise FormatError(f"record: {name}: a list is of one kind")
    return found


def _number(value: Any) -> Any:
    """Return numbers of numpy as Python's."""
    return value.item() if isinstance(value, np.generic) else value
