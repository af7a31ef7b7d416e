"""One connection of a client, without its socket: what to send, and what was received.

The order is fixed here, for the sync and the async client alike:

    TLS handshake -> certificate -> evidence asked for and verified -> requests

`request` refuses to make a byte before `verify` accepted the other end, or before it was known
already that this very key had been verified a short while ago; and from when the certificate ends,
by the client's clock: the one of the front end is its host's (TRUST T21).
"""

import secrets
import ssl
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import h11

from wardian._internal import wire
from wardian._internal.clock import Monotonic, UnixTime, monotonic, unix_time
from wardian.broker.certificates import spki_of, valid_until
from wardian.crypto.secret import Secret
from wardian.errors import (
    ConfigError,
    ConnectionLost,
    LocalProtocolError,
    PeerProtocolError,
)
from wardian.serving.client.credentials import ClientCertificate, authorization, load_certificate
from wardian.serving.client.messages import Answer, Call, raise_for_status
from wardian.serving.client.policy import ClientPolicy, VerifiedFrontend
from wardian.serving.frontend_evidence import NONCE_BYTES, PATH, FrontendEvidence

MAX_HEADER_BYTES: Final = 64 * 1024
MAX_ANSWER_BYTES: Final = 1024**3
"""Largest answer of a verified front end; of one that is not verified, `wire.MAX_MESSAGE_BYTES`."""
MAX_KEYS: Final = 1024
"""Keys that are remembered as verified."""
DEFAULT_PORT: Final = 443
MISDIRECTED: Final = 421
"""RFC 9110 section 15.5.20: any request may be repeated on another connection."""
MAX_MOVES: Final = 8
"""Front ends that may move to another manifest under one call. Behind a balancer each moves by
itself, so the next connection can lead to one that is just about to."""
MAX_LOSSES: Final = 2
"""Connections that one call may lose: one was closed while it was idle, and the next one by a front
end that moved, or stopped, just after it had been verified."""


class Moved(ConnectionLost):
    """The front end serves no more on this connection, and did nothing of what was asked on it."""


class NoTls(ConnectionLost):
    """The other end does not speak TLS 1.3: that is not going to change."""


class Attempts:
    """Which losses one call survives, to be tried again on a new connection."""

    __slots__ = ("_lost", "_moves")

    def __init__(self) -> None:
        """Nothing was lost yet."""
        self._lost = self._moves = 0

    @property
    def failed(self) -> bool:
        """Whether one was: what was kept idle since may be lost, too."""
        return bool(self._lost or self._moves)

    def survive(self, err: ConnectionLost) -> None:
        """Return if the call is to be tried once more, else raise `err`.

        Where a front end moved, nothing was done. Any other loss may have cost the answer alone: it
        is survived because an inference changes nothing and the idempotency key is the same.
        """
        if isinstance(err, Moved):
            self._moves += 1
        else:
            self._lost += 1
        over = self._moves > MAX_MOVES or self._lost > MAX_LOSSES
        if over or isinstance(err, NoTls):
            raise err


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a front end is."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORT else f"{host}:{self.port}"


def parse_origin(url: str) -> Origin:
    """Return the origin that `url`, `https://HOST[:PORT]`, names.

    Raises:
        ConfigError: another scheme, a path, or no host.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or DEFAULT_PORT
        (host or "").encode("idna")
    except ValueError as err:  # UnicodeError too: a label that no resolver would take
        raise ConfigError(f"{url!r}: not a URL: {err}") from err
    if parts.scheme != "https" or not host:
        raise ConfigError(f"{url!r}: expected https://HOST[:PORT]; nothing is sent in the clear")
    if parts.path not in ("", "/") or parts.query or parts.username:
        raise ConfigError(f"{url!r}: expected https://HOST[:PORT] and no more")
    return Origin(host=host, port=port)


def client_context(certificate: ClientCertificate | None = None) -> ssl.SSLContext:
    """Return the TLS context of a client that verifies evidence instead of certificates.

    It shows `certificate`, if there is one, to front ends that ask for one.

    No CA is asked. A CA says who controls a name; what a client wants to know is which code holds
    the key at the other end, and evidence bound to that key says it, whatever the name. The
    handshake still proves that the other end holds the private key of the certificate that it
    shows (RFC 8446 section 4.4.3), whatever `verify_mode` says; so a machine in between can show
    somebody else's evidence or somebody else's key, but never both for one connection.
    `ClientConnection` makes no request before that evidence is verified.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET  # a resumed connection shows no certificate (TRUST T20)
    context.set_alpn_protocols(["http/1.1"])
    if certificate is not None:
        load_certificate(context, certificate)
    return context


def handshake_failed(origin: Origin, err: OSError) -> ConnectionLost:
    """Return what to raise for a TLS handshake with `origin` that ended in `err`.

    One that was cut off may have met a front end that was just stopping.
    """
    cut_off = not isinstance(err, ssl.SSLError) or isinstance(err, ssl.SSLEOFError)
    kind = ConnectionLost if cut_off else NoTls
    return kind(f"no TLS 1.3 with {origin.authority}: {err}")


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
