"""SIGSTRUCT: what an enclave's author signs, read and verified here without the author's tools.

Layout (little endian), Intel SDM, volume 3D, "SIGSTRUCT", 1808 bytes; * is signed:

    0     16 * header                        900    4 * MISCSELECT
    16     4 * vendor: 0, or 8086h for Intel 904    4 * MISCMASK
    20     4 * date, binary coded decimal    908    2 * CET attributes and their mask
    24    16 * second header                 910    2 * reserved, zero
    40     4 * software defined              912   16 * ISVFAMILYID
    44    84 * reserved, zero                928   16 * ATTRIBUTES
    128  384   modulus                       944   16 * ATTRIBUTEMASK
    512    4   exponent, 3                   960   32 * ENCLAVEHASH: MRENCLAVE
    516  384   signature                     992   16 * reserved, zero
                                             1008  16 * ISVEXTPRODID
    1028  12   reserved, zero                1024   2 * ISVPRODID
    1040 384   q1                            1026   2 * ISVSVN
    1424 384   q2

The signature is RSA-3072, PKCS #1 v1.5 with SHA-256; q1 and q2 spare the processor two divisions
of big numbers. Every bit is either signed, or of a value that the signed ones determine.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256

from wardian.errors import AuthenticationFailed, FormatError, LocalProtocolError, PolicyDenied
from wardian.tee.manifest.canonical import manifest_identity

SIGSTRUCT_BYTES: Final = 1808
EXPONENT: Final = 3
NO_DATE: Final = "0000-00-00"
"""What Gramine's `--date 0000-00-00` writes, for builds that shall be the same on every day."""

_HEADER: Final = bytes.fromhex("06000000e10000000000010000000000")
_HEADER2: Final = bytes.fromhex("01010000600000006000000001000000")
_VENDORS: Final = (0, 0x8086)
_NUMBER_BYTES: Final = 384
_NUMBER_BITS: Final = 8 * _NUMBER_BYTES
_RESERVED: Final = ((44, 128), (910, 912), (992, 1008), (1028, 1040))
_DEBUG: Final = 0b10  # ATTRIBUTES.DEBUG


@dataclass(frozen=True, slots=True, kw_only=True)
class Sigstruct:
    """A SIGSTRUCT's fields, unverified. Numbers of 3072 bits are `int`, bit fields too.

    Attributes:
        signed: the 256 bytes that the signature covers.
        modulus: odd, with its highest bit set.
        signature: below the modulus.
        date: when it was signed, YYYY-MM-DD, as the signer says; `NO_DATE` if it does not say.
        attributes, attribute_mask: 128 bits; EINIT compares the enclave's with these where the
            mask is set, and nowhere else.
        product_id: ISVPRODID.
        svn: ISVSVN.
    """

    signed: bytes = field(repr=False)
    modulus: int = field(repr=False)
    signature: int = field(repr=False)
    q1: int = field(repr=False)
    q2: int = field(repr=False)
    vendor: int
    date: str
    misc_select: int
    misc_mask: int
    family_id: bytes
    attributes: int
    attribute_mask: int
    mr_enclave: bytes
    extended_product_id: bytes
    product_id: int
    svn: int

    @property
    def mr_signer(self) -> bytes:
        """MRSIGNER, 32 bytes: SHA-256 of the modulus, little endian."""
        return hashlib.sha256(self.modulus.to_bytes(_NUMBER_BYTES, "little")).digest()

    @property
    def debug(self) -> bool:
        """Whether the host may start the enclave in debug mode, and read its memory."""
        return bool(self.attributes & _DEBUG) or not self.attribute_mask & _DEBUG


_VERIFIED: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedSigstruct:
    """A SIGSTRUCT that the holder of its key signed; only `verify_sigstruct` constructs one."""

    sigstruct: Sigstruct
    proof: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.proof is not _VERIFIED:
            raise LocalProtocolError("only verify_sigstruct makes a VerifiedSigstruct")


def parse_sigstruct(raw: bytes) -> Sigstruct:
    """Return the fields of the SIGSTRUCT in `raw`. Believe none of it before `verify_sigstruct`.

    Args:
        raw: exactly 1808 bytes, untrusted.

    Raises:
        FormatError: another length, a wrong constant, a number out of range, or a date that is
            none.
    """
    if len(raw) != SIGSTRUCT_BYTES:
        raise FormatError(f"SIGSTRUCT: {len(raw)} bytes, {SIGSTRUCT_BYTES} expected")
    vendor, exponent = _demand_constants(raw)
    modulus, signature = _number(raw, 128), _number(raw, 516)
    if exponent != EXPONENT:
        raise FormatError(f"SIGSTRUCT: the exponent is {exponent}, {EXPONENT} expected")
    if modulus.bit_length() != _NUMBER_BITS or modulus % 2 == 0:
        raise FormatError(f"SIGSTRUCT: the modulus is no odd number of {_NUMBER_BITS} bits")
    if not 0 < signature < modulus:
        raise FormatError("SIGSTRUCT: the signature is zero, or not below the modulus")
    misc_select, misc_mask = struct.unpack_from("<II", raw, 900)
    product_id, svn = struct.unpack_from("<HH", raw, 1024)
    return Sigstruct(
        signed=raw[:128] + raw[900:1028],
        modulus=modulus,
        signature=signature,
        q1=_number(raw, 1040),
        q2=_number(raw, 1424),
        vendor=vendor,
        date=_parse_date(raw[20:24]),
        misc_select=misc_select,
        misc_mask=misc_mask,
        family_id=raw[912:928],
        attributes=int.from_bytes(raw[928:944], "little"),
        attribute_mask=int.from_bytes(raw[944:960], "little"),
        mr_enclave=raw[960:992],
        extended_product_id=raw[1008:1024],
        product_id=product_id,
        svn=svn,
    )


