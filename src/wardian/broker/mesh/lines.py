"""Lines of the mesh manifest that one owner signs: whose secret it is says who may have it.

However many of the mesh's owners sign a manifest, a line holds only with the signature of the owner
whose secret it is about, for this mesh and no other. A line names measurements, never roles: others
may redefine a role (TRUST T7).
"""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Final, Literal, TypeAlias, TypeVar

import msgspec

from wardian._internal import wire
from wardian.broker.mesh.fields import Hex16, Hex32, Hex64, Measurements, Name, Owner, Serial, Text
from wardian.crypto.sealed_header import Pin
from wardian.crypto.signing import SigningKey

MODEL_LINE_LABEL: Final = "wardian model line signature v1"
SECRET_LINE_LABEL: Final = "wardian secret line signature v1"  # noqa: S105 (a label)
MAX_SECRET_BYTES: Final = 64 * 1024
"""Of a named secret that its owner supplies."""
UNSIGNED: Final = "00" * 64
"""Stands where an owner's signature will; it is nobody's."""


class ReleaseTerms(wire.Message, frozen=True):
    """How often and how long a secret is released. Every term that is given has to hold."""

    max_uses: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None = None
    """How many releases there are, counted from the first one ever of this secret or version:
    a new line does not begin anew. Its owner grants more by signing a higher number."""
    not_after: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None = None
    """Unix seconds; there is no release later than that, by the broker's clock."""
    max_beacon_age_s: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    """How old the newest beacon of this line's owner may be: an owner whose beacons stop reaching
    the broker withdraws what it gave (TRUST T9, T21)."""

    def signed_parts(self) -> tuple[bytes, bytes, bytes]:
        """Return what a line's signature covers of them: each as u64, or nothing if not given."""
        return (
            _optional(self.max_uses),
            _optional(self.not_after),
            _optional(self.max_beacon_age_s),
        )


class ModelLine(wire.Message, frozen=True):
    """One version of one model: which sealed file it is and who may open it, by its owner's hand.

    `header_digest` and `last_tag` pin the sealed file (`crypto.Pin`): a file that another author
    sealed under the same name, or an older version of it, does not match (TRUST T14).
    """

    name: Name
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    serial: Serial
    """Which of the owner's lines for this version it is. The broker accepts no lower one than it
    has had in force, so that a line with a measurement that was withdrawn stays withdrawn."""
    media_type: Text
    header_digest: Hex32
    last_tag: Hex16
    key_id: Hex16
    total_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    measurements: Measurements
    """Who may have the key."""
    owner: Owner
    terms: ReleaseTerms = ReleaseTerms()
    signature: Hex64 = UNSIGNED

    @property
    def pin(self) -> Pin:
        """What the sealed file must be, for `crypto.sealed_file`."""
        return Pin(
            header_digest=bytes.fromhex(self.header_digest), last_tag=bytes.fromhex(self.last_tag)
        )

    @property
    def place(self) -> str:
        """What the broker counts and remembers under, whatever the serial."""
        return f"{self.owner}/{self.name}/{self.version}"

    @property
    def said(self) -> str:
        """What the line is about, for people."""
        return f"model {self.name} version {self.version}"

    def signed_bytes(self, *, mesh: str) -> bytes:
        """Return what the owner signs: every field but the signature, for this mesh alone."""
        return wire.fields(
            MODEL_LINE_LABEL,
            mesh.encode(),
            self.name.encode(),
            self.version.to_bytes(8, "big"),
            self.serial.to_bytes(8, "big"),
            self.media_type.encode(),
            bytes.fromhex(self.header_digest),
            bytes.fromhex(self.last_tag),
            bytes.fromhex(self.key_id),
            self.total_bytes.to_bytes(8, "big"),
            *self.terms.signed_parts(),
            *(bytes.fromhex(measurement) for measurement in self.measurements),
            bytes.fromhex(self.owner),
        )


