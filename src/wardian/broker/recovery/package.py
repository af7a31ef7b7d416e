"""What owners need to give a broker its state back: public, and of use to enough of them alone.

The mesh's key lies under a recovery key, which is shared among the owners (`crypto.shamir`): as
many as it takes to change the mesh put it together. Each share is sealed to its owner's own X25519
key, with that owner's key of its own secrets, of which no other share says anything. So a quorum
brings back the mesh, and of what owners gave for themselves that of its own members (TRUST T7).

The broker makes the package and signs it with the mesh CA's key, which owners know since they gave
it a manifest. One that somebody else made, with shares that it knows, is refused by them.
"""

import hashlib
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from typing_extensions import override

from wardian._internal import wire
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.mesh.fields import Name, Owner
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.message_fields import Der, Key32
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.kdf import hkdf
from wardian.crypto.secret import Secret
from wardian.crypto.shamir import SET_ID_BYTES, Share, ShareSet
from wardian.crypto.tls_keys import verify_ecdsa
from wardian.errors import AuthenticationFailed, PolicyDenied

PACKAGE_LABEL: Final = "wardian recovery package signature v1"
PART_INFO: Final = "wardian recovery part hpke v1"
WRAP_LABEL: Final = "wardian recovery wrap v1"
MAX_OWNERS: Final = 64
"""As many as a mesh has."""
_NONCE: Final = bytes(12)  # a recovery key wraps once

SetId = Annotated[bytes, msgspec.Meta(min_length=SET_ID_BYTES, max_length=SET_ID_BYTES)]
KeyId = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]


class OwnerPart(wire.Message, frozen=True):
    """What is in the package for one owner."""

    owner: Owner
    recovery_public: Key32
    """The owner's X25519 key that `sealed` is for."""
    key_id: KeyId
    """Names the owner's key of its own secrets; each of them says under which it lies."""
    commitment: Key32
    """Of the owner's share (`crypto.shamir`)."""
    sealed: Annotated[bytes, msgspec.Meta(max_length=4096)]
    """HPKE of share and key; `info` is `part_info`."""


class RecoveryPackage(
    wire.Message, frozen=True, tag_field="format", tag="wardian recovery package v1"
):
    """Everything but the owners' private keys."""

    mesh: Name
    mesh_ca: Der
    """The mesh CA's self-signed certificate, DER."""
    signed_manifest: SignedManifest
    """That was in force when the package was made."""
    set_id: SetId
    threshold: Annotated[int, msgspec.Meta(ge=1, le=MAX_OWNERS)]
    """How many owners it takes."""
    owners: Annotated[tuple[OwnerPart, ...], msgspec.Meta(min_length=1, max_length=MAX_OWNERS)]
    """In the order of their shares: the first has index 1."""
    wrapped: Annotated[bytes, msgspec.Meta(min_length=48, max_length=48)]
    """The mesh's key under the recovery key."""
    signature: Annotated[bytes, msgspec.Meta(max_length=80)]
    """ECDSA P-256 SHA-256, DER, by the mesh CA's key over `package_signed_bytes`."""

    @property
    def digest(self) -> bytes:
        """SHA-256 (32 bytes) of the package in its one form."""
        return hashlib.sha256(wire.encode(self)).digest()

    @property
    def share_set(self) -> ShareSet:
        """What everybody may know of the sharing."""
        commitments = tuple(part.commitment for part in self.owners)
        return ShareSet(set_id=self.set_id, threshold=self.threshold, commitments=commitments)

    def index_of(self, owner: str) -> int:
        """Return the index of the owner's share, 1 or more.

        Raises:
            PolicyDenied: it has none (rule `recovery-owner`).
        """
        for index, part in enumerate(self.owners, start=1):
            if part.owner == owner:
                return index
        raise PolicyDenied(
            "this owner has no share: it gave the broker no recovery key in time",
            rule="recovery-owner",
        )


