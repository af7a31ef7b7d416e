"""Ask a running broker for a backup of its state."""

from collections.abc import AsyncIterator

from wardian._internal import wire
from wardian.broker.frames import FRAME_BYTES, connect
from wardian.broker.recovery.backup import BackupHeader, BackupRequest
from wardian.broker.refusal import decode_or_raise
from wardian.broker.state.snapshot import MAX_PIECE_BYTES, LastPiece, decode_piece
from wardian.errors import FormatError, PeerProtocolError


async def fetch_backup(address: tuple[str, int]) -> AsyncIterator[bytes]:
    """Yield the frames of a backup file, as the broker at `address` sends them, **unverified**.

    Raises:
        TransportError: nobody answers there, the broker is busy, or stands by.
        PeerProtocolError: what comes is no backup.
    """
    stream = await connect(address)
    try:
        await stream.send(wire.encode(BackupRequest()))
        raw = await stream.receive(most=FRAME_BYTES)
        decode_or_raise(raw, BackupHeader, what="broker backup")
        yield raw
        while True:
            raw = await stream.receive(most=MAX_PIECE_BYTES)
            try:
                piece = decode_piece(raw)
            except FormatError as err:
                raise PeerProtocolError("the broker sent something else than its state") from err
            yield raw
            if isinstance(piece, LastPiece):
                return
    finally:
        await stream.close()
