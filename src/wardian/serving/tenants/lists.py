"""The tenants list: who may ask the front ends of a mesh, for what, and how often.

Whoever `[tenants] signers` of the measured `wardian.toml` names signs its exact bytes; the operator
carries it to the front ends. There is no secret in it: of an API key it has the SHA-256, which
nobody finds the 32 random bytes of, and of a certificate the whole, which is public.

`SignedTenants` is what travels and is believed by nobody: see `verify.verify_tenants`.
"""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian._internal.settings import Name, PublicKey, Sha256
from wardian.crypto.signing import Signer
from wardian.errors import FormatError

LABEL: Final = "wardian tenants signature v1"
MAX_LIST_BYTES: Final = 2 * 1024 * 1024
MAX_SIGNED_BYTES: Final = 3 * 1024 * 1024
"""Of the file: the list in base64, and signatures."""
MAX_TENANTS: Final = 1024
MAX_CERTIFICATE_BYTES: Final = 8 * 1024

Signature = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{128}\Z")]
Certificate = Annotated[bytes, msgspec.Meta(min_length=100, max_length=MAX_CERTIFICATE_BYTES)]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=2**40)]


class TenantTerms(wire.Message, frozen=True, kw_only=True):
    """One tenant, and what it may."""

    name: Name
    keys: Annotated[tuple[Sha256, ...], msgspec.Meta(max_length=64)] = ()
    """`api_key.api_key_digest` of each of its API keys, in hex."""
    certificates: Annotated[tuple[Certificate, ...], msgspec.Meta(max_length=64)] = ()
    """DER. Each is its own anchor: no authority vouches for it, and it vouches for no other."""
    models: Annotated[tuple[Name, ...], msgspec.Meta(max_length=256)] = ()
    """Those that it may ask. For it there are no others."""
    all: bool = False
    """Whether it may ask every model of the mesh, those that come later included."""
    rate_per_s: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    """Requests a second, over a time; of one front-end process."""
    burst: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    """So many may come at once."""
    max_open: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    """Inferences that it may have accepted and unanswered, of one front-end process."""
    max_bytes_per_s: Annotated[int, msgspec.Meta(ge=1, le=2**40)] | None = None
    """Bytes of inputs a second, over a time; None: no limit of its own."""
    quota: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None = None
    """Inferences a UTC day, as one front-end process counts them; None: no limit."""
    weight: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    """Its share of the workers, beside those of others that wait at the same time."""
    metrics: bool = False
    """Whether it may read /metrics, which names all tenants and all models."""


class TenantList(wire.Message, frozen=True, tag_field="format", tag="wardian tenants v1"):
    """Everything that is signed. `serial` only grows."""

    mesh: Name
    serial: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    issued: Seconds
    """Unix seconds, by the clock of who put it together."""
    not_after: Seconds
    """The last second (Unix) at which it holds."""
    tenants: Annotated[tuple[TenantTerms, ...], msgspec.Meta(max_length=MAX_TENANTS)]


class TenantSignature(wire.Message, frozen=True):
    """One signer's signature over `tenants_signed_bytes`."""

    signer: PublicKey
    signature: Signature


class SignedTenants(wire.Message, frozen=True, tag_field="format", tag="wardian signed tenants v1"):
    """A list as it travels: the exact bytes that were signed, and by whom."""

    tenants: bytes
    signatures: Annotated[tuple[TenantSignature, ...], msgspec.Meta(max_length=64)]


def tenants_signed_bytes(tenants: bytes) -> bytes:
    """Return what a signer signs of a list's exact bytes."""
    return wire.fields(LABEL, tenants)


def sign_tenants(tenants: TenantList, keys: Iterable[Signer]) -> SignedTenants:
    """Return `tenants` signed by every one of `keys`, in their order."""
    raw = wire.encode(tenants)
    message = tenants_signed_bytes(raw)
    return SignedTenants(
        tenants=raw,
        signatures=tuple(
            TenantSignature(signer=key.public.hex(), signature=key.sign(message).hex())
            for key in keys
        ),
    )


def tenants_digest(signed: SignedTenants) -> bytes:
    """Return SHA-256 (32 bytes) of the list's exact bytes, believed or not."""
    return hashlib.sha256(signed.tenants).digest()


def parse_tenants(signed: SignedTenants) -> TenantList:
    """Return what `signed` says, **without** believing any of it.

    Raises:
        FormatError: not a list, more than 2 MiB, or not in its one canonical form.
    """
    if len(signed.tenants) > MAX_LIST_BYTES:
        raise FormatError(f"tenants list: more than {MAX_LIST_BYTES} bytes")
    tenants = wire.decode(signed.tenants, TenantList, what="tenants list")
    if wire.encode(tenants) != signed.tenants:
        raise FormatError("tenants list: not in canonical form; make it with `wardian tenants`")
    return tenants
