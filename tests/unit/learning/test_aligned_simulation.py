"""A run over columns, tried in one process: the same as over sockets."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from aligned_world import people
from click.testing import CliRunner
from test_aligned_deaths import MODELS, consort, tables
from test_malicious_columns import world

from wardian.cli.main import cli
from wardian.errors import JobFailed
from wardian.learning.aligned_simulation import simulate_columns
from wardian.learning.vertical.app import ColumnsApp, Table

APP = """\
import numpy as np
from wardian.learning.vertical.app import ColumnsApp, Table


def load(context):
    first = 10 * context.node_config["partition-id"]
    return Table(identifiers=[f"person {n}" for n in range(first, first + 15)])


app = ColumnsApp(load)
"""


@pytest.mark.parametrize("model", ["features", "bins"])
def test_it_is_what_sockets_give(tmp_path: Path, model: str) -> None:
    over_sockets = consort(tmp_path, model)
    brought = tables()
    tried = simulate_columns(ColumnsApp(lambda context: brought[context.party]), over_sockets.plan)
    assert tried == asyncio.run(over_sockets.have())


@pytest.mark.parametrize("model", MODELS)
def test_every_model_can_be_tried(tmp_path: Path, model: str) -> None:
    of = world(tmp_path, model, psi=True)
    found = simulate_columns(ColumnsApp(lambda c: of.tables[c.party], hidden=(3,)), of.plan)
    assert len(found["a"]["positions"]) == 30
    assert all(np.isfinite(each).all() for each in found["b"].values())


def test_who_refuses_is_named(tmp_path: Path) -> None:
    of = world(tmp_path, "bins")
    brought = of.tables | {"b": Table(features=np.full((30, 3), np.inf))}
    with pytest.raises(JobFailed, match="bins: b: features: columns"):
        simulate_columns(ColumnsApp(lambda context: brought[context.party]), of.plan)


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "consortium.toml").write_text(
        'name = "two"\nrun = { quorum = 2 }\n'
        'psi = { protocol = "tags", runs = 1, caps = { a = 15, b = 15 } }\n'
        f'parties = {{ a = {{ key = "{"ab" * 32}" }}, b = {{ key = "{"cd" * 32}" }} }}\n'
    )
    arguments = ["fl", "simulate", "--app", str(tmp_path / "app.py"), "--consortium"]
    arguments += [str(tmp_path / "consortium.toml"), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    known = [np.load(tmp_path / "out" / f"{name}.npz")["positions"] for name in ("a", "b")]
    assert np.array_equal(known[0], known[1] + 10)
    assert {f"person {n}" for n in known[0]} == set(people(range(10, 15)))
    more = CliRunner().invoke(cli, [*arguments, "--rounds", "3"])
    assert "--rounds" in str(more.exception or more.output)
