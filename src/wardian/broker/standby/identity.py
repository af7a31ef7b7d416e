"""The TLS identity of a broker that has no mesh certificate: it is nobody, and says so."""

import ssl
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from wardian.broker.frames import server_context
from wardian.crypto.tls_keys import TlsKey, load_identity

_LIFE = timedelta(days=3650)


def nobody(*, now: int) -> ssl.SSLContext:
    """Return a TLS server context with a fresh key and a certificate that nobody vouches for.

    TLS keeps out who only listens. Nobody trusts the certificate: what matters on such connections
    is under keys that went to attested code.

    Args:
        now: Unix seconds.
    """
    return self_signed(TlsKey.generate(), name="Wardian broker, not active", now=now)


def self_signed(key: TlsKey, *, name: str, now: int) -> ssl.SSLContext:
    """Return a TLS server context with `key` and a certificate that nobody else vouches for.

    Args:
        key: who connects knows it already, or nothing depends on it.
        name: what the certificate says of its holder.
        now: Unix seconds.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begins = datetime.fromtimestamp(now, UTC) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + _LIFE)
        .sign(key.private_key, hashes.SHA256())
    )
    context = server_context()
    load_identity(context, certificate.public_bytes(Encoding.PEM), key)
    return context
