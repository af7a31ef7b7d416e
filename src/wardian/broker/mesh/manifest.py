"""The mesh manifest: what the owners agreed on after measuring, and signed.

`wardian.toml` is measured, so it can hold no measurement. The manifest holds them: which code is
which role, which sealed file is which version of a model, which secrets there are, and which
measurements may have the key of one or the other. Owners named in `wardian.toml` sign its exact
bytes; the owner of a model or of a secret also signs its line (`mesh.lines`).

`SignedManifest` is what travels and is believed by nobody: see `mesh.verify`. These modules run
wherever a client runs.
"""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian.broker.mesh.fields import Hex32, Hex64, Name, Owner
from wardian.broker.mesh.lines import Line, ModelLine, SecretLine
from wardian.broker.mesh.trust import RoleReference, TrustAnchor
from wardian.crypto.signing import SigningKey
from wardian.errors import FormatError

MANIFEST_LABEL: Final = "wardian mesh manifest signature v1"
MAX_MANIFEST_BYTES: Final = 1024 * 1024


class MeshManifest(
    wire.Message, frozen=True, kw_only=True, tag_field="format", tag="wardian mesh manifest v1"
):
    """Everything that the owners sign. `version` only grows."""

    mesh: Name
    version: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    previous: Hex32 | None = None
    """Digest of the manifest that was in force before; None where there was none. So the manifests
    of a mesh are a chain that nobody can reorder, skip or cut in the middle."""
    change_threshold: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    """How many owners have to sign the manifest after this one; `wardian.toml` demands its own
    `threshold` of every manifest, and this one can demand more."""
    trust: TrustAnchor
    roles: Annotated[dict[Name, RoleReference], msgspec.Meta(min_length=1, max_length=32)]
    models: Annotated[tuple[ModelLine, ...], msgspec.Meta(max_length=256)]
    secrets: Annotated[tuple[SecretLine, ...], msgspec.Meta(max_length=256)] = ()

    def lines(self, model: str) -> tuple[ModelLine, ...]:
        """Return every version of `model`, oldest first; empty if there is none."""
        found = (line for line in self.models if line.name == model)
        return tuple(sorted(found, key=lambda line: line.version))

    @property
    def owned_lines(self) -> tuple[Line, ...]:
        """Every line that is one owner's, of models and of secrets."""
        return (*self.models, *self.secrets)


class OwnerSignature(wire.Message, frozen=True):
    """One owner's signature over `manifest_signed_bytes`."""

    owner: Owner
    signature: Hex64


class SignedManifest(
    wire.Message, frozen=True, tag_field="format", tag="wardian signed manifest v1"
):
    """A manifest as it travels: the exact bytes that were signed, and by whom."""

    manifest: bytes
    signatures: Annotated[tuple[OwnerSignature, ...], msgspec.Meta(max_length=64)]


def manifest_signed_bytes(manifest: bytes) -> bytes:
    """Return what an owner signs of a manifest's exact bytes."""
    return wire.fields(MANIFEST_LABEL, manifest)


def sign_manifest(manifest: MeshManifest, keys: Iterable[SigningKey]) -> SignedManifest:
    """Return `manifest` signed by every one of the owners' `keys`, in their order."""
    raw = wire.encode(manifest)
    message = manifest_signed_bytes(raw)
    signatures = tuple(
        OwnerSignature(owner=key.public.hex(), signature=key.sign(message).hex()) for key in keys
    )
    return SignedManifest(manifest=raw, signatures=signatures)


def manifest_digest(signed: SignedManifest) -> bytes:
    """Return SHA-256 (32 bytes) of the manifest's exact bytes, believed or not."""
    return hashlib.sha256(signed.manifest).digest()


def parse_manifest(signed: SignedManifest) -> MeshManifest:
    """Return what `signed` says, **without** believing any of it.

    For readers that trust by another way, such as a client that pins the digest.

    Raises:
        FormatError: not a manifest, more than 1 MiB, or not in its one canonical form.
    """
    if len(signed.manifest) > MAX_MANIFEST_BYTES:
        raise FormatError(f"mesh manifest: more than {MAX_MANIFEST_BYTES} bytes")
    manifest = wire.decode(signed.manifest, MeshManifest, what="mesh manifest")
    if wire.encode(manifest) != signed.manifest:
        # Two readings of one signed text (a key given twice, say) would be two manifests.
        raise FormatError("mesh manifest: not in canonical form; sign it with `sign_manifest`")
    return manifest
