"""What coordinator and party say in a masked round: a closed schema in MessagePack.

Lists of parties are in the order of their names, each name once; whoever reads one verifies that.
Only data here, and what is signed and hashed of it.
"""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Final, TypeVar

import msgspec

from wardian._internal import wire
from wardian._internal.settings import Name
from wardian.crypto.masks import KEY_BYTES, SEAL_OVERHEAD_BYTES, SEED_BYTES
from wardian.crypto.signing import SIGNATURE_BYTES
from wardian.errors import FormatError, PolicyDenied
from wardian.learning.masking.plan import MAX_PARTIES

MAX_BYTES: Final = 256 * 1024
"""Most of a message without a vector; the largest are `Keys` and `Sharing` with 255 parties."""
COMMITMENT_BYTES: Final = 32
ADVERTISEMENT_LABEL: Final = "wardian mask advertisement v1"
KEYS_LABEL: Final = "wardian mask keys v1"
SURVIVORS_LABEL: Final = "wardian mask survivors v1"

T = TypeVar("T", bound="Round")
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
Sealed = Annotated[
    bytes,
    msgspec.Meta(
        min_length=KEY_BYTES + SEED_BYTES + SEAL_OVERHEAD_BYTES,
        max_length=KEY_BYTES + SEED_BYTES + SEAL_OVERHEAD_BYTES,
    ),
]
Commitments = Annotated[bytes, msgspec.Meta(max_length=COMMITMENT_BYTES * MAX_PARTIES)]
_FEW: Final = msgspec.Meta(max_length=MAX_PARTIES)
Names = Annotated[tuple[Name, ...], _FEW]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what a message consists of."""


class Round(Record, frozen=True, kw_only=True):
    """Base of every message."""

    scope: Bytes32
    """Of the plan and the round: `MaskingPlan.scope`."""


class Advertisement(Round, frozen=True, kw_only=True, tag_field="say", tag="advertisement"):
    """1. The keys of one party for one round."""

    party: Name
    mask_public: Bytes32
    """X25519; its private key is shared, and put together if the party is lost."""
    share_public: Bytes32
    """X25519; shares are sealed with it. Its private key never leaves the party."""
    seed_digest: Bytes32
    """`seed_commitment` of the seed of its own mask, which is put together if it survives."""
    signature: Signature
    """By the key that the plan names, over `advertisement_signed_bytes`."""


class Keys(Round, frozen=True, kw_only=True, tag_field="say", tag="keys"):
    """2. Everybody who came."""

    advertisements: Annotated[tuple[Advertisement, ...], _FEW]


class SealedShares(Record, frozen=True, kw_only=True):
    """A share of the mask key, then one of the seed, sealed."""

    party: Name
    sealed: Sealed


class Sharing(Round, frozen=True, kw_only=True, tag_field="say", tag="sharing"):
    """3. What one party dealt to the others."""

    key_commitments: Commitments
    """To the share of each on the roster (`crypto.shamir`), in the order of the names."""
    seed_commitments: Commitments
    dealt: Annotated[tuple[SealedShares, ...], _FEW]


class Dealt(Record, frozen=True, kw_only=True):
    """What one party dealt to the reader."""

    party: Name
    key_commitment: Bytes32
    seed_commitment: Bytes32
    sealed: Sealed


class Delivery(Round, frozen=True, kw_only=True, tag_field="say", tag="delivery"):
    """4. What every other party dealt to the reader."""

    dealt: Annotated[tuple[Dealt, ...], _FEW]


class Masked(Round, frozen=True, kw_only=True, tag_field="say", tag="masked"):
    """5. A vector under its masks."""

    refused: Names
    """Whose shares are not what their commitments say."""
    vector: memoryview
    """Numbers mod 2^64, 8 bytes each, little endian."""


class Survivors(Round, frozen=True, kw_only=True, tag_field="say", tag="survivors"):
    """6. Whose vectors came."""

    parties: Names


class Agreement(Round, frozen=True, kw_only=True, tag_field="say", tag="agreement"):
    """7. A survivor's word that it saw this list and no other one."""

    signature: Signature
    """By the key that the plan names, over `survivors_signed_bytes`."""


class PartySignature(Record, frozen=True, kw_only=True):
    """Whose signature."""

    party: Name
    signature: Signature


class Agreements(Round, frozen=True, kw_only=True, tag_field="say", tag="agreements"):
    """8. The words of the others."""

    signatures: Annotated[tuple[PartySignature, ...], _FEW]


class OpenShare(Record, frozen=True, kw_only=True):
    """The reader's share of something of this party."""

    party: Name
    value: Bytes32


class Revealed(Round, frozen=True, kw_only=True, tag_field="say", tag="revealed"):
    """9. Of each party one share: of its mask key if it was lost, of its seed if it survived."""

    keys: Annotated[tuple[OpenShare, ...], _FEW]
    seeds: Annotated[tuple[OpenShare, ...], _FEW]


_ENCODER: Final = msgspec.msgpack.Encoder()


def encode(message: Round) -> bytes:
    """Return `message` in MessagePack."""
    return _ENCODER.encode(message)


def decode(raw: bytes, kind: type[T], *, scope: bytes, vector_bytes: int = 0) -> T:
    """Return `raw` decoded as `kind`, of this round.

    Args:
        raw: untrusted.
        kind: a message.
        scope: of plan and round.
        vector_bytes: of the vector in it.

    Raises:
        FormatError: too large, not MessagePack, or not within the bounds of the schema.
        PolicyDenied: of another run, plan or round (rule `mask-round`).
    """
    what = f"masking: {kind.__name__.lower()}"
    if len(raw) > MAX_BYTES + vector_bytes:
        raise FormatError(f"{what}: {len(raw)} bytes are too many")
    try:
        message = msgspec.msgpack.decode(raw, type=kind)
    except msgspec.ValidationError as err:
        reason = str(err)[:200]  # names types, limits and fields; a tag would be the sender's
        reason = "of an unknown kind" if reason.startswith("Invalid value") else reason
        raise FormatError(f"{what}: {wire.printable(reason)}") from err
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise FormatError(f"{what}: not MessagePack") from err
    if message.scope != scope:
        raise PolicyDenied(f"{what}: of another run or round", rule="mask-round")
    return message


def advertisement_signed_bytes(message: Advertisement) -> bytes:
    """Return what a party signs of its advertisement: everything."""
    return wire.fields(
        ADVERTISEMENT_LABEL,
        message.scope,
        message.party.encode(),
        message.mask_public,
        message.share_public,
        message.seed_digest,
    )


def keys_digest(keys: Keys) -> bytes:
    """Return SHA-256 (32 bytes) over all that everybody advertised."""
    return hashlib.sha256(wire.fields(KEYS_LABEL, encode(keys))).digest()


def survivors_signed_bytes(*, scope: bytes, keys: bytes, parties: Iterable[str]) -> bytes:
    """Return what a survivor signs: the list, for the round in which these keys were advertised.

    Args:
        scope: of plan and round.
        keys: `keys_digest`.
        parties: the survivors, in the order of their names.
    """
    return wire.fields(SURVIVORS_LABEL, scope, keys, *(party.encode() for party in parties))
