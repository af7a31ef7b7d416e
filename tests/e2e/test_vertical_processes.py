"""A vertical run of processes: an aggregator in a simulated enclave, a clinic and a laboratory."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from consortium_process import APP as STRATEGY_APP
from consortium_process import Consortium, wardian

from wardian.cli.learning.loading import load_any_app
from wardian.learning.app import Context
from wardian.learning.vertical.app import ColumnsApp
from wardian.learning.vertical.trees.bins import learn_bins
from wardian.learning.vertical.trees.boosting import boost
from wardian.learning.vertical.trees.plan import TreePlan

sklearn = pytest.importorskip("sklearn.datasets", reason="the example's data are scikit-learn's")

EXAMPLE = Path(__file__).parents[2] / "examples" / "vertical-tumours"
APP = EXAMPLE / "tumours_app.py"
PLAN = (EXAMPLE / "consortium.toml").read_text().split("[parties.clinic]")[0]
NAMES = ("clinic", "laboratory")


SLOW = """\
import sys
import time

sys.path.insert(0, {example!r})
from tumours_app import load
from wardian.learning.vertical.app import ColumnsApp, ColumnsParty


class SlowParty(ColumnsParty):
    def __call__(self, message, context):
        time.sleep(0.3)  # so that there is a middle
        return super().__call__(message, context)


class SlowApp(ColumnsApp):
    def party(self, plan, *, name, signer):
        return SlowParty(self, plan, name=name, signer=signer)


app = SlowApp(load)
"""


def truth(found: dict[str, np.ndarray]) -> np.ndarray:
    _, kinds = sklearn.load_breast_cancer(return_X_y=True)
    return np.asarray(kinds[-100:][found["predict-positions"]])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """A run that is over."""
    run = Consortium(tmp_path_factory.mktemp("tumours"), *NAMES, app=APP, plan=PLAN)
    try:
        for name in NAMES:
            run.party(name)
        run.models()
        yield run
    finally:
        run.end()


def assert_joined(found: list[dict[str, np.ndarray]]) -> None:
    """The trees are those of joined data, whose rows stand as they do in this run alone."""
    app = load_any_app(str(APP))
    assert isinstance(app, ColumnsApp)
    tables = [app.load(Context(party=name)) for name in NAMES]
    parts = [table.features[own["positions"]] for table, own in zip(tables, found, strict=True)]
    columns = np.concatenate(parts, axis=1)
    plan = TreePlan(rounds=20, depth=3)
    assert tables[0].labels is not None
    labels = tables[0].labels[found[0]["positions"]]
    expected = boost(learn_bins(columns).indices(columns), labels, plan).splits()
    first = parts[0].shape[1]
    own = [tuple(split) for split in found[0]["splits"].tolist()]
    own += [(column + first, cut) for column, cut in found[1]["splits"].tolist()]
    assert own == expected


def test_the_trees_are_those_of_joined_data(undisturbed: Consortium) -> None:
    assert_joined(undisturbed.models())


def test_each_has_its_own_part_and_the_clinic_the_predictions(undisturbed: Consortium) -> None:
    clinic, laboratory = undisturbed.models()
    assert set(laboratory) == {"positions", "predict-positions", "splits", "thresholds"}
    assert set(clinic) == {*laboratory, "predictions"}
    known = [n for n in range(469) if n % 10 not in {0, 7}]
    assert len(clinic["positions"]) == len(laboratory["positions"]) == len(known)
    assert len(clinic["splits"]) > 0
    assert len(laboratory["splits"]) > 0
    assert ((clinic["predictions"] > 0.5) == truth(clinic)).mean() > 0.9


def test_each_has_the_story_of_what_it_was_asked_and_a_page_of_it(undisturbed: Consortium) -> None:
    asked, bins = {}, "learn.bins"
    for name in NAMES:
        lines = (undisturbed.place / f"party-{name}" / "history.jsonl").read_text().splitlines()
        story = [json.loads(line) for line in lines]
        asked[name] = [each["step"] for each in story]
        (aligned,) = [each for each in story if each["step"] == "learn.positions"]
        assert aligned["metrics"]["records"] == len(undisturbed.models()[0]["positions"])
        assert [each["cohort"] for each in story if each["step"] == bins] == [list(NAMES)]
        assert {each["bytes"] for each in story} == {None}
    alone = {"learn.labels", "predict.predictions"}
    assert set(asked["clinic"]) - set(asked["laboratory"]) >= alone
    place = undisturbed.place / "party-laboratory"
    subprocess.run(wardian("fl", "report", place), check=True, capture_output=True)
    assert f"<td>{bins}</td>" in (place / "report.html").read_text()


def test_the_host_sees_no_identifier_column_or_label(undisturbed: Consortium) -> None:
    told = {key for line in undisturbed.said() for key in line}
    assert told <= {"event", "address", "port", "party", "parties", "round", "bytes", "attempt"}
    files = [file for file in undisturbed.state.rglob("*") if file.is_file()]
    raw = b"".join(file.read_bytes() for file in files)
    assert b"tumour-" not in raw
    assert undisturbed.models()[0]["predictions"].tobytes()[:64] not in raw
    assert "tumour-" not in undisturbed.aggregator.text


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["aggregator", "clinic"])
@pytest.mark.parametrize("step", [3, 8])
def test_who_is_killed_in_the_middle_changes_nothing(
    undisturbed: Consortium, tmp_path: Path, victim: str, step: int
) -> None:
    slow = tmp_path / "slow_app.py"
    slow.write_text(SLOW.format(example=str(EXAMPLE)))
    run = Consortium(tmp_path, *NAMES, app=slow, plan=PLAN)
    try:
        for name in NAMES:
            run.party(name)
        run.announced("round.done", round=step)
        process = run.aggregator if victim == "aggregator" else run.parties[victim]
        process.kill()
        process.start()
        found, other = run.models(), undisturbed.models()
    finally:
        run.end()
    for mine, its in zip(found, other, strict=True):
        assert sorted(mine["positions"]) == sorted(its["positions"])
    assert_joined(found)
    assert ((found[0]["predictions"] > 0.5) == truth(found[0])).mean() > 0.9


@pytest.mark.parametrize(
    ("app", "more", "reason"),
    [
        (STRATEGY_APP, (), "needs a ColumnsApp"),
        (APP, ("--publish", "served"), "a ClientApp is needed"),
    ],
    ids=["another kind of app", "publish"],
)
def test_what_does_not_fit_the_plan_is_said_before_anything_is_sent(
    undisturbed: Consortium, tmp_path: Path, app: Path, more: tuple[str, ...], reason: str
) -> None:
    command = wardian(
        *("party", "clinic", "--app", app, "--aggregator", f"127.0.0.1:{undisturbed.port}"),
        *("--consortium", undisturbed.plan, "--policy", undisturbed.state / "party-policy.toml"),
        *("--key", undisturbed.key("clinic"), "--state", tmp_path / "state", *more),
    )
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert done.returncode == 2
    assert reason in done.stderr


def test_it_is_tried_in_one_process(undisturbed: Consortium, tmp_path: Path) -> None:
    command = wardian(
        *("fl", "simulate", "--app", APP, "--consortium", undisturbed.plan),
        *("-o", tmp_path / "tried"),
    )
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    found = [dict(np.load(tmp_path / "tried" / f"{name}.npz")) for name in NAMES]
    assert_joined(found)
    assert set(found[0]) == set(undisturbed.models()[0])
