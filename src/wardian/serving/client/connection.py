"""One connection of a client, without its socket: what to send, and what was received.

The order is fixed here, for the sync and the async client alike:

    TLS handshake -> certificate -> evidence asked for and verified -> requests

`request` refuses to make a byte before `verify` accepted the other end, or before it was known
already that this very key had been verified a short while ago; and from when the certificate ends,
by the client's clock: the one of the front end is its host's (TRUST T21).
"""

import secrets
from typing import Final

import h11

from wardian._internal import wire
from wardian._internal.clock import Monotonic, UnixTime, monotonic, unix_time
from wardian.broker.certificates import spki_of, valid_until
from wardian.crypto.secret import Secret
from wardian.errors import ConnectionLost, LocalProtocolError, PeerProtocolError
from wardian.serving.client.attempts import Moved
from wardian.serving.client.credentials import ClientCertificate, authorization
from wardian.serving.client.messages import Answer, Call, raise_for_status
from wardian.serving.client.origin import Origin, client_context
from wardian.serving.client.policy import ClientPolicy, VerifiedFrontend
from wardian.serving.frontend_evidence import NONCE_BYTES, PATH, FrontendEvidence

MAX_HEADER_BYTES: Final = 64 * 1024
MAX_ANSWER_BYTES: Final = 1024**3
"""Largest answer of a verified front end; of one that is not verified, `wire.MAX_MESSAGE_BYTES`."""
MAX_KEYS: Final = 1024
"""Keys that are remembered as verified."""
MISDIRECTED: Final = 421
"""RFC 9110 section 15.5.20: any request may be repeated on another connection."""


class VerifiedKeys:
    """The TLS keys that a client has verified, and when. Shared by a client's connections."""

    def __init__(self, policy: ClientPolicy, *, clock: Monotonic = monotonic) -> None:
        self._max_age_s = policy.max_evidence_age_s
        self._clock = clock
        self._verified: dict[bytes, tuple[float, VerifiedFrontend]] = {}

    def find(self, tls_spki: bytes) -> VerifiedFrontend | None:
        """Return the front end that `tls_spki` was verified as, if that is recent enough."""
        at, frontend = self._verified.get(tls_spki, (0.0, None))
        return frontend if frontend is not None and self._clock() - at < self._max_age_s else None

    def add(self, tls_spki: bytes, frontend: VerifiedFrontend) -> None:
        """Remember that `tls_spki` was verified now."""
        self._verified.pop(tls_spki, None)
        self._verified[tls_spki] = (self._clock(), frontend)
        while len(self._verified) > MAX_KEYS:
            del self._verified[next(iter(self._verified))]


