"""What was learnt, sealed, as a directory that `wardian up` serves.

The app makes the model's file in memory, and it is sealed from there: on the disk it is never in
the clear. The directory appears whole or not at all.
"""

import io
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wardian._internal.files import replace_file, sync_directory
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import save_sealed
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, FormatError
from wardian.inference import ir_file
from wardian.inference.onnx_file import verify_onnx
from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord

ONNX: Final = "application/onnx"
_IR_HEADS: Final = (b"WRDNIR1\n", b"WRDNIR2\n")
_SMALLEST_ROOM: Final = 4 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Servable:
    """A model as an enclave opens it.

    Attributes:
        media_type: of ONNX, or of OpenVINO IR in one file.
        data: the file.
        engine: one that loaded it here; None: none is installed here, so none has.
    """

    media_type: str
    data: bytes
    engine: str | None


def demand_publishable(app: ClientApp, directory: Path) -> None:
    """Return if a run of `app` can be published in `directory`, as far as can be said before it.

    Raises:
        ConfigError: the app does not export, or something is there already.
    """
    if not app.exports:
        raise ConfigError("--publish: the app has no function that exports (@app.export())")
    _demand_free(directory)


def make_servable(app: ClientApp, arrays: ArrayRecord, context: Context) -> Servable:
    """Return the model that `app` makes of `arrays`, once it was seen to be one.

    Raises:
        FormatError: the app's function failed, or what it returned is no model that is served.
        ConfigError: likewise; or the app has no such function.
    """
    data = app.exported(arrays, context)
    media_type = ir_file.MEDIA_TYPE if data.startswith(_IR_HEADS) else ONNX
    try:
        if media_type == ONNX:
            verify_onnx(data)
        else:
            ir_file.parse_ir(data)
    except (ConfigError, FormatError) as err:
        raise type(err)(f"the app exported no model that is served: {err}") from err
    return Servable(media_type=media_type, data=data, engine=_loaded_by(data, media_type))


def _loaded_by(data: bytes, media_type: str) -> str | None:
    """Return the engine that loaded `data`; None where none is installed.

    Raises:
        ConfigError, FormatError: none of those that are here takes it.
    """
    try:
        from wardian.inference.convert.source import loaded_by  # noqa: PLC0415  loads engines

        return loaded_by(data, media_type)
    except ImportError:
        return None


def write_deployment(made: Servable, directory: Path, *, name: str, version: int) -> None:
    """Leave `made`, sealed as `name` and `version`, in the new `directory` for `wardian up`.

    It is for this user alone. NAME.key opens the model: it is for the owner, and for the broker
    that the owner hands it to.

    Raises:
        ConfigError: something is there already, or the disk does not take it; then nothing is left.
    """
    _demand_free(directory)
    whole = directory.absolute()
    try:
        place = Path(tempfile.mkdtemp(prefix=f".{whole.name}-", dir=whole.parent))  # mode 0700
        try:
            _write(made, place, name=name, version=version)
            sync_directory(place)
            place.rename(whole)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        sync_directory(whole.parent)
    except OSError as err:
        raise ConfigError(f"{directory}: cannot be written: {err.strerror}") from err


def _demand_free(directory: Path) -> None:
    try:
        directory.absolute().parent.mkdir(parents=True, exist_ok=True)
        taken = directory.is_symlink() or (
            directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
        )
    except OSError as err:
        raise ConfigError(f"{directory}: {err.strerror}") from err
    if taken:
        raise ConfigError(f"{directory}: is there already; name a directory that is not")


def _write(made: Servable, place: Path, *, name: str, version: int) -> None:
    sealed, key = f"{name}.sealed", Secret.random()
    pin = save_sealed(
        io.BytesIO(made.data),
        place / sealed,
        total_bytes=len(made.data),
        recipients=[BrokerKey(key)],
        media_type=made.media_type,
        name=name,
        version=version,
    )
    room = max(_SMALLEST_ROOM, 1 << (len(made.data) - 1).bit_length())
    agreed = f"""\
# What the owners of this mesh agree on: measured. Written when a federated run was published.
# The model's settings: docs/reference/models.md; all others: docs/reference/settings.md.

[mesh]
name = "{name}"
owners = []   # `wardian up` plays the owner; elsewhere the owners' public keys stand here

[models."{name}"]
media_type = "{made.media_type}"
max_model_bytes = {room}   # the next model of this shape fits, too
"""
    example = f"""\
# What `wardian up` serves. {name}.key opens the model: keep it for the owner.

[models."{name}"]
file = "{sealed}"
key_file = "{name}.key"
version = {version}
"""
    for file, content in (
        (f"{sealed}.pin", f"{pin}\n"),
        (f"{name}.key", f"{key.reveal().hex()}\n"),
        ("wardian.toml", agreed),
        ("example.toml", example),
    ):
        replace_file(place / file, content.encode(), sync=True)
    key.wipe()
