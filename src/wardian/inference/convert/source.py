"""Which kinds of model can be converted, and what came out of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from wardian.errors import ConfigError, FormatError, WardianError
from wardian.inference.model import ENGINES_OF, IR, ONNX, load_model
from wardian.inference.spec import TensorSpec

Kind = Literal[
    "onnx", "openvino", "tensorflow", "tflite", "torch", "sklearn", "xgboost", "lightgbm"
]
KINDS: Final[tuple[Kind, ...]] = (
    "onnx", "openvino", "tensorflow", "tflite", "torch", "sklearn", "xgboost", "lightgbm",
)  # fmt: skip

_Converter = Callable[[Path, Sequence[TensorSpec]], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A model as an enclave opens it.

    Attributes:
        media_type: what it is sealed as.
        engine: the one that runs it; trees are run by ONNX Runtime alone.
        data: the file.
    """

    media_type: str
    engine: str
    data: bytes


def convert(kind: Kind, path: Path, *, inputs: Sequence[TensorSpec] = ()) -> Converted:
    """Return the model at `path` converted, and loaded once to see that it runs.

    Args:
        kind: what it is. `sklearn` reads a pickle, which runs whatever its author put into it: only
            convert files that you wrote yourself.
        path: the file; for `tensorflow` also a SavedModel's directory, for `openvino` the XML whose
            weights lie beside it in `.bin`.
        inputs: their types and shapes in order, whatever their names; for TorchScript, which does
            not say, and for graphs to fix an axis. Empty: as the model says.

    Raises:
        ConfigError: the file cannot be read or converted; or what that takes is not installed.
        FormatError: what came out is no model that is served.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such file or directory")
    media_type = ONNX if kind in ("onnx", "sklearn", "xgboost", "lightgbm") else IR
    try:
        data = _converter(kind)(path, inputs)
    except ImportError as err:
        raise ConfigError(
            f"converting from {kind} needs {err.name}; pip install 'wardian[serve,convert]' and "
            "what made the model"
        ) from err
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read: {err.strerror}") from err
    engine = loaded_by(data, media_type)
    return Converted(media_type=media_type, engine=engine, data=data)


def _converter(kind: Kind) -> _Converter:
    """Return what converts `kind`; each loads its framework, so each is imported alone."""
    if kind == "onnx":
        return lambda path, _: path.read_bytes()
    if kind in ("sklearn", "xgboost", "lightgbm"):
        from wardian.inference.convert import trees  # noqa: PLC0415

        return {
            "sklearn": trees.from_sklearn,
            "xgboost": trees.from_xgboost,
            "lightgbm": trees.from_lightgbm,
        }[kind]
    from wardian.inference.convert import graphs  # noqa: PLC0415

    return graphs.from_torch if kind == "torch" else graphs.from_file


def loaded_by(data: bytes, media_type: str) -> str:
    """Return the first engine that runs `data`.

    Raises:
        ConfigError, FormatError: none does.
    """
    first: WardianError | None = None
    for engine in ENGINES_OF[media_type, "f32"]:
        try:
            load_model(data, media_type=media_type, engine=engine, threads=1).close()
        except (ConfigError, FormatError) as err:  # not every engine reads all of ONNX
            first = first or err
            continue
        return engine
    raise first or ConfigError("no engine is installed")
