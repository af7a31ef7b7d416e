"""What a broker that handed its mesh over answers: its successor, and "not here" to all others."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from typing_extensions import override

from wardian._internal import wire
from wardian._internal.agreed import Agreed
from wardian._internal.clock import Monotonic, UnixTime
from wardian.attestation.appraisal.policy import AppraisalPolicy
from wardian.attestation.evidence import Evidence
from wardian.attestation.results.result import AttestationResult
from wardian.attestation.verifier import verify_evidence
from wardian.broker.ca import MeshCa
from wardian.broker.frames import FrameStream
from wardian.broker.limits import NO_QUOTE_LEFT, SharedBucket, peer_of
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.mesh.verify import verify_manifest_for
from wardian.broker.refusal import Refusal, RefusalCode
from wardian.broker.standby.giving import Attesting, Giver, give_keys, give_state
from wardian.broker.standby.handover import handed_to
from wardian.broker.standby.messages import STANDBY_RULE, StandbyHello
from wardian.broker.state.store import Store
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import FormatError, PolicyDenied, QueueFull, SealError

QUOTES_PER_S: Final = 1.0
QUOTE_BURST: Final = 20
PEER_QUOTES_PER_S: Final = 0.2
PEER_QUOTE_BURST: Final = 4
"""What one address is sure of, and leaves to others: who holds it keeps no successor out."""
HANDED_OVER: Final = Refusal(
    code=RefusalCode.UNAVAILABLE,
    rule=STANDBY_RULE,
    message="this broker handed its mesh over to newer code: ask that one",
)


class _InThreads(Attesting):
    """Makes and judges evidence beside the event loop."""

    def __init__(self, attest: Callable[[bytes], Evidence], now: UnixTime) -> None:
        self._attest, self._now = attest, now

    @override
    async def evidence(self, report_data: bytes) -> Evidence:
        return await asyncio.to_thread(self._attest, report_data)

    @override
    async def verify(
        self, evidence: Evidence, *, policy: AppraisalPolicy, report_data: bytes
    ) -> AttestationResult:
        now = self._now()
        return await asyncio.to_thread(
            lambda: verify_evidence(evidence, policy=policy, report_data=report_data, now=now)
        )


class RetiredPlace:
    """What is left to do for a broker that handed over. It commits nothing."""

    __slots__ = ("_attesting", "_ca", "_manifest", "_quotes", "_store", "_ticks", "_to")

    def __init__(
        self,
        store: Store,
        *,
        agreed: Agreed,
        attest: Callable[[bytes], Evidence],
        now: UnixTime,
        ticks: Monotonic,
    ) -> None:
        """Give the state in `store` to whom it was handed over.

        Args:
            store: opened as the newest.
            agreed: the measured `wardian.toml`.
            attest: makes this process's evidence over 64 bytes; called in another thread.
            now: the clock, Unix seconds.
            ticks: seconds that never go back.

        Raises:
            SealError, PolicyDenied, AuthenticationFailed, FormatError: the state is not one that
                was handed over under this `wardian.toml`.
        """
        to, key = handed_to(store), store.get("ca", "key")
        certificate, raw = store.get("ca", "certificate"), store.get("manifest", "current")
        if to is None or key is None or certificate is None or raw is None:
            raise SealError("the broker's state was not handed over")
        signed = wire.decode(raw, SignedManifest, what="stored manifest")
        self._store, self._to, self._ticks = store, to, ticks
        self._ca = MeshCa(key=TlsKey.from_secret(Secret(key)), certificate=certificate)
        self._manifest = verify_manifest_for(signed, agreed=agreed)
        self._attesting = _InThreads(attest, now)
        self._quotes = SharedBucket(
            per_s=QUOTES_PER_S,
            burst=QUOTE_BURST,
            peer_per_s=PEER_QUOTES_PER_S,
            peer_burst=PEER_QUOTE_BURST,
            now=ticks(),
        )

    async def answer(self, stream: FrameStream, raw: bytes) -> None:
        """Give the successor the state once more; tell everybody else to ask there.

        Raises:
            PolicyDenied, AttestationError, FormatError: it is not the successor.
            TransportError, AuthenticationFailed: the successor was lost.
        """
        hello: StandbyHello | None = None
        with contextlib.suppress(FormatError):
            hello = wire.decode(raw, StandbyHello, what="standby hello")
        if hello is None or hello.wish != "take over":
            await stream.send(wire.encode(HANDED_OVER))
            return
        if not self._quotes.take(peer_of(stream.host), self._ticks()):
            raise QueueFull(NO_QUOTE_LEFT)
        giver = Giver(
            attesting=self._attesting,
            manifest=self._manifest,
            ca_certificate=self._ca.certificate,
            sign=self._ca.sign,
            ticks=self._ticks,
            grant=self._grant,
            presented=lambda _: None,
        )
        session = await give_keys(giver, stream, raw, hello)
        await give_state(stream, session, self._store.snapshot()[1])

    def _grant(self, result: AttestationResult) -> Secret:
        """Return what the successor may have; it was written down when the state was handed over.

        Raises:
            PolicyDenied: this is other code (rule `handover-other`).
        """
        if result.claims.measurement != self._to:
            raise PolicyDenied("the mesh was handed over to other code", rule="handover-other")
        self._store.confirm()
        return self._store.master_key.share_with(frozenset(self._manifest.signers))
