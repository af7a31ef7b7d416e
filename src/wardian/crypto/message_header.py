"""The clear header of a queue message: its bytes, which are the associated data of its AEAD.

One layout for both directions; the table stands in `docs/reference/queue-message.md`. Every value
has one encoding, and the header's length follows from two of its bytes.
"""

import enum
import re
import struct
from functools import lru_cache

import msgspec

from wardian.errors import FormatError

MAGIC = b"wdnq"
FORMAT_VERSION = 1
SALT_BYTES = 32
DIGEST_BYTES = 32
MAX_REQUEST_IDS = 255
MAX_U63 = 2**63 - 1

_FIXED = struct.Struct(">4sBBBBQQQQ32s32s")
_UP_TO_EPOCH = struct.Struct(">4sBBBBQ")
_IDS = tuple(struct.Struct(f">{count}Q") for count in range(MAX_REQUEST_IDS + 1))
_MODEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Direction(enum.IntEnum):
    """Which way a message goes. Each has its own keys, so that none can be sent back."""

    REQUEST = 1
    ANSWER = 2


_DIRECTIONS = {int(direction): direction for direction in Direction}
_ANSWER = Direction.ANSWER


# Structs and not dataclasses: a frozen dataclass takes a microsecond to make, four times a message.
class RequestHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What the sender says about a message; authenticated, and in the clear.

    An answer repeats none of it: there all three are zero or empty.

    Attributes:
        version: of the model, 1 to 2**63 - 1; 0 means the newest that the worker has.
        deadline_ms: Unix time in milliseconds after which nobody waits. Advice: the host owns the
            clock.
        request_ids: one for each request in the message, 1 to 255, each 0 to 2**64 - 1.
    """

    version: int
    deadline_ms: int
    request_ids: tuple[int, ...]


class MessageHeader(RequestHeader, frozen=True, kw_only=True):
    """The whole header of a message.

    Attributes:
        direction: request or answer.
        model: name of the model, as in `wardian.toml`.
        epoch: of the queue key, 0 to 2**63 - 1.
        salt: the sending process's, 32 random bytes.
        certificate_digest: SHA-256 of the sender's certificate in DER, 32 bytes.
        counter: 1 for the first message under `salt`, then one more for each.
    """

    direction: Direction
    model: str
    epoch: int
    salt: bytes
    certificate_digest: bytes
    counter: int


def build_header(header: MessageHeader) -> bytes:
    """Return the bytes of `header`.

    Raises:
        FormatError: a field is out of its range.
    """
    model = _encode_model(header.model)
    ids = header.request_ids
    if len(ids) > MAX_REQUEST_IDS:
        raise FormatError(f"queue message: at most {MAX_REQUEST_IDS} requests")
    if len(header.salt) != SALT_BYTES or len(header.certificate_digest) != DIGEST_BYTES:
        raise FormatError("queue message: salt and certificate digest have 32 bytes each")
    if not _in_range(header):
        raise FormatError("queue message: version, epoch, deadline, counter or ids out of range")
    try:
        return (
            _FIXED.pack(
                MAGIC,
                FORMAT_VERSION,
                header.direction,
                len(model),
                len(ids),
                header.epoch,
                header.version,
                header.counter,
                header.deadline_ms,
                header.salt,
                header.certificate_digest,
            )
            + model
            + _IDS[len(ids)].pack(*ids)
        )
    except struct.error as err:
        raise FormatError("queue message: a request id is 0 to 2**64 - 1") from err


def epoch_of(message: bytes) -> int:
    """Return the epoch that `message` states, unverified: under which keys it may open.

    Raises:
        FormatError: truncated, or of another format.
    """
    if len(message) < _UP_TO_EPOCH.size:
        raise FormatError("queue message: ends within its header")
    magic, form, *_, epoch = _UP_TO_EPOCH.unpack_from(message)
    if magic != MAGIC or form != FORMAT_VERSION:
        raise FormatError("queue message: not of this format")
    return int(epoch)


def parse_header(message: bytes) -> tuple[MessageHeader, int]:
    """Return the header at the front of `message`, unverified, and its length in bytes.

    Raises:
        FormatError: truncated, of another format, or a field out of its range.
    """
    if len(message) < _FIXED.size:
        raise FormatError("queue message: ends within its header")
    (
        magic,
        form,
        direction,
        model_bytes,
        count,
        epoch,
        version,
        counter,
        deadline_ms,
        salt,
        certificate_digest,
    ) = _FIXED.unpack_from(message)
    end = _FIXED.size + model_bytes + 8 * count
    if magic != MAGIC or form != FORMAT_VERSION or direction not in _DIRECTIONS:
        raise FormatError("queue message: not of this format")
    if len(message) < end:
        raise FormatError("queue message: ends within its header")
    header = MessageHeader(
        version=version,
        deadline_ms=deadline_ms,
        request_ids=_IDS[count].unpack_from(message, _FIXED.size + model_bytes),
        direction=_DIRECTIONS[direction],
        model=_decode_model(message[_FIXED.size : _FIXED.size + model_bytes]),
        epoch=epoch,
        salt=salt,
        certificate_digest=certificate_digest,
        counter=counter,
    )
    if not _in_range(header):
        raise FormatError("queue message: a field of the header is out of its range")
    return header, end


# A process has few models and many messages: looking a name up is cheaper than looking through it.
@lru_cache(maxsize=256)
def _encode_model(name: str) -> bytes:
    if not _MODEL.fullmatch(name):
        raise FormatError("queue message: the model's name is 1 to 64 of a-z, 0-9, '.', '_', '-'")
    return name.encode()


@lru_cache(maxsize=256)
def _decode_model(raw: bytes) -> str:
    name = raw.decode("latin-1")
    if not _MODEL.fullmatch(name):
        raise FormatError("queue message: the model's name is 1 to 64 of a-z, 0-9, '.', '_', '-'")
    return name


def _in_range(header: MessageHeader) -> bool:
    if header.direction is _ANSWER:
        # One encoding: what the answer's key binds is not said again.
        if header.version or header.deadline_ms or header.request_ids:
            return False
    elif not header.request_ids:
        return False
    return (
        0 <= header.epoch <= MAX_U63
        and 0 <= header.version <= MAX_U63
        and 0 <= header.deadline_ms <= MAX_U63
        and 1 <= header.counter <= MAX_U63
    )
