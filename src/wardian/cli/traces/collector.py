"""A collector of OpenTelemetry: where it is, and one request to it."""

import re
import ssl
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import wardian
from wardian.cli.traces.otlp import CONTENT_TYPE
from wardian.errors import ConfigError, ConnectionLost, PeerProtocolError, Timeout

PATH: Final = "/v1/traces"
TIMEOUT_S: Final = 10.0
"""For each step of a request: to connect, to send, for the next part of the answer."""
MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_RETRY_AFTER_S: Final = 300

_PATH: Final = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where spans go.

    Attributes:
        tls: whether over TLS.
        host: a name or an IP address.
        port: 1 to 65535.
        path: of the request.
    """

    tls: bool
    host: str
    port: int
    path: str


class Answer(NamedTuple):
    """What a collector answered.

    Attributes:
        status: HTTP's.
        retry_after_s: when to come back, 0 if it does not say.
        body: at most `MAX_ANSWER_BYTES` of it.
    """

    status: int
    retry_after_s: int
    body: bytes


def parse_endpoint(text: str) -> Endpoint:
    """Return where `text` says that spans go.

    Raises:
        ConfigError: no such URL, or one with a user, a query or a fragment.
    """
    try:
        url = urlsplit(text)
        port, host = url.port, url.hostname
    except ValueError:
        url, port, host = urlsplit(""), None, None
    if url.scheme not in _PORTS or not host or port == 0 or not text.isascii():
        raise ConfigError(f"--endpoint {text!r}: http(s)://HOST:PORT{PATH} was expected")
    if "@" in url.netloc:
        raise ConfigError("--endpoint: no user and no password: arguments are seen by others")
    path = url.path if url.path.strip("/") else PATH
    if url.query or url.fragment or "?" in text or "#" in text or not _PATH.fullmatch(path):
        raise ConfigError(f"--endpoint {text!r}: a path alone may follow the host, as {PATH}")
    return Endpoint(
        tls=url.scheme == "https", host=host, port=port or _PORTS[url.scheme], path=path
    )


class Collector:
    """Takes requests, each on a connection of its own: there is one in some seconds."""

    def __init__(
        self, endpoint: Endpoint, *, ca: Path | None, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Send to `endpoint`, which over TLS proves itself by `ca`, or by the system's CAs.

        Raises:
            ConfigError: `ca` holds no certificate, or is given where there is no TLS.
        """
        if ca is not None and not endpoint.tls:
            raise ConfigError("--ca: an endpoint with http:// proves nothing; write https://")
        self._endpoint, self._timeout_s = endpoint, timeout_s
        self._context: ssl.SSLContext | None = None
        if endpoint.tls:
            try:
                self._context = ssl.create_default_context(cafile=ca)
            except ssl.SSLError as err:
                raise ConfigError(f"--ca {ca}: no certificates in PEM") from err

    def post(self, body: bytes) -> Answer:
        """Send `body`, and return what was answered.

        Raises:
            ConnectionLost, Timeout: nobody is there, or nobody who proves to be it.
            PeerProtocolError: what is there speaks no HTTP.
        """
        endpoint = self._endpoint
        headers = {"Content-Type": CONTENT_TYPE, "User-Agent": f"wardian/{wardian.__version__}"}
        try:
            with closing(self._connection()) as connection:
                connection.request("POST", endpoint.path, body, headers)
                with connection.getresponse() as response:
                    told = response.read(MAX_ANSWER_BYTES)
                    retry_after = response.getheader("Retry-After", "")
        except TimeoutError as err:
            raise Timeout(f"no answer within {self._timeout_s:.0f} s") from err
        except ssl.SSLCertVerificationError as err:
            raise ConnectionLost(f"its certificate is refused: {err.verify_message}") from err
        except OSError as err:
            raise ConnectionLost(err.strerror or type(err).__name__) from err
        except (HTTPException, ValueError) as err:
            raise PeerProtocolError(
                f"what answers there speaks no HTTP: {type(err).__name__}"
            ) from err
        return Answer(response.status, _seconds(retry_after), told)

    def _connection(self) -> HTTPConnection:
        host, port = self._endpoint.host, self._endpoint.port
        if self._context is None:
            return HTTPConnection(host, port, timeout=self._timeout_s)
        return HTTPSConnection(host, port, timeout=self._timeout_s, context=self._context)


def _seconds(text: str) -> int:
    """Return the seconds that a Retry-After says; 0 for a date, or for nothing."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(int(text), MAX_RETRY_AFTER_S)
    return 0
