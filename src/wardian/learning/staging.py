"""Answers that lie ready until their round is over: in memory, or as sealed chunks on disk.

The disk is the host's. Chunks lie there under a key that is of one answer alone and never leaves
this process: what is left of them after a crash is noise.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from wardian.crypto.aead_stream import TAG_BYTES, ChunkCipher
from wardian.crypto.secret import Secret
from wardian.errors import FormatError, SealError
from wardian.learning.arrays import KINDS, ArrayRecord, all_finite
from wardian.learning.content import Spec, array_bytes, arrays_of, content_bytes, rebuild
from wardian.learning.messages import CHUNK_BYTES, Arrays, ArraySpec, Metrics
from wardian.learning.records import MetricRecord, RecordDict
from wardian.learning.replies import Block, parts, stand_in

METRICS: Final = "metrics"
"""The record in which a party says what it measured."""
_LABEL: Final = b"wardian staged answer v1"


class Staging:
    """One answer on its way in: fill `space` until nothing is `left`, then `finish` and `read`."""

    def __init__(
        self,
        specs: Sequence[Spec],
        *,
        spill: Path | None,
        verify: Callable[[Mapping[str, ArrayRecord]], None] | None = None,
    ) -> None:
        """Take in content of these `specs`, on disk at `spill`, or in memory if that is None.

        Args:
            specs: what is to come.
            spill: the file.
            verify: told the array records once they are whole; raises FormatError if they are not
                welcome.

        Raises:
            SealError: the file cannot be made.
        """
        self.specs = tuple(specs)
        self.total_bytes = content_bytes(self.specs)
        self.left = self.total_bytes
        held = self.total_bytes if spill is None else min(CHUNK_BYTES, self.total_bytes)
        self._held = memoryview(bytearray(held))
        self._path, self._file, self._verify = spill, -1, verify
        self._chunk: tuple[int, memoryview] = (-1, memoryview(b""))
        if spill is not None:
            self._cipher = ChunkCipher(
                Secret.random(32),
                associated=_LABEL,
                total_bytes=self.total_bytes,
                chunk_bytes=CHUNK_BYTES,
            )
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                self._file = os.open(spill, flags, 0o600)
            except OSError as err:
                raise SealError(f"cannot keep an answer on disk: {err.strerror}") from err

    def space(self) -> memoryview:
        """Return where the next frame of content goes, all of it; then it is `filled`."""
        begin = self.total_bytes - self.left if self._path is None else 0
        return self._held[begin : begin + min(CHUNK_BYTES, self.left)]

    def filled(self) -> None:
        """Keep what is in `space`.

        Raises:
            SealError: the disk is full.
        """
        chunk = self.space()
        if self._path is not None:
            sealed = bytearray(len(chunk) + TAG_BYTES)
            index = (self.total_bytes - self.left) // CHUNK_BYTES
            self._cipher.seal(index, chunk, memoryview(sealed))
            try:
                os.pwrite(self._file, sealed, index * (CHUNK_BYTES + TAG_BYTES))
            except OSError as err:
                raise SealError(f"cannot keep an answer on disk: {err.strerror}") from err
        self.left -= len(chunk)

    def finish(self) -> Self:
        """Return itself, whole, verified, and with finite numbers alone.

        Raises:
            FormatError: something is missing, is not a number, is infinite, or is not welcome.
        """
        if self.left:
            raise FormatError("content: shorter than its records say")
        at = 0
        for spec in arrays_of(self.specs):
            kind = KINDS[spec.dtype]
            if kind.kind == "f":
                for part in parts(array_bytes(spec) // kind.itemsize, kind):
                    if not all_finite(self.read(at, spec, part)):
                        raise FormatError(f"content: {spec.name} holds what is no finite number")
            at += array_bytes(spec)
        if self._verify is not None:
            self._verify(self.content().array_records)
        return self

    def begin(self, record: str) -> int:
        """Return at which byte the content of the array record `record` begins."""
        before = takewhile(lambda each: each.name != record, self.specs)
        return content_bytes(before)

    def read(self, at: int, spec: ArraySpec, part: slice) -> NDArray[Any]:
        """Return the elements `part` of the array `spec`, whose content begins at byte `at`."""
        kind = KINDS[spec.dtype]
        start, stop = at + part.start * kind.itemsize, at + part.stop * kind.itemsize
        if self._path is None:
            return np.frombuffer(self._held, kind, count=part.stop - part.start, offset=start)
        raw = bytearray()
        while start < stop:
            index, offset = divmod(start, CHUNK_BYTES)
            raw += self._opened(index)[offset : offset + stop - start]
            start = at + part.start * kind.itemsize + len(raw)
        return np.frombuffer(raw, kind)

    def _opened(self, index: int) -> memoryview:
        """Return chunk `index`, decrypted; the last one that was asked for is kept."""
        if self._chunk[0] != index:
            size = self._cipher.plain_bytes(index)
            sealed = os.pread(self._file, size + TAG_BYTES, index * (CHUNK_BYTES + TAG_BYTES))
            opened = bytearray(size)
            self._cipher.open(index, memoryview(sealed), opened)
            self._chunk = index, memoryview(opened)
        return self._chunk[1]

    def content(self) -> RecordDict:
        """Return all of it, in memory."""
        if self._path is None:
            return rebuild(self.specs, bytes(self._held))
        every = range(self._cipher.chunks if self.total_bytes else 0)
        return rebuild(self.specs, b"".join(self._opened(index) for index in every))

    def drop(self) -> None:
        """Forget it."""
        self._held = memoryview(b"")
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._path is not None:
            self._path.unlink(missing_ok=True)


class StagedReplies:
    """The answers of a cohort, all of the same arrays; see `replies.Replies`."""

    def __init__(self, answers: Mapping[str, Staging]) -> None:
        """Hold what each party answered: the same records, in whatever order."""
        self._answers = dict(sorted(answers.items()))
        self.parties: Final = tuple(self._answers)
        self._metrics = {name: metrics_of(each.specs) for name, each in self._answers.items()}
        first = next(iter(self._answers.values()))
        self._arrays = {each.name: each for each in first.specs if isinstance(each, Arrays)}

    def metrics(self, party: str) -> MetricRecord:
        """See `Replies`."""
        return self._metrics[party]

    def records(self) -> tuple[str, ...]:
        """See `Replies`."""
        return tuple(self._arrays)

    def whole(self, party: str, record: str) -> ArrayRecord:
        """See `Replies`."""
        return self._answers[party].content().array_records[record]

    def shapes(self, record: str) -> Mapping[str, NDArray[Any]]:
        """See `Replies`."""
        return {
            each.name: stand_in(each.shape, KINDS[each.dtype])
            for each in self._arrays[record].arrays
        }

    def blocks(self, record: str) -> Iterator[Block]:
        """See `Replies`."""
        begins = [(each, each.begin(record)) for each in self._answers.values()]
        at = 0
        for spec in self._arrays[record].arrays:
            kind = KINDS[spec.dtype]
            size = array_bytes(spec) // kind.itemsize
            for part in parts(size, kind, parties=len(begins)):
                read = [each.read(begin + at, spec, part) for each, begin in begins]
                yield Block(array=spec.name, start=part.start, values=np.array(read))
            at += array_bytes(spec)


def metrics_of(specs: Sequence[Spec]) -> MetricRecord:
    """Return what a party says that it measured; nothing if it says nothing."""
    for each in specs:
        if isinstance(each, Metrics) and each.name == METRICS:
            return MetricRecord(each.entries)
    return MetricRecord()
