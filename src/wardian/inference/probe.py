"""Whether the rows of a model are independent: measured, not believed.

Stacking requests is only right when a row's answer does not depend on its neighbours. A free first
axis does not promise that (a model may normalise over its batch), and a wrong guess would answer
one client with another's input. So two different rows are inferred alone and together.
"""

import math
from collections.abc import Callable

import numpy as np

from wardian.errors import JobFailed
from wardian.inference.dtypes import numpy_dtype
from wardian.inference.spec import FREE, Array, Tensors, TensorSpec

_FREE_LENGTH = 32
"""Length of a free axis other than the first: enough for the usual strides of a convolution."""


def rows_independent(
    infer: Callable[[Tensors], Tensors],
    *,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
) -> bool:
    """Return True if the model answers two stacked rows as it answers each of them alone.

    False as well for a model whose first axes are not all free, or that fails on the probe: such a
    model serves one request at a time, which is always right.
    """
    if not inputs or any(not spec.shape or spec.shape[0] != FREE for spec in inputs + outputs):
        return False
    rows = [{spec.name: _row(spec, index) for spec in inputs} for index in range(2)]
    stacked = {spec.name: np.concatenate([row[spec.name] for row in rows]) for spec in inputs}
    try:
        alone = [infer(row) for row in rows]
        together = infer(stacked)
    except JobFailed:
        return False
    return all(
        _same(together[spec.name], [answer[spec.name] for answer in alone]) for spec in outputs
    )


def _row(spec: TensorSpec, index: int) -> Array:
    """Return one row that fits `spec`, different for each `index`; integers are 0 or 1."""
    shape = (1, *(_FREE_LENGTH if axis == FREE else axis for axis in spec.shape[1:]))
    size = math.prod(shape)
    ramp = np.sin(np.arange(size) * 0.7 + 1 + 2 * index)
    dtype = numpy_dtype(spec.dtype)
    values = ramp if dtype.kind == "f" else ramp > 0
    row: Array = values.astype(dtype).reshape(shape)
    return row


def _same(together: Array, alone: list[Array]) -> bool:
    if any(len(one) != 1 for one in alone) or len(together) != len(alone):
        return False
    expected = np.concatenate(alone)
    if together.dtype.kind != "f":
        return bool(np.array_equal(together, expected))
    # Kernels for other batch sizes add up in another order; FP16 has 11 bits.
    relative = 1e-2 if together.itemsize == 2 else 1e-3
    return bool(np.allclose(together, expected, rtol=relative, atol=1e-5, equal_nan=True))
