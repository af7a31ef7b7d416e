"""Boosted trees between processes: XGBoost at the parties, none of it in the aggregator."""

from pathlib import Path

import numpy as np
import pytest
from consortium_process import Consortium

pytest.importorskip("xgboost", reason="no XGBoost: pip install xgboost-cpu")
APP = Path(__file__).parents[2] / "examples" / "federated-xgboost" / "boosting_app.py"
STRATEGY = 'name = "bagging"\ncolumns = 30\ndepth = 3\ntrees = 2'


def test_every_party_has_everybodys_trees(tmp_path: Path) -> None:
    run = Consortium(tmp_path, "a", "b", rounds=3, strategy=STRATEGY, app=APP)
    try:
        for name in run.names:
            run.party(name)
        first, second = run.models()
        assert len(first["size"]) == 2 * 2 * 3
        assert all(np.array_equal(first[name], second[name]) for name in first)
        assert "round 3 of 3: 2 parties, loss " in run.parties["a"].text
    finally:
        run.end()
