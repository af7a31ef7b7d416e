"""The bytes of an SGX ECDSA quote, version 3: structure only, nothing is verified here.

Layout (little endian), from "Intel SGX ECDSA QuoteLib Reference, DCAP API", appendix A.4:

    0    48  header: version 3, key type 2, TEE type 0, QE SVN, PCE SVN, vendor, user data
    48  384  report body of the enclave (Intel SDM, volume 3D, table 38-21)
    432   4  length of what follows
    436  64  signature over bytes 0..432, r || s
    500  64  attestation public key, x || y
    564 384  report body of the quoting enclave; its report data binds the attestation key
    948  64  signature over the quoting enclave's report, by the platform's PCK key
    1012  2  length of the QE authentication data, then the data (always 32 bytes)
    1046  2  certification data type 5: PEM chain PCK leaf, CA, root
    1048  4  its length, then the chain
"""

import base64
import binascii
import hashlib
import re
import struct
from dataclasses import dataclass

from wardian.errors import FormatError

SIGNED_BYTES = 432
"""What the enclave's quote signature covers."""

MAX_QUOTE_BYTES = 16 * 1024
"""Gramine hands out at most 8 KiB; a PCK chain takes about 4 KiB."""

_AUTH_DATA_AT = 1012
_AUTH_DATA_BYTES = 32
_CERTIFICATION_AT = _AUTH_DATA_AT + 2 + _AUTH_DATA_BYTES
_CHAIN_AT = _CERTIFICATION_AT + 6
_PEM_CHAIN = 5
_MAX_CHAIN = 4
_PEM = re.compile(
    rb"-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]{1,8192})-----END CERTIFICATE-----"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxQuote:
    """A quote's fields, unverified.

    Attributes:
        raw: exactly the quote's bytes, without the padding that followed it. Not an identity:
            the certificates' PEM form can be rewritten without breaking any signature.
        misc_select, attributes, mr_enclave, mr_signer, config_id, product_id, svn, report_data:
            from the enclave's report; see `claims.Claims`.
        chain: the certificates in the quote, DER: PCK leaf first, root last.
    """

    raw: bytes
    misc_select: int
    attributes: bytes
    mr_enclave: bytes
    mr_signer: bytes
    config_id: bytes
    product_id: int
    svn: int
    report_data: bytes
    chain: tuple[bytes, ...]

    @property
    def root_sha256(self) -> bytes:
        """SHA-256 of the last certificate of the chain: the root that the quote claims."""
        return hashlib.sha256(self.chain[-1]).digest()


def parse_sgx_quote(raw: bytes) -> SgxQuote:
    """Return the fields of the quote in `raw`.

    Args:
        raw: the quote, at most `MAX_QUOTE_BYTES`, untrusted. Zero bytes may follow it (quoting
            services hand out fixed buffers); any other trailing byte is refused.

    Raises:
        FormatError: not a version 3 SGX quote with a PEM chain, or something follows it.
    """
    if len(raw) > MAX_QUOTE_BYTES:
        raise FormatError(f"quote: {len(raw)} bytes, at most {MAX_QUOTE_BYTES} are accepted")
    if len(raw) < _CHAIN_AT:
        raise FormatError(f"quote: {len(raw)} bytes, a version 3 quote has more than {_CHAIN_AT}")
    _demand_sgx_v3(raw)
    end = _demand_lengths(raw)
    body = raw[48:SIGNED_BYTES]
    return SgxQuote(
        raw=raw[:end],
        misc_select=_u32(body, 16),
        attributes=body[48:64],
        mr_enclave=body[64:96],
        mr_signer=body[128:160],
        config_id=body[192:256],
        product_id=_u16(body, 256),
        svn=_u16(body, 258),
        report_data=body[320:384],
        chain=_parse_chain(raw[_CHAIN_AT:end]),
    )


def _demand_sgx_v3(raw: bytes) -> None:
    """Refuse every other kind of quote, and say which kinds are known but not supported."""
    version, key_type, tee_type = struct.unpack_from("<HHI", raw)
    if version in {4, 5}:
        kind = "TDX" if tee_type == 0x81 else "SGX"
        raise FormatError(f"quote: {kind} version {version}; only SGX version 3 is supported")
    if version != 3:
        raise FormatError(f"quote: version {version}; only SGX version 3 is supported")
    if tee_type != 0:
        raise FormatError(f"quote: TEE type {tee_type:#x}; only SGX (0) is supported")
    if key_type != 2:
        raise FormatError(f"quote: key type {key_type}; only ECDSA P-256 (2) is supported")


def _demand_lengths(raw: bytes) -> int:
    """Return where the quote ends; refuse one whose lengths leave a byte unaccounted for."""
    end = SIGNED_BYTES + 4 + _u32(raw, SIGNED_BYTES)
    if not _CHAIN_AT < end <= len(raw):
        raise FormatError("quote: the length of the signature data does not fit")
    if raw[end:].strip(b"\0"):
        raise FormatError(f"quote: something other than zero padding follows byte {end}")
    if _u16(raw, _AUTH_DATA_AT) != _AUTH_DATA_BYTES:
        raise FormatError(f"quote: QE authentication data has {_AUTH_DATA_BYTES} bytes")
    if _u16(raw, _CERTIFICATION_AT) != _PEM_CHAIN:
        raise FormatError("quote: certification data is of another type than 5, a PEM chain")
    if _CHAIN_AT + _u32(raw, _CERTIFICATION_AT + 2) != end:
        raise FormatError("quote: the length of the certification data does not fit")
    return end


def _parse_chain(pem: bytes) -> tuple[bytes, ...]:
    """Return the DER certificates in `pem`; refuse anything between or after them.

    A zero byte may end the text: Intel's quote library copies the C string with its end.
    """
    certificates = []
    at = 0
    text = pem.rstrip(b"\0\r\n")
    for found in _PEM.finditer(text):
        if text[at : found.start()].strip(b"\r\n"):
            break
        try:
            certificates.append(base64.b64decode(found.group(1), validate=False))
        except binascii.Error as err:
            raise FormatError("quote: a certificate in the chain is not valid base64") from err
        at = found.end()
    if at != len(text):
        raise FormatError("quote: the certification data is not a chain of PEM certificates")
    if not 2 <= len(certificates) <= _MAX_CHAIN:
        raise FormatError(f"quote: the chain has {len(certificates)} certificates, 2 to 4 expected")
    return tuple(certificates)


def _u16(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[at : at + 2], "little")


def _u32(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[at : at + 4], "little")