def verify_sigstruct(sigstruct: Sigstruct) -> VerifiedSigstruct:
    """Return `sigstruct`, signed by the key that it carries and closed to its host.

    Says nothing about whose key that is: compare `mr_signer` with what you expect.

    Raises:
        AuthenticationFailed: the signature, q1 or q2 is wrong: the processor would refuse it.
        PolicyDenied: a host could start the enclave in debug mode.
    """
    key = RSAPublicNumbers(EXPONENT, sigstruct.modulus).public_key()
    signature = sigstruct.signature.to_bytes(_NUMBER_BYTES, "big")
    try:
        key.verify(signature, sigstruct.signed, PKCS1v15(), SHA256())
    except InvalidSignature as err:
        raise AuthenticationFailed("SIGSTRUCT: the signature is wrong") from err
    # SDM, volume 3D, EINIT: q1 = S^2 / M and q2 = (S^3 - q1 * S * M) / M, rounded down.
    q1, rest = divmod(sigstruct.signature**2, sigstruct.modulus)
    q2 = rest * sigstruct.signature // sigstruct.modulus
    if (sigstruct.q1, sigstruct.q2) != (q1, q2):
        raise AuthenticationFailed("SIGSTRUCT: q1 or q2 does not belong to the signature")
    _refuse_debug(sigstruct)
    return VerifiedSigstruct(sigstruct=sigstruct, proof=_VERIFIED)


def demand_identity(verified: VerifiedSigstruct, manifest: Mapping[str, Any]) -> None:
    """Refuse a signature over another product or security version than `manifest` says.

    MRENCLAVE covers the manifest, but only the processor and the signing tool can compute it; what
    both documents say must at least be the same.

    Args:
        verified: the signature.
        manifest: the table of the manifest that it belongs to.

    Raises:
        ConfigError: the manifest does not say which product and version it is.
        PolicyDenied: they differ, or the manifest asks for debug mode.
    """
    product_id, svn = manifest_identity(manifest)
    if verified.sigstruct.product_id != product_id:
        raise PolicyDenied("the signature is for another product id", rule="product-id")
    if verified.sigstruct.svn != svn:
        raise PolicyDenied("the signature is for another security version", rule="svn")


def _refuse_debug(sigstruct: Sigstruct) -> None:
    """Refuse a signature under which some host may read the enclave's memory (SDM, EINIT)."""
    if sigstruct.attributes & _DEBUG:
        raise PolicyDenied(
            "SIGSTRUCT: the enclave is signed for debug mode: its host can read its memory",
            rule="not-debug",
        )
    if sigstruct.debug:
        raise PolicyDenied(
            "SIGSTRUCT: the attribute mask leaves DEBUG open: a host may start the enclave in "
            "debug mode and read its memory",
            rule="not-debug",
        )


def _demand_constants(raw: bytes) -> tuple[int, int]:
    """Return vendor and exponent; refuse headers, a vendor or reserved bytes that are not so."""
    if raw[:16] != _HEADER or raw[24:40] != _HEADER2:
        raise FormatError("SIGSTRUCT: a header is not the one of a SIGSTRUCT")
    vendor = int.from_bytes(raw[16:20], "little")
    if vendor not in _VENDORS:
        raise FormatError("SIGSTRUCT: the vendor is neither 0 nor Intel's")
    for start, end in _RESERVED:
        if any(raw[start:end]):
            raise FormatError(f"SIGSTRUCT: bytes {start} to {end - 1} are reserved, and not zero")
    return vendor, int.from_bytes(raw[512:516], "little")


def _parse_date(raw: bytes) -> str:
    """Return YYYY-MM-DD of 4 bytes that hold yyyymmdd, two decimal digits in each.

    Gramine before 1.5 wrote binary numbers here; what those would mean as digits is no day.
    """
    digits = raw[::-1].hex()
    text = f"{digits[:4]}-{digits[4:6]}-{digits[6:]}"
    try:
        if text != NO_DATE:
            date.fromisoformat(text)
    except ValueError as err:
        raise FormatError(
            "SIGSTRUCT: the date is no day in binary coded decimal; sign with Gramine 1.5 or later"
        ) from err
    return text


def _number(raw: bytes, at: int) -> int:
    """Return the number of 3072 bits, little endian, at `at`."""
    return int.from_bytes(raw[at : at + _NUMBER_BYTES], "little")
