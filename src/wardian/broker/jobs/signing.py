"""From an owner's policy to a signed one, and back to one that is believed.

`SignedPolicy` is what travels and is believed by nobody; `verify_policy` alone makes a
`VerifiedPolicy`. What is signed is the canonical bytes, for one mesh, under a label of its own.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Final

from wardian._internal import wire
from wardian.broker.jobs.canonical import canonical, parse_canonical
from wardian.broker.jobs.policy import DataPolicy
from wardian.broker.jobs.rules import Rule
from wardian.broker.mesh.fields import Hex64
from wardian.crypto.signing import Signer, verify_signature
from wardian.errors import AuthenticationFailed, ConfigError, LocalProtocolError, PolicyDenied

LABEL: Final = "wardian data policy signature v1"
MAX_POLICY_BYTES: Final = 64 * 1024
"""Of its canonical form, of which the broker verifies one for each table of a job."""
MAX_SIGNED_BYTES: Final = 2 * 1024 * 1024
"""Of the file: the policy in base64, and a signature."""
_VERIFIED: Final = object()


class SignedPolicy(wire.Message, frozen=True, tag_field="format", tag="wardian data policy v1"):
    """A policy as it travels: its exact canonical bytes, and its owner's signature."""

    policy: bytes
    signature: Hex64


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPolicy:
    """A policy whose signature `verify_policy` found good; nothing else constructs one."""

    policy: DataPolicy
    mark: bytes
    """What the broker remembers of it; see `policy_mark`."""
    proof: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.proof is not _VERIFIED:
            raise LocalProtocolError("only verify_policy makes a VerifiedPolicy")


def policy_signed_bytes(policy: bytes, *, mesh: str) -> bytes:
    """Return what the owner signs of a policy's exact bytes, for `mesh` alone."""
    return wire.fields(LABEL, mesh.encode(), policy)


def policy_mark(policy: DataPolicy) -> bytes:
    """Return what the broker remembers of `policy`: serial (u64, big endian) and SHA-256."""
    return _mark(policy, canonical(policy))


def sign_policy(policy: DataPolicy, owner: Signer) -> SignedPolicy:
    """Return `policy` signed by `owner`.

    Raises:
        ConfigError: the key is not that of the policy's `owner`, or nobody would read so long a
            policy.
    """
    if owner.public.hex() != policy.owner_key:
        raise ConfigError(f"the key is not that of {policy.owner}, whose policy this is")
    raw = canonical(policy)
    if len(raw) > MAX_POLICY_BYTES:
        raise ConfigError(
            f"the policy has {len(raw):,} bytes in the form that is signed; at most "
            f"{MAX_POLICY_BYTES:,} are read"
        )
    signature = owner.sign(policy_signed_bytes(raw, mesh=policy.mesh))
    return SignedPolicy(policy=raw, signature=signature.hex())


def parse_policy(signed: SignedPolicy) -> DataPolicy:
    """Return what `signed` says, **without** believing any of it.

    Raises:
        FormatError: no policy, more than 64 KiB, or not in its one canonical form.
    """
    return parse_canonical(
        signed.policy, DataPolicy, what="data policy", most_bytes=MAX_POLICY_BYTES
    )


def verify_policy(signed: SignedPolicy, *, mesh: str) -> VerifiedPolicy:
    """Return the policy that the owner of its table signed for `mesh`.

    Says nothing about whether it is the newest: that is `decide`'s, which knows what was seen.

    Args:
        signed: untrusted.
        mesh: the name of the verifier's own mesh.

    Raises:
        FormatError: not a canonical policy.
        PolicyDenied: the rule `policy-mesh`: it is for another mesh.
        AuthenticationFailed: its owner did not sign this.
    """
    policy = parse_policy(signed)
    if policy.mesh != mesh:
        raise PolicyDenied(
            f"the policy about table {policy.table} is for another mesh", rule=Rule.POLICY_MESH
        )
    try:
        verify_signature(
            bytes.fromhex(policy.owner_key),
            bytes.fromhex(signed.signature),
            policy_signed_bytes(signed.policy, mesh=mesh),
        )
    except AuthenticationFailed as err:
        raise AuthenticationFailed(
            f"the policy about table {policy.table} is not what its owner signed"
        ) from err
    return VerifiedPolicy(policy=policy, mark=_mark(policy, signed.policy), proof=_VERIFIED)


def _mark(policy: DataPolicy, raw: bytes) -> bytes:
    """Return `policy_mark` of `policy`, whose canonical form is `raw`."""
    return policy.serial.to_bytes(8, "big") + hashlib.sha256(raw).digest()
