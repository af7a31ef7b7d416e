"""The kinds of fields that mesh records have: one spelling for each value."""

from typing import Annotated, TypeAlias

import msgspec

from wardian._internal.settings import PublicKey

# `\A...\Z`, because `$` also matches before a final newline.
Name = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9._-]{0,63}\Z")]
"""A mesh's, role's, model's or secret's name."""
Hex16 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
"""16 bytes in lower-case hex."""
Hex32 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
"""32 bytes in lower-case hex: a digest or a measurement."""
Hex64 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{128}\Z")]
"""64 bytes in lower-case hex: an owner's signature."""
Owner: TypeAlias = PublicKey
"""An owner's public key, spelt as in `wardian.toml`."""
Measurements = Annotated[tuple[Hex32, ...], msgspec.Meta(min_length=1, max_length=64)]
"""`Claims.measurement` of the code meant. Never empty: a list that names nobody is a mistake."""
Text = Annotated[str, msgspec.Meta(pattern=r"\A[!-~](?:[ -~]{0,62}[!-~])?\Z")]
"""A word of somebody else's, such as an advisory or a media type: printable ASCII. What owners read
before they sign moves no terminal's cursor, and looks like nothing that it is not."""
Serial = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
