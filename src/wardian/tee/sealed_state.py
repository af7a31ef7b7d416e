"""One file of sealed state that comes back whole, and only in its newest version.

A write goes in one order: write the file as the next generation, count that generation, and only
then act on it. So after a crash at any step the file is either the counted one, or one generation
ahead and never acted upon; the latter says that it follows the counted one, and is counted once,
when the state is opened. Whatever else the
host puts there is refused. Byte table, crash points and recovery: `docs/reference/sealed-state.md`.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self

from wardian._internal.counter import (
    MAX_GENERATION,
    CounterKeeper,
    MonotonicCounter,
    Standing,
    count,
    generation_of,
    name_life,
    stamp,
    standing,
    tell_keeper,
)
from wardian.crypto.secret import Secret
from wardian.errors import CounterLost, LocalProtocolError, SealError, StateRolledBack
from wardian.tee.backend import Enclave, SealTo
from wardian.tee.sealing import (
    OVERHEAD_BYTES,
    mark_key,
    seal_state,
    sealed_follows,
    sealed_version,
    unseal_state,
)
from wardian.tee.state_file import HOST_DISK, Disk, finish, fresh_name, load, replace

log = logging.getLogger(__name__)

MAX_STATE_BYTES: Final = 64 * 1024**2


class Unsealed(NamedTuple):
    """An authentic state, **whether it is the newest or not**."""

    plaintext: bytes
    stamped: int
    """The counter's value that vouches for it."""
    follows: int
    """The counter's value that it was written on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedPlace:
    """Where a state lies, whom it belongs to, and what counts it.

    Attributes:
        path: the file; `PATH.new` beside it is used too.
        enclave: the TEE that this process runs in.
        label: what the state is; two kinds of state never share one.
        counter: of this state alone.
        to: whom the state is sealed to. To the signer only what every enclave of this signer
            may read, and never the broker's state (TRUST T6).
        disk: where files lie.
    """

    path: Path
    enclave: Enclave
    label: str
    counter: MonotonicCounter
    to: SealTo = SealTo.MEASUREMENT
    disk: Disk = HOST_DISK

    def load(self, path: Path | None = None) -> bytes | None:
        """Return the sealed bytes at `path`, by default the state's; None if there are none."""
        return load(self.disk, path or self.path, most=MAX_STATE_BYTES + OVERHEAD_BYTES)

    def unseal(self, sealed: bytes) -> Unsealed:
        """Return what is in `sealed`, **whether it is the newest or not**.

        Raises:
            SealError: it is not this state.
        """
        version = sealed_version(sealed, to=self.to)
        plaintext = unseal_state(
            self.enclave, sealed, label=self.label, version=version, to=self.to
        )
        return Unsealed(
            plaintext,
            stamped=self.stamp(sealed, generation=version),
            follows=sealed_follows(sealed, to=self.to),
        )

    def stamp(self, sealed: bytes, *, generation: int) -> int:
        """Return the counter's value for `sealed` as `generation`."""
        key: Secret = mark_key(self.enclave, label=self.label, to=self.to)
        return stamp(sealed, generation=generation, key=key.reveal())


