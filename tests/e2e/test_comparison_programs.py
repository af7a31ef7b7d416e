"""The programs of `bench/compare` that need an environment of their own: `make mpc`, `make he`.

They are no part of Wardian, so that a test skips where they are missing, in CI as well.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench" / "compare"))
import elsewhere
import nets
import trained

HERE = Path(__file__).parents[2] / "bench" / "compare"


def python(engine: str) -> Path:
    """The interpreter of an environment; skips where there is none."""
    if named := os.environ.get(f"WARDIAN_{engine.upper()}_PYTHON"):
        return Path(named)
    try:
        return elsewhere.python_of(elsewhere.ENGINES, engine)
    except elsewhere.Absent as err:
        pytest.skip(str(err))


def ask(program, made, name, batch):
    """Return the answer, with its scores as an array that was compared with the clear text."""
    told = program.ask(net=name, start=5, batch=batch)
    net, held, _ = made[name]
    scores, expected = np.array(told["scores"]), net.scores(nets.rows_of(held, 5, batch))
    assert scores.shape == expected.shape
    assert np.abs(scores - expected).max() < 0.01
    assert (nets.labels(scores) == nets.labels(expected)).all()
    assert told["seconds"] > 0
    assert sum(told["steps"].values()) == pytest.approx(told["seconds"])
    return told


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("protocol", ["ABY3", "CHEETAH"])
def test_parties_compute_what_the_clear_text_does(protocol, tmp_path, monkeypatch):
    interpreter = python("mpc")
    made = trained.make_nets(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    with elsewhere.elsewhere(
        interpreter, HERE / "mpc.py", protocol, str(tmp_path), "1", "4", log=tmp_path / "log"
    ) as program:
        assert program.about["version"].startswith("SPU ")
        for name in made:
            one, many = (ask(program, made, name, batch) for batch in (1, 4))
            assert 0 < one["bytes"] < many["bytes"]
            assert program.about["once_bytes"][name] > made[name][0].parameters * 8
    assert set(tmp_path.iterdir()) - before == {tmp_path / "log"}  # it leaves no file


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_server_computes_on_ciphertexts_what_the_clear_text_does(tmp_path):
    interpreter = python("he")
    made = trained.make_nets(tmp_path)
    with elsewhere.elsewhere(
        interpreter, HERE / "he.py", str(tmp_path), log=tmp_path / "log"
    ) as program:
        for name in ("lr", "mlp", "cnn"):
            one, few, many = (ask(program, made, name, batch) for batch in (1, 3, 40))
            assert one["bytes"] == pytest.approx(few["bytes"], rel=0.01)  # they share a ciphertext
            assert many["bytes"] >= few["bytes"] * (0.99 if name == "lr" else 1.9)
            assert program.about["once_bytes"][name] > 1e6
