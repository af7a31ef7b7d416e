"""Counters that the broker keeps for workloads, so that their hosts cannot put old state back.

A counter belongs to a role and a measurement, as a mesh certificate under the manifest in force
says them, and has a name. It only grows, from where its asker knows it to stand; each step is
committed to the broker's own state, with an audit line, before it is told.

Counters are never deleted: a measurement that leaves the manifest and comes back finds its state
as fresh as it left it.
"""

import secrets
from typing import Final

from typing_extensions import override

from wardian._internal import wire
from wardian._internal.clock import Monotonic, UnixTime
from wardian.broker.certificates import (
    MeshIdentity,
    read_identity,
    spki_of,
    verify_peer_certificate,
)
from wardian.broker.counting.protocol import (
    MAX_VALUE,
    Advance,
    CounterAnswer,
    CounterChallenge,
    CounterHello,
    CounterName,
    CounterRequest,
    Value,
    decode_value,
    encode_value,
    request_signed_bytes,
)
from wardian.broker.desk import Desk, Office
from wardian.broker.frames import FIRST_FRAME_BYTES, FrameStream
from wardian.broker.limits import Bucket, Place
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.store import Store
from wardian.crypto.tls_keys import verify_ecdsa
from wardian.errors import AuthenticationFailed, PolicyDenied, QueueFull, TransportError

PLACE: Final = "counter"
MAX_NAMES: Final = 64
"""Counters of one role and measurement."""
MAX_OWNERS: Final = 1024
"""Roles and measurements that have counters, over the life of the broker."""
ADVANCES_PER_S: Final = 0.2
ADVANCE_BURST: Final = 200
"""Of one role and measurement: each writes an audit line that is kept for good."""
ALL_ADVANCES_PER_S: Final = 1.0
ALL_ADVANCES_BURST: Final = 1000
"""Of all together."""
READS_PER_S: Final = 20.0
READ_BURST: Final = 800
"""Of one role and measurement: each asks the broker's own counter. A write of sealed state reads
three times, a quorum a little oftener."""


class _Kept(wire.Message, frozen=True, tag_field="format", tag="wardian counters v1"):
    """All counters of one role and measurement, as the store keeps them."""

    counters: dict[CounterName, Value]


class KeptCounters:
    """The counters in the broker's state. One thread."""

    __slots__ = ("_advances", "_all_advances", "_clock", "_reads", "_store", "_ticks")

    def __init__(self, *, store: Store, clock: UnixTime, ticks: Monotonic) -> None:
        """Keep counters in `store`; `clock` (Unix seconds) dates audit lines."""
        self._store, self._clock, self._ticks = store, clock, ticks
        self._advances: dict[str, Bucket] = {}
        self._reads: dict[str, Bucket] = {}
        self._all_advances = Bucket(per_s=ALL_ADVANCES_PER_S, burst=ALL_ADVANCES_BURST, now=ticks())

    def read(self, identity: MeshIdentity, name: str) -> int:
        """Return where the counter `name` of this identity stands, 0 if it was never advanced.

        Raises:
            QueueFull: this identity reads more often than it may (retryable).
            SealError: another broker may know better: see `Store.confirm`.
        """
        self._spend(self._reads, _owner(identity), per_s=READS_PER_S, burst=READ_BURST)
        self._store.confirm()
        return decode_value(self._all(_owner(identity)).get(name, bytes(1)))

    def advance(self, identity: MeshIdentity, name: str, *, at: int, to: int) -> None:
        """Set the counter from `at` to `to`, durably and audited when this returns.

        Raises:
            PolicyDenied: it stands elsewhere (rule `counter-moved`), `to` is not greater or too
                great (`counter-range`), or there would be too many (`counter-room`).
            QueueFull: this identity, or all together, advance more often than they may
                (retryable).
            SealError: it cannot be made durable; it was not advanced, or nobody knows.
        """
        owner = _owner(identity)
        counters = self._all(owner)
        stands = decode_value(counters.get(name, bytes(1)))
        if stands != at:
            raise PolicyDenied(
                f"the counter {name} stands elsewhere than the asker says: another process of this "
                "role and measurement advanced it, or an answer was lost. Read it first",
                rule="counter-moved",
            )
        if not at < to <= MAX_VALUE:
            raise PolicyDenied(
                f"the counter {name} only goes up, and not beyond 2**127 - 1", rule="counter-range"
            )
        self._refuse_crowd(counters, name)
        self._spend(self._advances, owner, per_s=ADVANCES_PER_S, burst=ADVANCE_BURST)
        if not self._all_advances.take(self._ticks()):
            raise QueueFull("the broker counts as often as it may, for all together: ask later")
        entry = AuditEntry(
            event="counter",
            outcome="granted",
            role=identity.role,
            measurement=identity.measurement.hex(),
            manifest=identity.manifest_digest.hex(),
            counter=name,
        )
        kept = _Kept(counters=counters | {name: encode_value(to)})
        self._store.commit({(PLACE, owner): wire.encode(kept)}, audit=[entry], now=self._clock())

    def _all(self, owner: str) -> dict[str, bytes]:
        raw = self._store.get(PLACE, owner)
        return {} if raw is None else dict(wire.decode(raw, _Kept, what="counters").counters)

    def _refuse_crowd(self, counters: dict[str, bytes], name: str) -> None:
        """Refuse one counter more than there may be: rows are read whole, at every commit."""
        if name not in counters and len(counters) >= MAX_NAMES:
            raise PolicyDenied(
                f"a role and measurement has at most {MAX_NAMES} counters", rule="counter-room"
            )
        if not counters and len(self._store.keys(PLACE)) >= MAX_OWNERS:
            raise PolicyDenied(
                f"the broker keeps counters for at most {MAX_OWNERS} roles and measurements",
                rule="counter-room",
            )

    def _spend(self, buckets: dict[str, Bucket], owner: str, *, per_s: float, burst: int) -> None:
        """Take one out of the bucket of `owner`: so many there are, as the CA certified."""
        now = self._ticks()
        bucket = buckets.setdefault(owner, Bucket(per_s=per_s, burst=burst, now=now))
        if not bucket.take(now):
            raise QueueFull("this role and measurement counts more often than it may: ask later")


