"""A coordinator or a party that dies at any step of a vertical run; and one that is put back."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aligned_world import AlignedConsort, disturbed, steps_of

from wardian.errors import PolicyDenied
from wardian.learning.app import Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.coordinator.attendant import Attendant
from wardian.learning.coordinator.attending import Attending
from wardian.learning.coordinator.question import Question
from wardian.learning.message import Message
from wardian.learning.party.memory import MemoryFile
from wardian.learning.records import RecordDict
from wardian.learning.vertical.app import Records, Table

TOLD = 5
"""The question that tells the first errors: after labels, start, sums, and who has seen them."""
MODELS: dict[str, dict[str, Any]] = {
    "features": {"model": "linear", "placement": "features"},
    "embeddings": {
        "model": "linear", "placement": "embeddings", "noise": {"mu": 1.0}, "rounds": 2,
    },
    "bins": {"model": "trees", "placement": "bins", "rounds": 2, "depth": 2},
    "network": {
        "model": "network", "placement": "embeddings", "noise": {"mu": 1.0}, "classes": 2,
        "embeddings": {"a": 2, "b": 2}, "epochs": 1, "batch": 20,
    },
}  # fmt: skip


BRIEFLY = (("bins", "coordinator"), ("embeddings", "b"), ("network", "b"))


def tables() -> dict[str, Table]:
    chance = np.random.default_rng(0)
    features, new = chance.standard_normal((30, 5)), chance.standard_normal((7, 5))
    labels = (features.sum(axis=1) > 0).astype(float)
    return {
        name: Table(
            features=np.ascontiguousarray(features[:, columns]),
            labels=labels if name == "a" else None,
            predict=Records(features=np.ascontiguousarray(new[:, columns])),
        )
        for name, columns in (("a", slice(0, 2)), ("b", slice(2, 5)))
    }


def consort(place: Path, model: str, **terms: Any) -> AlignedConsort:
    vertical = {**MODELS[model], "labels": "a", "predict": "b"}
    world = AlignedConsort(place, tables(), vertical=vertical, hidden=(3,), **terms)
    world.begin()
    return world


@pytest.fixture(autouse=True)
def same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wardian.learning.coordinator.attending.LINGER_S", 0.3)
    monkeypatch.setattr("secrets.randbits", lambda _: 5)  # of a party's first weights


@pytest.mark.parametrize(
    ("model", "victim", "every"),
    [
        *((model, victim, 7) for model, victim in BRIEFLY),
        *(
            pytest.param(model, victim, 1, marks=pytest.mark.slow)
            for model in MODELS
            for victim in ("coordinator", "a", "b")
        ),
    ],
)
def test_who_dies_at_any_step_changes_nothing(
    tmp_path: Path, model: str, victim: str, every: int
) -> None:
    steps = steps_of(lambda place: consort(place, model), tmp_path / "undisturbed")
    expected = asyncio.run(consort(tmp_path / "expected", model).have())
    assert expected["b"]["predictions"].shape[0] == 7
    for at in range(0, len(steps), every):
        found = asyncio.run(disturbed(consort(tmp_path / f"{at}", model), at, victim))
        assert found == expected, (at, steps[at])


async def test_a_coordinator_that_is_put_back_shows_no_second_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host and b want noise over the same errors twice: it is put back to before they were.

    b was told errors of the first round. a was not, for the host held its question back. Still a
    has seen the standing that they are of, and refuses the one of before.
    """
    world = AlignedConsort(
        tmp_path, tables(), vertical={**MODELS["embeddings"], "labels": "a"}, attempts=2
    )
    saved: dict[str, bytes] = {}
    told = asyncio.Event()
    honest = world.app("b")

    def greedy(message: Message, context: Context) -> Message:
        if "errors" in message.content:
            loop.call_soon_threadsafe(told.set)
        return honest(message, context)

    def hear(said: dict[str, object]) -> None:
        world.said.append(said)
        if said["event"] == "round.done" and len(saved) == 0 and said["round"] == 2:
            for file in (tmp_path / "run").iterdir():
                saved[file.name] = file.read_bytes()

    asked = Attending._asked

    def held_back(
        self: Attending, attendant: Attendant, question: Question
    ) -> "asyncio.Future[None] | None":
        if attendant.party == "a" and question.number > TOLD - 1:
            return asyncio.get_running_loop().create_future()
        return asked(self, attendant, question)

    monkeypatch.setattr(Attending, "_asked", held_back)
    loop = asyncio.get_running_loop()
    world.heard = hear
    coordinating = asyncio.create_task(world.coordinate())
    a = asyncio.create_task(world.resident("a").attend())
    b = asyncio.create_task(world.resident("b", greedy).attend())
    async with asyncio.timeout(20):
        await told.wait()
        assert MemoryFile(tmp_path / "party-a").load().round == TOLD - 2
        monkeypatch.setattr(Attending, "_asked", asked)
        for each in (coordinating, b):
            each.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await each
        for file in (tmp_path / "run").iterdir():
            file.unlink()
        for name, raw in saved.items():
            (tmp_path / "run" / name).write_bytes(raw)
        again = asyncio.create_task(world.coordinate())
        with pytest.raises(PolicyDenied, match="more of the run|put back"):
            await a
        again.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await again


def test_nothing_is_kept_of_a_run_that_is_over(tmp_path: Path) -> None:
    world = consort(tmp_path, "network")
    asyncio.run(world.have())
    standing = world.run().standing
    assert standing is not None
    assert set(standing.strategy) == {"at"}
    assert standing.model == ArrayRecord()
    assert isinstance(standing.strategy, RecordDict)
