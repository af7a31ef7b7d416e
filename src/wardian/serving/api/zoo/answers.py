"""Bodies as Cluster Serving's front ends wrote them, byte for byte where that was sane.

All are text/plain, whatever is in them; objects are printed as Jackson prints them. A prediction is
a text that holds JSON of its own: in the form of `FrontEndApp` an object whose `value` is once more
a text with JSON, in that of `Frontend2` a text with an Arrow stream in base64.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec
import numpy as np

from wardian.errors import FormatError, RequestError
from wardian.inference.dtypes import BF16, BYTES_DTYPE, from_bf16
from wardian.inference.spec import Array
from wardian.serving.api.elements import texts_of
from wardian.serving.http.messages import NO_STORE, HttpResponse
from wardian.serving.zoo.answers import app_text, frontend2_text
from wardian.serving.zoo.java_numbers import java_floats

TEXT: Final = b"text/plain; charset=UTF-8"
WELCOME: Final = b"welcome to analytics zoo web serving frontend"
NO_MODEL: Final = b"Model Not Found"
LIMITED: Final = b'{"error" : "limited"}'
MAX_JSON_NUMBERS: Final = 65_536
"""Numbers of an answer in text; writing so many takes less than 0.1 s."""
NAN_ARROW: Final = '"NaN"'
"""An instance's text where there is no answer (`Frontend2`)."""
MAX_ARROW_NUMBERS: Final = 1_048_576
"""Numbers of an answer in Arrow's form: 11 MB of base64."""

_encode = msgspec.json.Encoder().encode
Printed: TypeAlias = str | Sequence["Printed"] | Mapping[str, "Printed"]


def text_response(body: bytes, *, status: int = 200, headers: bytes = b"") -> HttpResponse:
    """Return `body` as their front ends sent theirs."""
    return HttpResponse(status=status, body=(body,), content_type=TEXT, headers=headers + NO_STORE)


def json_prediction(outputs: Sequence[Array], *, strict: bool) -> str:
    """Return what `FrontEndApp` had in its list for an instance.

    Args:
        outputs: of one instance, in the model's order, at least one.
        strict: every number as the float32 that it was there, and several outputs one after the
            other without anything between them, which is no JSON any more. Otherwise whole numbers
            stay what they are, texts are told, and several outputs are a list.

    Raises:
        RequestError: 400; this form has no way to say them.
    """
    if strict:
        return _said(app_text, outputs)
    told = [_told(each) for each in outputs]
    return _text({"value": told[0] if len(told) == 1 else f"[{','.join(told)}]"})


def arrow_prediction(outputs: Sequence[Array]) -> str:
    """Return what `Frontend2` had in its list for an instance.

    Raises:
        RequestError: 400; an output is no number.
    """
    return _said(frontend2_text, outputs)


def bound_numbers(outputs: Iterable[Array], *, most: int) -> int:
    """Return how many elements `outputs` have together, at most `most`.

    Raises:
        RequestError: 413.
    """
    count = sum(each.size for each in outputs)
    if count > most:
        raise RequestError(
            f"the answer is {count} numbers, at most {most} go out in this form; use "
            "/v2/models/NAME/infer in binary, or send fewer instances",
            status=413,
        )
    return count


def pretty(value: Printed, *, depth: int = 0) -> str:
    """Return `value` as JSON, laid out by the rules of Jackson's default printer."""
    if isinstance(value, str):
        return _encode(value).decode()
    if isinstance(value, Mapping):
        inner = "  " * (depth + 1)
        rows = ",\n".join(
            f"{inner}{pretty(name)} : {pretty(each, depth=depth + 1)}"
            for name, each in value.items()
        )
        return f"{{\n{rows}\n{'  ' * depth}}}" if rows else "{ }"
    items = ", ".join(pretty(each, depth=depth) for each in value)
    return f"[ {items} ]" if items else "[ ]"


def _text(value: object) -> str:
    return _encode(value).decode()


def _said(form: Callable[[list[Array]], str], outputs: Sequence[Array]) -> str:
    try:
        return form([_numbers(each) for each in outputs])
    except FormatError as err:
        raise RequestError(f"{err}: this form of answer has numbers alone") from err


def _numbers(output: Array) -> Array:
    return from_bf16(output) if output.dtype == BF16 else output


def _told(output: Array) -> str:
    """Return one output as JSON: its elements, flat, and its shape."""
    shape = ",".join(map(str, output.shape))
    return f'{{"data":[{_elements(_numbers(output))}],"shape":[{shape}]}}'


def _elements(output: Array) -> str:
    if output.dtype == BYTES_DTYPE:
        return _text(texts_of(output))[1:-1]
    if output.dtype.kind in "iu":
        return _text(output.reshape(-1).tolist())[1:-1]
    with np.errstate(over="ignore"):
        texts = java_floats(output)
    return ",".join(f'"{text}"' if text.endswith(("N", "y")) else text for text in texts)
