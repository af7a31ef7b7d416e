"""The kinds of fields that messages between processes have, whatever they are about."""

from typing import Annotated, Final

import msgspec

NONCE_BYTES: Final = 32

Nonce = Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
Key32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Der = Annotated[bytes, msgspec.Meta(min_length=1, max_length=16 * 1024)]
