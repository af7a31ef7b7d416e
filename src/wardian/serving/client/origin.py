"""Where a front end is, and the TLS under which it is reached."""

import ssl
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from wardian.errors import ConfigError, ConnectionLost
from wardian.serving.client.attempts import NoTls
from wardian.serving.client.credentials import ClientCertificate, load_certificate

DEFAULT_PORT: Final = 443


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a front end is."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORT else f"{host}:{self.port}"


def parse_origin(url: str) -> Origin:
    """Return the origin that `url`, `https://HOST[:PORT]`, names.

    Raises:
        ConfigError: another scheme, a path, or no host.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or DEFAULT_PORT
        (host or "").encode("idna")
    except ValueError as err:  # UnicodeError too: a label that no resolver would take
        raise ConfigError(f"{url!r}: not a URL: {err}") from err
    if parts.scheme != "https" or not host:
        raise ConfigError(f"{url!r}: expected https://HOST[:PORT]; nothing is sent in the clear")
    if parts.path not in ("", "/") or parts.query or parts.username:
        raise ConfigError(f"{url!r}: expected https://HOST[:PORT] and no more")
    return Origin(host=host, port=port)


def client_context(certificate: ClientCertificate | None = None) -> ssl.SSLContext:
    """Return the TLS context of a client that verifies evidence instead of certificates.

    It shows `certificate`, if there is one, to front ends that ask for one.

    No CA is asked. A CA says who controls a name; what a client wants to know is which code holds
    the key at the other end, and evidence bound to that key says it, whatever the name. The
    handshake still proves that the other end holds the private key of the certificate that it
    shows (RFC 8446 section 4.4.3), whatever `verify_mode` says; so a machine in between can show
    somebody else's evidence or somebody else's key, but never both for one connection.
    `ClientConnection` makes no request before that evidence is verified.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET  # a resumed connection shows no certificate (TRUST T20)
    context.set_alpn_protocols(["http/1.1"])
    if certificate is not None:
        load_certificate(context, certificate)
    return context


def handshake_failed(origin: Origin, err: OSError) -> ConnectionLost:
    """Return what to raise for a TLS handshake with `origin` that ended in `err`.

    One that was cut off may have met a front end that was just stopping.
    """
    cut_off = not isinstance(err, ssl.SSLError) or isinstance(err, ssl.SSLEOFError)
    kind = ConnectionLost if cut_off else NoTls
    return kind(f"no TLS 1.3 with {origin.authority}: {err}")
