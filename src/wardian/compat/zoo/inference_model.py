"""`InferenceModel` of BigDL and Analytics Zoo: a model in this process, for notebooks and tests.

Nothing protects it here: it runs where the caller runs, in the clear. What is served goes into a
mesh (`wardian seal`, `wardian up`). An encrypted model is opened in memory and touches no disk.
"""

from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import numpy as np
from typing_extensions import override

from wardian.compat.zoo.closing import Closing
from wardian.crypto.secret import Secret
from wardian.crypto.zoo_formats import decrypt_zoo_model
from wardian.crypto.zoo_keys import ZooForm, ZooKeys
from wardian.errors import ConfigError, RequestError
from wardian.inference.convert.source import Kind, convert
from wardian.inference.dtypes import NUMPY_OF
from wardian.inference.ir_file import build_ir
from wardian.inference.model import IR, Model, load_model
from wardian.inference.spec import Array, TensorSpec

MAX_COPIES: Final = 64


class InferenceModel(Closing):
    """One model, in as many copies as predictions may run at a time. Thread-safe once loaded."""

    def __init__(self, supported_concurrent_num: int = 1) -> None:
        """Load nothing yet.

        Args:
            supported_concurrent_num: copies, 1 to 64; further predictions wait for one.

        Raises:
            ConfigError: another number.
        """
        if not 1 <= supported_concurrent_num <= MAX_COPIES:
            raise ConfigError(f"supported_concurrent_num is 1 to {MAX_COPIES}")
        self._copies = supported_concurrent_num
        self._free: SimpleQueue[Model] = SimpleQueue()
        self._loaded: list[Model] = []

    def load_openvino(self, model_path: str | Path, weight_path: str | Path) -> None:
        """Load an OpenVINO model from its `.xml` and `.bin`.

        Raises:
            ConfigError: a file cannot be read.
            FormatError: they are no model that is served.
        """
        self._load_ir(_read(model_path), _read(weight_path))

    def load_openvino_encrypted(
        self,
        model_path: str | Path,
        weight_path: str | Path,
        *,
        secret: Secret,
        salt: bytes,
        form: ZooForm = ZooForm.UNAUTHENTICATED_CBC_128,
    ) -> None:
        """Load an OpenVINO model whose files are encrypted as Analytics Zoo does it.

        Args:
            model_path: of the encrypted `.xml`.
            weight_path: of the encrypted `.bin`.
            secret: the passphrase.
            salt: as it was given there, in UTF-8.
            form: how they are encrypted; what its `encryptFileWithAESCBC` writes by default.

        Raises:
            ConfigError: a file cannot be read.
            FormatError, AuthenticationFailed: they do not open, or are no model that is served.
        """
        keys = ZooKeys(secret, salt)
        try:
            files = [
                decrypt_zoo_model(_read(path), keys=keys, form=form)
                for path in (model_path, weight_path)
            ]
        finally:
            keys.wipe()
        self._load_ir(*files)

    def load_onnx(self, model_path: str | Path) -> None:
        """Load an ONNX model; raises as `load_openvino`."""
        self._convert("onnx", model_path)

    def load_tf(self, model_path: str | Path) -> None:
        """Load a TensorFlow SavedModel (its directory) or frozen graph, by OpenVINO.

        Raises:
            ConfigError: it cannot be read or converted.
            FormatError: what came out is no model that is served.
        """
        self._convert("tensorflow", model_path)

    def load_torch(self, model_path: str | Path, *, inputs: tuple[TensorSpec, ...] = ()) -> None:
        """Load a TorchScript file or an exported program, by OpenVINO; raises as `load_tf`.

        `inputs` are its types and shapes in order, for TorchScript, which does not say.
        """
        self._convert("torch", model_path, inputs)

    def predict(self, inputs: Any) -> Array | list[Array]:
        """Return the outputs for `inputs`, a batch: an array, or a list of them where several.

        Args:
            inputs: an array, or a list of them in the model's order; numbers become the types of
                the model.

        Raises:
            ConfigError: no model is loaded.
            RequestError: there are more or fewer inputs than the model has, or they do not fit it.
            JobFailed: the model failed on them.
        """
        if not self._loaded:
            raise ConfigError("InferenceModel: no model is loaded")
        specs = self._loaded[0].inputs
        given = inputs if isinstance(inputs, list | tuple) else [inputs]
        if len(given) != len(specs):
            raise RequestError(f"the model has {len(specs)} inputs, got {len(given)}")
        arrays = {spec.name: _fitting(each, spec) for spec, each in zip(specs, given, strict=True)}
        model = self._free.get()
        try:
            outputs = model.infer(arrays)
        finally:
            self._free.put(model)
        results = [outputs[spec.name] for spec in model.outputs]
        return results[0] if len(results) == 1 else results

    @override
    def close(self) -> None:
        """Give the memory back; call it when no prediction runs."""
        self._free = SimpleQueue()
        loaded, self._loaded = self._loaded, []
        for model in loaded:
            model.close()

    def _load_ir(self, xml: bytes, weights: bytes) -> None:
        self._load(build_ir(xml, weights), media_type=IR, engine="openvino")

    def _convert(self, kind: Kind, path: str | Path, inputs: tuple[TensorSpec, ...] = ()) -> None:
        made = convert(kind, Path(path), inputs=inputs)
        self._load(made.data, media_type=made.media_type, engine=made.engine)

    def _load(self, data: bytes, *, media_type: str, engine: str) -> None:
        self.close()
        for _ in range(self._copies):
            model = load_model(data, media_type=media_type, engine=engine, threads=1)
            self._loaded.append(model)
            self._free.put(model)


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read: {err.strerror}") from err


def _fitting(given: Any, spec: TensorSpec) -> Array:
    """Return `given` in the type of `spec`, if it has its shape."""
    if spec.dtype not in NUMPY_OF:
        raise RequestError(f"{spec.name}: {spec.dtype} cannot be had here; use `wardian.connect`")
    try:
        array = np.asarray(given).astype(NUMPY_OF[spec.dtype], copy=False)
    except (TypeError, ValueError) as err:
        raise RequestError(f"{spec.name}: no array of {spec.dtype}: {err}") from err
    axes = zip(array.shape, spec.shape, strict=False)
    if array.ndim != len(spec.shape) or any(wanted not in (-1, axis) for axis, wanted in axes):
        raise RequestError(f"{spec.name}: expected {list(spec.shape)}, got {list(array.shape)}")
    return array
