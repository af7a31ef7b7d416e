"""What a keeper keeps: numbers that only grow, by who asks for them.

A number is on the disk, sealed to this code on this machine, before it is told. The keeper cannot
know whether its host put older files back while it did not run: a quorum of keepers on distinct
platforms does, and counts how many of them may have been (`counting.quorum`).

Numbers are never deleted.
"""

from pathlib import Path
from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian._internal.clock import Monotonic
from wardian._internal.files import replace_file, sync_directory
from wardian.broker.counting.protocol import (
    MAX_VALUE,
    Advance,
    CounterName,
    Value,
    decode_value,
)
from wardian.broker.keeping.messages import ASKER_BYTES, Asker
from wardian.broker.keeping.sealing import Sealing
from wardian.broker.limits import Bucket
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import PolicyDenied, QueueFull, SealError

IDENTITY_LABEL: Final = "wardian keeper identity v1"
COUNTERS_LABEL: Final = "wardian keeper counters v1"
MAX_ASKERS: Final = 256
MAX_NAMES: Final = 64
"""Counters of one asker: a broker has one for each measurement that its code ever had."""
STEPS_PER_S: Final = 1000.0
STEP_BURST: Final = 4000
"""Of one asker. A commit of a broker takes three."""
NEWCOMERS_PER_S: Final = 1 / 60
NEWCOMER_BURST: Final = 16
"""Askers that begin to count; each is kept for good."""


class _Counters(wire.Message, frozen=True, tag_field="format", tag="wardian keeper counters v1"):
    """All counters of one asker, as they are sealed."""

    asker: Asker
    counters: Annotated[dict[CounterName, Value], msgspec.Meta(max_length=MAX_NAMES)]


class Ledger:
    """The numbers below one directory, which nothing else writes to. One thread."""

    __slots__ = (
        "_doubtful",
        "_known",
        "_newcomers",
        "_path",
        "_sealing",
        "_steps",
        "_ticks",
        "key",
    )

    key: TlsKey
    """Names this keeper for as long as it keeps numbers: without it they are nobody's."""

    def __init__(self, path: Path, *, sealing: Sealing, ticks: Monotonic) -> None:
        """Take up what lies in `path`, or begin.

        Raises:
            SealError: it was sealed by other code or elsewhere, was altered, or the key is gone.
        """
        self._path, self._sealing, self._ticks = path, sealing, ticks
        self._known: dict[bytes, dict[str, bytes]] = {}
        self._doubtful = False  # whether a file may have a name that the disk does not keep
        self._steps: dict[bytes, Bucket] = {}
        self._newcomers = Bucket(per_s=NEWCOMERS_PER_S, burst=NEWCOMER_BURST, now=ticks())
        self.key = self._open_key()

    def knows(self, asker: bytes) -> bool:
        """Return whether `asker` ever advanced a counter here."""
        return asker in self._known or self._file(asker).exists()

    def take(self, asker: bytes, counter: str, advance: Advance | None) -> bytes:
        """Return where the counter stands, 16 bytes, after `advance` if there is one.

        Args:
            asker: an Ed25519 public key, proved to be the asker's; counters of others are others.
            counter: its name.
            advance: from where to where; None to read, which changes nothing.

        Raises:
            PolicyDenied: it stands elsewhere (rule `counter-moved`), it would not grow or is too
                great (`counter-range`), or there would be too many (`counter-room`).
            QueueFull: this asker, or newcomers, come more often than they may (retryable).
            SealError: it cannot be made durable, or the file of this asker is not what was sealed.
        """
        now = self._ticks()
        counters = self._counters(asker)
        if counters:
            bucket = self._steps.setdefault(
                asker, Bucket(per_s=STEPS_PER_S, burst=STEP_BURST, now=now)
            )
            if not bucket.take(now):
                raise QueueFull("this asker counts more often than it may: ask later")
        stands = counters.get(counter, bytes(16))
        if advance is None:
            return stands
        if advance.at != stands:
            raise PolicyDenied(
                "the counter stands elsewhere than the asker says: read it first",
                rule="counter-moved",
            )
        if not decode_value(advance.at) < decode_value(advance.to) <= MAX_VALUE:
            raise PolicyDenied(
                "the counter only goes up, and not beyond 2**127 - 1", rule="counter-range"
            )
        if counter not in counters:
            self._refuse_crowd(counters, now)
        self._keep(asker, counters | {counter: advance.to})
        return advance.to

    def _refuse_crowd(self, counters: dict[str, bytes], now: float) -> None:
        """Refuse one counter more than one asker may have, and one asker more than there may be."""
        if len(counters) >= MAX_NAMES:
            raise PolicyDenied(f"an asker has at most {MAX_NAMES} counters", rule="counter-room")
        if counters:
            return
        if sum(1 for _ in self._path.glob("*.counters")) >= MAX_ASKERS:
            raise PolicyDenied(f"a keeper has at most {MAX_ASKERS} askers", rule="counter-room")
        if not self._newcomers.take(now):
            raise QueueFull("too many begin to count here: ask later")

    def _counters(self, asker: bytes) -> dict[str, bytes]:
        known = self._known.get(asker)
        if known is not None:
            return known
        try:
            sealed = self._file(asker).read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as err:
            raise SealError(f"the counters of an asker cannot be read: {err.strerror}") from err
        raw = self._sealing.unseal(sealed, label=COUNTERS_LABEL)
        kept = wire.decode(raw, _Counters, what="kept counters")
        if kept.asker != asker:
            raise SealError("the counters of another asker lie in this one's place")
        self._settle()
        self._known[asker] = dict(kept.counters)
        return self._known[asker]

    def _keep(self, asker: bytes, counters: dict[str, bytes]) -> None:
        """Have `counters` on the disk, and only then known."""
        self._known.pop(asker, None)  # should it fail, the disk says what became of it
        raw = wire.encode(_Counters(asker=asker, counters=counters))
        self._write(self._file(asker), self._sealing.seal(raw, label=COUNTERS_LABEL))
        self._known[asker] = counters

    def _open_key(self) -> TlsKey:
        place = self._path / "identity.sealed"
        if place.exists():
            raw = self._sealing.unseal(place.read_bytes(), label=IDENTITY_LABEL)
            return TlsKey.from_secret(Secret(raw))
        if any(self._path.glob("*.counters")):
            raise SealError(
                f"{place}: is gone, and without it what lies beside it is nobody's. Put it back, "
                "or begin with an empty directory as another keeper"
            )
        key = TlsKey.generate()
        self._write(place, self._sealing.seal(key.to_secret().reveal(), label=IDENTITY_LABEL))
        return key

    def _write(self, place: Path, content: bytes) -> None:
        try:
            replace_file(place, content, sync=True)
        except OSError as err:  # what was there before is there still
            raise SealError(f"the keeper cannot write its state: {err.strerror}") from err
        self._doubtful = True
        self._settle()

    def _settle(self) -> None:
        """Return if what stands in the files is sure to stay: nothing else is told."""
        if not self._doubtful:
            return
        try:
            sync_directory(self._path)
        except OSError as err:
            raise SealError(f"the keeper cannot write its state: {err.strerror}") from err
        self._doubtful = False

    def _file(self, asker: bytes) -> Path:
        if len(asker) != ASKER_BYTES:
            raise SealError("an asker is 32 bytes")
        return self._path / f"{asker.hex()}.counters"
