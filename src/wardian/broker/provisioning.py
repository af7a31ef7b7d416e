"""How an owner gives the broker a manifest and keys: three messages and a signed receipt.

    owner                                                       broker
       | 1 OwnerHello        nonce, who                           |
       |--------------------------------------------------------->|
       | 2 OwnerChallenge    nonce, HPKE key, CA, evidence        |
       |<---------------------------------------------------------|
       | 3 Provision         manifest, HPKE(keys), signature      |
       |--------------------------------------------------------->|
       | 4 Receipt           what is in force now, CA signature   |
       |<---------------------------------------------------------|

The broker's evidence is fresh for the owner's nonce and binds the HPKE key, made for this session,
to which the keys are sealed. The owner's signature covers the session, so it holds for this broker
and this moment. The receipt is signed: a host cannot say "done" in the broker's place.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from typing_extensions import override

from wardian._internal import wire
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.broker.manifest import Hex16, Hex32, MeshManifest, ModelLine, SignedManifest
from wardian.broker.protocol import Der, Key32, Nonce
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.secret import Secret
from wardian.crypto.signing import verify_signature
from wardian.errors import AuthenticationFailed, FormatError, PeerProtocolError, PolicyDenied

TRANSCRIPT_LABEL: Final = "wardian provision transcript v1"
PROVISION_LABEL: Final = "wardian provision v1"
PROVISION_INFO: Final = "wardian provision hpke v1"
RECEIPT_LABEL: Final = "wardian provision receipt v1"

# The broker shows itself to workloads and to owners under one `Purpose`; this part, which no
# nonce of 32 bytes equals, keeps the two uses of its evidence apart (TRUST T24).
_OWNER_USE: Final = b"provision"


class OwnerHello(wire.Message, frozen=True, tag_field="format", tag="wardian owner hello v1"):
    """1. Which owner speaks; proved in message 3."""

    owner: Hex32
    nonce: Nonce


class OwnerChallenge(
    wire.Message, frozen=True, tag_field="format", tag="wardian owner challenge v1"
):
    """2. Who the broker is, fresh for this owner."""

    nonce: Nonce
    hpke_public: Key32
    """Made for this session; binds with the rest in `owner_report_data`."""
    mesh_ca: Der
    agreed_digest: Hex32
    """SHA-256 of the `wardian.toml` that is part of the broker's measurement."""
    manifest_version: int
    """Of the manifest in force, 0 if there is none. For information: it is not bound."""
    evidence: Evidence


class Provision(wire.Message, frozen=True, tag_field="format", tag="wardian provision v1"):
    """3. What the owner wants to be in force, and the keys that go with it."""

    signed_manifest: SignedManifest
    sealed_keys: bytes
    """HPKE of the owner's keys; `info` is `provision_info(transcript)`."""
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    """Ed25519 by the owner over `provision_signed_bytes`."""


class Receipt(wire.Message, frozen=True, tag_field="format", tag="wardian provision receipt v1"):
    """4. What is in force now."""

    manifest_digest: Hex32
    manifest_version: int
    epoch: int
    """Of the queue keys; a new manifest begins a new one."""
    missing: tuple[str, ...]
    """`NAME version N` of each model whose key its owner has not given yet."""
    audit_count: int
    audit_digest: Hex32
    signature: bytes
    """ECDSA P-256 SHA-256, DER, by the mesh CA key over `receipt_signed_bytes`."""


class _KeyRecord(wire.Message, frozen=True):
    key_id: Hex16
    key: Key32

    @override
    def __repr__(self) -> str:
        return f"_KeyRecord({self.key_id})"  # never the key


class _KeysRecord(wire.Message, frozen=True, tag_field="format", tag="wardian owner keys v1"):
    keys: Annotated[tuple[_KeyRecord, ...], msgspec.Meta(max_length=1024)]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedProvision:
    """Message 3 with its signature verified and its keys opened, ids recomputed."""

    owner: str
    signed_manifest: SignedManifest
    keys: dict[str, Secret]
    """By key id in hex."""


def owner_report_data(
    *,
    owner_nonce: bytes,
    broker_nonce: bytes,
    ca_spki: bytes,
    hpke_public: bytes,
    agreed_digest: bytes,
) -> bytes:
    """Return the 64 bytes that the broker's evidence for an owner binds."""
    return bind(
        Purpose.BROKER, _OWNER_USE, owner_nonce, broker_nonce, ca_spki, hpke_public, agreed_digest
    )


def provision_transcript(hello: bytes, challenge: bytes) -> bytes:
    """Return SHA-256 (32 bytes) over messages 1 and 2, as they travelled."""
    return hashlib.sha256(wire.fields(TRANSCRIPT_LABEL, hello, challenge)).digest()


def provision_info(transcript: bytes) -> bytes:
    """Return the HPKE `info` of the owner's keys: they open in this session and no other."""
    return wire.fields(PROVISION_INFO, transcript)


def provision_signed_bytes(
    transcript: bytes, *, signed_manifest: SignedManifest, sealed_keys: bytes
) -> bytes:
    """Return what the owner signs: this session, this manifest, these sealed keys."""
    manifest = hashlib.sha256(wire.encode(signed_manifest)).digest()
    return wire.fields(PROVISION_LABEL, transcript, manifest, sealed_keys)


def receipt_signed_bytes(transcript: bytes, provision: bytes, receipt: Receipt) -> bytes:
    """Return what the mesh CA key signs: the whole exchange and every field but the signature."""
    unsigned = msgspec.structs.replace(receipt, signature=b"")
    return wire.fields(RECEIPT_LABEL, transcript, provision, wire.encode(unsigned))