class CounterSession:
    """The broker's end of one exchange, pure: `challenge`, then `receive`, once."""

    __slots__ = ("_ca_spki", "_challenge", "_hello", "_spki", "identity")

    identity: MeshIdentity
    """Who says to ask; believed when `receive` returned."""

    def __init__(
        self,
        raw: bytes,
        hello: CounterHello,
        *,
        ca_spki: bytes,
        issuer_spki: bytes,
        manifest_digest: bytes,
        nonce: bytes,
        now: int,
    ) -> None:
        """Begin with message 1.

        Args:
            raw: message 1 as it travelled.
            hello: message 1, decoded.
            ca_spki: of this broker's own mesh CA.
            issuer_spki: of the CA that issues under the manifest in force.
            manifest_digest: of the manifest in force. A certificate of an earlier one shows code,
                or a platform, that the owners may have withdrawn meanwhile.
            nonce: 32 fresh bytes.
            now: Unix seconds.

        Raises:
            FormatError, AuthenticationFailed, EvidenceStale, PolicyDenied: not a valid mesh
                certificate of this CA under this manifest; see `verify_peer_certificate`.
        """
        self.identity = verify_peer_certificate(
            hello.certificate,
            issuer_spki=issuer_spki,
            role=read_identity(hello.certificate).role,
            manifest_digest=manifest_digest,
            now=now,
        )
        self._spki = spki_of(hello.certificate)
        self._ca_spki = ca_spki
        self._hello = raw
        self._challenge = wire.encode(CounterChallenge(nonce=nonce))

    @property
    def challenge(self) -> bytes:
        """Message 2."""
        return self._challenge

    def receive(self, raw: bytes) -> CounterRequest:
        """Return message 3, signed with the certificate's key for this session.

        Raises:
            FormatError: it does not parse.
            AuthenticationFailed: who asks does not hold the certificate's key, or signed this for
                another session.
        """
        request = wire.decode(raw, CounterRequest, what="counter request")
        signed = request_signed_bytes(
            ca_spki=self._ca_spki,
            hello=self._hello,
            challenge=self._challenge,
            counter=request.counter,
            advance=request.advance,
        )
        try:
            verify_ecdsa(self._spki, request.signature, signed)
        except AuthenticationFailed as err:
            raise AuthenticationFailed(
                "the request is not signed with the certificate's key, for this session"
            ) from err
        return request


class CounterDesk(Desk[CounterHello]):
    """Answers workloads that count, one exchange to a connection."""

    __slots__ = ("_kept", "_office")

    def __init__(self, office: Office) -> None:
        """Count in the state of `office`, for whom its authority gave a certificate."""
        self._office = office
        self._kept = KeptCounters(
            store=office.authority.store, clock=office.authority.clock, ticks=office.ticks
        )

    @override
    async def serve(
        self, stream: FrameStream, place: Place, raw: bytes, first: CounterHello
    ) -> None:
        """Carry out one step of a workload's counter; a refusal is audited before it is told.

        Raises:
            TransportError: there is no manifest yet, or the peer left or was slow.
            FormatError, CryptoError, EvidenceStale, PolicyDenied, QueueFull: refused; see
                `CounterSession` and `KeptCounters`.
        """
        try:
            await self._count(stream, raw, first)
        except (TransportError, QueueFull):
            raise
        except Exception as err:  # who asks may be anybody
            self._office.refuse_rationed(err, role="workload")
            raise

    async def _count(self, stream: FrameStream, raw: bytes, hello: CounterHello) -> None:
        authority = self._office.authority
        session = CounterSession(
            raw,
            hello,
            ca_spki=authority.ca.spki,
            issuer_spki=authority.issuer.spki,
            manifest_digest=authority.manifest.digest,
            nonce=secrets.token_bytes(NONCE_BYTES),
            now=self._office.authority.clock(),
        )
        await stream.send(session.challenge)
        request = session.receive(await stream.receive(most=FIRST_FRAME_BYTES))
        # From here to the value nothing waits, so that no place has to be kept firm: while the
        # answer travels, and the peer's farewell is due, this connection gives way like any other.
        value = self._answer(session.identity, request)
        await stream.send(wire.encode(CounterAnswer(value=encode_value(value))))

    def _answer(self, identity: MeshIdentity, request: CounterRequest) -> int:
        """Return where the counter stands once what was asked is done."""
        step: Advance | None = request.advance
        if identity.manifest_digest != self._office.authority.manifest.digest:
            raise PolicyDenied("the mesh manifest changed meanwhile", rule="peer-manifest")
        if step is None:
            return self._kept.read(identity, request.counter)
        at, to = decode_value(step.at), decode_value(step.to)
        self._kept.advance(identity, request.counter, at=at, to=to)
        return to


def _owner(identity: MeshIdentity) -> str:
    """Return whose counters these are: code in a role, whatever manifest lists it."""
    return f"{identity.role}/{identity.measurement.hex()}"
