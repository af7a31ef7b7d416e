"""The next token: the likeliest, or one drawn so that drawing again draws the same.

A draw depends on the scores, the seed and the position alone. There is no generator with a state
that a worker could lose, or advance twice when a part is run again.
"""

import hashlib
import struct
from typing import Final

import numpy as np

from wardian.errors import JobFailed
from wardian.inference.generate.parts import Ask
from wardian.inference.spec import Array

_DRAW: Final = struct.Struct(">QQ")
_LABEL: Final = b"wardian draw v1"


def unit(seed: int, position: int) -> float:
    """Return a number in [0, 1) that `seed` and `position` settle, evenly spread over both."""
    digest = hashlib.sha256(_LABEL + _DRAW.pack(seed, position)).digest()
    return float((int.from_bytes(digest[:8], "big") >> 11) / (1 << 53))


def next_token(logits: Array, ask: Ask, position: int) -> int:
    """Return the token at `position` of an answer.

    Args:
        logits: scores of all tokens, (tokens,), of any float type.
        ask: how it is drawn.
        position: how many tokens the answer has before it.

    Raises:
        JobFailed: a score is NaN, or none is finite.
    """
    scores = logits.astype(np.float64)
    best = int(np.argmax(scores))  # the first NaN, if there is one
    if not np.isfinite(scores[best]):
        raise JobFailed("the model gives scores that are no numbers")
    if ask.temperature == 0 or ask.top_k == 1:
        return best
    with np.errstate(over="ignore"):  # infinitely less likely than the best: never drawn
        order, shares = _shares((scores - scores[best]) / ask.temperature, ask)
    reached = np.cumsum(shares)
    drawn = unit(ask.seed, position) * reached[-1]
    return int(order[min(int(np.searchsorted(reached, drawn, side="right")), len(order) - 1)])


def _shares(scores: Array, ask: Ask) -> tuple[Array, Array]:
    """Return the tokens that may be drawn, likeliest first, and the share of each.

    Of equals the one with the lower number is first, so that their order is settled, too.
    """
    order = np.argsort(-scores, kind="stable")
    if ask.top_k:
        order = order[: ask.top_k]
    shares = np.exp(scores[order])
    shares /= shares.sum()
    if ask.top_p < 1:
        kept = int(np.searchsorted(np.cumsum(shares), ask.top_p)) + 1
        order, shares = order[:kept], shares[:kept]
    return order, shares
