"""Tags of identifiers, as a party makes them: the same for the same identifier and key."""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wardian.crypto.secret import Secret
from wardian.errors import FormatError

TAG_BYTES: Final = 16
MAX_IDENTIFIER_BYTES: Final = 1024
_PERSON: Final = b"wardian psi v1"


def encoded(identifiers: Sequence[str] | Sequence[bytes]) -> list[bytes]:
    """Return `identifiers` as bytes, UTF-8 of texts: they are the same if the bytes are.

    Nothing is trimmed, folded or normalised: that is for the parties to agree on beforehand.

    Raises:
        FormatError: one is empty, longer than 1024 bytes, no text, or there twice. Says at which
            place, never which.
    """
    try:
        found = [each.encode() if isinstance(each, str) else bytes(each) for each in identifiers]
    except (TypeError, UnicodeEncodeError) as err:
        raise FormatError("identifiers: texts or bytes are needed") from err
    lengths = {len(each) for each in found}
    if lengths and (min(lengths) == 0 or max(lengths) > MAX_IDENTIFIER_BYTES):
        raise FormatError(f"identifiers: each has 1 to {MAX_IDENTIFIER_BYTES} bytes")
    if len(set(found)) < len(found):
        seen: set[bytes] = set()
        for place, each in enumerate(found):
            if each in seen:
                raise FormatError(f"identifiers: the one at place {place} was there before")
            seen.add(each)
    return found


def tags(key: Secret, identifiers: Sequence[bytes]) -> NDArray[Any]:
    """Return the keyed BLAKE2b of each of `identifiers`, 16 bytes as two int64: (identifiers, 2).

    Args:
        key: of this run, 32 bytes.
        identifiers: as `encoded` returns them.
    """
    keyed = hashlib.blake2b(digest_size=TAG_BYTES, key=key.reveal(), person=_PERSON)

    def tag(identifier: bytes) -> bytes:
        state = keyed.copy()  # the key's block was taken in once, for all
        state.update(identifier)
        return state.digest()

    raw = b"".join([tag(each) for each in identifiers])
    return np.frombuffer(raw, "<i8").reshape(-1, 2)
