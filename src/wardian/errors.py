"""Every error that Wardian raises, and nothing else.

WardianError
├── ConfigError                 wrong settings; the message names the key, the file and what to do
├── FormatError                 bytes do not parse (attacker-reachable; says where, never what)
├── CryptoError
│   ├── WrongRecipient          none of the identities opens this
│   ├── AuthenticationFailed    the bytes are not what was sealed
│   └── UnsupportedAlgorithm    well formed, but of a kind that this version does not open
├── AttestationError
│   ├── EvidenceInvalid         signature, chain, binding or structure of evidence is wrong
│   ├── EvidenceStale           evidence or its collateral is outside its time
│   ├── TcbUnacceptable         genuine, but the platform's state is refused by policy
│   ├── RequestKeyInvalid       a front end shows a key for sealed requests that is not the workers'
│   └── CollateralUnavailable   what Intel signs about the platform cannot be had now (retryable)
├── PolicyDenied                a policy refuses; names the rule, not what the rule expected
│   └── AdmissionRefused        the broker, verified, does not admit this process to the mesh
├── SealError                   sealed state is not ours, not whole or not the newest
│   ├── StateRolledBack         an older copy was put in its place, or it was taken away
│   ├── CounterLost             the state proves a count that its counter no longer shows
│   └── CounterUnavailable      who keeps the counter cannot be reached now (retryable)
├── TransportError              (retryable)
│   ├── Timeout
│   ├── ConnectionLost
│   └── PeerProtocolError       the peer broke the protocol
├── RequestError                a request that cannot be served as it stands; carries an HTTP status
│   └── RequestKeyOver          sealed to a request key that is not in force (retryable)
├── QueueError
│   ├── QueueFull               back-pressure: come back later (retryable)
│   ├── LeaseLost               the worker no longer holds what it wants to answer
│   └── JobFailed               executed and failed, or crashed its workers
└── LocalProtocolError          our own misuse: a bug, never caught
"""

from typing import ClassVar


class WardianError(Exception):
    """The root of the hierarchy. `retryable` says whether the same call may succeed later."""

    retryable: ClassVar[bool] = False


class ConfigError(WardianError):
    """A setting is wrong; found at start. The message names the key, the file and what to do."""


class FormatError(WardianError):
    """Bytes do not parse.

    Attacker-reachable, so the message says where and what was expected, never the content.
    """


class CryptoError(WardianError):
    """A cryptographic operation refused its input."""


class WrongRecipient(CryptoError):
    """None of the identities at hand opens this."""


class AuthenticationFailed(CryptoError):
    """The bytes are not, or not in this place, what was sealed."""


class UnsupportedAlgorithm(CryptoError):
    """Well formed, but of a kind or version that this release does not open."""


class AttestationError(WardianError):
    """Evidence was not accepted."""


class EvidenceInvalid(AttestationError):
    """A signature, a chain, a binding or the structure of the evidence is wrong."""


class EvidenceStale(AttestationError):
    """The evidence, or the collateral that vouches for it, is outside its time."""


class TcbUnacceptable(AttestationError):
    """The evidence is genuine, but the state of the platform is refused."""


class RequestKeyInvalid(AttestationError):
    """What a front end shows as a model's request key is not what the mesh's broker states."""


class CollateralUnavailable(AttestationError):
    """What the vendor signs about the platform cannot be had at the moment."""

    retryable = True


class PolicyDenied(WardianError):
    """A policy refuses. `rule` names the rule that did, never the value that it expected."""

    def __init__(self, message: str, *, rule: str) -> None:
        super().__init__(message)
        self.rule = rule


class AdmissionRefused(PolicyDenied):
    """The broker does not admit this process to the mesh, or not any more.

    It said so on a connection that was known to end at the broker, so nobody in between did.
    """


class SealError(WardianError):
    """Sealed state is not ours, not whole or not the newest."""


class StateRolledBack(SealError):
    """The state is not the newest: an older copy was put in its place, or it was taken away."""


class CounterLost(SealError):
    """The counter shows less than the state proves: only the owners can say what is the newest."""


class CounterUnavailable(SealError):
    """Who keeps the counter cannot be reached now; whether a number was counted is unknown."""

    retryable = True


class TransportError(WardianError):
    """The way to the peer failed; whether the peer acted is unknown."""

    retryable = True


class Timeout(TransportError):
    """The deadline passed before an answer came."""


class ConnectionLost(TransportError):
    """The peer went away."""


class PeerProtocolError(TransportError):
    """The peer said something that the protocol does not allow."""

    retryable = False


class RequestError(WardianError):
    """A request cannot be served as it stands. `status` is the HTTP status, 400 to 599."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class RequestKeyOver(RequestError):
    """It was sealed to a request key that is not in force: fetch the key again, and seal again."""

    retryable = True

    def __init__(self, message: str) -> None:
        super().__init__(message, status=409)


class QueueError(WardianError):
    """The queue could not carry a request to its end."""


class QueueFull(QueueError):
    """Back-pressure: as much is waiting as may wait. `retry_after_s` says when to come back."""

    retryable = True

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class LeaseLost(QueueError):
    """The worker no longer holds the message that it wants to answer."""


class JobFailed(QueueError):
    """A request was executed and failed, or crashed the workers that tried it."""


class LocalProtocolError(WardianError):
    """Our own misuse of an interface: a bug, never caught."""
