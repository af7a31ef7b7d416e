"""JSON and base64url as other people's protocols sign them, each value in one spelling alone.

Our own messages are decoded with `_internal.wire`. What is here is for JSON that is hashed or
signed in somebody else's protocol, where a second reader might see something else than we do.
"""

import base64
import binascii
import json
import re
from typing import Final, NoReturn

from wardian.errors import FormatError

_BASE64URL: Final = re.compile(r"\A[A-Za-z0-9_-]*\Z")


def b64url(raw: bytes) -> str:
    """Return `raw` in base64url without padding (RFC 7515, appendix C)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def from_b64url(text: object, *, what: str, length: int | None = None) -> bytes:
    """Return the bytes that `text` is the one base64url spelling of.

    Args:
        text: untrusted.
        what: its name for the error message.
        length: how many bytes it has to be; None accepts any number.

    Raises:
        FormatError: not text, padded, with other characters or spare bits, or of another length.
    """
    if not isinstance(text, str) or _BASE64URL.match(text) is None:
        raise FormatError(f"{what}: not base64url without padding")
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as err:
        raise FormatError(f"{what}: not base64url without padding") from err
    if b64url(raw) != text:
        raise FormatError(f"{what}: has bits that belong to no byte")
    if length is not None and len(raw) != length:
        raise FormatError(f"{what}: {length} bytes are needed")
    return raw


def parse_json(raw: bytes | bytearray, *, what: str) -> object:
    """Return `raw` decoded, of which two readers cannot have two opinions.

    Args:
        raw: UTF-8, untrusted; the caller has bounded its length.
        what: its name for the error message.

    Raises:
        FormatError: not JSON, a name twice in one object (RFC 7515, 4; RFC 8259, 4), a fraction or
            an exponent, NaN or infinity, or half of a surrogate pair.
    """

    def refuse(_: str) -> NoReturn:
        raise FormatError(f"{what}: only whole numbers are accepted")

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise FormatError(f"{what}: a name stands twice in one object")
        return found

    try:
        text = raw.decode("utf-8")
        value: object = json.loads(
            text, object_pairs_hook=unique, parse_float=refuse, parse_constant=refuse
        )
        json.dumps(value, ensure_ascii=False).encode()  # no half of a surrogate pair anywhere
    except (ValueError, RecursionError) as err:
        raise FormatError(f"{what}: not valid JSON") from err
    return value
