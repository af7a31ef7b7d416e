"""The sealed file of a model for `wardian up`: made of one in the clear, or one that is there."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wardian._internal.settings import read
from wardian.cli.files import read_secret
from wardian.cli.progress import progress
from wardian.cli.up.example import ModelFile
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import Pin, SealedReader, seal_file
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, CryptoError, FormatError

MAX_PIN_BYTES: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A sealed file that was left where workers find it: its pin, its key, the model's length."""

    pin: Pin
    key: BrokerKey
    total_bytes: int


def leave_sealed(
    model: ModelFile, target: Path, *, directory: Path, media_type: str, name: str
) -> Left:
    """Leave `model`, whose files are in `directory`, sealed at `target`.

    One in the clear is sealed under a fresh key; one with a `key_file` is copied.

    Raises:
        ConfigError: a file cannot be read, or is not what it should be; see `take_sealed`.
    """
    path = directory / model.file
    if model.key_file is not None:
        key = BrokerKey(read_secret(directory / model.key_file))
        return take_sealed(
            path, target, key=key, media_type=media_type, name=name, version=model.version
        )
    fresh, size = BrokerKey(Secret.random()), path.stat().st_size
    with progress(f"  sealing {name}", size) as advance:
        pin = seal_file(
            path,
            target,
            recipients=[fresh],
            media_type=media_type,
            name=name,
            version=model.version,
            progress=advance,
        )
    return Left(pin=pin, key=fresh, total_bytes=size)


def take_sealed(
    path: Path, target: Path, *, key: BrokerKey, media_type: str, name: str, version: int
) -> Left:
    """Leave a copy of the sealed file `path` at `target`.

    Its header, its length and its last chunk are what the pin beside it names; the chunks before
    that are authenticated by who opens them.

    Raises:
        ConfigError: there is no pin, or the file does not open by it and `key` as this model.
    """
    beside = path.with_name(path.name + ".pin")
    try:
        pin = Pin.parse(read(beside, limit_bytes=MAX_PIN_BYTES).decode("ascii", "replace").strip())
        with path.open("rb", buffering=0) as file:
            opened = SealedReader(
                file,
                identities=[key],
                pin=pin,
                media_type=media_type,
                name=name,
                version=version,
            )
            total_bytes = opened.header.total_bytes
    except (FormatError, CryptoError) as err:
        raise ConfigError(
            f"{path}: does not open as {name} version {version}, {media_type}, by its pin and its "
            f"key: {err}"
        ) from err
    part = target.with_name(target.name + ".part")
    shutil.copyfile(path, part)
    part.replace(target)  # a worker sees the old file or the new
    return Left(pin=pin, key=key, total_bytes=total_bytes)
