"""One keeper of a broker's counter: `MonotonicCounter`s at it, over connections that come and go.

A keeper that does not answer in time counts as away, and is not tried again for a little while, so
that one that is gone holds nothing up.
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from wardian._internal.clock import UnixTime, monotonic
from wardian._internal.counter import MonotonicCounter
from wardian.attestation.appraisal.policy import AppraisalPolicy
from wardian.attestation.evidence import Evidence
from wardian.attestation.verifier import verify_evidence
from wardian.broker.counting.protocol import Advance
from wardian.broker.counting.remote import RemoteCounter
from wardian.broker.keeping.keeper_link import KeeperLink
from wardian.broker.keeping.messages import keeper_id
from wardian.crypto.signing import SigningKey
from wardian.errors import (
    AuthenticationFailed,
    CounterUnavailable,
    PolicyDenied,
    SealError,
    Timeout,
    TransportError,
    WardianError,
)

AWAY_S: Final = 2.0
"""How long a keeper that failed is left alone."""

Complete = Callable[[Evidence, frozenset[bytes], int], Evidence]
"""Adds collateral to evidence that brings none; see `CollateralSource.complete`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKeeper:
    """A keeper as the measured `wardian.toml` names it, and where the operator says it listens.

    Attributes:
        name: for messages.
        address: IP address and port; a lie costs service and nothing else. None: the operator
            says none, so it counts as away.
        key_sha256: SHA-256 of the SubjectPublicKeyInfo (DER) of its key.
        policy: what its evidence has to satisfy.
    """

    name: str
    address: tuple[str, int] | None
    key_sha256: bytes
    policy: AppraisalPolicy


class KeeperPeer:
    """One keeper, asked under one key: one step at a time, whichever thread asks."""

    __slots__ = (
        "_asker",
        "_away_until",
        "_busy",
        "_complete",
        "_keeper",
        "_link",
        "_now",
        "_ticks",
    )

    def __init__(
        self,
        keeper: KnownKeeper,
        *,
        asker: SigningKey,
        complete: Complete,
        now: UnixTime,
        ticks: Callable[[], float] = monotonic,
    ) -> None:
        """Ask `keeper` for the counters of `asker`; nothing is dialled yet.

        Args:
            keeper: whom to ask.
            asker: an Ed25519 key, whose counters they are.
            complete: adds collateral to the keeper's evidence.
            now: the clock, Unix seconds, for the dates of collateral.
            ticks: seconds that never go back.
        """
        self._keeper, self._asker, self._complete = keeper, asker, complete
        self._now, self._ticks = now, ticks
        self._link: KeeperLink | None = None
        self._away_until = ticks()
        self._busy = threading.Lock()

    def counter(self, name: str) -> MonotonicCounter:
        """Return the counter `name` of this asker at this keeper.

        Its calls raise CounterUnavailable where the keeper cannot be asked now, SealError where
        it did not advance, and PolicyDenied, AttestationError or AuthenticationFailed where it is
        not the keeper that is named, or not as it has to be.
        """
        return RemoteCounter(self.ask, name).seam(self.keeper_id)

    @property
    def keeper_id(self) -> bytes:
        """The 32 bytes that name this keeper, whether it can be reached or not."""
        return keeper_id(self._keeper.key_sha256)

    def ask(self, counter: str, advance: Advance | None) -> int:
        """Return where `counter` stands after `advance`, or as it is; see `counter`."""
        if not self._busy.acquire(blocking=False):
            raise CounterUnavailable(f"the keeper {self._keeper.name} still answers another step")
        try:
            return self._ask(counter, advance)
        finally:
            self._busy.release()

    def _ask(self, counter: str, advance: Advance | None) -> int:
        if self._ticks() < self._away_until:
            raise CounterUnavailable(f"the keeper {self._keeper.name} is away")
        try:
            return self._take(counter, advance)
        except WardianError as err:
            self.close()  # a keeper says one thing and hangs up when it refuses
            if isinstance(err, PolicyDenied) and err.rule in {"counter-moved", "counter-range"}:
                raise SealError(f"the keeper {self._keeper.name} did not advance: {err}") from err
            self._away_until = self._ticks() + AWAY_S
            if err.retryable:
                raise CounterUnavailable(f"the keeper {self._keeper.name}: {err}") from err
            raise  # `counter.peer-away` names the keeper

    def _take(self, counter: str, advance: Advance | None) -> int:
        """Ask; once more on a new connection where the one of before turns out to be gone.

        To ask twice is safe: an advance whose answer was lost is refused the second time, and
        whoever gets that reads the counter.
        """
        if self._link is not None:
            try:
                return self._link.take(counter, advance)
            except TransportError as err:
                if isinstance(err, Timeout) or not err.retryable:
                    raise
                self.close()
        return self._connected().take(counter, advance)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _connected(self) -> KeeperLink:
        """Return a new connection to the very keeper, which has proved what it is."""
        keeper = self._keeper
        if keeper.address is None:
            raise CounterUnavailable("operator.toml says no address of it in [broker] keepers")
        link = KeeperLink(keeper.address)
        try:
            self._demand_genuine(link)
        except BaseException:
            link.close()
            raise
        self._link = link
        return link

    def _demand_genuine(self, link: KeeperLink) -> None:
        """Return if `link` ends at the very keeper, and that is what it has to be."""
        keeper = self._keeper
        if hashlib.sha256(link.spki).digest() != keeper.key_sha256:
            raise AuthenticationFailed(
                "who listens there is not the keeper of wardian.toml: it has another key"
            )
        shown, now = link.introduce(self._asker), self._now()
        verify_evidence(
            self._complete(shown.evidence, keeper.policy.roots, now),
            policy=keeper.policy,
            report_data=shown.report_data,
            now=now,
        )
