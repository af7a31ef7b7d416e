"""scikit-learn, XGBoost and LightGBM to ONNX, by skl2onnx and onnxmltools.

XGBoost's and LightGBM's own files are data. scikit-learn has none: its models are pickles, which
run code when they are read. That happens here, on the machine of whoever made the model, and in no
enclave.
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from wardian.errors import ConfigError
from wardian.inference.spec import TensorSpec

_OPSET = {"": 17, "ai.onnx.ml": 3}
"""What both engines, and the ONNX of years ago, know."""


def from_sklearn(path: Path, _: Sequence[TensorSpec]) -> bytes:
    """Return the pickled (or joblib) estimator or pipeline at `path` as ONNX.

    Its input is `X`, float32 `[N, features]`; a classifier's outputs are labels and probabilities.

    Raises:
        ConfigError: the file holds no estimator that was fitted, or one that skl2onnx cannot
            convert.
    """
    import joblib  # noqa: PLC0415
    from skl2onnx import to_onnx  # noqa: PLC0415
    from skl2onnx.common.data_types import FloatTensorType  # noqa: PLC0415
    from sklearn.base import is_classifier  # noqa: PLC0415

    with _explained(path, "scikit-learn"):
        estimator = joblib.load(path)
        width = int(estimator.n_features_in_)
        options = {id(estimator): {"zipmap": False}} if is_classifier(estimator) else None
        model = to_onnx(
            estimator,
            initial_types=[("X", FloatTensorType([None, width]))],
            options=options,
            target_opset=_OPSET,
        )
        return bytes(model.SerializeToString())


def from_xgboost(path: Path, _: Sequence[TensorSpec]) -> bytes:
    """Return the XGBoost model at `path` (JSON or UBJSON, as `save_model` writes it) as ONNX.

    Raises:
        ConfigError: it is none, or one that onnxmltools cannot convert.
    """
    import xgboost  # noqa: PLC0415
    from onnxmltools import convert_xgboost  # noqa: PLC0415

    def load() -> Any:
        return xgboost.Booster(model_file=str(path))

    return _by_onnxmltools(path, "XGBoost", load, convert_xgboost, lambda it: it.num_features())


def from_lightgbm(path: Path, _: Sequence[TensorSpec]) -> bytes:
    """Return the LightGBM model at `path` (text, as `save_model` writes it) as ONNX.

    Raises:
        ConfigError: it is none, or one that onnxmltools cannot convert.
    """
    import lightgbm  # noqa: PLC0415
    from onnxmltools import convert_lightgbm  # noqa: PLC0415

    def load() -> Any:
        return lightgbm.Booster(model_file=str(path))

    def convert(model: Any, **arguments: Any) -> Any:
        return convert_lightgbm(model, zipmap=False, **arguments)

    return _by_onnxmltools(path, "LightGBM", load, convert, lambda model: model.num_feature())


def _by_onnxmltools(
    path: Path,
    what: str,
    load: Callable[[], Any],
    convert: Callable[..., Any],
    width: Callable[[Any], int],
) -> bytes:
    from onnxmltools.convert.common.data_types import FloatTensorType  # noqa: PLC0415

    with _explained(path, what):
        model = load()
        types = [("X", FloatTensorType([None, int(width(model))]))]
        made = convert(model, initial_types=types, target_opset=15)
        for each in made.graph.output:  # some converters say 1 for any number of rows
            rows = each.type.tensor_type.shape.dim[:1]
            for axis in rows:
                axis.dim_param = "N"
        return bytes(made.SerializeToString())


@contextlib.contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a framework raises into one line, and keep its chatter to itself."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except (ImportError, OSError):
        raise
    except Exception as err:  # frameworks raise anything
        reason = (str(err).strip().splitlines() or [type(err).__name__])[0][:200]
        raise ConfigError(f"{path}: cannot be converted from {what}: {reason}") from err
