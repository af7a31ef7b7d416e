"""How a broker counts at a keeper: two messages each way, then any number of steps.

    broker                                                     keeper
       | 1 KeeperHello      who asks, nonce                      |
       |-------------------------------------------------------->|
       | 2 KeeperChallenge  nonce                                |
       |<--------------------------------------------------------|
       | 3 KeeperClaim      signature                            |
       |-------------------------------------------------------->|
       | 4 KeeperProof      evidence                             |
       |<--------------------------------------------------------|
       |   Step             counter, from where to where         |
       |-------------------------------------------------------->|
       |   CounterAnswer    where it stands now                  |
       |<--------------------------------------------------------|

All of it runs over TLS 1.3 to the key that the measured `wardian.toml` names, which never leaves
the keeper's enclave: so what the broker reads is the keeper's, and what the keeper reads after
message 3 comes from who signed it. Message 4 says that the key is still held by accepted code on
the platform that `wardian.toml` names. In place of any answer there may be a `refusal.Refusal`.

Only data here: no socket, clock or state.
"""

import hashlib
from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.broker.counting.protocol import Advance, CounterName
from wardian.broker.message_fields import Nonce

CLAIM_LABEL: Final = "wardian keeper claim v1"
ID_LABEL: Final = "wardian keeper id v1"
ASKER_BYTES: Final = 32

Asker = Annotated[bytes, msgspec.Meta(min_length=ASKER_BYTES, max_length=ASKER_BYTES)]
"""An Ed25519 public key: whose counters they are."""


class KeeperHello(wire.Message, frozen=True, tag_field="format", tag="wardian keeper hello v1"):
    """1. Who asks; proved in message 3."""

    asker: Asker
    nonce: Nonce


class KeeperChallenge(
    wire.Message, frozen=True, tag_field="format", tag="wardian keeper challenge v1"
):
    """2. Fresh, so that message 3 is for this connection and no other."""

    nonce: Nonce


class KeeperClaim(wire.Message, frozen=True, tag_field="format", tag="wardian keeper claim v1"):
    """3. The asker is who it says."""

    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    """Ed25519, over `claim_signed_bytes`."""


class KeeperProof(wire.Message, frozen=True, tag_field="format", tag="wardian keeper proof v1"):
    """4. Who holds the key of this connection."""

    evidence: Evidence
    """Binds `keeper_report_data`."""


class Step(wire.Message, frozen=True, tag_field="format", tag="wardian keeper step v1"):
    """What is asked of one of the asker's own counters: to read it, or to advance it."""

    counter: CounterName
    advance: Advance | None
    """None to read."""


def claim_signed_bytes(*, keeper_spki: bytes, hello: bytes, challenge: bytes) -> bytes:
    """Return what the asker signs in message 3.

    Args:
        keeper_spki: SubjectPublicKeyInfo (DER) of the connection's key, so that it holds for this
            keeper alone.
        hello: message 1 as it travelled.
        challenge: message 2 as it travelled.
    """
    return wire.fields(CLAIM_LABEL, keeper_spki, hello, challenge)


def keeper_report_data(*, keeper_spki: bytes, hello: bytes, challenge: bytes) -> bytes:
    """Return the 64 bytes that the keeper's evidence binds; arguments as `claim_signed_bytes`."""
    return bind(Purpose.KEEPER, keeper_spki, hello, challenge)


def keeper_id(key_sha256: bytes) -> bytes:
    """Return the 32 bytes that name the keeper with this key, as a quorum tells keepers apart."""
    return hashlib.sha256(wire.fields(ID_LABEL, key_sha256)).digest()
