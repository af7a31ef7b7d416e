"""Who a client says that it is, to front ends that serve tenants: an API key, or a certificate.

An API key is sent with requests alone, so to nobody whose evidence was not verified. A certificate
is shown in the TLS handshake, before there is evidence: it tells whoever is there who asks, and
serves nobody else, for only the holder of its key can prove it on a connection of his own.
"""

import ssl
from pathlib import Path
from typing import NamedTuple

from wardian._internal.files import read_private
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, FormatError
from wardian.serving.tenants.api_key import parse_api_key


class ClientCertificate(NamedTuple):
    """The files of a client certificate, PEM: its chain, and its private key, not encrypted."""

    chain: Path
    key: Path


def load_api_key(given: Secret | Path) -> Secret:
    """Return the API key `given`, or the one in the file that it names.

    Raises:
        ConfigError: it is neither a `Secret` nor a `Path`, the file cannot be read or is open to
            other users, or it holds no key; the message never has what was given.
    """
    if not isinstance(given, Secret | Path):
        raise ConfigError("api_key: a Secret was expected, or the Path of the file that holds it")
    raw = (
        Secret(read_private(given, limit_bytes=1024) or b"\n") if isinstance(given, Path) else given
    )
    try:
        return parse_api_key(raw)
    except FormatError as err:
        where = f"{given}: " if isinstance(given, Path) else ""
        raise ConfigError(f"{where}{err}") from err


def load_certificate(context: ssl.SSLContext, certificate: ClientCertificate) -> None:
    """Let connections of `context` show `certificate` where they are asked for one.

    Raises:
        ConfigError: the files cannot be read, the key is open to other users or under a
            passphrase, or is another certificate's.
    """
    read_private(certificate.key)
    try:
        context.load_cert_chain(certificate.chain, certificate.key, password=_no_passphrase)
    except (OSError, ValueError) as err:  # ssl.SSLError is an OSError
        raise ConfigError(
            f"{certificate.chain}, {certificate.key}: not a certificate and its private key, PEM "
            "and not under a passphrase"
        ) from err


def authorization(api_key: Secret) -> tuple[bytes, bytes]:
    """Return the header that says whose request it is (RFC 6750, section 2.1)."""
    return b"Authorization", b"Bearer " + api_key.reveal()


def _no_passphrase() -> str:
    raise ValueError("the key is under a passphrase")  # or OpenSSL would ask at the terminal
