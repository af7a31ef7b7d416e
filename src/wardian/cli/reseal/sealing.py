"""What an encrypted model decrypts to, sealed: it is in memory and goes to no disk."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from wardian.cli.progress import progress
from wardian.cli.reseal.contents import Contents, PieceReader
from wardian.crypto.recipients import Recipient
from wardian.crypto.sealed_file import Pin, save_sealed
from wardian.errors import ConfigError
from wardian.inference.ir_file import MEDIA_TYPE as IR

_LOADABLE = ("application/onnx", IR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What was sealed: its pin, and lines for the model's table in wardian.toml."""

    pin: Pin
    settings: tuple[str, ...]


def seal_contents(
    contents: Contents,
    target: Path,
    *,
    media_type: str,
    load: bool,
    recipients: Callable[[], Sequence[Recipient]],
    name: str,
    version: int,
    told: str,
) -> Sealed:
    """Leave what `contents` decrypt to, sealed, at `target`; if anything fails, nothing.

    Args:
        contents: the model.
        target: a file.
        media_type: of the model.
        load: whether an engine loads it first, to see that it runs.
        recipients: returns who can open it; called once it opened.
        name: that it is sealed under.
        version: likewise.
        told: what it is called while it is sealed.

    Raises:
        ConfigError, FormatError, AuthenticationFailed: see `Contents.pieces`; no engine loads it;
            `target` cannot be written.
    """
    clear_model, total_bytes, settings = _read(contents, media_type, load=load)
    who = recipients()
    with clear_model, progress(f"Sealing {told}", total_bytes, err=True) as advance:
        pin = save_sealed(
            clear_model,
            target,
            total_bytes=total_bytes,
            recipients=who,
            media_type=media_type,
            name=name,
            version=version,
            progress=advance,
        )
    return Sealed(pin=pin, settings=settings)


def _read(
    contents: Contents, media_type: str, *, load: bool
) -> tuple[BinaryIO, int, tuple[str, ...]]:
    """Return the content, verified as far as its form can be, its length, and settings to show.

    A model is in memory whole while it is loaded, and then sealed from there. Otherwise it is read
    twice: to its end, for what is verified only there and for its length, and then to be sealed.

    Raises:
        ConfigError, FormatError, AuthenticationFailed: see `Contents.pieces`; no engine loads it.
    """
    if load and media_type in _LOADABLE:
        data = b"".join(contents.pieces())
        engine = _engine_of(data, media_type)
        return io.BytesIO(data), len(data), (f'media_type = "{media_type}"', f'engine = "{engine}"')
    length = sum(part.path.stat().st_size for part in contents.parts)
    with progress("Decrypting", length, err=True) as advance:
        total_bytes = sum(map(len, contents.pieces(advance)))
    reader = cast("BinaryIO", PieceReader(contents.pieces()))
    return reader, total_bytes, (f'media_type = "{media_type}"',)


def _engine_of(data: bytes, media_type: str) -> str:
    """Return the engine that loaded the model `data`.

    Raises:
        ConfigError, FormatError: none did.
    """
    try:
        from wardian.inference.convert.source import loaded_by  # noqa: PLC0415  loads engines

        return loaded_by(data, media_type)
    except ImportError as err:
        raise ConfigError(
            f"loading the model needs {err.name}; pip install 'wardian[serve]', or say --no-load"
        ) from err
