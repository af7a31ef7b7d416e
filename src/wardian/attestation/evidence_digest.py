"""One digest for one piece of evidence, however it is written.

The bytes of evidence are no identity: JSON and PEM can be written anew, zeros may follow a quote,
and every ECDSA signature has a second form that verifies too. So whoever carries evidence could
make many digests of it, each as genuine as the other. What was signed has one form; the digest is
over that alone.
"""

import hashlib
from typing import Final

from cryptography import x509

from wardian._internal import wire
from wardian.attestation.certificates.x509_errors import X509_ERRORS
from wardian.attestation.collateral.bundle import parse_collateral
from wardian.attestation.evidence import Evidence
from wardian.attestation.quotes.quote import Quote, parse_quote
from wardian.errors import FormatError

LABEL: Final = "wardian evidence digest v1"

_HEADER_BYTES: Final = 48
_BODY_BYTES: Final = {3: 384, 4: 584}
"""Of a quote by its version; in version 5 the body's own size stands before it."""
_KEY_BYTES: Final = 64


def evidence_digest(evidence: Evidence) -> bytes:
    """Return SHA-256 (32 bytes) over what was signed in `evidence`.

    That is the quote's header and report, which binds a nonce; the attestation key that signed it;
    and, where collateral came with it, the TCB info, the identity of the quoting enclave and the
    contents of both revocation lists. Nothing of it is verified here.

    Raises:
        FormatError: quote or collateral does not parse.
    """
    parts = _signed_quote(parse_quote(evidence.quote))
    if evidence.collateral:
        said = parse_collateral(evidence.collateral)
        parts += (said.tcb_info.encode(), said.qe_identity.encode())
        parts += (_signed_crl(said.root_ca_crl), _signed_crl(said.pck_crl))
    return hashlib.sha256(wire.fields(LABEL, *parts)).digest()


def _signed_quote(quote: Quote) -> tuple[bytes, ...]:
    """Return header and report as they were signed, and the key that signed them."""
    end = _HEADER_BYTES
    if quote.version in _BODY_BYTES:
        end += _BODY_BYTES[quote.version]
    else:
        end += 6 + int.from_bytes(quote.raw[end + 2 : end + 6], "little")  # u16 type, u32 size
    key = end + 4 + 64  # behind the size of what follows, and the signature
    return quote.raw[:end], quote.raw[key : key + _KEY_BYTES]


def _signed_crl(raw: bytes) -> bytes:
    try:
        return x509.load_der_x509_crl(raw).tbs_certlist_bytes
    except X509_ERRORS as err:
        raise FormatError("collateral: a revocation list does not parse") from err
