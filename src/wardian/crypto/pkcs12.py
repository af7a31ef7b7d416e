"""An operator's certificate and private key, out of a PKCS #12 file of `keytool` or `openssl`.

The password of such a file lies beside it, so nothing here depends on how well it is encrypted:
that it opens, is whole, and holds one key with its certificate is what counts.
"""

import hashlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.exceptions import UnsupportedAlgorithm as _Unsupported
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12KeyAndCertificates

from wardian.crypto.pkcs12_frame import MAX_BYTES, Frame, read_frame
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import ServerKey
from wardian.errors import AuthenticationFailed, FormatError, UnsupportedAlgorithm

__all__ = ["MAX_BYTES", "MAX_CHAIN", "RENEW", "Keystore", "open_keystore"]

MAX_CHAIN: Final = 8
"""Certificates that are shown to clients."""
RSA_BITS: Final = range(2048, 8193)
RENEW: Final = (
    "`openssl pkcs12 -legacy -in OLD -nodes | openssl pkcs12 -export -out NEW`, or `keytool "
    "-importkeystore -srckeystore OLD -destkeystore NEW -deststoretype PKCS12` of Java 17, writes "
    "one that opens"
)
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
_WEAK_HASHES: Final = frozenset({"md5", "sha1"})
_NOT_DER: Final = r"PKCS#12 bundle could not be parsed as DER"
_MALFORMED: Final = (ValueError, TypeError, x509.InvalidVersion, _Unsupported)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keystore:
    """A server's certificate and key.

    Attributes:
        chain_pem: the key's certificate first, then the one that signed it, and so on, PEM. A root
            that signed others is left out: who trusts it has it.
        key: the private key.
        fingerprint: SHA-256 of the certificate, 32 bytes: what clients pin.
        not_before: Unix time from which it is valid.
        not_after: Unix time of its end.
    """

    chain_pem: bytes
    key: ServerKey
    fingerprint: bytes
    not_before: int
    not_after: int


def open_keystore(raw: bytes, password: Secret) -> Keystore:
    """Return what is in the PKCS #12 file `raw`.

    Args:
        raw: the file, untrusted, at most `MAX_BYTES`.
        password: UTF-8 text.

    Raises:
        FormatError: no such file, or without one key and its certificate.
        AuthenticationFailed: the password is another one, or the file was altered.
        UnsupportedAlgorithm: of a kind that cannot be opened here, or that TLS 1.3 does not take.
    """
    frame = read_frame(raw)
    if frame.keys > 1:
        raise FormatError("keystore: has several private keys; export the one that is meant")
    opened = _open(raw, password, frame)
    try:
        return _read(opened)
    except _MALFORMED as err:
        raise FormatError("keystore: a certificate in it does not parse") from err


def _open(raw: bytes, password: Secret, frame: Frame) -> PKCS12KeyAndCertificates:
    text = password.reveal()
    try:
        if "\0" in text.decode():
            raise FormatError("keystore: no password has a NUL")
    except UnicodeDecodeError as err:
        raise FormatError("keystore: the password is no text in UTF-8") from err
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=_NOT_DER)
            return pkcs12.load_pkcs12(raw, text)
    except UserWarning as err:
        raise FormatError("keystore: not in DER") from err
    except _MALFORMED as err:
        hint = f"; it is of an old form, and if the password is right: {RENEW}" if frame.old else ""
        raise AuthenticationFailed(
            f"keystore: the password does not open it, or it was altered{hint}"
        ) from err


def _read(opened: PKCS12KeyAndCertificates) -> Keystore:
    if opened.key is None:
        raise FormatError("keystore: has no private key; certificates alone are a trust store")
    key = _server_key(opened.key)
    others = [each.certificate for each in opened.additional_certs]
    if opened.cert is None:
        raise FormatError("keystore: has no certificate of its private key")
    leaf = opened.cert.certificate
    hashed = leaf.signature_hash_algorithm
    if leaf.subject != leaf.issuer and hashed is not None and hashed.name in _WEAK_HASHES:
        raise UnsupportedAlgorithm(
            f"keystore: its certificate is signed over {hashed.name}, which no client of TLS 1.3 "
            "believes"
        )
    chain = _chain(leaf, others)
    return Keystore(
        chain_pem=b"".join(each.public_bytes(Encoding.PEM) for each in chain),
        key=key,
        fingerprint=hashlib.sha256(leaf.public_bytes(Encoding.DER)).digest(),
        not_before=int(leaf.not_valid_before_utc.timestamp()),
        not_after=int(leaf.not_valid_after_utc.timestamp()),
    )


def _server_key(key: object) -> ServerKey:
    """Return `key` as TLS 1.3 takes it (RFC 8446, section 4.2.3).

    Raises:
        UnsupportedAlgorithm: of another kind, or too weak; or so large that each handshake is work.
    """
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size in RSA_BITS:
        return ServerKey(key)
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, _CURVES):
        return ServerKey(key)
    raise UnsupportedAlgorithm(
        f"keystore: its key is not RSA of {RSA_BITS.start} to {RSA_BITS.stop - 1} bits, nor on "
        "P-256 or P-384"
    )


def _chain(leaf: x509.Certificate, others: Iterable[x509.Certificate]) -> list[x509.Certificate]:
    """Return `leaf`, then who signed each, as far as they are among `others`, without the root."""
    chain, left = [leaf], [each for each in others if each.subject != each.issuer]
    while len(chain) < MAX_CHAIN:
        signed_by = next((each for each in left if _signed(chain[-1], each)), None)
        if signed_by is None:
            break
        left.remove(signed_by)
        chain.append(signed_by)
    return chain


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether `issuer` signed `certificate`."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*_MALFORMED, InvalidSignature):
        return False
    return True
