"""Lines of logs: from a stream, from files, and from files that still grow."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple, Self

from wardian.cli.traces.lines import MAX_LINE_BYTES, Span, parse_span
from wardian.errors import FormatError

POLL_S: Final = 0.25
"""How often a file that grows is looked at."""


class Piece(NamedTuple):
    """Bytes of a log, in their order.

    Attributes:
        raw: as they stand there.
        whole: they are one line.
    """

    raw: bytes
    whole: bool


def read_pieces(read_line: Callable[[int], bytes]) -> Iterator[Piece]:
    """Yield everything that `read_line` reads, until it returns nothing.

    A line of more than `MAX_LINE_BYTES` comes in several pieces, none of them whole. A last line
    that does not end is one.
    """
    inside = False
    while raw := read_line(MAX_LINE_BYTES):
        ends = raw.endswith(b"\n")
        yield Piece(raw, not inside and (ends or len(raw) < MAX_LINE_BYTES))
        inside = not ends


class Tail:
    """A file that grows, as `tail -F` sees it: from its end on, or one that comes in its place."""

    def __init__(self, path: Path, *, sleep: Callable[[float], None]) -> None:
        """Begin at the end of `path`; if it is not there yet, at its start once it is."""
        self._path, self._sleep = path, sleep
        self._file: IO[bytes] | None = None
        self._rest = b""
        if path.exists():
            self._file = path.open("rb")
            self._file.seek(0, 2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def read_line(self, most: int) -> bytes:
        """Return the next line, or `most` bytes of it; waits until there is one."""
        while True:
            part = b"" if self._file is None else self._file.readline(most - len(self._rest))
            self._rest += part
            if self._rest.endswith(b"\n") or len(self._rest) >= most:
                line, self._rest = self._rest, b""
                return line
            if not part:
                self._look_again()

    def _look_again(self) -> None:
        """Open the file that has taken the place of ours, or wait."""
        try:
            there = self._path.stat()
        except FileNotFoundError:  # between a log that was put away and the next
            self._sleep(POLL_S)
            return
        if self._file is not None:
            ours = os.fstat(self._file.fileno())
            same = (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)
            if same and there.st_size >= self._file.tell():
                self._sleep(POLL_S)
                return
            self._file.close()
        self._file, self._rest = self._path.open("rb"), b""


class Reader:
    """Takes the spans out of logs.

    Attributes:
        malformed: lines that say that they are spans, and are none.
    """

    def __init__(self, put: Callable[[Span], None], *, others: Callable[[bytes], object]) -> None:
        """Give spans to `put`, and everything else, as it stands there, to `others`."""
        self.malformed = 0
        self._put, self._others = put, others

    def read(self, read_line: Callable[[int], bytes]) -> None:
        """Read until `read_line` returns nothing."""
        for piece in read_pieces(read_line):
            span = self._span(piece)
            if span is None:
                self._others(piece.raw)
            else:
                self._put(span)

    def _span(self, piece: Piece) -> Span | None:
        try:
            return parse_span(piece.raw) if piece.whole else None
        except FormatError:
            self.malformed += 1
            return None
