"""Where collateral comes from when the attester sent none, or older: three sources, one question.

    PccsCollateral     a PCCS, once a day for each model of platforms, and what it said before; it
                       stands in `pccs_source`
    CachedCollateral   what lies in a directory: offline
    NoCollateral       nowhere: what the attester sent has to do

`complete` hands evidence on with the newest statement of each kind that the attester or the source
has. It decides nothing: whatever comes out is verified by `verify_evidence` like everything else,
and evidence with which something is wrong comes out as it went in, for the verifier to say what.

What the attester sends is not kept. He could choose a genuine statement that the configured service
will not have for months (`update=early`), and everybody after him would be held to it.
"""

import logging
import threading
import time
from abc import ABC, abstractmethod
from typing import Final, Protocol

from typing_extensions import override

from wardian._internal.clock import Monotonic, monotonic
from wardian._internal.log import Field, event
from wardian.attestation.collateral.cache import MAX_MODELS, CollateralCache
from wardian.attestation.collateral.platform_model import PlatformModel, verify_model
from wardian.attestation.collateral.signed import (
    SignedCollateral,
    expires_soon,
    newest,
    verify_collateral,
)
from wardian.attestation.evidence import Evidence
from wardian.attestation.quotes.quote import parse_quote
from wardian.errors import AttestationError, CollateralUnavailable, FormatError

log = logging.getLogger(__name__)

SOON_S: Final = 3600
"""How often it is warned that collateral ends soon, and a service asked for newer."""


class CollateralSource(Protocol):
    """Completes evidence before it is verified. Blocks: call it in a thread. Thread-safe."""

    def complete(self, evidence: Evidence, *, roots: frozenset[bytes], now: int) -> Evidence:
        """Return `evidence` with the newest collateral that it or this source has.

        Args:
            evidence: untrusted.
            roots: SHA-256 of each root that the policy names; about platforms under another root
                nobody is asked.
            now: Unix time, seconds.

        Raises:
            CollateralUnavailable: there is none, or all of it has ended.
        """

    def refresh(self, now: int) -> None:
        """Ask for what is due and warn of what ends soon, about each model that was used so far.

        For a timer, so that it happens while no evidence comes, too.
        """


class Source(ABC):
    """What the three sources have in common; they differ in what they hold."""

    def __init__(self, *, warn_before_s: int | None = None, clock: Monotonic = monotonic) -> None:
        self._warn_before_s = warn_before_s
        self._clock = clock
        self._lock = threading.Lock()
        self._warn_at: dict[PlatformModel, float] = {}

    def complete(self, evidence: Evidence, *, roots: frozenset[bytes], now: int) -> Evidence:
        """Return `evidence` with the newest collateral; see `CollateralSource.complete`."""
        try:
            model = verify_model(parse_quote(evidence.quote), roots=roots)
        except (FormatError, AttestationError):
            return evidence
        sent = _genuine(evidence.collateral, model)
        held, trouble = self._held(model, now)
        best = newest(held, sent) if held and sent else held or sent
        if best is None and evidence.collateral:
            return evidence
        if best is None:
            raise CollateralUnavailable(f"no collateral about {model}: {trouble}")
        self._warn(best, now)
        if best.ends <= now:
            ended = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(best.ends))
            raise CollateralUnavailable(f"the collateral about {model} ended {ended}: {trouble}")
        return Evidence(quote=evidence.quote, collateral=best.encode())

    def refresh(self, now: int) -> None:
        """Ask for what is due and warn of what ends soon; see `CollateralSource.refresh`."""
        with self._lock:
            models = tuple(self._warn_at)
        for model in models:
            held, _ = self._held(model, now)
            if held is not None:
                self._warn(held, now)

    @abstractmethod
    def _held(self, model: PlatformModel, now: int) -> tuple[SignedCollateral | None, str]:
        """Return what this source has about `model`, and why it is not more."""

    def _warn(self, held: SignedCollateral, now: int) -> None:
        """Log that `held` ends soon, if it does, and not more often than each `SOON_S`."""
        soon = expires_soon(held, now, warn_before_s=self._warn_before_s)
        with self._lock:
            now_s = self._clock()
            warn_at = self._warn_at.pop(held.model, now_s)
            due = soon and now_s >= warn_at
            self._warn_at[held.model] = now_s + SOON_S if due else warn_at
            while len(self._warn_at) > MAX_MODELS:
                del self._warn_at[next(iter(self._warn_at))]
        if due:
            warn("collateral.expires_soon", held.model, left_s=held.ends - now)


class NoCollateral(Source):
    """No source: evidence without collateral is refused, other evidence stays as it is."""

    @override
    def complete(self, evidence: Evidence, *, roots: frozenset[bytes], now: int) -> Evidence:
        """Return `evidence` as the attester sent it; see `CollateralSource.complete`."""
        if evidence.collateral:
            return evidence
        return super().complete(evidence, roots=roots, now=now)

    @override
    def _held(self, model: PlatformModel, now: int) -> tuple[SignedCollateral | None, str]:
        return None, "neither a PCCS nor a cache is configured here"


class CachedCollateral(Source):
    """What lies in a cache, and nobody is asked: offline. It is filled by who carries files."""

    def __init__(
        self,
        cache: CollateralCache,
        *,
        warn_before_s: int | None = None,
        clock: Monotonic = monotonic,
    ) -> None:
        super().__init__(warn_before_s=warn_before_s, clock=clock)
        self._cache = cache

    @override
    def _held(self, model: PlatformModel, now: int) -> tuple[SignedCollateral | None, str]:
        return self._cache.load(model), "no PCCS is configured: bring newer files into the cache"


def warn(name: str, model: PlatformModel, **fields: Field) -> None:
    """Log that something about the collateral of `model` needs a person."""
    event(log, name, level=logging.WARNING, model=str(model), **fields)


def _genuine(raw: bytes, model: PlatformModel) -> SignedCollateral | None:
    """Return what the attester sent, if it is genuine and about its model."""
    try:
        sent = verify_collateral(raw, root_sha256=model.root_sha256)
    except (FormatError, AttestationError):
        return None
    return sent if sent.model == model else None
