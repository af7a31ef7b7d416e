"""`postProcessing` of Cluster Serving: `topN(k)` and `pickTopN(k)`, which make an output a text.

The text is theirs to the letter: pairs and rows stand side by side without a comma, so that it is
JSON for a `k` of 1 alone.
"""

import re
from bisect import insort_left
from dataclasses import dataclass
from typing import Final, Literal

from wardian.errors import ConfigError, FormatError
from wardian.inference.spec import Array
from wardian.serving.zoo.java_numbers import java_floats

_FILTER: Final = re.compile(r"(topN|pickTopN)\( *([0-9]{1,7}) *\)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What is left of an output, 1 or more of it."""

    name: Literal["topN", "pickTopN"]
    count: int

    def text(self, outputs: list[Array]) -> str:
        """Return the text of one record's `outputs`, which have no axis of records, in a row.

        Raises:
            FormatError: an output of another kind than the filter needs.
        """
        apply = _top if self.name == "topN" else _pick
        return "".join(apply(each, self.count) for each in outputs)


def parse_filter(text: str) -> Filter | None:
    """Return the filter that `postProcessing` in a configuration names, `None` for an empty text.

    Raises:
        ConfigError: neither of the two, or of none.
    """
    if not text:
        return None
    found = _FILTER.fullmatch(text)
    if found is None or int(found[2]) < 1:
        raise ConfigError(
            "postProcessing: topN(k) or pickTopN(k) was expected, with k of 1 or more"
        )
    return Filter(name="topN" if found[1] == "topN" else "pickTopN", count=int(found[2]))


def _top(output: Array, count: int) -> str:
    """Return the `count` largest elements, largest first, each with its place in the flat output.

    Of equal ones it keeps those that theirs keeps: one takes the place of the smallest only if it
    is larger, and then stands before its equals.
    """
    values = _floats(output).ravel()
    kept = sorted(enumerate(values[:count].tolist()), key=_size)
    for pair in enumerate(values[count:].tolist(), count):
        if pair[1] > kept[0][1]:
            del kept[0]
            insort_left(kept, pair, key=_size)
    kept.sort(key=lambda pair: -pair[1])
    texts = java_floats(values[[place for place, _ in kept]])
    pairs = zip(kept, texts, strict=True)
    return "[" + "".join(f"[{place},{text}]" for (place, _), text in pairs) + "]"


def _size(pair: tuple[int, float]) -> float:
    return pair[1]


def _pick(output: Array, count: int) -> str:
    """Return the first `count` rows of an output of two axes, or of three with a first one of 1."""
    rows = _floats(output)
    if rows.ndim == 3 and rows.shape[0] == 1:
        rows = rows[0]
    if rows.ndim != 2 or rows.shape[0] < count:
        raise FormatError(
            f"pickTopN: {count} rows or more were expected, in two axes (or three, the first of 1)"
        )
    return "[" + "".join(f"[{','.join(java_floats(row))}]" for row in rows[:count]) + "]"


def _floats(output: Array) -> Array:
    if output.dtype.kind not in "biuf" or not output.size:
        raise FormatError("a filter: an output of numbers, one or more, was expected")
    return output.astype("<f4")
