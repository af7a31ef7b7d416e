"""Masked rounds over sockets: what they sum, who may be lost, and what is never said twice."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from simulators.consortium import Consort, counting_app, killed_at

from wardian._internal.consortium import MaskingTerms
from wardian.errors import JobFailed
from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.message import Message
from wardian.learning.party.planned import planned_app
from wardian.learning.party.resident import Party
from wardian.learning.strategies.fedavg import FedAvg

NAMES = ("a", "b", "c", "d")
STEP = 2.0**-24


class Masked(Consort):
    """A consortium whose plan has masks."""

    def __init__(self, place: Path, *names: str, **terms: Any) -> None:
        super().__init__(place, *(names or NAMES), **({"evaluate_every": 0} | terms))
        self.plan = msgspec.structs.replace(
            self.plan, masking=MaskingTerms(metrics=("loss",)), strategy={"name": "fedavg"}
        )

    def party(self, name: str, app: ClientApp | None = None, **more: Any) -> Party:
        masked = planned_app(app or counting_app(), self.plan, signer=self.keys[name])
        return super().party(name, masked, **more)  # type: ignore[arg-type]

    async def coordinate(self, *_: Any, **more: Any) -> ArrayRecord:
        return await super().coordinate(FedAvg(), **more)


def expected(names: tuple[str, ...], rounds: int) -> dict[str, np.ndarray]:
    """Return the model by arithmetic: what `counting_app` answers, weighted by its records."""
    model = {"w": np.zeros((3, 2), np.float32), "b": np.zeros(3, np.float64)}
    for step in range(1, rounds + 1):
        for key, array in model.items():
            changes = [
                (array * 0.5 + ord(name[-1]) / 7 + step).astype(array.dtype).astype(np.float64)
                - array
                for name in names
            ]
            mean = np.mean([np.rint(each / STEP) * STEP for each in changes], axis=0)
            model[key] = (array + mean).astype(array.dtype)
    return model


def close(found: ArrayRecord, wanted: dict[str, np.ndarray]) -> bool:
    return all(np.abs(found[name] - wanted[name]).max() <= 4 * STEP for name in wanted)


async def test_the_sum_is_that_of_the_updates(tmp_path: Path) -> None:
    consort = Masked(tmp_path)
    assert close(await consort.whole(), expected(NAMES, 3))
    assert [line.cohort for line in consort.news] == [NAMES] * 3
    assert [line.metrics["num-examples"] for line in consort.news] == [44, 48, 52]
    assert consort.news[0].metrics["loss"] == pytest.approx(1.0)


def refusing(*rounds: int) -> ClientApp:
    """Return an app that does not train in these rounds."""
    whole, app = counting_app(), ClientApp()
    app.query()(whole)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if message.metadata.round in rounds:
            return Message(error="not today", reply_to=message)
        return whole(message, context)

    return app


async def test_who_does_not_train_is_left_out_and_named(tmp_path: Path) -> None:
    consort = Masked(tmp_path, quorum=3, rounds=1)
    parties = [
        asyncio.create_task(consort.party(n, refusing(1) if n == "c" else None).attend())
        for n in NAMES
    ]
    model = await consort.coordinate()
    await asyncio.gather(*parties)
    assert close(model, expected(("a", "b", "d"), 1))
    assert consort.news[-1].dropped.keys() == {"c"}


async def test_below_the_threshold_there_is_no_round(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    consort = Masked(tmp_path, quorum=3, rounds=1, attempts=2)
    parties = [
        asyncio.create_task(consort.party(n, refusing(1) if n in "cd" else None).attend())
        for n in NAMES
    ]
    with pytest.raises(JobFailed, match="round 1: no model can be made"):
        await consort.coordinate()
    assert await asyncio.gather(*parties) == [None] * 4
    told = [each for each in caplog.records if each.getMessage() == "party.run-failed"]
    assert len(told) == 4  # the parties hear why
    assert all(each.fields["reason"].startswith("round 1: masking: advertised") for each in told)


def steps_of(tmp_path: Path) -> list[dict[str, object]]:
    async def watch() -> list[dict[str, object]]:
        consort = Masked(tmp_path, rounds=2)
        await consort.whole()
        return consort.said

    return asyncio.run(watch())


async def disturbed(tmp_path: Path, at: int, victim: str) -> ArrayRecord:
    """Return the model of a run whose `victim` is killed at step `at`, and started again."""
    consort = Masked(tmp_path, rounds=2, answer_s=5.0)
    found = list((await killed_at(consort, at, victim, consort.party)).values())
    assert all(each == found[0] for each in found)
    return found[0]


@pytest.mark.parametrize(
    ("victim", "every"),
    [
        ("coordinator", 7),
        pytest.param("coordinator", 1, marks=pytest.mark.slow),
        pytest.param("b", 1, marks=pytest.mark.slow),
    ],
)
def test_a_process_that_dies_at_any_step_changes_nothing(
    tmp_path: Path, victim: str, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardian.learning.coordinator.attending.LINGER_S", 2.0)
    steps = steps_of(tmp_path / "undisturbed")
    model = expected(NAMES, 2)
    for at in range(0, len(steps), every):
        assert close(asyncio.run(disturbed(tmp_path / f"{at}", at, victim)), model), steps[at]
