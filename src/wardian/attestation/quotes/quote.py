"""The frame of a quote: structure only, nothing is verified here.

Layout (little endian); SGX 3 from "Intel SGX ECDSA QuoteLib Reference, DCAP API", appendix A.4,
TDX 4 and 5 from "Intel TDX DCAP Quoting Library API", appendix A.3:

    header          48  version, key type 2, TEE type, QE SVN, PCE SVN, vendor[16], user data[20]
    body type        6  version 5 alone: type as u16, size as u32
    body                384 SGX enclave, 584 TD 1.0, 648 TD 1.5: `sgx`, `tdx`
    size             4  of all that follows
    signature       64  r || s, over everything before the size
    attestation key 64  x || y
    QE material         version 3: as it is; versions 4 and 5: as u16 type 6, u32 size, then it

QE material is the quoting enclave's report (384) and its signature by the PCK key (64), u16 size
of the authentication data and the data (always 32), then u16 type 5, u32 size and the PCK chain.
"""

import hashlib
from dataclasses import dataclass

from wardian.attestation.certificates.pem_chain import parse_pem_chain
from wardian.attestation.claims import SgxReport, TdReport
from wardian.attestation.quotes.sgx import SGX_BODY, parse_sgx_body
from wardian.attestation.quotes.tdx import TD15_BODY, TD_BODY, parse_td15_body, parse_td_body
from wardian.errors import FormatError

MAX_QUOTE_BYTES = 16 * 1024
"""Gramine and Linux hand out at most 8 KiB; a PCK chain takes about 4 KiB."""

SGX, TDX = 0x00, 0x81
"""TEE types."""
_ECDSA_P256 = 2
_INTEL = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_QE_MATERIAL, _PEM_CHAIN = 6, 5  # types of certification data
_AUTH_DATA_BYTES = 32
_CHAIN = 3  # PCK leaf, its CA, root
_SIGNATURE_AND_KEY_BYTES = 64 + 64
_QE_REPORT_BYTES = SGX_BODY.size + 64  # with its signature
_BODY_TYPES = {1: "an SGX enclave", 2: "TD 1.0", 3: "TD 1.5"}
_V5_BODIES = {(2, TD_BODY.size): parse_td_body, (3, TD15_BODY.size): parse_td15_body}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A quote's fields, unverified.

    Attributes:
        raw: exactly the quote's bytes, without the padding that followed it. Not an identity:
            every ECDSA signature in it has a second form (r, n - s) that verifies too.
        version: 3 for SGX, 4 or 5 for TDX.
        report: what the processor says about the enclave or the trust domain.
        chain: the certificates in the quote, DER: PCK leaf, its CA, root.
    """

    raw: bytes
    version: int
    report: SgxReport | TdReport
    chain: tuple[bytes, ...]

    @property
    def root_sha256(self) -> bytes:
        """SHA-256 of the last certificate of the chain: the root that the quote claims."""
        return hashlib.sha256(self.chain[-1]).digest()


def parse_quote(raw: bytes) -> Quote:
    """Return the fields of the quote in `raw`.

    Args:
        raw: the quote, at most `MAX_QUOTE_BYTES`, untrusted. Zero bytes may follow it (quoting
            services hand out fixed buffers); any other trailing byte is refused.

    Raises:
        FormatError: not an SGX quote of version 3 or a TDX quote of version 4 or 5, another form
            than the one that quoting enclaves write, or something follows it.
    """
    if len(raw) > MAX_QUOTE_BYTES:
        raise FormatError(f"quote: {len(raw)} bytes, at most {MAX_QUOTE_BYTES} are accepted")
    reader = _Reader(raw)
    version = _parse_header(reader)
    report = _parse_body(reader, version)
    signature_data = _Reader(reader.take(reader.number(4)))
    end = reader.at
    if raw[end:].strip(b"\0"):
        raise FormatError(f"quote: something other than zero padding follows byte {end}")
    pem = _parse_signature_data(signature_data, version)
    return Quote(
        raw=raw[:end],
        version=version,
        report=report,
        # Intel's quoting library copies the C string with the zero byte that ends it.
        chain=parse_pem_chain(pem.removesuffix(b"\0"), count=_CHAIN, what="quote"),
    )


class _Reader:
    """Bytes that are read once, from the front."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.at = 0

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self._raw):
            raise FormatError(
                f"quote: a length does not fit: {size} bytes wanted at byte {self.at} of a part "
                f"with {len(self._raw)}"
            )
        self.at, taken = end, self._raw[self.at : end]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def rest(self, size: int) -> bytes:
        """Return the next `size` bytes, which have to be the last."""
        taken = self.take(size)
        if self.at != len(self._raw):
            raise FormatError(
                f"quote: a length does not fit: a part has {len(self._raw)} bytes and ends at "
                f"{self.at}"
            )
        return taken


def _parse_header(reader: _Reader) -> int:
    """Return the version; refuse every kind of quote that cannot be verified, by its name."""
    version, key_type, tee_type = reader.number(2), reader.number(2), reader.number(4)
    reader.take(4)  # QE SVN and PCE SVN, reserved since version 4; signed, and judged elsewhere
    vendor = reader.take(16)
    reader.take(20)
    if tee_type not in {SGX, TDX}:
        raise FormatError(f"quote: TEE type {tee_type:#x}; only SGX (0) and TDX (0x81) are known")
    if version not in {3, 4, 5} or (tee_type == SGX) != (version == 3):
        kind = "SGX" if tee_type == SGX else "TDX"
        raise FormatError(
            f"quote: {kind} version {version}; only SGX version 3 and TDX versions 4 and 5 can be "
            "verified"
        )
    if key_type != _ECDSA_P256:
        raise FormatError(f"quote: key type {key_type}; only ECDSA P-256 (2) is supported")
    if vendor != _INTEL:
        raise FormatError("quote: made by the quoting enclave of another vendor than Intel")
    return version


def _parse_body(reader: _Reader, version: int) -> SgxReport | TdReport:
    if version == 3:
        return parse_sgx_body(reader.take(SGX_BODY.size))
    if version == 4:
        return parse_td_body(reader.take(TD_BODY.size))
    body_type, size = reader.number(2), reader.number(4)
    parse = _V5_BODIES.get((body_type, size))
    if parse is None:
        kind = _BODY_TYPES.get(body_type, "an unknown kind")
        raise FormatError(
            f"quote: body type {body_type} ({kind}) of {size} bytes; a TDX quote of version 5 has "
            f"2 (TD 1.0, {TD_BODY.size} bytes) or 3 (TD 1.5, {TD15_BODY.size} bytes)"
        )
    return parse(reader.take(size))


def _parse_signature_data(reader: _Reader, version: int) -> bytes:
    """Return the PEM chain; refuse lengths that leave a byte unaccounted for, or another type."""
    reader.take(_SIGNATURE_AND_KEY_BYTES)
    if version > 3:
        reader = _Reader(_certification_data(reader, _QE_MATERIAL, "the quoting enclave's report"))
    reader.take(_QE_REPORT_BYTES)
    if reader.number(2) != _AUTH_DATA_BYTES:
        raise FormatError(f"quote: QE authentication data has {_AUTH_DATA_BYTES} bytes")
    reader.take(_AUTH_DATA_BYTES)
    return _certification_data(reader, _PEM_CHAIN, "a PEM chain")


def _certification_data(reader: _Reader, wanted: int, what: str) -> bytes:
    found = reader.number(2)
    if found != wanted:
        raise FormatError(
            f"quote: certification data of type {found}; only {wanted}, {what}, is supported here"
        )
    return reader.rest(reader.number(4))