def encode_keys(keys: tuple[BrokerKey, ...]) -> bytes:
    """Return the plaintext of the owner's keys; the caller seals it at once."""
    return wire.encode(
        _KeysRecord(
            keys=tuple(_KeyRecord(key_id=key.key_id.hex(), key=key.key.reveal()) for key in keys)
        )
    )


def decode_keys(plaintext: bytes) -> dict[str, Secret]:
    """Return the keys by id.

    Raises:
        FormatError: not a list of keys, or an id that is not that of the key beside it.
    """
    record = wire.decode(plaintext, _KeysRecord, what="owner's keys")
    keys: dict[str, Secret] = {}
    for each in record.keys:
        key = Secret(each.key)
        if BrokerKey(key).key_id.hex() != each.key_id:
            raise FormatError("owner's keys: a key does not have the id that stands beside it")
        keys[each.key_id] = key
    return keys


class BrokerProvisioning:
    """The broker's end of one exchange: `challenge`, `receive`, `receipt`, in this order, once."""

    __slots__ = ("_challenge", "_hello", "_hello_raw", "_hpke", "_nonce", "_provision", "_step")

    def __init__(self, raw: bytes, hello: OwnerHello, *, nonce: bytes) -> None:
        """Begin with message 1, `raw` as it travelled and `hello` decoded; `nonce` is fresh."""
        self._hello_raw, self._hello = raw, hello
        self._nonce = nonce
        self._hpke = HpkePrivateKey.generate()
        self._challenge = b""
        self._provision = b""
        self._step = 0

    def report_data(self, *, ca_spki: bytes, agreed_digest: bytes) -> bytes:
        """Return the 64 bytes for the broker's evidence."""
        return owner_report_data(
            owner_nonce=self._hello.nonce,
            broker_nonce=self._nonce,
            ca_spki=ca_spki,
            hpke_public=self._hpke.public,
            agreed_digest=agreed_digest,
        )

    def challenge(
        self, evidence: Evidence, *, mesh_ca: bytes, agreed_digest: bytes, manifest_version: int
    ) -> bytes:
        """Return message 2."""
        self._turn(0)
        self._challenge = wire.encode(
            OwnerChallenge(
                nonce=self._nonce,
                hpke_public=self._hpke.public,
                mesh_ca=mesh_ca,
                agreed_digest=agreed_digest.hex(),
                manifest_version=manifest_version,
                evidence=evidence,
            )
        )
        return self._challenge

    def receive(self, raw: bytes) -> OpenedProvision:
        """Return message 3, signed by the owner who said hello and opened.

        Whether that owner is one of the mesh's is for the caller to know beforehand.

        Raises:
            FormatError: it does not parse, or a key has another id than stands beside it.
            AuthenticationFailed: not signed by that owner for this session, or not sealed to it.
            PeerProtocolError: a second time.
        """
        self._turn(1)
        message = wire.decode(raw, Provision, what="provision")
        transcript = provision_transcript(self._hello_raw, self._challenge)
        signed = provision_signed_bytes(
            transcript, signed_manifest=message.signed_manifest, sealed_keys=message.sealed_keys
        )
        try:
            verify_signature(bytes.fromhex(self._hello.owner), message.signature, signed)
        except AuthenticationFailed as err:
            raise AuthenticationFailed(
                "the owner's signature is wrong: not by this owner, or not for this session"
            ) from err
        self._provision = raw
        return OpenedProvision(
            owner=self._hello.owner,
            signed_manifest=message.signed_manifest,
            keys=decode_keys(self._hpke.open(message.sealed_keys, info=provision_info(transcript))),
        )

    def receipt(self, receipt: Receipt, *, sign: Callable[[bytes], bytes]) -> bytes:
        """Return message 4, signed with the mesh CA key."""
        self._turn(2)
        transcript = provision_transcript(self._hello_raw, self._challenge)
        signature = sign(receipt_signed_bytes(transcript, self._provision, receipt))
        return wire.encode(msgspec.structs.replace(receipt, signature=signature))

    def _turn(self, step: int) -> None:
        if self._step != step:
            raise PeerProtocolError("the message comes out of turn, or a second time")
        self._step += 1


def line_place(line: ModelLine) -> str:
    """Return under which key the broker remembers the newest line of this owner and version."""
    return f"{line.owner}/{line.name}/{line.version}"


def line_mark(line: ModelLine, *, mesh: str) -> bytes:
    """Return what the broker remembers of a line: serial (u64, big endian) and SHA-256."""
    signed = line.signed_bytes(mesh=mesh)
    return line.serial.to_bytes(8, "big") + hashlib.sha256(signed).digest()


def refuse_superseded(manifest: MeshManifest, *, mark_of: Callable[[str], bytes | None]) -> None:
    """Return if no line of `manifest` is older than one that has been in force.

    A model's owner withdraws a measurement by signing a new line. The old one stays well signed,
    and the other owners still have it: without this they could bring it back (TRUST T7).

    Args:
        manifest: verified, about to come into force.
        mark_of: the mark (`line_mark`) that is remembered at a place (`line_place`), if any.

    Raises:
        PolicyDenied: the rule `line-serial`.
    """
    for line in manifest.models:
        known, mark = mark_of(line_place(line)), line_mark(line, mesh=manifest.mesh)
        if known is None or known[:8] < mark[:8] or known == mark:
            continue
        newest = int.from_bytes(known[:8], "big")
        what = f"the line of model {line.name} version {line.version}"
        raise PolicyDenied(
            f"{what} has serial {line.serial}, but its owner's line of serial {newest} was in "
            "force: an older line does not come back"
            if line.serial < newest
            else f"{what} is another than the one of the same serial {newest} that was in force: "
            "its owner raises the serial with every change",
            rule="line-serial",
        )
