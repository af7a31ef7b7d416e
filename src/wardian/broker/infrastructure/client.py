"""Ask a running broker for what a server of Redis needs."""

from wardian._internal import wire
from wardian._internal.clock import UnixTime, unix_time
from wardian.broker.certificates import build_csr, parse_csr
from wardian.broker.frames import FRAME_BYTES, connect
from wardian.broker.infrastructure.certificates import (
    SERVER,
    names_in,
    verify_infrastructure_certificate,
)
from wardian.broker.infrastructure.messages import QueueFiles, QueueFilesRequest
from wardian.broker.refusal import decode_or_raise
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import (
    AttestationError,
    CryptoError,
    FormatError,
    PeerProtocolError,
    PolicyDenied,
)


async def fetch_queue_files(
    address: tuple[str, int],
    *,
    key: TlsKey,
    names: tuple[str, ...],
    now: UnixTime = unix_time,
) -> QueueFiles:
    """Return what the broker at `address` gives a server of Redis; whose broker is not verified.

    Args:
        address: host and port.
        key: the server's own; it stays here.
        names: DNS names and IP addresses by which roles know the server, at least one.
        now: Unix seconds.

    Raises:
        FormatError: a name is neither.
        PolicyDenied: the broker refuses; the text says why.
        TransportError: nobody answers there, the broker is busy or stands by, or what comes is not
            for this key and these names.
    """
    csr = build_csr(key, names=names)
    wanted = frozenset(str(name.value) for name in parse_csr(csr).names)
    stream = await connect(address)
    try:
        await stream.send(wire.encode(QueueFilesRequest(csr=csr)))
        raw = await stream.receive(most=FRAME_BYTES)
    finally:
        await stream.close()
    files = decode_or_raise(raw, QueueFiles, what="files for a server of Redis")
    try:
        spki = verify_infrastructure_certificate(
            files.certificate, ca=files.infrastructure_ca, holder=SERVER, now=now()
        )
        named = names_in(files.certificate)
    except (FormatError, CryptoError, AttestationError, PolicyDenied) as err:
        raise PeerProtocolError(f"the broker sent no certificate for a server: {err}") from err
    if spki != key.spki or named != wanted:
        raise PeerProtocolError("the broker sent a certificate for another key or other names")
    return files
