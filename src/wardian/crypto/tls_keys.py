"""Keys for TLS and for the mesh CA, and the way of such a key into an `ssl.SSLContext`."""

import os
import secrets
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.exceptions import UnsupportedAlgorithm as _Unsupported
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, FormatError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

_ServerPrivateKey: TypeAlias = "ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey"
_DESCRIPTORS = Path("/proc/self/fd")
_ECDSA = ec.ECDSA(hashes.SHA256())


class ServerKey:
    """A private key by which a TLS server proves who it is: RSA or ECDSA."""

    __slots__ = ("_any", "_spki")

    def __init__(self, key: _ServerPrivateKey) -> None:
        """Hold `key`."""
        self._any = key
        self._spki = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def spki(self) -> bytes:
        """The public key as DER SubjectPublicKeyInfo; on P-256 91 bytes, on P-384 120."""
        return self._spki

    def private_pem(self) -> Secret:
        """Return the key as unencrypted PKCS #8 PEM."""
        return self._pem(serialization.NoEncryption())

    def _pem(self, encryption: serialization.KeySerializationEncryption) -> Secret:
        return Secret(
            self._any.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
            )
        )


class TlsKey(ServerKey):
    """An ECDSA private key: on P-256 in the mesh; RA-TLS certificates also take P-384."""

    __slots__ = ("_key",)

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        """Hold `key`; use `generate` or `from_secret`."""
        super().__init__(key)
        self._key = key

    @classmethod
    def generate(cls) -> Self:
        """Return a fresh key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_secret(cls, secret: Secret) -> Self:
        """Return the key whose PKCS #8 DER (RFC 5958) is in `secret`.

        Raises:
            FormatError: not the DER of an unencrypted P-256 key.
        """
        try:
            key = serialization.load_der_private_key(secret.reveal(), password=None)
        except (ValueError, TypeError, _Unsupported) as err:
            raise FormatError("TLS key: not an unencrypted PKCS #8 key in DER") from err
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(
            key.curve, ec.SECP256R1
        ):
            raise FormatError("TLS key: not on the curve P-256")
        return cls(key)

    def to_secret(self) -> Secret:
        """Return the key as PKCS #8 DER."""
        return Secret(
            self._key.private_bytes(
                serialization.Encoding.DER,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    @property
    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """The key as `cryptography` knows it, for building certificates."""
        return self._key

    def sign(self, message: bytes) -> bytes:
        """Return the ECDSA-SHA256 signature over `message`, DER, 70 to 72 bytes."""
        return self._key.sign(message, _ECDSA)


def verify_ecdsa(spki: bytes, signature: bytes, message: bytes) -> None:
    """Return if the holder of the key in `spki` signed exactly `message`.

    Args:
        spki: DER SubjectPublicKeyInfo of a P-256 key, already trusted.
        signature: ECDSA-SHA256, DER, untrusted.
        message: untrusted.

    Raises:
        AuthenticationFailed: the signature is not of this key over this message, or the key is
            not a P-256 key.
    """
    try:
        key = serialization.load_der_public_key(spki)
    except (ValueError, _Unsupported) as err:
        raise AuthenticationFailed("signature: the key is not a public key") from err
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise AuthenticationFailed("signature: the key is not on the curve P-256")
    try:
        key.verify(signature, message, _ECDSA)
    except InvalidSignature as err:
        raise AuthenticationFailed("signature: not by this key over this message") from err


def load_identity(context: ssl.SSLContext, chain_pem: bytes, key: ServerKey) -> None:
    """Give `context` the certificate chain and its private key.

    `ssl` takes a key only from a path. On Linux the path is that of an anonymous file in memory
    (`memfd_create`), which has no name and goes when it is closed. Elsewhere it is a temporary
    file of mode 0600, deleted at once, in which the key stands encrypted under a random password
    that never leaves this process. The clear key is on no disk.

    Args:
        context: the context to complete.
        chain_pem: leaf certificate first, PEM.
        key: the leaf's private key.

    Raises:
        FormatError: the chain does not parse, or its first certificate is of another key.
    """
    try:
        if hasattr(os, "memfd_create") and _DESCRIPTORS.is_dir():
            _load_from_memory(context, chain_pem, key)
        else:
            _load_from_encrypted_file(context, chain_pem, key)
    except ssl.SSLError as err:
        raise FormatError("certificate chain: does not parse, or is not of this key") from err


def _load_from_memory(context: ssl.SSLContext, chain_pem: bytes, key: ServerKey) -> None:
    with os.fdopen(os.memfd_create("wardian-tls"), "wb") as file:  # close-on-exec by default
        file.write(key.private_pem().reveal() + chain_pem)
        file.flush()
        context.load_cert_chain(_DESCRIPTORS / str(file.fileno()))


def _load_from_encrypted_file(context: ssl.SSLContext, chain_pem: bytes, key: ServerKey) -> None:
    password = secrets.token_hex(32).encode()
    pem = key._pem(serialization.BestAvailableEncryption(password))  # noqa: SLF001
    descriptor, path = tempfile.mkstemp(prefix="wardian-tls-")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem.reveal() + chain_pem)
        context.load_cert_chain(path, password=password)
    finally:
        Path(path).unlink(missing_ok=True)
