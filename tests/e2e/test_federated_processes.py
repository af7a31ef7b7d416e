"""A federated run of processes: an aggregator in a simulated enclave, and parties that verify it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from consortium_process import APP, Consortium, wardian

from wardian._internal import settings
from wardian._internal.consortium import Consortium as Plan


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """A run of two parties that is over."""
    run = Consortium(tmp_path_factory.mktemp("consortium"), "a", "b")
    try:
        for name in run.names:
            run.party(name)
        run.models()
        yield run
    finally:
        run.end()


def same(found: list[dict[str, np.ndarray]], model: dict[str, np.ndarray]) -> bool:
    return all(
        list(each) == list(model) and all(np.array_equal(each[name], model[name]) for name in model)
        for each in found
    )


def test_every_party_has_the_model_and_its_story(undisturbed: Consortium) -> None:
    models = undisturbed.models()
    assert same(models, models[0])
    lines = (undisturbed.place / "party-a" / "history.jsonl").read_text().splitlines()
    rounds = [json.loads(line) for line in lines]
    assert [each["round"] for each in rounds] == [1, 2, 3]
    assert all(each["cohort"] == ["a", "b"] for each in rounds)
    assert rounds[-1]["evaluation"]["accuracy"] > rounds[0]["evaluation"]["accuracy"] > 0.1


def test_the_host_is_told_no_number_that_a_party_measured(undisturbed: Consortium) -> None:
    told = {key for line in undisturbed.said() for key in line}
    assert told <= {
        *("event", "address", "port", "party", "parties", "round", "bytes", "attempt"),
    }
    assert "loss" not in undisturbed.aggregator.text
    for file in (undisturbed.state / "aggregator").iterdir():
        raw = file.read_bytes()
        assert b"accuracy" not in raw
        for array in undisturbed.models()[0].values():
            assert array.tobytes()[:64] not in raw


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["aggregator", "a"])
def test_who_is_killed_in_the_middle_changes_nothing(
    undisturbed: Consortium, tmp_path: Path, victim: str
) -> None:
    run = Consortium(tmp_path, "a", "b")
    try:
        for name in run.names:
            run.party(name)
        run.announced("party.answered", round=2)
        process = run.aggregator if victim == "aggregator" else run.parties[victim]
        process.kill()
        process.start()
        assert same(run.models(), undisturbed.models()[0])
    finally:
        run.end()


def test_another_plan_is_another_aggregator(undisturbed: Consortium, tmp_path: Path) -> None:
    """The host drops the quorum to 1: the measurement is another one, and the party refuses it."""
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    weaker = tmp_path / "weaker.toml"
    weaker.write_text(undisturbed.plan.read_text().replace("quorum = 2", "quorum = 1"))
    assert settings.load(weaker, Plan).run.quorum == 1
    built = [
        subprocess.run(
            [
                *wardian(
                    "enclave", "build", "aggregator", "--deployment", plan, "-o", other / name
                ),
                "--json",
            ],
            check=True,
            capture_output=True,
        ).stdout
        for name, plan in (("as-agreed", undisturbed.plan), ("weaker", weaker))
    ]
    agreed, changed = (json.loads(each)["simulated_mr_enclave"] for each in built)
    policy = (undisturbed.state / "party-policy.toml").read_text()
    assert agreed in policy
    assert changed not in policy


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "z"}, "names no party 'z'"),
        ({"key": "b"}, "is not the key"),
        ({"app": "nowhere.py"}, "no such Python file"),
        ({"set": "novalue"}, "KEY=VALUE was expected"),
    ],
    ids=["name", "key", "app", "setting"],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    undisturbed: Consortium, tmp_path: Path, changes: dict[str, str], reason: str
) -> None:
    command = wardian(
        *("party", changes.get("name", "a"), "--app", changes.get("app", APP)),
        *("--aggregator", f"127.0.0.1:{undisturbed.port}", "--consortium", undisturbed.plan),
        *("--policy", undisturbed.state / "party-policy.toml", "--state", tmp_path / "state"),
        *("--key", undisturbed.key(changes.get("key", "a"))),
        *("--set", changes.get("set", "partition-id=0")),
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert reason in done.stderr


def test_another_consortium_does_not_take_over_a_run(
    undisturbed: Consortium, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(undisturbed.plan.read_text().replace("rounds = 3", "rounds = 4"))
    command = wardian("aggregator", "--state", undisturbed.state, "--consortium", other)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "another consortium has its run here" in done.stderr


def history(run: Consortium, name: str) -> list[dict[str, object]]:
    lines = (run.place / f"party-{name}" / "history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_masked_rounds_give_the_model_of_clear_ones(tmp_path: Path) -> None:
    """The aggregator sums what it cannot read; the model differs by rounding alone."""
    table = 'name = "fedavg"\n\n[masking]\nmetrics = ["train_loss"]'
    models = []
    for place, strategy, run in (
        ("clear", 'name = "fedavg"', ""),
        ("masked", table, "evaluate_every = 0"),
    ):
        (tmp_path / place).mkdir()
        consort = Consortium(tmp_path / place, "a", "b", "c", rounds=2, strategy=strategy, run=run)
        try:
            for name in consort.names:
                consort.party(name)
            models.append(consort.models()[0])
            rounds = history(consort, "a")
        finally:
            consort.end()
    assert [each["round"] for each in rounds] == [1, 2]
    assert set(rounds[0]["metrics"]) == {"train_loss", "num-examples"}  # type: ignore[call-overload]
    clear, masked = models
    assert all(np.abs(clear[name] - masked[name]).max() < 1e-6 for name in clear)
    assert any((clear[name] != masked[name]).any() for name in clear)


def test_a_budget_of_privacy_is_spent_round_by_round(tmp_path: Path) -> None:
    table = 'name = "fedavg"\n\n[privacy]\nepsilon = 4.0\ndelta = 1e-5\nclip = 0.5'
    run = Consortium(tmp_path, "a", "b", strategy=table)
    try:
        for name in run.names:
            run.party(name)
        models = run.models()
        assert same(models, models[0])
        spent = [each["metrics"]["epsilon"] for each in history(run, "b")]  # type: ignore[index]
        assert 0 < spent[0] < spent[1] < spent[2] <= 4.0
        assert "epsilon" not in run.aggregator.text
    finally:
        run.end()
