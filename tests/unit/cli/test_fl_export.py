"""`wardian fl export`: MLflow reads back what a run measured, and nothing is told to anybody."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import wardian
from wardian._internal import settings
from wardian._internal.consortium import Consortium
from wardian.cli.learning.history import encode_line
from wardian.cli.learning.mlflow_store import measured, parameters, tags_of
from wardian.cli.main import cli
from wardian.engines.environment import find_python
from wardian.errors import ConfigError
from wardian.learning.messages import RoundLine

PLAN = f"""\
name = "three"
run = {{ rounds = 4, quorum = 1 }}
strategy = {{ name = "scaffold", lr = 0.5 }}
privacy = {{ epsilon = 8.0, delta = 1e-5, clip = 1.0 }}
app = {{ step = 2.0, "odd: key" = "x" }}
parties = {{ a = {{ key = "{"ab" * 32}" }} }}
"""
SCRIPT = """
import json, sys
calls = []
watched = {"socket.connect", "socket.getaddrinfo"}
sys.addaudithook(lambda event, arguments: calls.append(event) if event in watched else None)
from wardian.cli.main import main
sys.argv = ["wardian", *sys.argv[1:]]
for _ in range(2):  # the second time adds nothing
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
from mlflow.tracking import MlflowClient
place = sys.argv[sys.argv.index("--mlflow") + 1]
client = MlflowClient(tracking_uri=f"sqlite:///{place}/mlflow.db")
found = []
for experiment in client.search_experiments():
    for run in client.search_runs([experiment.experiment_id]):
        history = {
            name: [(each.step, each.value) for each in
                   client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
        }
        found.append({"experiment": experiment.name, "status": run.info.status,
                      "params": run.data.params, "tags": run.data.tags, "metrics": history})
print(json.dumps({"runs": found, "calls": calls}))
"""


def line(number: int, **changes: object) -> RoundLine:
    fields = {"round": number, "cohort": ("a", "b"), "dropped": {}, "bytes": 10, "seconds": 0.5}
    return RoundLine(**{**fields, "metrics": {"loss": 1 / number}, **changes})


def plan() -> Consortium:
    return settings.parse(PLAN.encode(), Consortium, name="plan")


def python() -> str:
    """An interpreter that has MLflow; skips where there is none, in CI too."""
    if importlib.util.find_spec("mlflow") is not None:
        return sys.executable
    try:
        return str(find_python("mlflow", os.environ.get("WARDIAN_MLFLOW_PYTHON")))
    except ConfigError:
        pytest.skip("no MLflow: `make mlflow` installs it")


def exported(run: Path, place: Path, *more: object) -> dict:
    """Export, and return what MLflow's client then reads, in one process that is watched."""
    environment = {  # nothing by which MLflow would take this for a test and keep still anyway
        "PATH": os.environ["PATH"],
        "HOME": str(place.parent / "home"),
        "PYTHONPATH": str(Path(wardian.__file__).parents[1]),
    }
    done = subprocess.run(
        [python(), "-c", SCRIPT, "fl", "export", str(run), "--mlflow", str(place), *map(str, more)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["calls"] == []
    assert not (place.parent / "home").exists()  # where it would keep a number of the installation
    return found


def write(path: Path, *lines: RoundLine) -> None:
    path.mkdir(exist_ok=True)
    (path / "history.jsonl").write_bytes(b"".join(map(encode_line, lines)))


def test_mlflow_reads_back_what_was_measured(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    rounds = [
        line(n, evaluation={"accuracy": n / 4}, dropped={"c": "late"} if n == 2 else {})
        for n in range(1, 5)
    ]
    more = ("--consortium", tmp_path / "plan.toml")
    write(tmp_path / "run", *rounds[:2])
    (half,) = exported(tmp_path / "run", tmp_path / "ml", *more)["runs"]
    assert half["status"] == "RUNNING"
    assert half["metrics"]["train/loss"] == [[1, 1.0], [2, 0.5]]
    write(tmp_path / "run", *rounds)
    (whole,) = exported(tmp_path / "run", tmp_path / "ml", *more)["runs"]  # the same run goes on
    assert (whole["experiment"], whole["status"]) == ("three", "FINISHED")
    assert whole["params"] == parameters(plan())
    assert whole["metrics"]["train/loss"] == [[n, pytest.approx(1 / n)] for n in range(1, 5)]
    assert whole["metrics"]["evaluation/accuracy"] == [[n, n / 4] for n in range(1, 5)]
    assert whole["metrics"]["round/dropped"] == [[1, 0.0], [2, 1.0], [3, 0.0], [4, 0.0]]
    assert tags_of(rounds).items() <= whole["tags"].items()
    odd = {"loss//x": 1.0, "up/../x": 2.0, "a/./b": 3.0, "each": [1.0], "epsilon": 0.5}
    write(tmp_path / "other", line(1, metrics=odd))
    found = exported(tmp_path / "other", tmp_path / "ml")["runs"]
    (other,) = (each for each in found if each["experiment"] == "wardian")
    assert [each for each in found if each is not other] == [whole]
    names = {name for name in other["metrics"] if name.startswith("train/")}
    assert names == {"train/loss__x", "train/up____x", "train/a___b", "train/epsilon"}


def test_parameters_name_no_key_and_no_party() -> None:
    found = parameters(plan())
    assert found["run.rounds"] == "4"
    assert found["strategy.name"] == "scaffold"
    assert found["app.step"] == "2.0"
    assert found["privacy.epsilon"] == "8.0"
    assert not any(name.startswith("masking") for name in found)
    assert found["app.odd_ key"] == "x"
    assert found["parties"] == "1"
    assert not any("ab" * 32 in value for value in found.values())


def test_a_round_is_single_numbers() -> None:
    found = dict(measured(line(2, metrics={"loss": 0.5, "each": [1.0]}, evaluation={"loss": 1})))
    assert found == {
        "train/loss": 0.5, "evaluation/loss": 1.0, "round/parties": 2.0, "round/dropped": 0.0,
        "round/bytes": 10.0, "round/seconds": 0.5,
    }  # fmt: skip


def test_tags_say_who_did_not_count_how_often() -> None:
    rounds = [line(1, dropped={"c": "x"}), line(2, dropped={"c": "x", "d": "y"}), line(3)]
    assert tags_of(rounds) == {
        "wardian.rounds": "3", "wardian.parties": "a, b", "wardian.dropped": "c (2), d (1)",
    }  # fmt: skip


def test_without_mlflow_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "")
    write(tmp_path / "run", line(1))
    done = CliRunner().invoke(
        cli, ["fl", "export", str(tmp_path / "run"), "--mlflow", str(tmp_path / "ml")]
    )
    assert done.exit_code != 0
    assert "pip install 'wardian[mlflow]'" in str(done.exception)
    assert not (tmp_path / "ml").exists()
