"""The layout of trees: what is of it, what is not, and what it predicts."""

import numpy as np
import pytest
from forests import BOUNDS, DEEP, STUMP, forest, leaf, trees
from hypothesis import given, settings
from hypothesis import strategies as st

from wardian.errors import FormatError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.boosting.forest import (
    LAYOUT,
    Bounds,
    append,
    empty_forest,
    tree_specs,
    verify_forest,
    verify_trees,
)
from wardian.learning.boosting.predicting import margins

RECORDS = np.array([[-1, 0.4, 0], [1, 0.5, 1], [1, np.nan, 2], [np.nan, 9, np.nan]])


@pytest.mark.parametrize(
    "good", [trees(), trees(STUMP), trees(DEEP, STUMP), trees(leaf(10.0), DEEP, leaf(-10.0))]
)
def test_what_is_of_the_layout_is_taken(good):
    verify_trees(good, BOUNDS)


WRONG = {
    "a cycle": (trees(STUMP, left=[0, 0, 0]), "tree 0: children lie elsewhere"),
    "a cycle deeper": (trees(DEEP, left=[1, 0, 1, 0, 0]), "tree 0: children lie elsewhere"),
    "a child twice": (trees(DEEP, left=[3, 0, 3, 0, 0]), "tree 0: a node has no parent, or two"),
    "children of another tree": (trees(STUMP, STUMP, left=[1, 0, 0, 3, 0, 0]), "tree 1: children"),
    "a child beyond": (trees(STUMP, left=[2, 0, 0]), "tree 0: children lie elsewhere"),
    "a child far beyond": (trees(STUMP, left=[2**31 - 1, 0, 0]), "children lie elsewhere"),
    "a child before": (trees(STUMP, left=[-1, 0, 0]), "children lie elsewhere"),
    "a leaf with children": (trees(STUMP, left=[1, 1, 0]), "a leaf has children"),
    "a leaf with a way": (trees(STUMP, missing_left=[1, 0, 1]), "a leaf has children"),
    "a node without parent": (
        trees(STUMP, feature=[-1, -1, -1], left=[0, 0, 0], missing_left=[0, 0, 0]), "no parent",
    ),
    "no such column": (trees(DEEP, feature=[0, -1, 3, -1, -1]), "asks about no column"),
    "a negative column": (trees(DEEP, feature=[0, -2, 2, -1, -1]), "asks about no column"),
    "not a number": (trees(STUMP, value=[0.5, np.nan, 2.0]), "no finite number"),
    "infinite": (trees(STUMP, value=[-np.inf, 1.0, 2.0]), "no finite number"),
    "a huge leaf": (trees(STUMP, DEEP, value=[0, 0, 0, 0, 10.1, 0, 0, 0]), "tree 1: a leaf is"),
    "sizes that are too small": (trees(STUMP, size=[1]), "together all"),
    "sizes that are too large": (trees(STUMP, size=[4]), "together all"),
    "a size of nothing": (trees(STUMP, size=[3, 0]), "1 to 7 nodes"),
    "a negative size": (trees(STUMP, size=[-3]), "1 to 7 nodes"),
    "sizes that overflow": (trees(STUMP, size=[2**31 - 1, 2**31 - 1]), "1 to 7 nodes"),
    "arrays of two lengths": (trees(STUMP, left=[1, 0]), "not of one length"),
    "a matrix": (trees(STUMP, left=[[1, 0, 0]]), "more than one dimension"),
    "other elements": (trees(STUMP) and ArrayRecord(
        {**trees(STUMP), "left": np.array([1, 0, 0], np.int64)}), "each of its kind"),
    "an array more": (ArrayRecord({**trees(STUMP), "more": np.zeros(3)}), "the arrays are"),
    "no array": (ArrayRecord(), "the arrays are"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_not_is_refused_and_the_tree_is_named(wrong):
    found, reason = WRONG[wrong]
    with pytest.raises(FormatError, match=reason):
        verify_trees(found, BOUNDS)


def chain(depth):
    """A tree whose every left child is split again."""
    nodes = 2 * depth + 1
    split = [place % 2 == 1 or place == 0 for place in range(nodes - 2)] + [False, False]
    left = [place + (1 if place == 0 else 2) if s else 0 for place, s in enumerate(split)]
    return {"feature": [0 if s else -1 for s in split], "left": left,
            "missing_left": [False] * nodes, "value": [0.0] * nodes, "size": [nodes]}  # fmt: skip


def test_a_tree_is_no_deeper_than_the_plan_says():
    bounds = Bounds(columns=1, outputs=1, depth=3, leaf=1.0)
    verify_trees(trees(chain(2), chain(3)), bounds)
    with pytest.raises(FormatError, match="tree 1: deeper than 3"):
        verify_trees(trees(chain(3), chain(4)), bounds)


def test_every_output_has_as_many_trees():
    bounds = Bounds(columns=3, outputs=2, depth=2, leaf=10.0)
    verify_trees(trees(STUMP, DEEP), bounds)
    with pytest.raises(FormatError, match="3 are not as many for each of 2"):
        verify_trees(trees(STUMP, DEEP, STUMP), bounds)


@pytest.mark.parametrize("base", [np.nan, np.inf, 11.0])
def test_what_outputs_begin_with_has_to_be_a_number(base):
    verify_forest(forest(STUMP, base=-10.0), BOUNDS)
    with pytest.raises(FormatError, match="base"):
        verify_forest(forest(STUMP, base=base), BOUNDS)


@pytest.mark.parametrize("base", [np.zeros(2, np.float32), np.zeros(1), None])
def test_a_model_says_what_outputs_begin_with(base):
    found = dict(trees(STUMP)) | ({} if base is None else {"base": base})
    with pytest.raises(FormatError, match="base"):
        verify_forest(ArrayRecord(found), BOUNDS)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_passes_can_be_walked(data):
    """Small numbers at random: much is refused, and what is not ends in a leaf for every record."""
    size = data.draw(st.lists(st.sampled_from([1, 3, 5]), max_size=3))
    nodes = sum(size)

    def drawn(least, most):
        return data.draw(st.lists(st.integers(least, most), min_size=nodes, max_size=nodes))

    found = trees(
        feature=drawn(-1, 0), left=drawn(0, 4), missing_left=np.array(drawn(0, 1), bool),
        value=drawn(-1, 1), size=size,
    )  # fmt: skip
    try:
        verify_trees(found, BOUNDS)
    except FormatError:
        return
    model = append(empty_forest(), [found])
    assert np.isfinite(margins(model, RECORDS)).all()


def test_what_an_answer_may_be_is_as_long_as_it_can_be():
    shapes = {each.name: each.shape for each in tree_specs(BOUNDS, trees=4)}
    assert shapes == {**dict.fromkeys(LAYOUT, (28,)), "size": (4,)}


def test_trees_are_appended_in_order():
    found = append(forest(STUMP, base=3.0), [trees(DEEP), trees(), trees(leaf(1.0), STUMP)])
    assert found == forest(STUMP, DEEP, leaf(1.0), STUMP, base=3.0)


def test_a_model_does_not_grow_for_ever(monkeypatch):
    monkeypatch.setattr("wardian.learning.boosting.forest.MAX_NODES", 7)
    append(forest(leaf(1.0), STUMP), [trees(STUMP)])
    with pytest.raises(FormatError, match="at most 7 nodes"):
        append(forest(STUMP, DEEP), [trees()])


# What it predicts


def test_records_find_their_leaves():
    assert margins(forest(STUMP), RECORDS)[:, 0].tolist() == [-1.0, 2.0, -1.0, 2.0]
    assert margins(forest(DEEP), RECORDS)[:, 0].tolist() == [4.0, -3.0, 0.25, -3.0]
    both = margins(forest(STUMP, DEEP, base=1.0), RECORDS)
    assert both.dtype == np.float32
    assert both[:, 0].tolist() == [4.0, 0.0, 0.25, 0.0]


def test_trees_add_to_the_outputs_in_turn():
    found = margins(forest(STUMP, leaf(5.0), leaf(1.0), leaf(2.0)), RECORDS[:2], outputs=2)
    assert found.tolist() == [[0.0, 7.0], [3.0, 7.0]]


def test_a_model_without_trees_says_what_it_begins_with():
    assert margins(empty_forest(0.5), np.zeros((2, 0))).tolist() == [[0.5], [0.5]]


def test_records_have_the_columns_that_are_asked_about():
    with pytest.raises(FormatError, match="ask about 3 columns"):
        margins(forest(DEEP), np.zeros((1, 2)))
    with pytest.raises(FormatError, match="records"):
        margins(forest(DEEP), np.zeros(3))