class SealedState:
    """The newest state at a place: `open`, then `read` and `write`. One process, one thread."""

    __slots__ = ("_life", "_pending", "_place", "_plaintext", "_value")

    def __init__(self, place: SealedPlace, *, value: int) -> None:
        """Hold the empty state at `place`, whose counter stands at `value`; use `open`."""
        self._place = place
        self._value = value
        self._life = name_life()
        self._plaintext: bytes | None = None
        self._pending: tuple[int, bytes] | None = None

    @classmethod
    def open(cls, place: SealedPlace) -> Self:
        """Return the newest state at `place`; where nothing was ever written, it is empty.

        A state that was written and not counted is counted now. Otherwise nothing is changed.

        Raises:
            StateRolledBack: what lies there is not the newest, or was taken away.
            CounterLost: it is newer than the counter can have counted; see `state_recovery`.
            CounterUnavailable: nobody can say now which one is the newest (retryable).
            SealError: it is altered, of another enclave, platform or label, or cannot be read.
        """
        tell_keeper(log, place.counter, state=place.label)
        state = cls(place, value=place.counter.read())
        state._load()
        return state

    @property
    def generation(self) -> int:
        """The number of counted writes, 0 before the first."""
        return generation_of(self._value)

    @property
    def kept_by(self) -> CounterKeeper:
        """Who keeps the counter; `kept_by.said` is what a status says of it."""
        return self._place.counter.kept_by

    def read(self) -> bytes | None:
        """Return the newest counted state; None if nothing was ever written.

        It comes from memory, so it can be had while the counter cannot.
        """
        return self._plaintext

    def write(self, plaintext: bytes) -> None:
        """Make `plaintext` the newest state; act on it only after this returned.

        If it raises, the newest state is the old one or `plaintext`, and the next write or opening
        finds out which. A write that was not counted yet is counted first.

        Args:
            plaintext: at most `MAX_STATE_BYTES`.

        Raises:
            CounterUnavailable: the counter cannot be reached (retryable); the state can be read.
            SealError: the disk refuses, another process counted meanwhile, or the generations are
                used up.
        """
        if len(plaintext) > MAX_STATE_BYTES:
            raise LocalProtocolError(f"a state has at most {MAX_STATE_BYTES} bytes")
        self._settle()
        self._begin()
        place, generation = self._place, self.generation + 1
        if generation > MAX_GENERATION:
            raise SealError("the state has used up its generations: it can be read, not written")
        sealed = seal_state(
            place.enclave,
            plaintext,
            label=place.label,
            version=generation,
            follows=self._value,
            to=place.to,
        )
        stamped = place.stamp(sealed, generation=generation)
        replace(place.disk, place.path, sealed)
        self._pending = (stamped, plaintext)
        self._settle()

    def _begin(self) -> None:
        """Return if the counter is where this process left it; from now on it is not at 0.

        Asked before anything is written: without an answer the disk stays as it is.
        """
        counter = self._place.counter
        if self._value == 0:
            count(counter, at=0, to=self._life)
            self._value = self._life
        elif counter.read() != self._value:
            raise SealError(
                "another process counted in this one's place: two of them run on one state"
            )

    def _settle(self) -> None:
        """Count what was written; after that it is the newest."""
        if self._pending is not None:
            stamped, plaintext = self._pending
            count(self._place.counter, at=self._value, to=stamped)
            self._value, self._plaintext, self._pending = stamped, plaintext, None

    def _load(self) -> None:
        """Take up what lies at the place, or refuse it."""
        place = self._place
        sealed = place.load()
        if self._value == 0:
            if sealed is not None:
                raise CounterLost(_COUNTER_AT_ZERO)
            return
        try:
            self._accept(sealed)
        except SealError:
            if not self._accept_unrenamed():
                raise

    def _accept(self, sealed: bytes | None) -> None:
        """Take `sealed` if it is the newest state, counting it if it is not counted yet."""
        if sealed is None:
            if self.generation:
                raise StateRolledBack(_REMOVED)
            return
        plaintext, stamped, follows = self._place.unseal(sealed)
        what = f"the state {self._place.label!r}"
        stands = standing(stamped, follows=follows, counted=self._value, what=what)
        if stands is Standing.AHEAD:
            count(self._place.counter, at=self._value, to=stamped)
        self._value, self._plaintext = stamped, plaintext

    def _accept_unrenamed(self) -> bool:
        """Return whether the counted state lies under its first name; then it is put in place.

        So it does after a power cut on a file system that keeps a renaming for later.
        """
        place = self._place
        sealed = place.load(fresh_name(place.path))
        try:
            if sealed is None or place.unseal(sealed).stamped != self._value:
                return False
        except SealError:
            return False
        self._accept(sealed)
        finish(place.disk, place.path)
        return True


_COUNTER_AT_ZERO: Final = (
    "there is a state, but its counter stands at 0: the counter was lost or set back, or the state "
    "belongs to another counter. If it is the newest state, the owners can say so in a signed "
    "recovery; to begin anew, move the file away (docs/reference/sealed-state.md)"
)
_REMOVED: Final = (
    "there is no state, but its counter shows that one was written: it was taken away. Put the "
    "newest copy back (docs/reference/sealed-state.md)"
)
