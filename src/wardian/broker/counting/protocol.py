"""How a workload counts at the broker: four messages on a connection whose broker it verified.

    workload                                                    broker
       | 1 CounterHello      certificate, nonce                   |
       |--------------------------------------------------------->|
       | 2 CounterChallenge  nonce                                |
       |<---------------------------------------------------------|
       | 3 CounterRequest    counter, from where to where, signed |
       |--------------------------------------------------------->|
       | 4 CounterAnswer     where the counter stands now         |
       |<---------------------------------------------------------|

The workload first verifies the certificate of the TLS connection: the mesh CA's, of the broker,
under the manifest that it was admitted under. So the answer is the broker's, and only the broker
ever sees the request. The signature, by the key of the workload's own mesh certificate over both
nonces, says who asks. Any of messages 2 and 4 may be a `refusal.Refusal` instead.

Only data here: no socket, clock or state.
"""

import hashlib
from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian.broker.message_fields import Der, Nonce

VALUE_BYTES: Final = 16
MAX_VALUE: Final = 2**127 - 1
"""The highest value of a counter that the broker keeps; `quorum` needs them this wide."""

REQUEST_LABEL: Final = "wardian counter request v1"
KEEPER_LABEL: Final = "wardian counter keeper v1"

CounterName = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,63}\Z")]
Value = Annotated[bytes, msgspec.Meta(min_length=VALUE_BYTES, max_length=VALUE_BYTES)]
"""A counter's value: 16 bytes, big endian, 0 to `MAX_VALUE`."""


class CounterHello(wire.Message, frozen=True, tag_field="format", tag="wardian counter hello v1"):
    """1. Who asks; proved in message 3."""

    certificate: Der
    """The workload's mesh certificate, DER."""
    nonce: Nonce


class CounterChallenge(
    wire.Message, frozen=True, tag_field="format", tag="wardian counter challenge v1"
):
    """2. Fresh, so that message 3 is for this connection and no other."""

    nonce: Nonce


class Advance(wire.Message, frozen=True):
    """From where to where. It is refused if the counter stands elsewhere."""

    at: Value
    to: Value


class CounterRequest(
    wire.Message, frozen=True, tag_field="format", tag="wardian counter request v1"
):
    """3. What is asked: to read a counter, or to advance it."""

    counter: CounterName
    """One of the asker's own: counters belong to a role and a measurement."""
    advance: Advance | None
    """None to read."""
    signature: Annotated[bytes, msgspec.Meta(min_length=8, max_length=80)]
    """ECDSA P-256 SHA-256, DER, by the certificate's key over `request_signed_bytes`."""


class CounterAnswer(wire.Message, frozen=True, tag_field="format", tag="wardian counter answer v1"):
    """4. Where the counter stands; what was advanced is beyond taking back by now."""

    value: Value


def request_signed_bytes(
    *, ca_spki: bytes, hello: bytes, challenge: bytes, counter: str, advance: Advance | None
) -> bytes:
    """Return what the workload signs in message 3.

    Args:
        ca_spki: SubjectPublicKeyInfo (DER) of the mesh CA, so that it holds for this broker alone.
        hello: message 1 as it travelled.
        challenge: message 2 as it travelled.
        counter: its name.
        advance: as in message 3.
    """
    step = () if advance is None else (advance.at, advance.to)
    return wire.fields(REQUEST_LABEL, ca_spki, hello, challenge, counter.encode(), *step)


def keeper_id(ca_spki: bytes) -> bytes:
    """Return the 32 bytes that name the broker with this mesh CA as the keeper of counters."""
    return hashlib.sha256(wire.fields(KEEPER_LABEL, ca_spki)).digest()


def encode_value(value: int) -> bytes:
    """Return `value`, 0 to `MAX_VALUE`, as it travels."""
    return value.to_bytes(VALUE_BYTES, "big")


def decode_value(raw: bytes) -> int:
    """Return the value in `raw`; it may be above `MAX_VALUE`, which the reader refuses."""
    return int.from_bytes(raw, "big")