class PartRecord(wire.Message, frozen=True, tag_field="format", tag="wardian recovery part v1"):
    """Share and key as they stand inside the HPKE ciphertext, and nowhere else."""

    value: Key32
    owner_key: Key32

    @override
    def __repr__(self) -> str:
        return "PartRecord()"  # never the keys


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedPart:
    """One owner's part, in that owner's memory."""

    share: Share
    owner_key: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What everything in a package is bound to."""

    mesh: str
    ca_spki: bytes
    set_id: bytes

    def fields(self, label: str, *more: bytes) -> bytes:
        """Return `wire.fields` of `label`, this, and `more`."""
        return wire.fields(label, self.mesh.encode(), self.ca_spki, self.set_id, *more)

    def info(self, owner: str) -> bytes:
        """Return the HPKE `info` of the owner's part."""
        return self.fields(PART_INFO, bytes.fromhex(owner))

    def wrapping_key(self, recovery_key: Secret) -> Secret:
        """Return the key that wraps the mesh's key."""
        return hkdf(recovery_key, salt=self.set_id, info=WRAP_LABEL.encode())


def package_signed_bytes(package: RecoveryPackage) -> bytes:
    """Return what the mesh CA's key signs: every field but the signature."""
    unsigned = msgspec.structs.replace(package, signature=b"")
    return wire.fields(PACKAGE_LABEL, wire.encode(unsigned))


def verify_package(package: RecoveryPackage, *, mesh: str, ca_spki: bytes) -> None:
    """Return if the broker with this mesh CA made `package`.

    Args:
        package: from the host, untrusted.
        mesh: of `wardian.toml`.
        ca_spki: SubjectPublicKeyInfo (DER) of the mesh CA's key as the caller knows it.

    Raises:
        PolicyDenied: it is of another mesh (rule `recovery-mesh`).
        AuthenticationFailed: that CA did not sign it.
        FormatError: its certificate does not parse.
    """
    if package.mesh != mesh or verify_ca_certificate(package.mesh_ca) != ca_spki:
        raise PolicyDenied(
            "this backup is of another mesh: its CA is not the one that you know",
            rule="recovery-mesh",
        )
    try:
        verify_ecdsa(ca_spki, package.signature, package_signed_bytes(package))
    except AuthenticationFailed as err:
        raise AuthenticationFailed("the mesh's broker did not make this recovery package") from err


def open_part(package: RecoveryPackage, *, owner: str, key: HpkePrivateKey) -> OpenedPart:
    """Return the part of `owner` in a verified package.

    Raises:
        PolicyDenied: there is none (rule `recovery-owner`).
        AuthenticationFailed: `key` is not the recovery key that the owner gave.
        FormatError: what is in it is no part.
    """
    index = package.index_of(owner)
    context = Context(
        mesh=package.mesh,
        ca_spki=verify_ca_certificate(package.mesh_ca),
        set_id=package.set_id,
    )
    raw = key.open(package.owners[index - 1].sealed, info=context.info(owner))
    record = wire.decode(raw, PartRecord, what="recovery part")
    share = Share(set_id=package.set_id, index=index, value=Secret(record.value))
    package.share_set.verify(share)
    return OpenedPart(share=share, owner_key=Secret(record.owner_key))


def wrap(mesh_key: Secret, recovery_key: Secret, context: Context) -> bytes:
    """Return the mesh's key (32 bytes) under the recovery key."""
    cipher = AESGCM(context.wrapping_key(recovery_key).reveal())
    return cipher.encrypt(_NONCE, mesh_key.reveal(), context.fields(WRAP_LABEL))


def unwrap(package: RecoveryPackage, recovery_key: Secret) -> Secret:
    """Return the mesh's key, 32 bytes.

    Raises:
        AuthenticationFailed: the recovery key is not that of this package.
    """
    context = Context(
        mesh=package.mesh,
        ca_spki=verify_ca_certificate(package.mesh_ca),
        set_id=package.set_id,
    )
    try:
        cipher = AESGCM(context.wrapping_key(recovery_key).reveal())
        return Secret(cipher.decrypt(_NONCE, package.wrapped, context.fields(WRAP_LABEL)))
    except InvalidTag as err:
        raise AuthenticationFailed("the shares do not give the key of this package") from err
