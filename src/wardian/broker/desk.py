"""What every desk of the broker shares: decisions, evidence, and what strangers may cost.

A desk serves one kind of first message from there to the end of the connection. `service` has the
table of desks; what they decide with is in `authority` and beside each desk.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

import msgspec

from wardian._internal import wire
from wardian._internal.clock import Monotonic
from wardian.attestation.appraisal.policy import AppraisalPolicy
from wardian.attestation.collateral.source import CollateralSource, NoCollateral
from wardian.attestation.evidence import Evidence
from wardian.attestation.quotes.quote import parse_quote
from wardian.attestation.results.result import AttestationResult
from wardian.attestation.verifier import verify_evidence
from wardian.broker.authority import Authority
from wardian.broker.frames import FrameStream
from wardian.broker.limits import (
    NO_QUOTE_LEFT,
    Bucket,
    OwnerLines,
    PeerBuckets,
    Place,
    Ration,
    ServiceLimits,
    SharedBucket,
)
from wardian.broker.state.audit import AuditEntry
from wardian.errors import CollateralUnavailable, PolicyDenied, QueueFull

ROOT_RULE: Final = "Root"
"""What refuses evidence before anything of it is verified; see `AppraisalPolicy.appraise_root`."""

T = TypeVar("T")
M_contra = TypeVar("M_contra", bound=msgspec.Struct, contravariant=True)


class Desk(Protocol[M_contra]):
    """Serves connections that begin with one kind of message."""

    async def serve(self, stream: FrameStream, place: Place, raw: bytes, first: M_contra) -> None:
        """Carry out one exchange to its end.

        Args:
            stream: the connection.
            place: its place among those served; a desk makes it firm once something was presented
                that has to be decided, and audited, to its end.
            raw: the first message as it travelled.
            first: the same, decoded.

        Raises:
            WardianError: refused; the service tells the peer why. What has to be audited was.
        """


def of_genuine(error: Exception) -> bool:
    """Return whether evidence that `Office.verify` judged was genuine, and refused by a policy.

    What does not parse, is signed by nobody known, or is bound to something else costs nothing.
    """
    return isinstance(error, PolicyDenied) and error.rule != ROOT_RULE


class Office:
    """The means of all desks. Everything but the evidence runs on the service's one thread."""

    __slots__ = (
        "_attest",
        "_collateral",
        "_fetching",
        "_granted",
        "_judged",
        "_plans",
        "_quotes",
        "_threads",
        "authority",
        "collateral_expires",
        "limits",
        "lines",
        "ticks",
    )

    collateral_expires: int | None
    """When the vendor's statements run out in the evidence that was accepted last, Unix seconds."""

    def __init__(
        self,
        *,
        authority: Authority,
        attest: Callable[[bytes], Evidence],
        ticks: Monotonic,
        limits: ServiceLimits,
        collateral: CollateralSource | None = None,
    ) -> None:
        """Serve with what `authority` decides.

        Args:
            authority: what is in force.
            attest: makes this process's evidence over 64 bytes; called in another thread.
            collateral: completes evidence that brings none; by default none is to be had.
            ticks: seconds that never go back.
            limits: what strangers may cost.
        """
        self.authority, self.ticks, self.limits = authority, ticks, limits
        self.collateral_expires = None
        now = ticks()
        self.lines = Ration(Bucket(per_s=limits.lines_per_s, burst=limits.line_burst, now=now))
        self._attest = attest
        self._collateral = collateral or NoCollateral()
        self._judged = Bucket(per_s=limits.judged_per_s, burst=limits.judged_burst, now=now)
        self._granted = OwnerLines(per_s=limits.granted_per_s, burst=limits.granted_burst)
        self._plans = PeerBuckets(per_s=limits.plans_per_s, burst=limits.plan_burst)
        self._quotes = SharedBucket(
            per_s=limits.quotes_per_s,
            burst=limits.quote_burst,
            peer_per_s=limits.peer_quotes_per_s,
            peer_burst=limits.peer_quote_burst,
            now=now,
        )
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="evidence")
        # A source may wait for a service: who waits with it holds up nobody who brought collateral.
        self._fetching = ThreadPoolExecutor(max_workers=4, thread_name_prefix="collateral")

    def close(self) -> None:
        """Wait for the threads and end them."""
        self._threads.shutdown(wait=True)
        self._fetching.shutdown(wait=True)

    def spend(self, bucket: Bucket, what: str) -> None:
        """Take one out of `bucket`.

        Raises:
            QueueFull: it is empty (retryable).
        """
        if not bucket.take(self.ticks()):
            raise QueueFull(f"the broker is asked for more {what}: ask later")

    def spend_quote(self, peer: str) -> None:
        """Take one quote for `peer` out of those that strangers may cause (TRUST T24).

        One address does not use up what is for all; see `limits.SharedBucket`.

        Args:
            peer: of `Place`.

        Raises:
            QueueFull: there is none left for it now (retryable).
        """
        if not self._quotes.take(peer, self.ticks()):
            raise QueueFull(NO_QUOTE_LEFT)

    def spend_plan(self, peer: str) -> None:
        """Take one plan for `peer` out of those that are read of one address.

        A plan is read before a quote is spent, and reading costs more than a refusal.

        Raises:
            QueueFull: it sent more than that (retryable).
        """
        if not self._plans.take(peer, self.ticks()):
            raise QueueFull("the broker is asked about more plans than it reads: ask later")

    def spend_lines(self, entries: Iterable[AuditEntry]) -> None:
        """Take what `entries` add to the log, for good, out of what each of their owners may.

        Raises:
            QueueFull: an owner's tables were given, or told of, oftener (retryable); nothing is
                taken of anybody.
        """
        wanted: Counter[str] = Counter()
        for entry in entries:
            if entry.owner:
                wanted[entry.owner] += 1 + len(wire.encode(entry)) // 1024
        if not self._granted.take(wanted, self.ticks()):
            raise QueueFull(
                "the tables of an owner are asked for oftener than is logged: ask later"
            )

    async def evidence(self, report_data: bytes) -> Evidence:
        """Return this broker's evidence over `report_data` (64 bytes).

        It brings collateral where this broker has a source of it: enclaves that ask have none.
        """
        now = self.authority.clock()
        own = await _within(self._threads, lambda: self._attest(report_data))
        if own.collateral:
            return own
        return await _within(self._fetching, lambda: self._complete_own(own, now))

    async def verify(
        self, evidence: Evidence, *, policy: AppraisalPolicy, report_data: bytes
    ) -> AttestationResult:
        """Return what `evidence` says now; see `verify_evidence` for what it raises.

        Time was not before the vendor's statements about the accepted platform: that is where the
        floor of the broker's clock stands from then on (TRUST T9).
        """
        clock = self.authority.clock
        now = clock()
        whole = await _within(
            self._fetching,
            lambda: self._collateral.complete(evidence, roots=policy.roots, now=now),
        )
        result = await _within(
            self._threads,
            lambda: verify_evidence(whole, policy=policy, report_data=report_data, now=now),
        )
        clock.raise_to(min(now, result.claims.collateral_issued))
        self.collateral_expires = result.claims.collateral_expires
        return result

    def refuse_rationed(
        self,
        error: Exception,
        *,
        role: str,
        models: tuple[str, ...] = (),
        evidence: Evidence | None = None,
        plan: str = "",
    ) -> None:
        """Audit a refusal within the ration of such lines, so that no stranger fills the log.

        Where evidence was refused that is genuine, and bound to this very session, there is another
        ration first: such evidence takes a platform, and nobody's garbage uses up its lines.

        Args:
            error: why.
            role: as asked for, not believed.
            models: likewise.
            evidence: what was presented, if anything was.
            plan: of a job, likewise: the digest in hex.
        """
        if not self.authority.usable:
            return
        genuine = evidence is not None and of_genuine(error) and self._judged.take(self.ticks())
        if genuine or self.lines.grants_line(self.ticks()):
            self.authority.refuse(error, role=role, models=models, evidence=evidence, plan=plan)

    async def refresh_collateral(self) -> None:
        """Fetch what is due and warn of what ends soon, about platforms that were seen so far."""
        now = self.authority.clock()
        await _within(self._fetching, lambda: self._collateral.refresh(now))

    def _complete_own(self, evidence: Evidence, now: int) -> Evidence:
        """Return this broker's `evidence`, which has no collateral, with what there is of it."""
        root = parse_quote(evidence.quote).root_sha256
        try:
            return self._collateral.complete(evidence, roots=frozenset({root}), now=now)
        except CollateralUnavailable:
            return evidence


async def _within(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    """Return what `work` returns, run in one of `threads`: it takes milliseconds, or waits."""
    return await asyncio.get_running_loop().run_in_executor(threads, work)
