"""`wardian seal --from KIND`: what is sealed is the model as an enclave opens it."""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wardian.errors import ConfigError

if TYPE_CHECKING:
    from wardian.inference.spec import TensorSpec

KINDS = (
    "onnx", "openvino", "tensorflow", "tflite", "torch", "sklearn", "xgboost", "lightgbm",
)  # fmt: skip
MEDIA_TYPES = ("application/onnx", "application/vnd.wardian.openvino-ir")
_SHAPE = re.compile(r"(?P<axes>(?:-1|[1-9]\d{0,8})(?:,(?:-1|[1-9]\d{0,8}))*)(?::(?P<dtype>\w+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealable:
    """A file to seal as it is.

    Attributes:
        path: where it lies.
        media_type: what it is sealed as.
        settings: lines for the model's table in `wardian.toml`; empty if nothing was made.
    """

    path: Path
    media_type: str
    settings: str = ""


@contextlib.contextmanager
def sealable(
    file: Path,
    *,
    kind: str | None,
    shapes: tuple[str, ...],
    media_type: str,
    vocab: Path | None = None,
    merges: Path | None = None,
) -> Iterator[Sealable]:
    """Yield `file` as it is, or, with `kind`, converted; what was made is gone afterwards.

    Args:
        file: a file, or a SavedModel's directory.
        kind: one of `KINDS`; None: nothing is converted.
        shapes: of its inputs, as "-1,3,224,224" or "-1,128:INT64".
        media_type: of a file that is not converted.
        vocab: the vocabulary that goes into the model: `vocab.txt`, or `vocab.json` with `merges`.
        merges: `merges.txt`.

    Raises:
        ConfigError: a directory without a kind; a shape that is none; it cannot be converted.
        FormatError: what came out is no model that is served.
    """
    if merges is not None and vocab is None:
        raise ConfigError("--merges goes with --vocab, which is then a vocab.json")
    if kind is None:
        if file.is_dir() or shapes:
            raise ConfigError("a directory, and --shape, need --from: what is to be converted?")
        if vocab is None:
            yield Sealable(path=file, media_type=media_type)
            return
        if media_type not in MEDIA_TYPES:
            raise ConfigError(f"--vocab goes into a model: {' or '.join(MEDIA_TYPES)}")
        with _written(_with_vocabulary(file.read_bytes(), media_type, vocab, merges)) as path:
            yield Sealable(path=path, media_type=media_type)
        return
    from wardian.inference.convert.source import KINDS as KNOWN  # noqa: PLC0415  loads engines
    from wardian.inference.convert.source import convert  # noqa: PLC0415

    known = next(each for each in KNOWN if each == kind)
    made = convert(known, file, inputs=[parse_shape(text) for text in shapes])
    data = made.data
    if vocab is not None:
        data = _with_vocabulary(data, made.media_type, vocab, merges)
    with _written(data) as path:
        yield Sealable(
            path=path,
            media_type=made.media_type,
            settings=f'media_type = "{made.media_type}"\nengine = "{made.engine}"',
        )


@contextlib.contextmanager
def _written(data: bytes) -> Iterator[Path]:
    """Yield a file that holds `data`, in a directory of this user alone; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="wardian-seal-") as directory:  # mode 0700
        path = Path(directory) / "model"
        path.write_bytes(data)
        yield path


def _with_vocabulary(data: bytes, media_type: str, vocab: Path, merges: Path | None) -> bytes:
    from wardian.inference.attached import with_vocabulary  # noqa: PLC0415
    from wardian.inference.text.source import read_vocabulary  # noqa: PLC0415

    vocabulary = read_vocabulary(vocab, merges)
    return with_vocabulary(data, media_type=media_type, vocabulary=vocabulary)


def parse_shape(text: str) -> "TensorSpec":
    """Return the input that `text` describes; its name is left empty.

    Raises:
        ConfigError: it does not.
    """
    from wardian.inference.dtypes import NUMPY_OF  # noqa: PLC0415
    from wardian.inference.spec import TensorSpec  # noqa: PLC0415

    found = _SHAPE.fullmatch(text)
    dtype = (found["dtype"] or "FP32") if found else ""
    if found is None or dtype not in NUMPY_OF:
        raise ConfigError(f"--shape {text!r}: give lengths and a type, as -1,3,224,224:FP32")
    return TensorSpec(name="", dtype=dtype, shape=tuple(map(int, found["axes"].split(","))))
