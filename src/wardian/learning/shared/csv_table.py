"""CSV, read strictly and in bounded memory (RFC 4180, UTF-8, a line of names first).

A field is missing if nothing or `NA` stands in it. Numbers are decimal, with a point. What of the
file is no such table is refused with its line, never with its content.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Final

import numpy as np
from typing_extensions import override

from wardian.errors import FormatError
from wardian.learning.shared.columns import BATCH_ROWS, MAX_TEXT, Columns, Kind, names_of

MEDIA_TYPE: Final = "text/csv"
MAX_LINE: Final = 2**20
"""Characters, of a line and of a record of several lines."""
MAX_HELD: Final = 2**26
"""Characters of fields, after which a batch is not filled up any more."""
MISSING: Final = frozenset(("", "NA"))
_NUMBER: Final = re.compile(
    r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?"
)


def csv_batches(source: BinaryIO, kinds: Mapping[str, Kind]) -> Iterator[Columns]:
    """Yield the columns `kinds` of the table in `source`, up to 65536 rows at a time.

    Args:
        source: readable bytes, untrusted.
        kinds: which columns are kept, and what each is read as.

    Raises:
        FormatError: it is no such table; a column is missing; a number is none, or none of 64 bits.
    """
    text = io.TextIOWrapper(source, encoding="utf-8-sig", errors="strict", newline="")
    lines = _Lines(text)
    reader = csv.reader(lines, strict=True)
    try:
        names = names_of(next(reader, []), kinds)
        lines.record_ends()
        places = {name: names.index(name) for name in kinds}
        rows: list[list[str]] = []
        held = 0
        for row in reader:
            if len(row) != len(names):
                raise FormatError(f"line {reader.line_num}: {len(row)} fields, not {len(names)}")
            rows.append([row[at] for at in places.values()])
            if max(map(len, rows[-1])) > MAX_TEXT:
                raise FormatError(
                    f"line {reader.line_num}: a field is longer than {MAX_TEXT} characters"
                )
            held += lines.record_ends()
            if len(rows) == BATCH_ROWS or held > MAX_HELD:
                yield _batch(rows, kinds, last_line=reader.line_num)
                rows, held = [], 0
        if rows:
            yield _batch(rows, kinds, last_line=reader.line_num)
    except csv.Error as err:
        raise FormatError(
            f"line {reader.line_num}: not CSV: quotes, or a field is too long"
        ) from err
    except UnicodeDecodeError as err:
        raise FormatError(f"behind line {reader.line_num}: not UTF-8") from err


class _Lines(Iterator[str]):
    """The lines of a text; neither one of them, nor all of a record, is longer than `MAX_LINE`."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text, self._record = text, 0

    @override
    def __next__(self) -> str:
        line = self._text.readline(MAX_LINE)
        if not line:
            raise StopIteration
        self._record += len(line)
        if len(line) == MAX_LINE:
            raise FormatError(f"a line is longer than {MAX_LINE} characters")
        if self._record > MAX_LINE:
            raise FormatError(f"a record of several lines is longer than {MAX_LINE} characters")
        if "\0" in line:
            raise FormatError("a character is NUL")
        return line

    def record_ends(self) -> int:
        """Begin another record; return how many characters the one that ends has."""
        found, self._record = self._record, 0
        return found


def _batch(rows: list[list[str]], kinds: Mapping[str, Kind], *, last_line: int) -> Columns:
    found = {}
    for (name, kind), fields in zip(kinds.items(), zip(*rows, strict=True), strict=True):
        try:
            found[name] = _numbers(fields) if kind is Kind.NUMBER else _texts(fields)
        except ValueError as err:
            where = f"within {len(rows)} rows up to line {last_line}"
            raise FormatError(f"column {name}: what is no number stands {where}") from err
    return found


def _numbers(fields: tuple[str, ...]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    found = np.array([np.nan if each in MISSING else _number(each) for each in fields], np.float64)
    if np.isinf(found).any():
        raise ValueError
    return found


def _number(field: str) -> float:
    if not _NUMBER.fullmatch(field):
        raise ValueError
    return float(field)


def _texts(fields: tuple[str, ...]) -> "np.ndarray[tuple[int], np.dtype[np.object_]]":
    found = np.empty(len(fields), object)
    found[:] = [None if each in MISSING else each for each in fields]
    return found
