"""A connection in its TLS handshake, which settles what will be spoken on it (ALPN, RFC 7301)."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from typing_extensions import override

from wardian.serving.http.connection import Connection
from wardian.serving.http.peer import peer_of
from wardian.serving.http.state import ServedConnection, ServerState

HTTP_1: Final = "http/1.1"
"""What is spoken where the client names nothing, and where it names nothing that we speak."""


class Speaker(Protocol):
    """Makes connections of one protocol."""

    def __call__(
        self, state: ServerState, *, tls_spki: bytes, peer: str, on_lost: Callable[[], None]
    ) -> ServedConnection:
        """Return a connection from `peer` whose server key is `tls_spki`; see `Connection`."""


class Newcomer(asyncio.Protocol):
    """Gives way to a connection of the protocol that the handshake agreed on.

    Attributes:
        connection: that connection; None until the handshake is over.
        began: when the handshake began, monotonic seconds.
    """

    def __init__(
        self,
        state: ServerState,
        speakers: Mapping[str, Speaker],
        *,
        tls_spki: bytes,
        peer: str,
        on_lost: Callable[[], None],
    ) -> None:
        """Wait for the end of the handshake; `on_lost` is called only if there is one.

        Args:
            state: handed on, as are the following two.
            speakers: by ALPN name, what is spoken beside HTTP/1.1.
            tls_spki: of the key that the handshake proves.
            peer: the IP address at the other end.
            on_lost: called once, when the connection is gone.
        """
        self.connection: ServedConnection | None = None
        self.began = state.now
        self.tls_spki, self.peer = tls_spki, peer
        self._state, self._speakers, self._on_lost = state, speakers, on_lost

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        agreed = None if tls is None else tls.selected_alpn_protocol()
        speaker: Speaker = self._speakers.get(agreed or HTTP_1, Connection)
        connection = self.connection = speaker(
            self._state,
            tls_spki=self.tls_spki,
            peer=peer_of(self.peer, tls),
            on_lost=self._on_lost,
        )
        transport.set_protocol(connection)
        connection.connection_made(transport)
