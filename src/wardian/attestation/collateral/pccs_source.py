"""Collateral from a PCCS: asked in time, left alone when it is down, and never gone back on."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from typing_extensions import override

from wardian._internal.clock import Monotonic, monotonic
from wardian._internal.log import event
from wardian._internal.operator import CollateralPlace
from wardian.attestation.collateral.cache import MAX_MODELS, CollateralCache
from wardian.attestation.collateral.pccs import parse_pccs
from wardian.attestation.collateral.pccs_client import Fetcher, PccsClient, connect_resolved
from wardian.attestation.collateral.platform_model import PlatformModel
from wardian.attestation.collateral.signed import (
    SignedCollateral,
    expires_soon,
    verify_collateral,
)
from wardian.attestation.collateral.source import (
    SOON_S,
    CachedCollateral,
    CollateralSource,
    NoCollateral,
    Source,
    warn,
)
from wardian.attestation.collateral.term import Part
from wardian.errors import AttestationError, EvidenceInvalid, FormatError, TransportError

log = logging.getLogger(__name__)

REFRESH_S: Final = 24 * 3600
"""How often a service is asked although what it said lasts: a revocation or a TCB recovery shows
before the old statements end."""
RETRY_S: Final = 60
"""How long it is left alone after it gave nothing: whoever waits is told at once."""


@dataclass(slots=True)
class _Turn:
    """Who asks a service about one model, and when: one thread at a time.

    Attributes:
        lock: held while somebody asks.
        asked_at: when it was asked last, on the monotonic clock; None: never.
        wait_s: how long what it said then is good for.
        trouble: what is to be said if that is not enough.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    asked_at: float | None = None
    wait_s: int = 0
    trouble: str = ""


class PccsCollateral(Source):
    """A PCCS, and a cache of what it said.

    It is asked when nothing is known, when a day has passed, and each hour while what is known ends
    soon; after a failure not before `RETRY_S`. While it cannot be reached, what is known is used
    until it ends. Who comes while somebody else is asking waits only if there is nothing to use.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        cache: CollateralCache,
        *,
        warn_before_s: int | None = None,
        clock: Monotonic = monotonic,
    ) -> None:
        super().__init__(warn_before_s=warn_before_s, clock=clock)
        self._fetcher = fetcher
        self._cache = cache
        self._turns: dict[PlatformModel, _Turn] = {}

    @override
    def _held(self, model: PlatformModel, now: int) -> tuple[SignedCollateral | None, str]:
        held, turn = self._cache.load(model), self._turn(model)
        usable = held is not None and held.ends > now
        if not turn.lock.acquire(blocking=not usable):
            return held, turn.trouble
        try:
            wait_s = turn.wait_s if usable else RETRY_S
            if turn.asked_at is None or self._clock() >= turn.asked_at + wait_s:
                turn.trouble, turn.wait_s = self._ask(model, now)
                turn.asked_at = self._clock()
            return self._cache.load(model), turn.trouble
        finally:
            turn.lock.release()

    def _turn(self, model: PlatformModel) -> _Turn:
        with self._lock:
            turn = self._turns.setdefault(model, _Turn())
            while len(self._turns) > MAX_MODELS:
                del self._turns[next(iter(self._turns))]
            return turn

    def _ask(self, model: PlatformModel, now: int) -> tuple[str, int]:
        """Ask the service about `model`.

        Returns:
            why what is known afterwards is not more, and after how many seconds to ask again.
        """
        try:
            kept, went_back = fetch_into(self._cache, self._fetcher, model)
        except (TransportError, FormatError, AttestationError) as err:
            warn("collateral.fetch_failed", model, error=type(err).__name__)
            return f"the PCCS gave none: {err}", RETRY_S
        if went_back:
            warn("collateral.went_back", model, parts=" ".join(went_back))
        event(log, "collateral.fetched", model=str(model), left_s=kept.ends - now)
        soon = expires_soon(kept, now, warn_before_s=self._warn_before_s)
        return "the PCCS has nothing newer", SOON_S if soon else REFRESH_S


def fetch_into(
    cache: CollateralCache, fetcher: Fetcher, model: PlatformModel
) -> tuple[SignedCollateral, tuple[Part, ...]]:
    """Return the newest collateral about `model`, after a service was asked; `cache` keeps it.

    What the service said counts only after its signatures verified under the model's root, and
    only where it is newer than what was kept.

    Returns:
        the newest of each statement, and which ones the service had older than that.

    Raises:
        TransportError: the service cannot be reached, or refused.
        FormatError: it answered with something of another form.
        EvidenceInvalid: what it answered is not genuine, or about another model.
    """
    fresh = verify_collateral(fetcher.fetch(model), root_sha256=model.root_sha256)
    if fresh.model != model:
        raise EvidenceInvalid(f"the PCCS answered with the collateral of {fresh.model}")
    return cache.add(fresh)


def open_source(
    place: CollateralPlace, *, addresses: Mapping[str, str] | None = None
) -> CollateralSource:
    """Return the source that the operator configured; without any, `NoCollateral`.

    Args:
        place: as the operator wrote it.
        addresses: IP addresses by the names of `Pccs.hosts`, for a process that asks no resolver;
            None lets this one ask the system's.

    Raises:
        ConfigError: the address of the PCCS is none.
    """
    cache = CollateralCache(Path(place.cache) if place.cache else None)
    if place.pccs is not None:
        connect = None if addresses is None else connect_resolved(addresses)
        fetcher = PccsClient(parse_pccs(place.pccs, update=place.update), connect=connect)
        return PccsCollateral(fetcher, cache, warn_before_s=place.warn_before_s)
    if place.cache:
        return CachedCollateral(cache, warn_before_s=place.warn_before_s)
    return NoCollateral(warn_before_s=place.warn_before_s)
