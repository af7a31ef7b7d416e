"""Answers in JSON, as the two HTTP front ends of Cluster Serving give them.

Both are an object with `predictions`, printed as Jackson does it, of one text for each instance:
`FrontEndApp` writes JSON in JSON in JSON, `Frontend2` the quoted value of the result's hash.
"""

import json
import math
from collections.abc import Iterable
from typing import Final

import numpy as np

from wardian.errors import FormatError
from wardian.inference.spec import Array
from wardian.serving.zoo.java_numbers import java_floats
from wardian.serving.zoo.results import MAX_RESULT_ELEMENTS, encode_result

NAN_ANSWER: Final = '{"value":"NaN"}'
"""An instance's text where there is no answer (`FrontEndApp`)."""


def predictions(texts: Iterable[str]) -> bytes:
    """Return the body of an answer: the instances' `texts`, in their order."""
    listed = ", ".join(json.dumps(text, ensure_ascii=False) for text in texts)
    return f'{{\n  "predictions" : [ {listed} ]\n}}'.encode()


def app_text(outputs: Iterable[Array]) -> str:
    """Return an instance's text as `FrontEndApp` writes it: `outputs` without a separator.

    Numbers are float32 in Java's notation. What is not finite stands in quotes, which JSON needs.

    Raises:
        FormatError: an output that is not of numbers, or no outputs, or too many elements.
    """
    value = "".join(_data_and_shape(each, index) for index, each in enumerate(outputs))
    if not value:
        raise FormatError("an answer: no outputs, one or more were expected")
    return json.dumps({"value": value}, separators=(",", ":"))


def frontend2_text(outputs: Iterable[Array]) -> str:
    """Return an instance's text as `Frontend2` writes it: base64 of an Arrow stream, in quotes.

    Raises:
        FormatError: as `encode_result`.
    """
    return f'"{encode_result(outputs).decode()}"'


def _data_and_shape(output: Array, index: int) -> str:
    if output.dtype.kind not in "biuf":
        raise FormatError(f"an answer: output {index} is not of numbers")
    if output.size > MAX_RESULT_ELEMENTS:
        raise FormatError(f"an answer: output {index} has too many elements")
    with np.errstate(over="ignore", invalid="ignore"):
        floats = np.asarray(output, np.float32)
    data = java_floats(floats)
    if not math.isfinite(float(np.sum(np.abs(floats), dtype=np.float64))):
        data = [f'"{text}"' if text.endswith(("N", "y")) else text for text in data]
    shape = ",".join(map(str, output.shape))
    return f'{{"data":[{",".join(data)}],"shape":[{shape}]}}'
