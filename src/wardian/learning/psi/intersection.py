"""Intersecting tags, as the coordinator does it: all sets at once, never two of them alone."""

import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError


def refuse_duplicates(tags: NDArray[Any]) -> None:
    """Return if no two of `tags`, (tags, 2) int64, are the same.

    Raises:
        FormatError: two are.
    """
    first = np.sort(tags[:, 0])
    if (first[1:] == first[:-1]).any():
        whole = tags[np.lexsort((tags[:, 1], tags[:, 0]))]
        if (whole[1:] == whole[:-1]).all(axis=1).any():
            raise FormatError("tags: one is there twice")


def intersect(sets: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return where the tags stand that all of `sets` have: (tags, sets) int64, in random order.

    The order is drawn anew by each call, and is the same for all sets: a row is one tag.

    Args:
        sets: two or more of (tags, 2) int64, in each of which no two are the same.
    """
    smallest = min(range(len(sets)), key=lambda each: len(sets[each]))
    common = np.arange(len(sets[smallest]))
    places = {smallest: common}
    for each in range(len(sets)):
        if each != smallest:
            mine, its = _matches(sets[smallest][common], sets[each])
            common = common[mine]
            places = {which: found[mine] for which, found in places.items()} | {each: its}
    chance = np.frombuffer(secrets.token_bytes(8 * len(common)), np.uint64)
    order = np.argsort(chance)
    return np.stack([places[each][order] for each in range(len(sets))], axis=1)


def _matches(one: NDArray[Any], other: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return where the tags stand in `one`, and where in `other`, that both have."""
    words = np.concatenate([one[:, 0], other[:, 0]])
    order = np.argsort(words, kind="stable")
    ranked = words[order]
    if (ranked[2:] == ranked[:-2]).any():  # three halves are the same: of chance once in 2**60
        second = np.concatenate([one[:, 1], other[:, 1]])
        order = np.lexsort((second, words))
        ranked = words[order]
    first, then = order[:-1], order[1:]
    near = np.flatnonzero((ranked[1:] == ranked[:-1]) & (first < len(one)) & (then >= len(one)))
    mine, its = first[near], then[near] - len(one)
    same = one[mine, 1] == other[its, 1]
    return mine[same], its[same]
