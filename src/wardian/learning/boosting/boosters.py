"""XGBoost's boosters as arrays of trees, and back: at a party, which trains with XGBoost.

The coordinator does without this module, and without XGBoost.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from wardian.errors import ConfigError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.boosting.forest import BASE, LAYOUT, LEAF, NODES

if TYPE_CHECKING:
    from xgboost import Booster

_NO_PARENT: Final = 2**31 - 1
_LOGISTIC: Final = frozenset({"binary:logistic", "binary:logitraw", "reg:logistic"})
"""Objectives whose `base_score` is a chance; of others that are supported it is the margin."""
_PLAIN: Final = frozenset(
    {"multi:softmax", "multi:softprob", "reg:absoluteerror", "reg:squarederror"}
)


def trees_of(booster: "Booster", *, skip: int = 0) -> ArrayRecord:
    """Return the trees of `booster` as arrays; see `forest`.

    Args:
        booster: of the kind `gbtree`; of several classes with one tree of each a round.
        skip: how many trees at its beginning are left out: those that it went on from.

    Raises:
        ConfigError: it has something for which the layout has no place: another kind of booster,
            splits by category, leaves of several numbers, or classes not in turn.
    """
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    boosted = learner["gradient_booster"]
    if boosted["name"] != "gbtree":
        raise ConfigError(f"xgboost: a booster of the kind {boosted['name']} has no place here")
    model = boosted["model"]
    outputs = max(1, int(learner["learner_model_param"]["num_class"]))
    if model["tree_info"] != [at % outputs for at in range(len(model["trees"]))]:
        raise ConfigError("xgboost: every class has one tree a round: num_parallel_tree is 1")
    rows: dict[str, list[Any]] = {name: [] for name in LAYOUT}
    for tree in model["trees"][skip:]:
        _add(rows, tree)
    return ArrayRecord({name: np.array(rows[name], kind) for name, kind in LAYOUT.items()})


def _add(rows: dict[str, list[Any]], tree: Mapping[str, Any]) -> None:
    """Add one tree to `rows`, nodes in the order of their depth: what was pruned is not there."""
    if int(tree["tree_param"]["size_leaf_vector"]) > 1 or any(tree["split_type"]):
        raise ConfigError("xgboost: leaves of several numbers, and categories, have no place here")
    left, right = tree["left_children"], tree["right_children"]
    nodes = [0]
    for node in nodes:  # grows
        leaf = left[node] == LEAF
        rows["feature"].append(LEAF if leaf else tree["split_indices"][node])
        rows["left"].append(0 if leaf else len(nodes))
        rows["missing_left"].append(not leaf and bool(tree["default_left"][node]))
        rows["value"].append(tree["split_conditions"][node])
        nodes += [] if leaf else [left[node], right[node]]
    rows["size"].append(len(nodes))


def booster_of(
    forest: ArrayRecord, *, columns: int, objective: str = "binary:logistic", outputs: int = 1
) -> "Booster":
    """Return a booster with the trees of `forest`: it predicts, and training can go on from it.

    Args:
        forest: a model, verified.
        columns: of a record.
        objective: XGBoost's name of it.
        outputs: of the model: above 1 its classes.

    Raises:
        ConfigError: XGBoost is not installed, or `objective` is none of those that are supported.
    """
    try:
        import xgboost  # noqa: PLC0415
    except ImportError as err:
        raise ConfigError("XGBoost is not installed: pip install xgboost-cpu") from err
    if objective not in _LOGISTIC | _PLAIN:
        known = ", ".join(sorted(_LOGISTIC | _PLAIN))
        raise ConfigError(f"xgboost: the objectives {known} are supported, not {objective}")
    base = float(forest[BASE][0])
    settings: dict[str, Any] = {"objective": objective, "tree_method": "hist", "nthread": 1}
    settings["base_score"] = 1 / (1 + np.exp(-base)) if objective in _LOGISTIC else base
    if outputs > 1:
        settings["num_class"] = outputs
    bare = xgboost.DMatrix(np.zeros((1, columns), np.float32), np.zeros(1, np.float32))
    booster = xgboost.train(settings, bare, 0)  # what this version of XGBoost writes, but trees
    whole = json.loads(bytes(booster.save_raw("json")))
    model = whole["learner"]["gradient_booster"]["model"]
    model["trees"] = _trees(forest, columns)
    model["tree_info"] = [at % outputs for at in range(len(model["trees"]))]
    model["iteration_indptr"] = list(range(0, len(model["trees"]) + 1, outputs))
    model["gbtree_model_param"]["num_trees"] = str(len(model["trees"]))
    booster.load_model(bytearray(json.dumps(whole).encode()))
    return booster


def _trees(forest: ArrayRecord, columns: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    root = 0
    for size in forest["size"].tolist():
        nodes = {name: forest[name][root : root + size] for name in NODES}
        found.append(_tree(nodes, columns, number=len(found)))
        root += size
    return found


def _tree(nodes: Mapping[str, Any], columns: int, *, number: int) -> dict[str, Any]:
    """Return one tree in XGBoost's JSON; what only training looks at is 0."""
    split = nodes["feature"] > LEAF
    left = np.where(split, nodes["left"], LEAF)
    parents = np.full(len(split), _NO_PARENT)
    for children in (left[split], left[split] + 1):
        parents[children] = np.flatnonzero(split)
    unknown = [0.0] * len(split)
    return {
        "id": number,
        "left_children": left.tolist(),
        "right_children": np.where(split, left + 1, LEAF).tolist(),
        "parents": parents.tolist(),
        "split_indices": np.maximum(nodes["feature"], 0).tolist(),
        "split_conditions": [float(each) for each in nodes["value"]],
        "split_type": [0] * len(split),
        "default_left": nodes["missing_left"].astype(int).tolist(),
        "base_weights": np.where(split, 0, nodes["value"]).astype(float).tolist(),
        "loss_changes": unknown,
        "sum_hessian": unknown,
        "categories": [],
        "categories_nodes": [],
        "categories_segments": [],
        "categories_sizes": [],
        "tree_param": {
            "num_deleted": "0",
            "num_feature": str(columns),
            "num_nodes": str(len(split)),
            "size_leaf_vector": "1",
        },
    }
