"""Flink's REST server, as its one client knows it: mutual TLS, short answers, no surprises."""

import asyncio
import http.client
import ssl
import threading
from typing import Any, Final, TypeVar

import msgspec

from wardian.engines.flink import place as files
from wardian.engines.flink.place import FlinkTls
from wardian.errors import ConfigError, ConnectionLost, PeerProtocolError, Timeout

TIMEOUT_S: Final = 10.0
BODY_BYTES: Final = 8 * 1024 * 1024
_Answer = TypeVar("_Answer")


class NotFound(PeerProtocolError):
    """Flink does not know what was asked for: 404."""


class RestClient:
    """Asks one REST server, one question at a time, over one connection while that lasts."""

    def __init__(self, address: tuple[str, int], tls: FlinkTls) -> None:
        """Get ready to ask the server at `address`; whose certificate has to be one of `tls`.

        Raises:
            ConfigError: a file of the client's is missing, or is none.
        """
        self._address = address
        self._context = client_context(tls)
        self._connection: http.client.HTTPSConnection | None = None
        self._lock = threading.Lock()

    async def get(self, path: str, answer: type[_Answer]) -> _Answer:
        """Return what is at `path`.

        Raises:
            NotFound: nothing is.
            Timeout: no answer came in time.
            ConnectionLost: there is no way there.
            PeerProtocolError: what answers is no REST server of Flink.
        """
        return await self._ask("GET", path, None, answer)

    async def post(self, path: str, body: object, answer: type[_Answer]) -> _Answer:
        """Return what `path` answers to `body`, sent once; raises as `get` does."""
        return await self._ask("POST", path, msgspec.json.encode(body), answer)

    async def patch(self, path: str) -> None:
        """Send PATCH to `path`, once; raises as `get` does."""
        await self._ask("PATCH", path, b"", dict[str, Any])

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop()

    async def _ask(
        self, method: str, path: str, body: bytes | None, answer: type[_Answer]
    ) -> _Answer:
        raw = await asyncio.to_thread(self._exchange, method, path, body)
        try:
            return msgspec.json.decode(raw, type=answer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as err:
            raise PeerProtocolError(f"flink: {method} {path}: not the JSON expected") from err

    def _exchange(self, method: str, path: str, body: bytes | None) -> bytes:
        with self._lock:
            used = self._connection is not None
            try:
                return self._once(method, path, body)
            except ConnectionLost:
                if not used or method != "GET":
                    raise
                return self._once(method, path, body)  # the server had closed what was idle

    def _once(self, method: str, path: str, body: bytes | None) -> bytes:
        connection = self._connection or http.client.HTTPSConnection(
            *self._address, timeout=TIMEOUT_S, context=self._context
        )
        self._connection = connection
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            raw = response.read(BODY_BYTES + 1)
        except TimeoutError as err:
            self._drop()
            raise Timeout(f"flink: {method} {path}: no answer in {TIMEOUT_S:.0f} s") from err
        except (OSError, http.client.HTTPException) as err:
            self._drop()
            raise ConnectionLost(f"flink: {method} {path}: {type(err).__name__}") from err
        if len(raw) > BODY_BYTES:
            self._drop()
            raise PeerProtocolError(f"flink: {method} {path}: an answer without end")
        if response.status == http.client.NOT_FOUND:
            raise NotFound(f"flink: {method} {path}: not found")
        if not 200 <= response.status < 300:
            raise PeerProtocolError(f"flink: {method} {path}: status {response.status}")
        return raw

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def client_context(tls: FlinkTls) -> ssl.SSLContext:
    """Return TLS 1.3 with the client's certificate, which takes the server's own alone.

    Raises:
        ConfigError: a file is missing, or is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The server's certificate itself is the anchor, not its CA: that signs for whoever asks.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(tls.path(files.SERVER_CERTIFICATE))
        context.load_cert_chain(tls.path(files.CLIENT_CERTIFICATE), tls.path(files.CLIENT_KEY))
    except (OSError, ssl.SSLError) as err:
        raise ConfigError(f"flink: {tls.directory}: no client's certificate, or no key") from err
    return context
