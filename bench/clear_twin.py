"""The same front end, queue and worker with nothing sealed: what sealing costs is the difference.

Only here is there a codec that does not seal. It is no part of the package.

    python bench/clear_twin.py frontend KEY.pem CERT.pem PORT SOCKET
    python bench/clear_twin.py worker MODEL.onnx SOCKET
"""

import asyncio
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from wardian._internal.agreed import Limits
from wardian._internal.metrics import Metrics
from wardian.broker.release.request_keys import RequestKey
from wardian.crypto.message_header import RequestHeader
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import RequestError
from wardian.inference.model import load_model
from wardian.roles.start import settle
from wardian.serving.api.routes import Api
from wardian.serving.dispatch import Dispatcher
from wardian.serving.http.messages import HttpResponse
from wardian.serving.http.server import HttpServer
from wardian.serving.http.tls import TlsIdentity, server_context
from wardian.serving.queue.frames import Address
from wardian.serving.queue.front import SocketFrontQueue
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.worker import SocketWorkerQueue
from wardian.serving.worker import Worker

LANE = Lane(model="digits", version=1)
HEAD = struct.Struct("<IQI")


class ClearPending:
    """Opens any answer."""

    def open(self, sealed: bytes) -> bytearray:
        """Return the answer."""
        return bytearray(sealed)


class ClearSender:
    """Front end side: the header, then the plaintext."""

    def seal_request(
        self, plaintext: bytes | bytearray, *, header: RequestHeader
    ) -> tuple[bytes, ClearPending]:
        """Return the message in the clear."""
        ids = struct.pack(f"<{len(header.request_ids)}Q", *header.request_ids)
        head = HEAD.pack(header.version, header.deadline_ms, len(header.request_ids))
        return head + ids + plaintext, ClearPending()

    def erase(self) -> None:
        """Nothing: there is no key."""


@dataclass(slots=True)
class ClearMessage:
    """Worker side: a request that anybody could have written."""

    plaintext: bytearray
    header: RequestHeader

    def answer(self, plaintext: bytes | bytearray) -> bytes:
        """Return the answer in the clear."""
        return bytes(plaintext)


class ClearReceiver:
    """Worker side."""

    def open_request(self, sealed: bytes) -> ClearMessage:
        """Return what the front end wrote."""
        version, deadline_ms, count = HEAD.unpack_from(sealed)
        end = HEAD.size + 8 * count
        ids = struct.unpack_from(f"<{count}Q", sealed, HEAD.size)
        header = RequestHeader(version=version, deadline_ms=deadline_ms, request_ids=ids)
        return ClearMessage(bytearray(sealed[end:]), header)


class NoEvidence:
    """There is none: nothing here is measured."""

    def answer(
        self,
        nonce: bytes,
        *,
        tls_spki: bytes,
        connection: int,
        done: Callable[[HttpResponse], None],
    ) -> None:
        """Answer 404."""
        del nonce, tls_spki, connection
        done(HttpResponse(status=404))

    def request_key(self, model: str) -> RequestKey:
        """Refuse: there is no broker to state one."""
        raise RequestError(f"no request key of {model}", status=404)


async def frontend(key: str, cert: str, port: int, socket: str) -> None:
    """Serve HTTPS until killed."""
    queue = SocketFrontQueue(Address.parse(socket))
    dispatcher = Dispatcher(
        queue=queue,
        codecs={"digits": ClearSender()},
        lanes={LANE},
        max_waiting=4096,
        batch_across_tenants=frozenset({"digits"}),
    )
    limits = Limits()
    api = Api(
        dispatcher=dispatcher,
        desk=NoEvidence(),
        metrics=Metrics(),
        deadline_s=10.0,
        serves=lambda _: True,
    )
    server = HttpServer(handler=api.handle, limits=limits, count_refusal=lambda _: None)
    tls_key = TlsKey.from_secret(Secret(Path(key).read_bytes()))
    identity = TlsIdentity(chain_pem=Path(cert).read_bytes(), key=tls_key)
    server.use(server_context(identity), tls_spki=tls_key.spki)
    await queue.start()
    await server.start("localhost", port)
    settle()
    await asyncio.Event().wait()


def worker(model: str, socket: str) -> None:
    """Serve the model until killed."""
    content = Path(model).read_bytes()
    Worker(
        model=load_model(content, media_type="application/onnx", engine="onnxruntime", threads=1),
        lane=LANE,
        max_batch=64,
        batch_across_tenants=True,
        queue=SocketWorkerQueue(Address.parse(socket), lane=LANE),
        codec=ClearReceiver(),
    ).run()


if __name__ == "__main__":
    if sys.argv[1] == "frontend":
        uvloop.run(frontend(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]))
    else:
        worker(*sys.argv[2:])
