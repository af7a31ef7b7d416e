"""What the inputs of one model must look like, prepared so that looking costs a microsecond."""

from typing import Any, NamedTuple, NoReturn, TypeAlias

import numpy as np

from wardian.errors import RequestError
from wardian.inference.dtypes import BYTES, BYTES_DTYPE, NAME_OF, numpy_dtype, size_bytes
from wardian.inference.spec import FREE, Array, Tensors, TensorSpec

Shape: TypeAlias = tuple[int, ...]


class Measured(NamedTuple):
    """Inputs that fit.

    Attributes:
        rows: length of axis 0, which all inputs share; 1 for a model that is not batchable.
        key: requests with equal keys may be stacked; None: this one is stacked with no other.
        size_bytes: of all arrays together.
    """

    rows: int
    key: tuple[Shape, ...] | None
    size_bytes: int


class _Rule(NamedTuple):
    spec: TensorSpec
    dtype: np.dtype[Any]
    tail: Shape  # lengths after axis 0


class InputRules:
    """The inputs and outputs of one version of a model."""

    def __init__(
        self,
        *,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        batchable: bool,
    ) -> None:
        """Prepare the rules; `batchable` models have a free axis 0 on every tensor."""
        self._batchable = batchable
        self._rules = {
            spec.name: _Rule(spec, numpy_dtype(spec.dtype), spec.shape[1:]) for spec in inputs
        }
        self._outputs = frozenset(spec.name for spec in outputs)
        self._same_for_all = all(FREE not in rule.tail for rule in self._rules.values())

    def measure(self, inputs: Tensors) -> Measured:
        """Return what `inputs` are, if they fit.

        No axis may have length 0: another could then have any length for no bytes at all, and
        rows that cost a client nothing would keep a worker busy for ever. Without such an axis
        there are at most as many rows as bytes.

        Raises:
            RequestError: 400, saying what was expected.
        """
        rules = self._rules
        if inputs.keys() != rules.keys():
            self._refuse_names(inputs)
        rows, size = -1, 0
        for name, array in inputs.items():
            rule = rules[name]
            shape = array.shape
            if array.dtype != rule.dtype or not (
                (self._batchable and shape and shape[1:] == rule.tail)
                or _fits(shape, rule.spec.shape)
            ):
                _refuse_tensor(rule.spec, array)
            if not array.size:
                _refuse_empty(shape)
            size += array.nbytes if array.dtype is not BYTES_DTYPE else size_bytes(array)
            if shape and shape[0] != rows:
                if rows >= 0 and self._batchable:
                    raise RequestError("all inputs must have the same number of rows (axis 0)")
                rows = shape[0]
        if not self._batchable:
            return Measured(1, None, size)
        key = () if self._same_for_all else tuple(inputs[name].shape[1:] for name in rules)
        return Measured(rows, key, size)

    def expect_outputs(self, names: tuple[str, ...]) -> None:
        """Return if the model has all outputs in `names`.

        Raises:
            RequestError: 400, saying which there are.
        """
        if not self._outputs.issuperset(names):
            known = ", ".join(sorted(self._outputs))
            raise RequestError(f"an output asked for does not exist; the model has: {known}")

    def _refuse_names(self, inputs: Tensors) -> NoReturn:
        wanted = ", ".join(_describe(rule.spec) for rule in self._rules.values())
        missing = ", ".join(sorted(self._rules.keys() - inputs.keys()))
        if missing:
            raise RequestError(f"input {missing} is missing; expected: {wanted}")
        raise RequestError(f"an input is not the model's; expected: {wanted}")


def _fits(shape: Shape, expected: Shape) -> bool:
    return len(shape) == len(expected) and all(
        want in (FREE, length) for length, want in zip(shape, expected, strict=True)
    )


def _refuse_empty(shape: Shape) -> NoReturn:
    if not shape[0]:
        raise RequestError("at least one row is expected (axis 0)")
    raise RequestError("an input has an axis of length 0; each needs at least 1")


def _refuse_tensor(spec: TensorSpec, array: Array) -> NoReturn:
    found = BYTES if array.dtype == BYTES_DTYPE else NAME_OF.get(array.dtype, str(array.dtype))
    raise RequestError(f"input {_describe(spec)} was expected; got {found} {list(array.shape)}")


def _describe(spec: TensorSpec) -> str:
    return f"{spec.name!r} {spec.dtype} {list(spec.shape)}"
