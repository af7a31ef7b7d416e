"""What the owners sign when a counter was lost: this very state is the newest.

A counter that was lost cannot say any more which copy of a state is the newest; the owners can.
Their statement names the state by its digest, who keeps the counter now, and where that counter
stands. It is worthless for any other file, state, code, mesh or keeper, and from when anybody
counts: a host that holds it back while another life begins does not get to use it. Once used, the
counter stands where the state says; who sets the counter back again with its keepers' keys intact
needs no statement.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian._internal.agreed import Mesh
from wardian._internal.counter import MAX_COUNT, MAX_GENERATION
from wardian._internal.settings import Name, PublicKey
from wardian.crypto.signing import SigningKey, verify_signature
from wardian.errors import AuthenticationFailed, FormatError, LocalProtocolError, PolicyDenied

LABEL: Final = "wardian counter recovery signature v1"
MAX_RECOVERY_BYTES: Final = 4096

Hex32 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Hex64 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{128}\Z")]


class CounterRecovery(
    wire.Message, frozen=True, tag_field="format", tag="wardian counter recovery v1"
):
    """What the owners agree on."""

    mesh: Name
    role: Name
    measurement: Hex32
    """MRENCLAVE of the code whose state it is."""
    counter: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,63}\Z")]
    """The counter's name."""
    keeper: Hex32
    """Who keeps the fresh counter, `MonotonicCounter.keeper_id`. A keeper that lost everything
    comes back with another key, hence another id, and takes no statement of before."""
    state_digest: Hex32
    """SHA-256 of the sealed file, whole."""
    generation: Annotated[int, msgspec.Meta(ge=1, le=MAX_GENERATION)]
    """Of the file (bytes 8 to 15), hence of the counter's value afterwards."""
    counted: Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
    """The counter's value that the owners saw: 0 at a fresh keeper. It has to stand there still."""


class RecoverySignature(wire.Message, frozen=True):
    """One owner's signature over `fields(LABEL, recovery bytes)`."""

    owner: PublicKey
    signature: Hex64


class SignedRecovery(
    wire.Message, frozen=True, tag_field="format", tag="wardian signed counter recovery v1"
):
    """A recovery as it travels: the exact bytes that were signed, and by whom."""

    recovery: bytes
    signatures: Annotated[tuple[RecoverySignature, ...], msgspec.Meta(max_length=64)]


_VERIFIED: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRecovery:
    """A recovery that enough owners signed; only `verify_recovery` makes one."""

    recovery: CounterRecovery
    signers: tuple[str, ...]
    proof: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.proof is not _VERIFIED:
            raise LocalProtocolError("only verify_recovery makes a VerifiedRecovery")


def sign_recovery(recovery: CounterRecovery, keys: Iterable[SigningKey]) -> SignedRecovery:
    """Return `recovery` signed by every one of the owners' `keys`, in their order."""
    raw = wire.encode(recovery)
    message = wire.fields(LABEL, raw)
    signatures = tuple(
        RecoverySignature(owner=key.public.hex(), signature=key.sign(message).hex()) for key in keys
    )
    return SignedRecovery(recovery=raw, signatures=signatures)


def verify_recovery(signed: SignedRecovery, *, mesh: Mesh) -> VerifiedRecovery:
    """Return the recovery that enough owners of `mesh` signed.

    Says nothing about which state it is for: `tee.state_recovery` compares that.

    Args:
        signed: untrusted.
        mesh: `[mesh]` of the measured `wardian.toml`: name, owners, threshold.

    Raises:
        FormatError: the bytes are not a canonical recovery.
        AuthenticationFailed: a signature is wrong.
        PolicyDenied: another mesh (rule `recovery-mesh`), a stranger's signature
            (`recovery-owner`), the same owner twice (`recovery-owner-once`), or too few owners
            (`recovery-threshold`).
    """
    if len(signed.recovery) > MAX_RECOVERY_BYTES:
        raise FormatError(f"counter recovery: more than {MAX_RECOVERY_BYTES} bytes")
    recovery = wire.decode(signed.recovery, CounterRecovery, what="counter recovery")
    if wire.encode(recovery) != signed.recovery:
        raise FormatError("counter recovery: not in canonical form; sign it with `sign_recovery`")
    if recovery.mesh != mesh.name:
        raise PolicyDenied(
            "the recovery was signed for another mesh than the one in wardian.toml",
            rule="recovery-mesh",
        )
    return VerifiedRecovery(
        recovery=recovery, signers=_verify_owners(signed, mesh=mesh), proof=_VERIFIED
    )


def _verify_owners(signed: SignedRecovery, *, mesh: Mesh) -> tuple[str, ...]:
    """Return the owners who signed: all known, each once, at least the threshold."""
    signers = tuple(each.owner for each in signed.signatures)
    if not {owner.lower() for owner in mesh.owners}.issuperset(signers):
        raise PolicyDenied(
            "the recovery is signed by someone who is not an owner in wardian.toml",
            rule="recovery-owner",
        )
    if len(set(signers)) != len(signers):
        raise PolicyDenied("the recovery is signed by one owner twice", rule="recovery-owner-once")
    message = wire.fields(LABEL, signed.recovery)
    for each in signed.signatures:
        try:
            verify_signature(bytes.fromhex(each.owner), bytes.fromhex(each.signature), message)
        except AuthenticationFailed as err:
            raise AuthenticationFailed(
                "the recovery is not what its owner signed: the signature is wrong"
            ) from err
    if len(signers) < mesh.threshold:
        raise PolicyDenied(
            f"{len(signers)} of the mesh's owners signed the recovery, fewer than wardian.toml "
            "demands",
            rule="recovery-threshold",
        )
    return signers
