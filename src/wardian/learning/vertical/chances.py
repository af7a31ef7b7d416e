"""From scores to chances, without overflow."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def chance(scores: NDArray[Any]) -> NDArray[Any]:
    """Return the logistic function of each of `scores`, 0 to 1."""
    small = np.exp(-np.abs(scores))
    found: NDArray[Any] = np.where(scores >= 0, 1.0, small) / (1.0 + small)
    return found


def chances(scores: NDArray[Any]) -> NDArray[Any]:
    """Return the softmax of each row of `scores`, (records, classes)."""
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: NDArray[Any] = raised / raised.sum(axis=1, keepdims=True)
    return found
