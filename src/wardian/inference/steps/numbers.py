"""Steps on numbers: normalising inputs, probabilities and the best few of the outputs."""

from dataclasses import replace

import numpy as np

from wardian._internal.steps import NormaliseStep, TopStep
from wardian.errors import ConfigError, JobFailed
from wardian.inference.dtypes import BYTES, bytes_array, numpy_dtype
from wardian.inference.spec import FREE, Array, Tensors, TensorSpec

CHANNELS = (1, 3)


def channel_axis(spec: TensorSpec) -> int | None:
    """Return the axis of grey or RGB in a batch of images: 1 or 3; None if `spec` is none."""
    if len(spec.shape) != 4:
        return None
    return next((axis for axis in (1, 3) if spec.shape[axis] in CHANNELS), None)


class Normalise:
    """`(x * scale - mean) / std` on one input, in its own type."""

    def __init__(self, spec: TensorSpec, ask: NormaliseStep) -> None:
        """Prepare for the input `spec`.

        Raises:
            ConfigError: it holds no floats, or another number of channels.
        """
        if numpy_dtype(spec.dtype).kind != "f":
            raise ConfigError(f"`pre`: normalise takes floats; {spec.name!r} is {spec.dtype}")
        values = max(len(ask.mean), len(ask.std))
        axis = channel_axis(spec)
        if axis is None:
            axis = len(spec.shape) - 1
        if values > 1 and (axis < 0 or spec.shape[axis] != values):
            raise ConfigError(f"`pre`: {spec.name!r} has not the {values} channels of normalise")
        shape = [1] * max(1, len(spec.shape))
        if values > 1:
            shape[axis] = values
        std = np.broadcast_to(np.array(ask.std), values).reshape(shape)
        mean = np.broadcast_to(np.array(ask.mean), values).reshape(shape)
        dtype = numpy_dtype(spec.dtype)
        # x * scale / std - mean / std: one multiplication and one subtraction
        self._factor = (ask.scale / std).astype(dtype)
        self._less = (mean / std).astype(dtype)
        self.name = spec.name
        self.outside = (spec,)

    def apply(self, tensors: Tensors) -> Tensors:
        """Return `tensors` with that input normalised."""
        with np.errstate(all="ignore"):  # what is not a number stays none
            tensors[self.name] = tensors[self.name] * self._factor - self._less
        return tensors


class Softmax:
    """Scores of one output to probabilities, along its last axis."""

    def __init__(self, spec: TensorSpec) -> None:
        """Prepare for the output `spec`.

        Raises:
            ConfigError: it holds no floats, or rows alone.
        """
        _scores(spec, "softmax")
        self.name = spec.name
        self.outside = (spec,)

    def apply(self, tensors: Tensors) -> Tensors:
        """Return `tensors` with that output as probabilities."""
        scores = tensors[self.name]
        with np.errstate(all="ignore"):
            powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
            tensors[self.name] = powers / powers.sum(axis=-1, keepdims=True)
        return tensors


class Top:
    """The n largest of one output along its last axis, with their indices."""

    def __init__(self, spec: TensorSpec, ask: TopStep) -> None:
        """Prepare for the output `spec`.

        Raises:
            ConfigError: it holds no floats, fewer than n, or not as many as there are labels.
        """
        _scores(spec, "top")
        length = spec.shape[-1]
        if length not in (FREE, max(length, ask.n)):
            raise ConfigError(f"`post`: {spec.name!r} has {length} values, fewer than {ask.n}")
        if ask.labels and length not in (FREE, len(ask.labels)):
            raise ConfigError(
                f"`post`: {spec.name!r} has {length} values and {len(ask.labels)} labels"
            )
        self.name = spec.name
        self._n = ask.n
        self._labels = bytes_array((label.encode() for label in ask.labels), (len(ask.labels),))
        few = replace(spec, shape=(*spec.shape[:-1], ask.n))
        made = [
            replace(few, name=f"{spec.name}_index", dtype="INT64"),
            replace(few, name=f"{spec.name}_value"),
        ]
        if ask.labels:
            made.append(replace(few, name=f"{spec.name}_label", dtype=BYTES))
        self.outside = tuple(made)

    def apply(self, tensors: Tensors) -> Tensors:
        """Return `tensors` with that output replaced by its largest, equals in their own order.

        Raises:
            JobFailed: there are fewer than n, or an index without a label.
        """
        scores = tensors.pop(self.name)
        if scores.shape[-1] < self._n:
            raise JobFailed(f"the output has fewer than {self._n} values")
        index = np.argsort(-scores, axis=-1, kind="stable")[..., : self._n].astype(np.int64)
        made: list[Array] = [index, np.take_along_axis(scores, index, axis=-1)]
        if len(self.outside) > 2:
            if index.size and index.max() >= len(self._labels):
                raise JobFailed("the output has more values than there are labels")
            made.append(self._labels[index])
        tensors.update(zip((spec.name for spec in self.outside), made, strict=True))
        return tensors


def _scores(spec: TensorSpec, step: str) -> None:
    if numpy_dtype(spec.dtype).kind != "f" or len(spec.shape) < 2:
        raise ConfigError(
            f"`post`: {step} takes rows of floats; {spec.name!r} is {spec.dtype} {list(spec.shape)}"
        )
