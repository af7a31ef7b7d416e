"""A signed head: the mesh CA's key says how long the audit log is, and what is in it.

Two heads of one log that do not continue each other convict the broker that signed them: of having
run twice on one state, or on an older copy of it. So parties keep the newest head that they saw and
ask for the proof that the next one continues it (`merkle.verify_consistency`).
"""

import hashlib
from collections.abc import Callable
from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian.broker.mesh.fields import Hex32, Name
from wardian.broker.state.audit import AuditHead
from wardian.crypto.tls_keys import verify_ecdsa
from wardian.errors import AuthenticationFailed

LABEL: Final = "wardian audit head v1"

Signature = Annotated[bytes, msgspec.Meta(min_length=8, max_length=80)]
"""ECDSA P-256 SHA-256, DER."""
Seconds = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""Unix time."""


class SignedHead(wire.Message, frozen=True, tag_field="format", tag=LABEL):
    """Where the log of a mesh ended at a time, by its broker. Untrusted until `verify_head`."""

    mesh: Name
    log: Hex32
    """Which log: SHA-256 of the mesh CA's SubjectPublicKeyInfo (as in RFC 6962, 3.2)."""
    manifest: Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")]
    """Digest of the manifest in force, empty before the first."""
    audit: AuditHead
    time: Seconds
    """By the broker's clock, which its host owns."""
    signature: Signature
    """By the mesh CA's key, over `head_signed_bytes`."""


def log_id(ca_spki: bytes) -> str:
    """Return which log the CA with this key (SubjectPublicKeyInfo, DER) signs the heads of."""
    return hashlib.sha256(ca_spki).hexdigest()


def head_signed_bytes(head: SignedHead) -> bytes:
    """Return what the mesh CA's key signs: every field but the signature."""
    return wire.fields(
        LABEL,
        head.mesh.encode(),
        bytes.fromhex(head.log),
        bytes.fromhex(head.manifest),
        head.audit.count.to_bytes(8, "big"),
        bytes.fromhex(head.audit.digest),
        bytes.fromhex(head.audit.root),
        head.time.to_bytes(8, "big"),
    )


def sign_head(
    audit: AuditHead,
    *,
    mesh: str,
    manifest_digest: bytes,
    ca_spki: bytes,
    sign: Callable[[bytes], bytes],
    now: int,
) -> SignedHead:
    """Return `audit` signed.

    Args:
        audit: where the log ends.
        mesh: the mesh's name.
        manifest_digest: of the manifest in force, 32 bytes; empty where there is none.
        ca_spki: the mesh CA's key, DER.
        sign: signs with it.
        now: Unix seconds.
    """
    head = SignedHead(
        mesh=mesh,
        log=log_id(ca_spki),
        manifest=manifest_digest.hex(),
        audit=audit,
        time=now,
        signature=b"",
    )
    return msgspec.structs.replace(head, signature=sign(head_signed_bytes(head)))


def verify_head(head: SignedHead, *, ca_spki: bytes, mesh: str | None = None) -> AuditHead:
    """Return where the log ends, by the broker whose CA has the key `ca_spki`.

    Args:
        head: untrusted.
        ca_spki: SubjectPublicKeyInfo (DER) that evidence bound, or that somebody vouches for who
            verified evidence.
        mesh: its name, where the caller knows it.

    Raises:
        AuthenticationFailed: signed with another key, or for another mesh.
    """
    if head.log != log_id(ca_spki) or mesh not in {None, head.mesh}:
        raise AuthenticationFailed("the audit head is of another mesh")
    try:
        verify_ecdsa(ca_spki, head.signature, head_signed_bytes(head))
    except AuthenticationFailed as err:
        raise AuthenticationFailed("the audit head is not signed by the mesh's CA key") from err
    return head.audit
