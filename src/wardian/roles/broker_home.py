"""Where a broker keeps what it is: the key of its state, sealed to it, and the counter."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from wardian._internal.clock import unix_time
from wardian._internal.counter import tell_keeper
from wardian._internal.files import sync_directory
from wardian._internal.log import event
from wardian.broker.recovery.backup import key_path
from wardian.broker.recovery.gathering import Gathering
from wardian.broker.standby.handover import first_changes, handed_to, took_over
from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.new_life import begin_life
from wardian.broker.state.replica import Replica
from wardian.broker.state.replicas import NO_REPLICAS, Replicas
from wardian.broker.state.store import Store
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, CounterUnavailable, SealError
from wardian.roles.broker_counter import Counting
from wardian.tee.backend import Enclave
from wardian.tee.sealing import seal_state, unseal_state

log = logging.getLogger(__name__)

T = TypeVar("T")

MASTER_KEY_LABEL = "wardian broker master key v1"
AWAIT_S: Final = 1.0
"""How often the counter's keepers are asked again at the start."""


class BrokerHome:
    """The broker's files at one place, and what opens them in this enclave."""

    __slots__ = ("_counting", "_enclave", "path")

    def __init__(self, enclave: Enclave, path: Path, *, counting: Counting) -> None:
        """Keep the state at `path`, and its key beside it; `counting` says which is the newest."""
        self._enclave, self.path, self._counting = enclave, path, counting

    @property
    def key_path(self) -> Path:
        """Where the sealed key lies."""
        return key_path(self.path)

    @property
    def has_state(self) -> bool:
        """Whether a state lies here, newest or not: who only looks for one begins none."""
        return self.path.is_file() and self.path.stat().st_size > 0

    def load_key(self) -> MasterKey | None:
        """Return the key of the state here, None if there is none.

        Its version never changes: a host that removes the file, or puts another one back, makes the
        state unreadable and gains nothing.

        Raises:
            SealError: it was sealed by another enclave, or altered.
        """
        if not self.key_path.exists():
            return None
        sealed = self.key_path.read_bytes()
        raw = unseal_state(self._enclave, sealed, label=MASTER_KEY_LABEL, version=1)
        return MasterKey.from_secret(Secret(raw))

    def keep_key(self, key: MasterKey) -> None:
        """Seal `key` to this enclave; it is on the disk when this returns.

        Raises:
            ConfigError: it cannot be written.
        """
        secret = key.to_secret().reveal()
        sealed = seal_state(self._enclave, secret, label=MASTER_KEY_LABEL, version=1)
        fresh, path = self.key_path.with_suffix(".new"), self.key_path
        try:
            with fresh.open("wb") as file:
                file.write(sealed)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            sync_directory(path.parent)
        except OSError as err:
            raise ConfigError(f"{path}: {err.strerror}; the broker keeps its state there") from err

    def recover(self, gathering: Gathering) -> None:
        """Give the state here the keys that its owners brought, and a counter that vouches for it.

        Afterwards it opens as ever. After a crash it does, or the owners come again.

        Raises:
            PolicyDenied, AuthenticationFailed, StateRolledBack, SealError, ConfigError: the state
                is not to be opened with what was gathered; see `Gathering`.
        """
        key = gathering.master_key()
        with contextlib.closing(Replica(self.path, master_key=key)) as state:
            gathering.verify_state(state)
        self.keep_key(key)
        entries = [
            AuditEntry(
                event="recovery",
                outcome="granted",
                owner=owner,
                rule="recovered",
                count=0 if brought.head is None else brought.head.audit.count,
            )
            for owner, brought in sorted(gathering.came.items())
        ]
        begin_life(
            self.path,
            master_key=key,
            counter=self._counting.counter(key),
            changes={},
            audit=entries,
            now=unix_time(),
        )

    def is_own(self) -> bool:
        """Return whether the state here opens as the newest, and was not handed over.

        Raises:
            CounterUnavailable: nobody can say now.
        """
        if self.load_key() is None or not self.has_state:
            return False
        try:
            with contextlib.closing(self.open()) as store:
                return handed_to(store) is None
        except CounterUnavailable:
            raise
        except SealError:
            return False

    def adopt(self) -> None:
        """Begin this code's life of its counter on the state here, which was handed over to it.

        Raises:
            PolicyDenied, StateRolledBack: it was not handed over to this code; see `handover`.
            SealError: it is not whole, or another one began meanwhile.
        """
        key = self.load_key()
        if key is None or not self.has_state:
            raise SealError("there is no broker's state here")
        counter, own = self._counting.counter(key), self._counting.measurement
        with contextlib.closing(Replica(self.path, master_key=key)) as state:
            counted = (counter.look or counter.read)()
            changes = first_changes(state, own=own, counted=counted)
        begin_life(
            self.path,
            master_key=key,
            counter=counter,
            changes=changes,
            audit=[took_over(own)],
            now=unix_time(),
        )

    def open(self, *, replicas: Replicas = NO_REPLICAS) -> Store:
        """Return the state, if it is the newest; a new one where there never was any.

        Raises:
            ConfigError, SealError: see `Store`.
        """
        key = self.load_key()
        if key is None:
            key = MasterKey.random()
            self.keep_key(key)
        counter = self._counting.counter(key)
        store = Store(self.path, master_key=key, counter=counter, replicas=replicas)
        tell_keeper(log, counter, state="the broker's state")
        return store


async def when_counted(work: Callable[[], T]) -> T:
    """Return what `work` returns; does it again while nobody can say which state is the newest.

    Raises:
        WardianError: what else `work` raises.
    """
    told = False
    while True:
        try:
            return work()
        except CounterUnavailable as err:
            level = logging.DEBUG if told else logging.WARNING
            event(log, "broker.counter-awaited", level=level, reason=str(err)[:200])
            told = True
            await asyncio.sleep(AWAIT_S)
