"""Request keys: to what a client seals a request so that no front end reads it (TRUST T13).

There is one for each model and epoch. The broker makes it beside the queue key; the private half
goes to that model's workers alone. What anybody may know is a statement that the mesh CA's key
signs, which evidence vouches for: front ends hand it on and cannot change it.

Byte forms: `docs/reference/sealed-request.md`. Only data here.
"""

import hashlib
from collections.abc import Callable
from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian.broker.mesh.fields import Hex32, Name
from wardian.broker.message_fields import Key32
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import verify_ecdsa
from wardian.errors import AuthenticationFailed, FormatError, RequestKeyInvalid

LABEL: Final = "wardian request key v1"
MAX_LIFE_S: Final = 32 * 86_400
"""No statement holds for longer: the longest epoch, the longest lease, and a day for clocks."""
MAX_STATEMENT_BYTES: Final = 4096
KEY_ID_BYTES: Final = 16

OPENERS: Final = frozenset({"worker"})
"""The roles that get private request keys. A role that is not in it never does."""

_ID_LABEL: Final = "wardian request key id v1"


class RequestKey(wire.Message, frozen=True, tag_field="format", tag=LABEL):
    """A model's request key, as the broker states it. Untrusted until `verify_request_key`."""

    mesh: Name
    model: Name
    manifest: Hex32
    """Digest of the manifest in force."""
    manifest_version: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    epoch: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    not_after: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    """The last second (Unix) at which it is used: the end of its epoch, and a lease."""
    public: Key32
    """X25519, raw."""
    signature: Annotated[bytes, msgspec.Meta(max_length=80)]
    """By the mesh CA's key, over `signed_bytes`: ECDSA P-256 SHA-256, DER."""

    def signed_bytes(self) -> bytes:
        """Return what is signed: every field but the signature."""
        return wire.fields(
            LABEL,
            self.mesh.encode(),
            self.model.encode(),
            bytes.fromhex(self.manifest),
            self.manifest_version.to_bytes(8, "big"),
            self.epoch.to_bytes(8, "big"),
            self.not_after.to_bytes(8, "big"),
            self.public,
        )


def request_key_id(public: bytes) -> bytes:
    """Return the 16 bytes by which a request key is named in logs and audit lines."""
    return hashlib.sha256(wire.fields(_ID_LABEL, public)).digest()[:KEY_ID_BYTES]


def public_of(private: Secret) -> bytes:
    """Return the public half (32 bytes) of a request key; FormatError unless it has 32 bytes."""
    return HpkePrivateKey.from_secret(private).public


def state_request_key(key: RequestKey, *, sign: Callable[[bytes], bytes]) -> RequestKey:
    """Return `key` under the signature of the mesh CA's key, which `sign` makes."""
    return msgspec.structs.replace(key, signature=sign(key.signed_bytes()))


def parse_request_key(raw: bytes) -> RequestKey:
    """Return the statement in `raw`, which says nothing yet.

    Raises:
        FormatError: not a statement in its one form.
    """
    if len(raw) > MAX_STATEMENT_BYTES:
        raise FormatError(f"request key: at most {MAX_STATEMENT_BYTES} bytes were expected")
    key = wire.decode(raw, RequestKey, what="request key")
    if wire.encode(key) != raw:
        raise FormatError("request key: not in its one form")
    return key


def verify_request_key(
    key: RequestKey, *, ca_spki: bytes, mesh: str, model: str, manifest_digest: bytes, now: int
) -> None:
    """Return if the broker states `key` for this model under this manifest, and it holds at `now`.

    Args:
        key: untrusted.
        ca_spki: the mesh CA's key (DER SubjectPublicKeyInfo), which evidence bound.
        mesh: the mesh's name.
        model: for which it was asked.
        manifest_digest: of the manifest that the caller accepted, 32 bytes.
        now: Unix seconds.

    Raises:
        RequestKeyInvalid: it is somebody else's key, another mesh's, model's or manifest's, or its
            time is over.
    """
    try:
        verify_ecdsa(ca_spki, key.signature, key.signed_bytes())
    except AuthenticationFailed as err:
        raise RequestKeyInvalid("the request key is not stated by this mesh's broker") from err
    if (key.mesh, key.model) != (mesh, model):
        raise RequestKeyInvalid("the request key is of another model or mesh")
    if bytes.fromhex(key.manifest) != manifest_digest:
        raise RequestKeyInvalid("the request key is of another manifest")
    if not now <= key.not_after <= now + MAX_LIFE_S:
        raise RequestKeyInvalid("the request key is of an epoch that is over, by this clock")
