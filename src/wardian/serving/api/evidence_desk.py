"""Answers `GET /v1/attestation`: fresh evidence about the TLS key of the asking connection.

A quote costs the platform milliseconds and anyone may ask, so asking is rationed: a token bucket,
one quote at a time, in a thread of its own (TRUST T24). Beyond the ration requests wait a while, in
a bounded line in which every connection has its turn: one that asks without end delays a newcomer
by one quote. Who finds no place in it is told when to come back; requests for inference notice
nothing. Nothing is cached, because each client's nonce makes its evidence another.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias

from wardian._internal import wire
from wardian._internal.clock import Monotonic, monotonic
from wardian._internal.log import event
from wardian.attestation.evidence import Evidence
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.release.request_keys import RequestKey
from wardian.broker.transparency.cosigning import WitnessedHead
from wardian.errors import QueueFull, RequestError
from wardian.serving.api.fair_line import FairLine
from wardian.serving.frontend_evidence import (
    NONCE_BYTES,
    FrontendEvidence,
    frontend_report_data,
)
from wardian.serving.http.messages import NO_STORE, HttpResponse, error_response

log = logging.getLogger(__name__)

QUOTES_PER_S: Final = 20.0
BURST: Final = 40
MAX_MAKING: Final = 64
"""Requests that have had their ration and wait for the thread."""
_BUSY: Final = "too many ask for evidence at once; verified connections still serve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Papers:
    """What a front end shows beside its evidence; all of one admission.

    Attributes:
        manifest: the one that this process was admitted under.
        mesh_ca: the mesh CA's certificate, DER.
        issuing_ca: that of the CA which issues under the manifest, DER.
        witnessed: the audit log at that admission.
        request_keys: by model, what the broker states of the key that clients may seal to.
    """

    manifest: VerifiedManifest
    mesh_ca: bytes
    issuing_ca: bytes
    witnessed: WitnessedHead
    request_keys: Mapping[str, RequestKey] = field(default_factory=dict)


_Asked: TypeAlias = tuple[bytes, bytes, Callable[[HttpResponse], None]]
"""Nonce, key of the connection, and whom to answer."""


class EvidenceDesk:
    """Hands out evidence about this front end."""

    def __init__(
        self,
        *,
        attest: Callable[[bytes], Evidence],
        papers: Papers,
        clock: Monotonic = monotonic,
    ) -> None:
        """Hand out what `attest` makes.

        Args:
            attest: returns evidence over 64 bytes of report data; may block, and may raise.
            papers: what is shown beside it.
            clock: monotonic seconds, for the ration.
        """
        self._attest = attest
        self._papers = papers
        self._ca_spki = verify_ca_certificate(papers.mesh_ca)
        self._clock = clock
        self._tokens = float(BURST)
        self._refilled = clock()
        self._making = 0
        self._line: FairLine[_Asked] = FairLine()
        self._timer: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="wardian-quote")

    def request_key(self, model: str) -> RequestKey:
        """Return what the broker states of the request key of `model`.

        Raises:
            RequestError: 404; there is nothing.
        """
        key = self._papers.request_keys.get(model)
        if key is None:
            raise RequestError("no request key of such a model", status=404)
        return key

    def use(self, papers: Papers) -> None:
        """Show `papers` beside evidence that is made from now on.

        Under another manifest those who wait are told to connect again (421): evidence of it does
        not fit the keys of their connections, and their clients would take that for an attack.
        """
        moved = papers.manifest.digest != self._papers.manifest.digest
        self._papers = papers
        self._ca_spki = verify_ca_certificate(papers.mesh_ca)
        for _, _, done in self._line.clear() if moved else ():
            done(error_response(421, "the mesh manifest changed: connect again"))

    def answer(
        self,
        nonce: bytes,
        *,
        tls_spki: bytes,
        connection: int,
        done: Callable[[HttpResponse], None],
    ) -> None:
        """Call `done` with evidence over `nonce` and `tls_spki`, later, on the loop's thread.

        Args:
            nonce: 32 bytes that the client chose.
            tls_spki: the server key of the connection that asks.
            connection: which one that is; each has its turn.
            done: called exactly once.

        Raises:
            RequestError: 400; the nonce is not 32 bytes.
            QueueFull: the ration is used up, and so are the places to wait; come back later.
        """
        if len(nonce) != NONCE_BYTES:
            raise RequestError(f"nonce: {NONCE_BYTES} bytes in hex were expected")
        if not self._line.join((nonce, tls_spki, done), connection=connection, now=self._clock()):
            raise QueueFull(_BUSY)
        self._serve_line()

    def close(self) -> None:
        """Make no further evidence; what waits is given up."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _, _, done in self._line.clear():
            done(_stopping())
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _serve_line(self) -> None:
        """Make what the ration allows, give up what has waited too long, and come back if need be.

        `done` may ask again from within: whatever it adds is seen by the loops.
        """
        now = self._clock()
        for _, _, done in self._line.expired(now):
            done(error_response(429, _BUSY, retry_after_s=1))
        while self._line and self._take_token(now):
            nonce, tls_spki, done = self._line.next()
            self._make(nonce, tls_spki, done)
        if self._line and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(1 / QUOTES_PER_S, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._serve_line()

    def _make(self, nonce: bytes, tls_spki: bytes, done: Callable[[HttpResponse], None]) -> None:
        self._making += 1
        loop = asyncio.get_running_loop()
        work = partial(self._quote, nonce, tls_spki, self._papers, self._ca_spki)
        quote = loop.run_in_executor(self._thread, work)
        quote.add_done_callback(lambda future: self._finish(future, done))

    def _take_token(self, now: float) -> bool:
        self._tokens = min(BURST, self._tokens + (now - self._refilled) * QUOTES_PER_S)
        self._refilled = now
        if self._tokens < 1 or self._making >= MAX_MAKING:
            return False
        self._tokens -= 1
        return True

    def _quote(self, nonce: bytes, tls_spki: bytes, papers: Papers, ca_spki: bytes) -> bytes:
        """Return the body of the answer. Runs in the desk's thread."""
        manifest = papers.manifest
        report_data = frontend_report_data(
            nonce=nonce,
            tls_spki=tls_spki,
            ca_spki=ca_spki,
            manifest_digest=manifest.digest,
            version=manifest.manifest.version,
        )
        return wire.encode(
            FrontendEvidence(
                evidence=self._attest(report_data),
                manifest=manifest.signed,
                mesh_ca=papers.mesh_ca,
                issuing_ca=papers.issuing_ca,
                witnessed=papers.witnessed,
            )
        )

    def _finish(
        self, future: "asyncio.Future[bytes]", done: Callable[[HttpResponse], None]
    ) -> None:
        self._making -= 1
        if future.cancelled():
            done(_stopping())
        elif (err := future.exception()) is not None:
            event(log, "evidence.failed", level=logging.ERROR, error=type(err).__name__)
            done(error_response(503, "no evidence can be made now", retry_after_s=5))
        else:
            done(HttpResponse(body=(future.result(),), headers=NO_STORE))


def _stopping() -> HttpResponse:
    return error_response(503, "this front end is stopping", retry_after_s=1)
