"""Numbers as Java writes them: what clients of Cluster Serving find in its texts.

`Float.toString`: the shortest digits that are this float32 and no other (as since JDK 19; older
ones now and then write a digit more), plain from 10^-3 up to 10^7, and `1.5E-4` elsewhere.
"""

import math

import numpy as np

from wardian.inference.spec import Array


def java_floats(values: Array) -> list[str]:
    """Return each of `values`, of any shape, as Java writes it as a float."""
    return [_java_float(value) for value in np.asarray(values, np.float32).ravel()]


def _java_float(value: np.float32) -> str:
    size = abs(float(value))
    if not math.isfinite(size):
        return "NaN" if math.isnan(size) else "-Infinity" if value < 0 else "Infinity"
    if size == 0 or 1e-3 <= size < 1e7:
        return np.format_float_positional(value, unique=True, trim="0")
    text = np.format_float_scientific(value, unique=True, trim="0", exp_digits=1)
    return text.replace("e+", "E").replace("e", "E")
