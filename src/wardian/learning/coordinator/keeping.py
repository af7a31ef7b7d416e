"""A run's state on the host's disk, sealed after every round, so that a crash costs one round.

    run.sealed           where the run stands, and the key of ...
    content-NAME.sealed  ... the model after that round, and the strategy's own state, in chunks

The second is written first, under a fresh key; then the first replaces the one of before, and with
it the old content is nothing but noise. Which state is the newest the parties know (`chain`).
"""

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import msgspec

from wardian._internal.files import replace_file, sync_directory
from wardian.broker.keeping.sealing import Sealing
from wardian.crypto.aead_stream import TAG_BYTES, ChunkCipher
from wardian.crypto.secret import Secret
from wardian.errors import CryptoError, FormatError, SealError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.content import chunks, content_bytes, rebuild, specs_of
from wardian.learning.messages import (
    CHUNK_BYTES,
    Digest,
    RoundLine,
    Specs,
    decode_specs,
    encode_specs,
)
from wardian.learning.records import RecordDict

LABEL: Final = "wardian federated run v1"
_CONTENT: Final = b"wardian federated content v1"
_MODEL: Final = "model"
_PREFIX: Final = "strategy."
_PENDING: Final = "pending."


class _Sealed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    run: Digest
    secret: Digest
    round: int
    head: bytes
    content: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]
    key: bytes
    specs: bytes
    history: list[RoundLine]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a run stands.

    Attributes:
        run: 32 random bytes that name it.
        secret: 32 random bytes that nobody else knows.
        round: the newest that is complete; 0: there is a first model, and nothing more.
        head: of the chain of outcomes.
        model: after that round.
        strategy: the strategy's own state then.
        history: what became of each round.
        pending: what has to come back of a round that is not complete yet; mostly nothing.
    """

    run: bytes
    secret: Secret
    round: int
    head: bytes
    model: ArrayRecord
    strategy: RecordDict
    history: tuple[RoundLine, ...]
    pending: RecordDict = field(default_factory=RecordDict)


class RunKeeper:
    """Keeps the standing of one run in a directory."""

    def __init__(self, place: Path, *, sealing: Sealing) -> None:
        """Keep it in the directory `place`, which is there."""
        self._place, self._sealing = place, sealing
        self._state = place / "run.sealed"

    def load(self) -> Standing | None:
        """Return where the run stood; None if there is none.

        Raises:
            SealError: what lies there was not sealed by this code on this machine, or is damaged.
        """
        if not self._state.exists():
            return None
        try:
            raw = self._sealing.unseal(self._state.read_bytes(), label=LABEL)
            kept = msgspec.msgpack.decode(raw, type=_Sealed)
            content = self._read(kept)
        except (OSError, msgspec.DecodeError, FormatError, CryptoError) as err:
            raise SealError("the state of the run is damaged") from err
        model = content[_MODEL]
        if not isinstance(model, ArrayRecord):
            raise SealError("the state of the run is damaged")
        return Standing(
            run=kept.run,
            secret=Secret(kept.secret),
            round=kept.round,
            head=kept.head,
            model=model,
            strategy=_beginning(content, _PREFIX),
            history=tuple(kept.history),
            pending=_beginning(content, _PENDING),
        )

    def save(self, standing: Standing) -> None:
        """Keep `standing` in place of what was before.

        Raises:
            SealError: the disk does not take it; what was before holds.
        """
        own = {f"{_PREFIX}{name}": record for name, record in standing.strategy.items()}
        pending = {f"{_PENDING}{name}": record for name, record in standing.pending.items()}
        content = RecordDict({_MODEL: standing.model, **own, **pending})
        key, name = Secret.random(32), secrets.token_hex(8)
        try:
            self._write(name, content, key)
            kept = _Sealed(
                run=standing.run,
                secret=standing.secret.reveal(),
                round=standing.round,
                head=standing.head,
                content=name,
                key=key.reveal(),
                specs=encode_specs(specs_of(content)),
                history=list(standing.history),
            )
            sealed = self._sealing.seal(msgspec.msgpack.encode(kept), label=LABEL)
            replace_file(self._state, sealed, sync=True)
            sync_directory(self._place)
        except OSError as err:
            raise SealError(f"the state of the run cannot be written: {err.strerror}") from err
        for file in self._place.glob("content-*.sealed"):
            if file != self._content(name):
                file.unlink(missing_ok=True)

    def _content(self, name: str) -> Path:
        return self._place / f"content-{name}.sealed"

    def _write(self, name: str, content: RecordDict, key: Secret) -> None:
        cipher = _cipher(key, specs_of(content))
        path = self._content(name)
        with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            for index, pieces in enumerate(chunks(content) if cipher.total_bytes else [[]]):
                plain = b"".join(pieces)
                sealed = bytearray(len(plain) + TAG_BYTES)
                cipher.seal(index, memoryview(plain), memoryview(sealed))
                file.write(sealed)
            file.flush()
            os.fsync(file.fileno())

    def _read(self, kept: _Sealed) -> RecordDict:
        specs = decode_specs(kept.specs)
        cipher = _cipher(Secret(kept.key), specs)
        raw = bytearray(cipher.total_bytes)
        view = memoryview(raw)
        with self._content(kept.content).open("rb") as file:
            for index in range(cipher.chunks):
                size = cipher.plain_bytes(index)
                sealed = file.read(size + TAG_BYTES)
                if len(sealed) < size + TAG_BYTES:
                    raise FormatError("content: shorter than it was")
                start = index * CHUNK_BYTES
                cipher.open(index, memoryview(sealed), view[start : start + size])
        return rebuild(specs, raw)


def _cipher(key: Secret, specs: Specs) -> ChunkCipher:
    size = content_bytes(specs)
    return ChunkCipher(key, associated=_CONTENT, total_bytes=size, chunk_bytes=CHUNK_BYTES)


def _beginning(content: RecordDict, prefix: str) -> RecordDict:
    """Return the records of `content` whose names begin with `prefix`, without it."""
    return RecordDict(
        {
            name.removeprefix(prefix): record
            for name, record in content.items()
            if name.startswith(prefix)
        }
    )
