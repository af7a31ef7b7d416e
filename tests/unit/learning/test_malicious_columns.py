"""Who cheats in a run over aligned records: a party is named, a coordinator is refused."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aligned_world import AlignedConsort
from test_aligned_deaths import MODELS, tables

from wardian.errors import ConfigError, FormatError, PolicyDenied, WardianError
from wardian.learning.app import Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.message import Message, MessageType, Metadata
from wardian.learning.records import ConfigRecord, RecordDict
from wardian.learning.vertical.app import ColumnsApp, Table

NAMES = [f"person {n}" for n in range(30)]
Cheat = Callable[[RecordDict], RecordDict]


def named(table: Table, *, seed: int = 0, count: int = 30) -> Table:
    order = np.random.default_rng(seed).permutation(30)[:count]
    return Table(
        identifiers=[NAMES[at] for at in order],
        features=table.features[order],
        labels=None if table.labels is None else table.labels[order],
    )


def world(place: Path, model: str | None, *, psi: bool = False, **terms: Any) -> AlignedConsort:
    vertical = None if model is None else {**MODELS[model], "labels": "a"}
    brought = {n: named(t, seed=i) if psi else t for i, (n, t) in enumerate(tables().items())}
    found = AlignedConsort(
        place, brought, psi={} if psi else None, vertical=vertical, attempts=2, **terms
    )
    found.hidden = (3,)
    return found


def cheating(of: AlignedConsort, step: str, cheat: Cheat) -> Callable[[Message, Context], Message]:
    """Return what answers as b, but for one step."""
    honest = of.app("b")

    def answer(message: Message, context: Context) -> Message:
        found = honest(message, context)
        if message.content.config_records["ask"]["step"] != step:
            return found
        return Message(cheat(found.content), reply_to=message)

    return answer


def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Cheat:
    def cheat(content: RecordDict) -> RecordDict:
        found = content.array_records[name][name]
        return RecordDict({**content, name: ArrayRecord({name: change(found.copy())})})

    return cheat


def nan(found: np.ndarray) -> np.ndarray:
    found.reshape(-1)[0] = np.nan
    return found


def with_labels(content: RecordDict) -> RecordDict:
    return RecordDict({**content, "labels": ArrayRecord({"labels": np.ones(30)})})


def share_of_nobody(content: RecordDict) -> RecordDict:
    share = bytes(content.config_records["share"]["share"])  # type: ignore[arg-type]
    return RecordDict({"share": ConfigRecord({"share": share[:-1] + bytes([share[-1] ^ 1])})})


CHEATS: Mapping[str, tuple[str | None, str, Cheat, str]] = {
    "wrong share": (None, "share", share_of_nobody, "signature"),
    "short share": (
        None, "share", lambda _: RecordDict({"share": ConfigRecord({"share": b"x"})}), "96 bytes"
    ),
    "no share": (None, "share", lambda _: RecordDict(), "settings"),
    "too many tags": (
        None, "tags", array("tags", lambda t: np.arange(400, dtype=np.int64).reshape(-1, 2)),
        "at most|more identifiers",
    ),
    "a tag twice": (None, "tags", array("tags", lambda t: np.concatenate([t, t[:1]])), "twice"),
    "fewer records": ("features", "features", array("features", lambda t: t[1:]), "not 30"),
    "not a number": ("features", "features", array("features", nan), "no finite number"),
    "other elements": (
        "features", "features", array("features", lambda t: t.astype(np.float32)), "float32"
    ),
    "labels of its own": ("features", "features", with_labels, "other arrays"),
    "columns in place of ranges": (
        "bins", "bins", lambda _: RecordDict({"features": ArrayRecord({"x": np.ones((30, 3))})}),
        "other arrays",
    ),
    "ranges of fewer": ("bins", "bins", array("bins", lambda t: t[:-1]), "not 30"),
    "sums of fewer": ("embeddings", "sums", array("partial", lambda t: t[:-1]), "other arrays"),
    "sums without end": ("embeddings", "sums", array("partial", lambda t: np.full_like(t, np.inf)), "finite"),
    "curvature below 0": ("embeddings", "start", array("curvature", lambda t: -t), "0 or more"),
    "a wider embedding": (
        "network", "embed", array("embedding", lambda t: np.tile(t, (1, 2))), "at most|not 20"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CHEATS)
async def test_a_party_that_answers_something_else_is_named(tmp_path: Path, what: str) -> None:
    model, step, cheat, reason = CHEATS[what]
    of = world(tmp_path, model, psi=model is None, max_update_bytes=100_000)
    if model is None:
        of.plan = of.plan.__class__(**{  # a cap that is just enough
            **{f: getattr(of.plan, f) for f in of.plan.__struct_fields__},
            "psi": of.plan.psi.__class__(protocol="tags", runs=1, caps={"a": 40, "b": 40}),  # type: ignore[union-attr]
        })  # fmt: skip
    assert await of.have({"b": cheating(of, step, cheat)}) == {}
    refused = {said["party"] for said in of.said if said["event"] == "party.refused"}
    assert refused == {"b"}
    over = next(said for said in of.said if said["event"] == "run.over")
    assert str(over["failure"]).startswith(f"{step}: b: ")
    assert re.search(reason, str(over["failure"]))


@pytest.mark.parametrize("model", MODELS)
async def test_a_party_that_fails_once_is_asked_again(tmp_path: Path, model: str) -> None:
    of = world(tmp_path, model)
    honest, failed = of.app("b"), []

    def once(message: Message, context: Context) -> Message:
        found = honest(message, context)
        step = message.content.config_records["ask"]["step"]
        if step not in failed:
            failed.append(step)
            raise FormatError("out of memory")
        return found

    found = await of.have({"b": once})
    assert set(found) == {"a", "b"}
    assert len(failed) > 1


async def test_parties_with_different_records_make_no_model(tmp_path: Path) -> None:
    of = world(tmp_path, "bins")
    of.tables["b"] = Table(features=of.tables["b"].features[:-1])
    assert await of.have() == {}
    assert "not 30" in str(next(s for s in of.said if s["event"] == "run.over")["failure"])


class Coordinator:
    """Asks one party whatever it likes."""

    def __init__(self, of: AlignedConsort, name: str) -> None:
        self.party, self.name = of.app(name), name
        self.state: dict[str, Any] = {}

    def ask(self, step: str, content: Mapping[str, Any] | None = None, **more: Any) -> RecordDict:
        about = ConfigRecord({"step": step, "of": more.get("of", "learn")})
        message = Message(
            RecordDict({"ask": about, **(content or {})}),
            metadata=Metadata(
                run=more.get("run", b"r" * 32).hex(), round=1, party=self.name,
                message_type=more.get("kind", MessageType.TRAIN),
            ),
        )  # fmt: skip
        context = Context(party=self.name, state=dict(self.state))
        answer = self.party(message, context).content
        self.state = context.state
        return answer


def arrays(name: str, found: np.ndarray) -> dict[str, ArrayRecord]:
    return {name: ArrayRecord({name: found})}


@pytest.mark.parametrize("step", ["features", "start", "sums", "embed", "labels", "predictions"])
def test_another_placement_is_refused(tmp_path: Path, step: str) -> None:
    asking = Coordinator(world(tmp_path, "bins"), "b")
    with pytest.raises(PolicyDenied, match="plan"):
        asking.ask(step)
    assert asking.state == {}
    assert set(asking.ask("bins")) == {"bins"}
    with pytest.raises(PolicyDenied, match="plan"):  # nor once more
        asking.ask("bins")


@pytest.mark.parametrize("kind", [MessageType.QUERY, MessageType.EVALUATE])
def test_other_kinds_of_questions_are_refused(tmp_path: Path, kind: MessageType) -> None:
    with pytest.raises(PolicyDenied, match="kind"):
        Coordinator(world(tmp_path, "bins"), "b").ask("bins", kind=kind)


def test_a_plan_without_intersection_has_none(tmp_path: Path) -> None:
    with pytest.raises(PolicyDenied, match="plan"):
        Coordinator(world(tmp_path, "bins"), "b").ask("share")


def test_a_second_intersection_is_refused(tmp_path: Path) -> None:
    asking = Coordinator(world(tmp_path, "bins", psi=True), "b")
    asking.ask("share")
    for again in ({}, {"of": "predict"}, {"run": b"s" * 32}):
        with pytest.raises(PolicyDenied, match="plan"):
            asking.ask("share", **again)
    assert asking.state["psi-runs"]["n"] == 1


async def test_another_table_in_the_middle_of_a_run_is_refused(tmp_path: Path) -> None:
    """Who swaps the identifiers between two steps asks about other people."""
    of = world(tmp_path, "bins", psi=True)
    asking = Coordinator(of, "b")
    asking.ask("share")
    of.tables["b"] = named(tables()["b"], seed=9)
    asking.party = of.app("b")
    with pytest.raises(ConfigError, match="another one"):
        asking.ask("tags")


@pytest.mark.parametrize(
    "positions",
    [
        np.array([0, 30], np.int64),
        np.array([-1], np.int64),
        np.array([3, 3], np.int64),
        np.array([0.0]),
    ],
    ids=["outside", "below", "twice", "no numbers of rows"],
)
def test_positions_that_are_none_are_refused(tmp_path: Path, positions: np.ndarray) -> None:
    of = world(tmp_path, None, psi=True)
    asking = {name: Coordinator(of, name) for name in ("a", "b")}
    shares = {n: each.ask("share")["share"]["share"] for n, each in asking.items()}  # type: ignore[index]
    everybody = {"shares": ConfigRecord(shares)}
    deal = {**everybody, "deal": asking["a"].ask("deal", everybody)["deal"]}
    asking["b"].ask("tags", deal)
    before = dict(asking["b"].state)
    with pytest.raises(FormatError):
        asking["b"].ask("positions", arrays("positions", positions))
    assert asking["b"].state == before
    with pytest.raises(WardianError):  # garbage in place of a deal, at the other party
        asking["a"].ask("tags", {**everybody, "deal": ConfigRecord({"deal": b"x" * 200})})


@pytest.mark.parametrize(
    ("model", "before", "step", "told"),
    [
        ("features", ["features"], "weights", arrays("weights", np.ones(2))),
        ("features", ["features"], "weights", arrays("weights", np.full(3, np.nan))),
        ("bins", ["bins"], "splits", arrays("splits", np.array([[3, 0]], np.int32))),
        ("bins", ["bins"], "splits", arrays("splits", np.array([[0, 99]], np.int32))),
        ("embeddings", ["start"], "sums", {}),
        (
            "embeddings",
            ["start"],
            "sums",
            {"steepness": ConfigRecord({"steepness": 1.0}), "l2": ConfigRecord({"l2": 0.0})},
        ),
        (
            "embeddings",
            ["start"],
            "sums",
            {"steepness": ConfigRecord({"steepness": 0.0}), "l2": ConfigRecord({"l2": 1e-3})},
        ),
        ("network", [], "embed", arrays("rows", np.arange(21))),
        ("network", [], "embed", arrays("rows", np.array([30]))),
    ],
    ids=[
        "another length", "no number", "another's column", "no range", "nothing", "another plan",
        "no steepness", "more than a batch", "no such row",
    ],
)  # fmt: skip
def test_what_is_told_has_to_fit(
    tmp_path: Path, model: str, before: list[str], step: str, told: dict[str, Any]
) -> None:
    asking = Coordinator(world(tmp_path, model), "b")
    for each in before:
        asking.ask(each)
    state = dict(asking.state)
    with pytest.raises((FormatError, PolicyDenied)):
        asking.ask(step, told)
    assert asking.state == state


def test_a_network_learns_no_longer_than_the_plan(tmp_path: Path) -> None:
    asking = Coordinator(world(tmp_path, "network"), "b")
    rows = arrays("rows", np.arange(10))
    asking.ask("embed", rows)
    slopes = arrays("slopes", np.zeros((10, 2)))
    asking.ask("embed", {**rows, **slopes})
    with pytest.raises(PolicyDenied, match="than the plan"):
        asking.ask("embed", {**rows, **slopes})


@pytest.mark.parametrize(
    "table",
    [
        Table(features=np.ones((3, 2)), labels=np.ones(3)),
        Table(features=np.ones((3, 2), np.float32)),
        Table(),
    ],
    ids=["another's labels", "other numbers", "nothing"],
)
def test_a_table_that_is_not_what_the_plan_needs(tmp_path: Path, table: Table) -> None:
    of = world(tmp_path, "bins")
    of.tables["b"] = table
    with pytest.raises(ConfigError, match="table"):
        Coordinator(of, "b").ask("bins")


def test_a_columns_app_needs_a_plan_with_columns(tmp_path: Path) -> None:
    of = world(tmp_path, "bins")
    strategy = of.plan.__class__(
        name="x", run=of.plan.run.__class__(rounds=1, quorum=1), strategy={"name": "fedavg"},
        parties=of.plan.parties,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="ClientApp"):
        ColumnsApp(lambda _: Table()).party(strategy, name="a", signer=of.keys["a"])
