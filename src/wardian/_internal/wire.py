"""Strict decoding and canonical encoding: one form per value, and nothing unknown gets in.

Messages between processes are msgspec Structs declared with `forbid_unknown_fields=True`
(subclass `Message`). What is signed or hashed is either the exact bytes that were received or
`fields(...)`, the length-prefixed concatenation, so that no two lists of fields share an encoding.
"""

import struct
from typing import TypeVar

import msgspec

from wardian.errors import FormatError

T = TypeVar("T")

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Largest JSON message that any peer accepts."""


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every wire record: immutable, named fields, unknown fields refused.

    Declare subclasses with `frozen=True, kw_only=True`, which type checkers do not see inherited.
    """


def encode(value: object) -> bytes:
    """Return `value` as JSON with a fixed field order (struct order; mappings sorted by key)."""
    return msgspec.json.encode(value, order="deterministic")


def decode(raw: bytes | memoryview, kind: type[T], *, what: str) -> T:
    """Return `raw` decoded as `kind`.

    Args:
        raw: JSON, at most `MAX_MESSAGE_BYTES`, untrusted.
        kind: a `Message` subclass or another msgspec-decodable type.
        what: the name of the thing for the error message, for example "mesh manifest".

    Raises:
        FormatError: not JSON, a wrong or missing field, an unknown field, or too large.
    """
    if len(raw) > MAX_MESSAGE_BYTES:
        raise FormatError(f"{what}: {len(raw)} bytes, at most {MAX_MESSAGE_BYTES} are accepted")
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise FormatError(f"{what}: {_safe_reason(err)}") from err


def _safe_reason(err: Exception) -> str:
    """Return what was expected and where: names, never values. Field names are the sender's."""
    if isinstance(err, msgspec.ValidationError):
        reason = str(err)[:200]  # names types, limits, fields and the path, with one exception:
        return "of an unknown kind" if reason.startswith("Invalid value") else printable(reason)
    return "not valid JSON"


def printable(text: str) -> str:
    """Return `text` with "?" for whatever could move a terminal's cursor or forge a line."""
    return "".join(char if char.isprintable() else "?" for char in text)


def fields(label: str, *parts: bytes) -> bytes:
    """Return the injective encoding of `label` and `parts`: each preceded by its u64 length."""
    out = bytearray()
    for part in (label.encode(), *parts):
        out += struct.pack(">Q", len(part))
        out += part
    return bytes(out)