class SecretLine(wire.Message, frozen=True):
    """A secret that workloads get by name, and which of them, by its owner's hand."""

    name: Name
    """Of this secret alone in the manifest, whoever its owner is."""
    serial: Serial
    """As in a model's line: the broker accepts no lower one than it has had in force."""
    source: Literal["generated", "supplied"]
    """Made in the broker (32 random bytes, which nobody else ever sees), when a manifest first
    names it; or given by its owner, 1 byte to 64 KiB."""
    measurements: Measurements
    """Who may have it."""
    owner: Owner
    terms: ReleaseTerms = ReleaseTerms()
    interop: bool = False
    """Whether it may also be given over the KBS protocol, to workloads that are not Wardian's."""
    signature: Hex64 = UNSIGNED

    @property
    def place(self) -> str:
        """What the broker counts and remembers under, whatever the serial.

        Where a model's line has its version stands a word: no two lines share a place.
        """
        return f"{self.owner}/{self.name}/secret"

    @property
    def kept(self) -> str:
        """Where the broker keeps the value: a secret of another source is another secret."""
        return f"{self.owner}/{self.source}/{self.name}"

    @property
    def said(self) -> str:
        """What the line is about, for people."""
        return f"secret {self.name}"

    def signed_bytes(self, *, mesh: str) -> bytes:
        """Return what the owner signs: every field but the signature, for this mesh alone."""
        return wire.fields(
            SECRET_LINE_LABEL,
            mesh.encode(),
            self.name.encode(),
            self.serial.to_bytes(8, "big"),
            self.source.encode(),
            bytes([self.interop]),
            *self.terms.signed_parts(),
            *(bytes.fromhex(measurement) for measurement in self.measurements),
            bytes.fromhex(self.owner),
        )


Line: TypeAlias = ModelLine | SecretLine
L = TypeVar("L", ModelLine, SecretLine)


def sign_line(line: L, *, mesh: str, owner: SigningKey) -> L:
    """Return `line` as that of `owner`, signed, for `mesh` and no other."""
    owned = msgspec.structs.replace(line, owner=owner.public.hex(), signature=UNSIGNED)
    return msgspec.structs.replace(owned, signature=owner.sign(owned.signed_bytes(mesh=mesh)).hex())


def sign_model_line(
    *,
    mesh: str,
    owner: SigningKey,
    name: str,
    version: int,
    serial: int,
    media_type: str,
    pin: Pin,
    key_id: bytes,
    total_bytes: int,
    measurements: Iterable[bytes],
    terms: ReleaseTerms | None = None,
) -> ModelLine:
    """Return the line for one sealed model, signed by its owner.

    Args:
        mesh: the mesh for which this holds and no other.
        owner: the key of the model's owner, who is one of the mesh's owners.
        name: the model's name in `wardian.toml`.
        version: 1 or more.
        serial: 1 or more; higher than that of every other line which this owner ever signed for
            this version of the model.
        media_type: as sealed into the file's header.
        pin: what sealing the file returned.
        key_id: 16 bytes, `BrokerKey.key_id` of the key that opens the file.
        total_bytes: length of the model in the clear.
        measurements: 32 bytes each; the workers that may have the key.
        terms: how often and how long it is released; by default without a bound.
    """
    unsigned = ModelLine(
        name=name,
        version=version,
        serial=serial,
        media_type=media_type,
        header_digest=pin.header_digest.hex(),
        last_tag=pin.last_tag.hex(),
        key_id=key_id.hex(),
        total_bytes=total_bytes,
        measurements=tuple(measurement.hex() for measurement in measurements),
        owner=owner.public.hex(),
        terms=terms or ReleaseTerms(),
    )
    return sign_line(unsigned, mesh=mesh, owner=owner)


def line_mark(line: Line, *, mesh: str) -> bytes:
    """Return what the broker remembers of a line: serial (u64, big endian) and SHA-256."""
    signed = line.signed_bytes(mesh=mesh)
    return line.serial.to_bytes(8, "big") + hashlib.sha256(signed).digest()


def _optional(value: int | None) -> bytes:
    return b"" if value is None else value.to_bytes(8, "big")