class ClientConnection:
    """The HTTP/1.1 and evidence state of one TLS connection; bytes in and out, no socket."""

    def __init__(
        self,
        origin: Origin,
        *,
        policy: ClientPolicy,
        keys: VerifiedKeys,
        certificate: bytes | None,
        now: UnixTime = unix_time,
        api_key: Secret | None = None,
    ) -> None:
        """Begin on a connection whose handshake is over.

        Args:
            origin: whom it was opened to.
            policy: what the other end must be.
            keys: those that this client verified before.
            certificate: the leaf certificate of the other end, DER, from the handshake.
            now: wall clock, for the validity of evidence.
            api_key: goes with each request, never with what is sent before evidence.

        Raises:
            FormatError: the certificate does not parse or is not of a P-256 key.
            PeerProtocolError: there is none.
        """
        if certificate is None:
            raise PeerProtocolError("the server showed no certificate")
        self._host = origin.authority.encode("ascii")
        self._policy = policy
        self._keys = keys
        self._now = now
        self._api_key = api_key
        self._certificate = certificate
        self._tls_spki = spki_of(certificate)
        self._ends_at = valid_until(certificate)
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER_BYTES)
        self._head: h11.Response | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self.frontend: VerifiedFrontend | None = None
        self.recheck()

    @property
    def reusable(self) -> bool:
        """Whether another request may follow on this connection."""
        idle = self._h11.our_state is h11.IDLE and self._h11.their_state is h11.IDLE
        return idle and not self._over

    @property
    def _over(self) -> bool:
        """Whether the other end's lease has ended, by this side's clock (TRUST T21)."""
        return self._now() > self._ends_at

    def recheck(self) -> bool:
        """Return whether the other end is verified; looks again among the client's keys."""
        if self.frontend is None and not self._over:
            self.frontend = self._keys.find(self._tls_spki)
        return self.frontend is not None

    def evidence_request(self) -> bytes:
        """Return the request for evidence; it carries a nonce and nothing of the user's."""
        return self._send(Call(target=f"{PATH}?nonce={self._nonce.hex()}".encode()))

    def verify(self, answer: Answer) -> None:
        """Accept the other end on its `answer` to `evidence_request`, for this connection.

        Raises:
            WardianError: it is not what the policy demands, or has no evidence to show now.
        """
        raise_for_status(answer)
        shown = wire.decode(answer.body, FrontendEvidence, what="front end's evidence")
        self.frontend = self._policy.verify(
            shown, nonce=self._nonce, certificate=self._certificate, now=self._now()
        )
        self._keys.add(self._tls_spki, self.frontend)

    def request(self, call: Call) -> bytes:
        """Return the bytes of `call`.

        Raises:
            LocalProtocolError: the other end is not verified.
            ConnectionLost: its lease ended since; one that goes on has another certificate by now.
        """
        if self.frontend is None:
            raise LocalProtocolError("a request before the evidence was verified")
        if self._over:
            raise ConnectionLost("the lease of the front end on this connection has ended")
        key = self._api_key
        return self._send(call, () if key is None else (authorization(key),))

    def receive(self, data: bytes) -> Answer | None:
        """Return the answer once `data` completes it; empty `data` is the end of the connection.

        Raises:
            ConnectionLost: it ended before the answer did.
            Moved: the front end serves no more on this connection, and says so (421).
            PeerProtocolError: this is not the answer of an HTTP/1.1 server.
        """
        try:
            self._h11.receive_data(data)
            while True:
                happened = self._h11.next_event()
                if happened is h11.NEED_DATA:
                    return None
                if isinstance(happened, h11.EndOfMessage):
                    return self._finish()
                if isinstance(happened, h11.ConnectionClosed):
                    raise ConnectionLost("the server closed the connection")
                self._take(happened)
        except h11.RemoteProtocolError as err:
            if not data:
                raise ConnectionLost("the server closed the connection within its answer") from err
            raise PeerProtocolError(f"the server does not speak HTTP/1.1: {err}"[:200]) from err

    def receive_part(self, data: bytes) -> tuple[bytes, bool]:
        """Return what `data` adds to the body of an answer that comes in parts, and if that is all.

        Of an answer that is no success nothing is added before it is whole; it raises then.

        Raises:
            WardianError: it is an error; see `messages.raise_for_status`.
            ConnectionLost, Moved, PeerProtocolError: as of `receive`.
        """
        answer = self.receive(data)
        if answer is not None:
            raise_for_status(answer)
            return answer.body, True
        head = self._head
        if head is None or not 200 <= head.status_code < 300:
            return b"", False
        part, self._body, self._body_bytes = b"".join(self._body), [], 0
        return part, False

    def _take(self, happened: object) -> None:
        if isinstance(happened, h11.Response):
            names = {name for name, _ in happened.headers}
            if not names & {b"content-length", b"transfer-encoding"}:
                # Its end would be the connection's, which anyone in between can bring about.
                raise PeerProtocolError("the server sent an answer of no stated length")
            self._head = happened
        elif isinstance(happened, h11.Data):
            self._body.append(bytes(happened.data))
            self._body_bytes += len(happened.data)
            limit = wire.MAX_MESSAGE_BYTES if self.frontend is None else MAX_ANSWER_BYTES
            if self._body_bytes > limit:
                raise PeerProtocolError(f"the answer is larger than {limit} bytes")

    def _finish(self) -> Answer:
        head = self._head
        if head is None:
            raise PeerProtocolError("the server sent no status line")
        if head.status_code == MISDIRECTED:
            raise Moved("the front end has moved to another manifest: connect again")
        answer = Answer(
            status=head.status_code,
            headers=dict(head.headers),
            body=b"".join(self._body),
            frontend=self.frontend,
        )
        self._head, self._body, self._body_bytes = None, [], 0
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        return answer

    def _send(self, call: Call, more: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
        body = call.body
        fields = [(b"Host", self._host), (b"Idempotency-Key", call.key), *call.headers, *more]
        if body:
            fields.append((b"Content-Length", b"%d" % len(body)))
        try:
            head = self._h11.send(
                h11.Request(method=call.method, target=call.target, headers=fields)
            )
            rest = self._h11.send_with_data_passthrough(h11.Data(data=body)) if body else []
            end = self._h11.send(h11.EndOfMessage())
        except h11.LocalProtocolError as err:
            raise LocalProtocolError(f"cannot be sent as HTTP: {err}") from err
        return b"".join((head or b"", *(rest or ()), end or b""))


class Destination:
    """A front end as one client sees it: where it is, what it must be, which keys it has proven.

    Attributes:
        origin: where it is.
        context: under which TLS it is reached; see `origin.client_context`.
    """

    def __init__(
        self,
        origin: Origin,
        policy: ClientPolicy,
        *,
        certificate: ClientCertificate | None = None,
        api_key: Secret | None = None,
    ) -> None:
        """Verify nothing yet.

        Args:
            origin: where it is.
            policy: what the other end of each connection must be.
            certificate: of a tenant, shown in the TLS handshake.
            api_key: of a tenant; goes with each request, never with what is sent before evidence.
        """
        self.origin, self.context = origin, client_context(certificate)
        self._policy, self._api_key = policy, api_key
        self._keys = VerifiedKeys(policy)

    def begin(self, certificate: bytes | None) -> ClientConnection:
        """Return the state of a connection whose handshake is over.

        `certificate` is the leaf of the other end, DER; raises as `ClientConnection`.
        """
        return ClientConnection(
            self.origin,
            policy=self._policy,
            keys=self._keys,
            certificate=certificate,
            api_key=self._api_key,
        )
