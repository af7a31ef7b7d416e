"""What parties are told of the steps of a run over columns, and what they are not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aligned_world import AlignedConsort, people, shuffled

from wardian.cli.learning.history import encode_line, read_history
from wardian.cli.learning.report import all_series, page
from wardian.cli.learning.telling import told
from wardian.learning.coordinator.stages.linear import ERROR
from wardian.learning.messages import News, RoundLine, encode
from wardian.learning.party.resident import Party
from wardian.learning.vertical.app import Table

CARRIED = {"model": "linear", "placement": "embeddings", "labels": "a", "rounds": 3}
CARRIED |= {"noise": {"mu": 2.0}}


def tables() -> dict[str, Table]:
    """Of 40 people whom both have; b has 30 more, and nobody but a has labels."""
    drawn = np.random.default_rng(1)
    common, labels = people(range(40)), (np.arange(40) % 2).astype(float)
    more = people(range(40), range(100, 130))
    return {
        "a": shuffled(Table(identifiers=common, features=drawn.random((40, 2)), labels=labels), 1),
        "b": shuffled(Table(identifiers=more, features=drawn.random((70, 3))), 2),
    }


class Noted(AlignedConsort):
    """Keeps what each party is told, in the order in which it is."""

    def __init__(self, *given: Any, **terms: Any) -> None:
        super().__init__(*given, **terms)
        self.lines: dict[str, list[RoundLine]] = {name: [] for name in self.keys}

    def resident(self, name: str, app: Any = None) -> Party:
        party = super().resident(name, app)
        party._tell = self.lines[name].append
        return party


async def told_of(
    place: Path, vertical: Mapping[str, Any] | None, psi: Mapping[str, Any] | None
) -> Noted:
    world = Noted(place, tables(), psi=psi, vertical=vertical)
    assert set(await world.have()) == {"a", "b"}
    return world


async def test_each_is_told_of_the_steps_that_it_was_asked_alone(tmp_path: Path) -> None:
    world = await told_of(tmp_path, CARRIED, {})
    steps = {name: [line.step for line in lines] for name, lines in world.lines.items()}
    learnt = ["learn.start", *["learn.sums"] * 3, "learn.end"]
    before = ["learn.share", "learn.tags", "learn.positions"]
    dealer = min(world.keys)
    assert steps["b"] == [*before, *learnt]
    assert steps[dealer] == ["learn.share", "learn.deal", *before[1:], "learn.labels", *learnt]
    for lines in world.lines.values():
        assert [line.round for line in lines] == sorted({line.round for line in lines})
        assert all(line.seconds >= 0 and not line.dropped for line in lines)
        assert {line.cohort for line in lines if line.step == "learn.sums"} == {("a", "b")}


async def test_nobody_is_told_how_much_others_have_or_answered(tmp_path: Path) -> None:
    world = await told_of(tmp_path, CARRIED, {})
    for line in (line for lines in world.lines.values() for line in lines):
        assert line.bytes is None
        assert set(line.metrics) <= ({"records"} if line.step == "learn.positions" else {ERROR})
        assert not line.evaluation
    (positions,) = [line for line in world.lines["b"] if line.step == "learn.positions"]
    assert positions.metrics == {"records": 40}


async def test_of_errors_they_are_told_what_follows_from_those_that_they_got(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the noise in them, and never before the question that tells the errors themselves."""
    got: list[float] = []
    world = Noted(tmp_path, tables(), psi={}, vertical=CARRIED)
    mine = world.app("b")

    def watched(message: Any, context: Any) -> Any:
        if "errors" in message.content:
            errors = message.content["errors"]["errors"]
            got.append(float(np.sqrt(np.mean(np.square(errors)))))
        heard = [line.metrics[ERROR] for line in world.lines["b"] if ERROR in line.metrics]
        assert heard == got[: len(heard)]  # nothing of errors that it was not told yet
        return mine(message, context)

    await world.have({"b": watched})
    heard = [line.metrics[ERROR] for line in world.lines["b"] if ERROR in line.metrics]
    assert len(heard) == 3
    assert heard == got


@pytest.mark.parametrize("model", ["linear", "trees"])
async def test_columns_that_came_in_whole_have_no_figures(tmp_path: Path, model: str) -> None:
    placement = {"linear": "features", "trees": "bins"}[model]
    world = await told_of(tmp_path, {"model": model, "placement": placement, "labels": "a"}, {})
    of_learning = [line for line in world.lines["b"] if line.step == f"learn.{placement}"]
    assert len(of_learning) == 1
    assert not of_learning[0].metrics


async def test_who_blinds_identifiers_is_told_no_number_by_an_aggregator_without_one(
    tmp_path: Path,
) -> None:
    pytest.importorskip("private_set_intersection")
    world = await told_of(tmp_path, None, {"protocol": "ecdh", "runs": 1})
    assert [line.step for line in world.lines["b"]][-3:] == [
        "learn.blind", "learn.again", "learn.learn",
    ]  # fmt: skip
    assert not any(line.metrics for lines in world.lines.values() for line in lines)


async def test_a_page_shows_the_steps(tmp_path: Path) -> None:
    world = await told_of(tmp_path, CARRIED, {})
    path = tmp_path / "history.jsonl"
    path.write_bytes(b"".join(map(encode_line, world.lines["b"])))
    lines = read_history(path)
    assert lines == world.lines["b"]
    shown = page(lines, title="steps")
    for text in ("<th>step</th>", "<td>learn.sums</td>", "<th>records</th><th>error</th>"):
        assert text in shown
    assert "<th>bytes</th>" not in shown
    assert list(all_series(lines)) == ["records", "error", "parties", "seconds"]
    (spoken,) = told(lines[-1], rounds=7)
    assert spoken.startswith(f"step {lines[-1].round}, learn.end: 2 parties, ")
    assert "  error " in spoken
    assert "bytes" not in spoken


def test_a_step_is_a_short_name() -> None:
    line = RoundLine(
        round=1, cohort=("a",), dropped={}, bytes=None, seconds=0.1, metrics={}, step="learn.sums"
    )
    assert b"learn.sums" in encode(News(line=line))
