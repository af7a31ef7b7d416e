"""A compiled model that gives scores of the next token: which of its tensors is what.

With a cache of keys and values, as Hugging Face's export to ONNX names them: what comes out as
`present.N.key` goes in as `past_key_values.N.key`. Without one the whole text is run each time.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from wardian._internal.steps import GenerateTerms
from wardian.errors import ConfigError, JobFailed
from wardian.inference.dtypes import numpy_dtype
from wardian.inference.spec import FREE, Array, Model, Tensors, TensorSpec

_INTEGERS: Final = ("INT64", "INT32")
_FLOATS: Final = ("FP32", "FP16")


class Decoder:
    """Runs one row of tokens at a time.

    Attributes:
        vocabulary: how many tokens the model has scores for; `FREE` if its file does not say.
        caching: the model takes keys and values of what was run before.
        model: the compiled one.
    """

    def __init__(self, model: Model, terms: GenerateTerms) -> None:
        """Find the tensors of `model` that `terms` name.

        Raises:
            ConfigError: one is not there, or is not of the type and shape that it needs.
        """
        self.model = model
        inputs = {spec.name: spec for spec in model.inputs}
        outputs = {spec.name: spec for spec in model.outputs}
        self._ids = _rows(inputs, terms.ids)
        self._mask = _rows_if_there(inputs, terms.mask, "attention_mask")
        self._positions = _rows_if_there(inputs, terms.positions, "position_ids")
        self._logits = _logits(outputs, terms.logits)
        self.vocabulary = self._logits.shape[-1]
        taken = {spec.name for spec in (self._ids, self._mask, self._positions) if spec is not None}
        left = [spec for name, spec in inputs.items() if name not in taken]
        self._past = _pasts(left, outputs, terms)
        self.caching = bool(self._past)

    def run(self, tokens: Sequence[int], count: int = 0, past: Tensors | None = None) -> tuple[
        Array, Tensors
    ]:  # fmt: skip
        """Return the scores of what follows `tokens`, and the keys and values of all of them.

        Args:
            tokens: all of them, at least one more than `count`.
            count: of how many `past` is.
            past: what `run` returned for the first `count`; nothing with 0.

        Returns:
            Scores, (tokens of the vocabulary,); and arrays by the names under which they go in.

        Raises:
            JobFailed: the engine failed, or answers something else.
        """
        total = len(tokens)
        given = {} if past is None else dict(past)
        inputs: Tensors = self._empty() if not count else given
        inputs[self._ids.name] = _row(self._ids, tokens[count:])
        if self._mask is not None:
            inputs[self._mask.name] = np.ones((1, total), numpy_dtype(self._mask.dtype))
        if self._positions is not None:
            inputs[self._positions.name] = _row(self._positions, range(count, total))
        outputs = self.model.infer(inputs)
        logits = outputs[self._logits.name]
        if logits.ndim not in (2, 3) or not logits.size or len(logits) != 1:
            raise JobFailed("the model's scores have another shape than one row")
        return logits.reshape(-1, logits.shape[-1])[-1], {
            name: outputs[made] for name, (_, made) in self._past.items()
        }

    def _empty(self) -> Tensors:
        return {
            name: np.zeros(
                [1, *(0 if axis == FREE else axis for axis in spec.shape[1:])],
                numpy_dtype(spec.dtype),
            )
            for name, (spec, _) in self._past.items()
        }


def _row(spec: TensorSpec, numbers: Sequence[int]) -> Array:
    return np.array([numbers], numpy_dtype(spec.dtype))


def _rows_if_there(
    inputs: dict[str, TensorSpec], name: str | None, usual: str
) -> TensorSpec | None:
    """Return the input `name`, or the `usual` one where none is named and the model has it."""
    return None if name is None and usual not in inputs else _rows(inputs, name or usual)


def _rows(inputs: dict[str, TensorSpec], name: str) -> TensorSpec:
    """Return the input `name`, rows of whole numbers."""
    spec = inputs.get(name)
    if spec is None:
        known = ", ".join(repr(known[:64]) for known in inputs)
        raise ConfigError(f"`generate`: no input {name!r}; there is: {known}")
    if spec.dtype not in _INTEGERS or len(spec.shape) != 2 or spec.shape[1] != FREE:
        raise ConfigError(
            f"`generate`: {name!r} has to be INT64 or INT32 of shape [N, L], any L; it is "
            f"{spec.dtype} {list(spec.shape)}"
        )
    return spec


def _logits(outputs: dict[str, TensorSpec], name: str) -> TensorSpec:
    spec = outputs.get(name)
    if spec is None:
        known = ", ".join(repr(known[:64]) for known in outputs)
        raise ConfigError(f"`generate`: no output {name!r}; there is: {known}")
    if spec.dtype not in _FLOATS or len(spec.shape) not in (2, 3):
        raise ConfigError(
            f"`generate`: {name!r} has to be FP32 or FP16 of shape [N, L, V] or [N, V]; it is "
            f"{spec.dtype} {list(spec.shape)}"
        )
    return spec


def _pasts(
    left: list[TensorSpec], outputs: dict[str, TensorSpec], terms: GenerateTerms
) -> dict[str, tuple[TensorSpec, str]]:
    """Return the inputs of keys and values by name, each with the output that it comes from."""
    found: dict[str, tuple[TensorSpec, str]] = {}
    for spec in left:
        suffix = spec.name.removeprefix(f"{terms.past}.")
        made = outputs.get(f"{terms.present}.{suffix}")
        if suffix == spec.name or made is None:
            raise ConfigError(
                f"`generate`: nothing is known to put into the input {spec.name[:64]!r}"
            )
        free = [axis for axis in spec.shape[1:] if axis == FREE]
        if spec.dtype not in _FLOATS or made.dtype != spec.dtype or len(free) != 1:
            raise ConfigError(
                f"`generate`: {spec.name[:64]!r} has to be FP32 or FP16, with one open axis beside "
                f"the first; it is {spec.dtype} {list(spec.shape)}"
            )
        found[spec.name] = spec, made.name
    return found
