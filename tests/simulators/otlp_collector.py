"""A collector of OpenTelemetry on loopback: takes OTLP/JSON, answers what it is told to."""

import json
import ssl
import threading
from collections import deque
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self


class Reply(NamedTuple):
    """One answer of the collector; `wait` until it is set, first."""

    status: int = 200
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = ()
    wait: threading.Event | None = None


class OtlpCollector:
    """Runs until the `with` block ends.

    Attributes:
        requests: every body that came, decoded, whatever was answered.
        heads: path and headers of each.
    """

    def __init__(self, *replies: Reply, tls: ssl.SSLContext | None = None) -> None:
        """Give `replies` in their order, and 200 ever after."""
        self.requests: list[Any] = []
        self.heads: list[dict[str, str]] = []
        self._replies = deque(replies)
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # a client that refuses us, or gives up
        if tls is not None:
            # The handshake is the thread's that serves the connection, not the listener's.
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._tls = tls is not None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.heads.append(
            {"path": handler.path, **{k.lower(): v for k, v in handler.headers.items()}}
        )
        self.requests.append(json.loads(handler.rfile.read(int(handler.headers["Content-Length"]))))
        reply = self._replies.popleft() if self._replies else Reply()
        if reply.wait is not None:
            reply.wait.wait()
        handler.send_response(reply.status)
        for name, value in reply.headers:
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(reply.body)))
        handler.end_headers()
        handler.wfile.write(reply.body)

    @property
    def url(self) -> str:
        return f"http{'s' * self._tls}://localhost:{self._server.server_port}/v1/traces"

    def spans(self) -> list[dict[str, Any]]:
        """Return the spans of every request, in their order."""
        return list(flatten(self.requests))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def flatten(requests: Iterable[Any]) -> Iterable[dict[str, Any]]:
    for request in requests:
        for resource in request["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                yield from scope["spans"]
