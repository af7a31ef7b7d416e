"""Sessions of the KBS protocol: bounded in number, in life and in use. Pure: time is an argument.

A session is a challenge that is answered once, whatever the answer, and then at most one verified
result that is good for a while. Its name travels as a cookie, and once more inside the token. Who
steals either gets secrets sealed to the attester's key, and that is nothing.

The host can stop the clock, so a life in seconds is advice; the number of uses is not.
"""

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from wardian.attestation.claims import TeeKind
from wardian.attestation.results.result import AttestationResult
from wardian.broker.limits import Bucket
from wardian.crypto.jose import PublicJwk
from wardian.errors import EvidenceInvalid, QueueFull

ID_BYTES: Final = 32
ID_CHARS: Final = 43


@dataclass(frozen=True, slots=True, kw_only=True)
class KbsLimits:
    """What clients of the KBS protocol may cost.

    Attributes:
        body_bytes: of a request by somebody who may have no session.
        evidence_bytes: of one that presents evidence; a TDX guest sends its event log along.
        sessions, sessions_per_peer: kept at once, of everybody and of one address.
        challenge_s: within which a challenge has to be answered, and its answer verified.
        session_s: for which a verified result is good.
        uses: how many resources and results one session gets.
        verifying: evidence verified at once.
        requests_per_s, request_burst: of one address, on average and at once.
        counted_bytes: for each so many bytes of a body, a request counts as one more.
        peers: addresses whose requests are counted.
    """

    body_bytes: int = 16 * 1024
    evidence_bytes: int = 1024 * 1024
    sessions: int = 1024
    sessions_per_peer: int = 256
    challenge_s: int = 60
    session_s: int = 300
    uses: int = 256
    verifying: int = 4
    requests_per_s: float = 20.0
    request_burst: int = 100
    counted_bytes: int = 64 * 1024
    peers: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """What a session knows of its attester once its evidence was accepted.

    Attributes:
        result: the verifier's.
        key: the attester's, to seal to.
        nonce: the challenge that the evidence answered.
        evidence_digest: of the evidence, 32 bytes; see `attestation.evidence_digest`.
        token_id: the `jti` of the token that stands for the session.
    """

    result: AttestationResult
    key: PublicJwk
    nonce: str
    evidence_digest: bytes
    token_id: str = field(repr=False)


@dataclass(slots=True, kw_only=True, eq=False)
class Session:
    """One session. `ends` is in Unix seconds; `uses` counts down.

    Attributes:
        session_id: its name, 43 characters that nobody guesses.
        peer: whom it counts for.
        tee: what was said to attest.
        nonce: the challenge; None once it was answered.
        ends: when it is over, Unix seconds.
        uses: how often it still serves.
        attested: who it is; None until evidence was accepted.
    """

    session_id: str = field(repr=False)
    peer: str
    tee: TeeKind
    nonce: str | None
    ends: float
    uses: int
    attested: Attested | None = None


class Sessions:
    """All sessions, the oldest challenge first."""

    __slots__ = ("_by_id", "_by_token", "_limits")

    def __init__(self, limits: KbsLimits) -> None:
        """Keep as many as `limits` allows."""
        self._limits = limits
        self._by_id: dict[str, Session] = {}
        self._by_token: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def open(self, *, peer: str, tee: TeeKind, nonce: str, now: float) -> Session:
        """Return a new session that waits for evidence.

        A peer that has its share loses its oldest unanswered challenge, never somebody else's.

        Raises:
            QueueFull: there is no place for it (retryable).
        """
        self._sweep(now)
        own = [session for session in self._by_id.values() if session.peer == peer]
        if len(own) >= self._limits.sessions_per_peer:
            idle = next((session for session in own if session.nonce is not None), None)
            if idle is None:
                raise QueueFull("too many sessions from this address: ask later", retry_after_s=60)
            self.drop(idle)
        if len(self._by_id) >= self._limits.sessions:
            raise QueueFull("too many sessions: ask later", retry_after_s=60)
        session = Session(
            session_id=secrets.token_urlsafe(ID_BYTES),
            peer=peer,
            tee=tee,
            nonce=nonce,
            ends=now + self._limits.challenge_s,
            uses=self._limits.uses,
        )
        self._by_id[session.session_id] = session
        return session

    def named(self, session_id: str, *, now: float) -> Session | None:
        """Return the session of this name, if it is not over."""
        return self._living(self._by_id.get(session_id), now)

    def of_token(self, token_id: str, *, now: float) -> Session | None:
        """Return the session that a token with this `jti` stands for, if it is not over."""
        return self._living(self._by_token.get(token_id), now)

    def answer(self, session: Session, *, now: float) -> str:
        """Return the session's challenge, which from now on is answered, whatever the answer.

        Raises:
            EvidenceInvalid: it was answered before.
            QueueFull: as much evidence is being verified as may be; nothing was answered.
        """
        nonce = session.nonce
        if nonce is None:
            raise EvidenceInvalid("this session's challenge was answered before: begin anew")
        verifying = sum(
            other.nonce is None and other.attested is None and now < other.ends
            for other in self._by_id.values()
        )
        if verifying >= self._limits.verifying:
            raise QueueFull("more evidence is presented than can be verified: ask later")
        session.nonce = None
        session.ends = now + self._limits.challenge_s
        return nonce

    def attest(self, session: Session, attested: Attested, *, now: float) -> None:
        """Keep what was accepted in `session`, which is good for `session_s` from now on.

        Raises:
            EvidenceInvalid: the session was ended meanwhile.
        """
        ended = self.named(session.session_id, now=now) is not session
        if ended or session.attested is not None:
            raise EvidenceInvalid("the session ended while its evidence was verified: begin anew")
        session.attested = attested
        session.ends = now + self._limits.session_s
        self._by_token[attested.token_id] = session

    def drop(self, session: Session) -> None:
        """End a session; it may have ended before."""
        self._by_id.pop(session.session_id, None)
        if session.attested is not None:
            self._by_token.pop(session.attested.token_id, None)

    def clear(self) -> None:
        """End all sessions."""
        self._by_id.clear()
        self._by_token.clear()

    def _living(self, session: Session | None, now: float) -> Session | None:
        return session if session is not None and now < session.ends else None

    def _sweep(self, now: float) -> None:
        for session in [found for found in self._by_id.values() if found.ends <= now]:
            self.drop(session)


class PeerBuckets:
    """A bucket for each address, of the `peers` that asked last."""

    __slots__ = ("_buckets", "_limits")

    def __init__(self, limits: KbsLimits) -> None:
        """Count as `limits` says."""
        self._limits = limits
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def spend(self, peer: str, *, now: float, body_bytes: int = 0) -> None:
        """Take one request out of the bucket of `peer`, or as many as its body counts for.

        Raises:
            QueueFull: it is empty (retryable).
        """
        bucket = self._buckets.get(peer)
        if bucket is None:
            limits = self._limits
            bucket = Bucket(per_s=limits.requests_per_s, burst=limits.request_burst, now=now)
            self._buckets[peer] = bucket
            if len(self._buckets) > limits.peers:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(peer)
        counts = 1 + body_bytes // self._limits.counted_bytes
        if not all(bucket.take(now) for _ in range(counts)):
            raise QueueFull("too many requests from this address: ask later")
