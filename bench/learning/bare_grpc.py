"""A bare loop over grpc.aio with mutual TLS: bytes to every party, bytes back, and their mean.

Its parties answer at once, on the thread of their connections; or in a thread apart, as a party has
to that trains for longer than its connection may be silent.
"""

import asyncio
import datetime as dt
import time
from multiprocessing.connection import Connection
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

METHOD = "/bare.Loop/Attend"
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def write_identity(folder: Path) -> None:
    """Write one certificate, for both sides, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    raw = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    (folder / "key.pem").write_bytes(raw)
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(encoding))


async def bare_coordinator(
    folder: str, parties: int, parameters: int, rounds: int, ready: Connection
) -> list[float]:
    """Return how long each round took, seconds."""
    place = Path(folder)
    write_identity(place)
    key, certificate = (place / "key.pem").read_bytes(), (place / "certificate.pem").read_bytes()
    inboxes: list[asyncio.Queue[bytes]] = []
    outboxes: list[asyncio.Queue[bytes | None]] = []
    here = asyncio.Event()

    async def attend(_: object, context: grpc.aio.ServicerContext) -> None:
        inbox: asyncio.Queue[bytes] = asyncio.Queue()
        outbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        inboxes.append(inbox)
        outboxes.append(outbox)
        if len(inboxes) == parties:
            here.set()
        while (message := await outbox.get()) is not None:
            await context.write(message)
            inbox.put_nowait(await context.read())

    handler = grpc.stream_stream_rpc_method_handler(attend)
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bare.Loop", {"Attend": handler}),)
    )
    credentials = grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=certificate, require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    ready.send(port)
    await here.wait()
    model, took = np.zeros(parameters, np.float32), []
    for _ in range(rounds):
        began = time.perf_counter()
        raw = model.tobytes()
        for outbox in outboxes:
            outbox.put_nowait(raw)
        answers = [np.frombuffer(await inbox.get(), np.float32) for inbox in inboxes]
        total = np.zeros(parameters, np.float64)
        for answer in answers:
            total += answer
        model = (total / parties).astype(np.float32)
        took.append(time.perf_counter() - began)
    for outbox in outboxes:
        outbox.put_nowait(None)
    await server.stop(2)
    return took


def bare_parties(folder: str, parties: int, ready: Connection, *, apart: bool) -> None:
    """Answer everything with itself, as so many parties, until the coordinator has enough."""
    asyncio.run(_bare_parties(Path(folder), parties, ready, apart=apart))


async def _bare_parties(place: Path, parties: int, ready: Connection, *, apart: bool) -> None:
    port = ready.recv()
    key, certificate = (place / "key.pem").read_bytes(), (place / "certificate.pem").read_bytes()
    credentials = grpc.ssl_channel_credentials(certificate, key, certificate)

    async def one() -> None:
        # Without this the channels would share one connection.
        options = [*OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(f"localhost:{port}", credentials, options) as channel:
            call = channel.stream_stream(METHOD)()
            while (message := await call.read()) is not grpc.aio.EOF:
                await call.write(await asyncio.to_thread(bytes, message) if apart else message)

    await asyncio.gather(*(one() for _ in range(parties)))
