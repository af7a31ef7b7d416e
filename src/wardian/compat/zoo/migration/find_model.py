"""Which model a directory of Cluster Serving holds: by the suffixes of its files, one in each.

The rules are the original's (`ClusterServingHelper.parseModelType`); what it took and cannot be
converted is refused with what to do.
"""

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NoReturn

import msgspec

from wardian._internal.settings import read
from wardian.errors import ConfigError

_SCHEME = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]+):")
_REFUSED: Final = {
    ".caffemodel": "a Caffe model: convert it to ONNX where Caffe runs, then to OpenVINO IR (ovc)",
    ".model": "a BigDL model: save it as TensorFlow (saveTF) or ONNX where BigDL runs",
    ".keras": "a Keras file, which the original refused, too: save it as a SavedModel "
    "(model.export)",
}
_TAKEN: Final = (".pb", ".pt", ".xml")
MAX_META_BYTES: Final = 64 * 1024


class GraphMeta(msgspec.Struct, frozen=True, kw_only=True):
    """`graph_meta.json`: which tensors of a frozen graph are meant."""

    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """A model that can be converted.

    Attributes:
        kind: as `wardian seal --from` knows it.
        path: its file, or its directory for a SavedModel.
        weights: of OpenVINO, where they are not beside `path` under its name; else None.
        meta: of a frozen graph, if there is one.
    """

    kind: Literal["openvino", "tensorflow", "torch"]
    path: Path
    weights: Path | None = None
    meta: GraphMeta | None = None


def local_path(text: str, *, base: Path) -> Path:
    """Return the path that `text` means; one that is not absolute begins at `base`.

    Raises:
        ConfigError: it is on another machine, empty, or no path.
    """
    scheme = _SCHEME.match(text)
    if scheme is not None and scheme[1].lower() != "file":
        raise ConfigError(f"{scheme[1].lower()}: is another machine's; copy the model here first")
    if scheme is not None:
        rest = text[scheme.end() :]
        if rest.startswith("//"):
            host, slash, path = rest[2:].partition("/")
            if host not in ("", "localhost"):
                raise ConfigError("file: names another machine; copy the model here first")
            rest = slash + path
        text = rest
    if not text or "\0" in text:
        raise ConfigError("no path")
    return base / text


def find_model(directory: Path) -> FoundModel:
    """Return the one model in `directory`.

    Raises:
        ConfigError: there is none, more than one, or one that cannot be converted.
    """
    if not directory.is_dir():
        raise ConfigError("no such directory here")
    by_suffix: dict[str, list[Path]] = {}
    for path in sorted(directory.iterdir()):
        if path.is_file():
            by_suffix.setdefault(path.suffix.lower(), []).append(path)
    for suffix, why in _REFUSED.items():
        if suffix in by_suffix:
            raise ConfigError(why)
    found = [path for suffix in _TAKEN for path in by_suffix.get(suffix, [])]
    if not found:
        raise ConfigError("no model: expected *.pb, *.pt, or *.xml with its *.bin")
    if len(found) > 1:
        raise ConfigError(f"{len(found)} models, and one is expected: *.pb, *.pt and *.xml")
    return _known(found[0])


def _known(path: Path) -> FoundModel:
    """Return the model whose file `path` is, by its suffix."""
    if path.suffix.lower() == ".xml":
        if path.with_suffix(".bin").is_file():
            return FoundModel(kind="openvino", path=path)
        beside = sorted(each for each in path.parent.glob("*.bin") if each.is_file())
        if len(beside) != 1:
            raise ConfigError("an OpenVINO model without its weights: expected *.xml and *.bin")
        return FoundModel(kind="openvino", path=path, weights=beside[0])
    if path.suffix.lower() == ".pt":
        return _torch(path)
    return _tensorflow(path)


def _tensorflow(path: Path) -> FoundModel:
    """Return a SavedModel's directory if `path` lies beside variables, else a frozen graph."""
    if (path.parent / "variables").is_dir():
        if path.name != "saved_model.pb":
            raise ConfigError("a SavedModel's file has to be called saved_model.pb")
        return FoundModel(kind="tensorflow", path=path.parent)
    meta = path.parent / "graph_meta.json"
    if not meta.is_file():
        return FoundModel(kind="tensorflow", path=path)
    try:
        names = msgspec.json.decode(read(meta, limit_bytes=MAX_META_BYTES), type=GraphMeta)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise ConfigError("graph_meta.json: expected input_names and output_names") from err
    return FoundModel(kind="tensorflow", path=path, meta=names)


def _torch(path: Path) -> FoundModel:
    """Return TorchScript; what `torch.save` writes is a pickle of somebody's classes."""
    try:
        with zipfile.ZipFile(path) as archive:
            script = any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError):
        script = False
    if not script:
        raise ConfigError(
            "a file of torch.save, which is a pickle: load it where it was made, and save it by "
            "torch.jit.save"
        )
    return FoundModel(kind="torch", path=path)


def model_of(model_type: str, path: Path, weights: Path | None) -> FoundModel:
    """Return the model at `path`, a file or a directory, that `servables.yaml` says is there.

    Args:
        model_type: `modelType`: OpenVINO, tf.frozenModel, PyTorch, BigDL or Caffe.
        path: `modelPath`.
        weights: `weightPath`, which OpenVINO has.

    Raises:
        ConfigError: it is not there, or cannot be converted.
    """
    wanted = {"openvino": "openvino", "tf.frozenmodel": "tensorflow", "pytorch": "torch"}
    kind = wanted.get(model_type.lower())
    if kind is None:
        _refuse_type(model_type)
    if path.is_dir():
        found = find_model(path)
    elif not path.is_file():
        raise ConfigError("no such file here")
    elif kind == "openvino" and weights is not None:
        if not weights.is_file():
            raise ConfigError("no weights there")
        found = FoundModel(kind="openvino", path=path, weights=weights)
    elif path.suffix.lower() not in _TAKEN:
        raise ConfigError("expected *.pb, *.pt, or *.xml with its *.bin")
    else:
        found = _known(path)
    if found.kind != kind:
        raise ConfigError("the file is of another kind than modelType says")
    return found


def _refuse_type(model_type: str) -> NoReturn:
    suffix = {"caffe": ".caffemodel", "bigdl": ".model"}.get(model_type.lower())
    raise ConfigError(
        _REFUSED[suffix] if suffix else "expected OpenVINO, tf.frozenModel, PyTorch, BigDL or Caffe"
    )
