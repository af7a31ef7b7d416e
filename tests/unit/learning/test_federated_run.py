"""A whole run over sockets: undisturbed, and with a coordinator or party that dies at any step."""

import asyncio
import contextlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from simulators.consortium import Consort, ToySealing, counting_app, killed_at

from wardian.errors import PolicyDenied
from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.coordinator.keeping import RunKeeper
from wardian.learning.message import Message
from wardian.learning.records import MetricRecord, RecordDict


def expected(names: tuple[str, ...], rounds: int) -> ArrayRecord:
    """Return the model by arithmetic alone."""
    model = {"w": np.zeros((3, 2), np.float32), "b": np.zeros(3, np.float64)}
    for step in range(1, rounds + 1):
        by = [ord(name[-1]) / 7 + step for name in sorted(names)]
        for key, array in model.items():
            updates = np.stack([(array * 0.5 + each).astype(array.dtype) for each in by])
            model[key] = updates.astype(np.float64).mean(axis=0).astype(array.dtype)
    return ArrayRecord(model)


async def test_three_parties_learn_what_arithmetic_says(tmp_path: Path) -> None:
    consort = Consort(tmp_path, "a", "b", "c")
    assert await consort.whole() == expected(("a", "b", "c"), 3)
    events = [str(each["event"]) for each in consort.said]
    assert events.count("round.done") == 3
    assert events.count("round.evaluated") == 3


async def test_t16_of_fewer_than_the_quorum_no_evaluation_is_told(tmp_path: Path) -> None:
    """A host that lets one party's answer through alone has all others told what it measured."""

    def told(alone: set[str]) -> ClientApp:
        def evaluate(message: Message, context: Context) -> Message:
            if context.party not in alone:
                raise ConnectionError("the host cut it off")
            metrics = MetricRecord({"num-examples": 5, "loss": 0.25})
            return Message(RecordDict({"metrics": metrics}), reply_to=message)

        ours, app = counting_app(), ClientApp()
        app.query()(ours)
        app.train()(ours)
        app.evaluate()(evaluate)
        return app

    for through, seen in (({"b"}, {}), ({"b", "c"}, {"loss": 0.25})):
        consort = Consort(tmp_path / str(len(through)), "a", "b", "c", rounds=1, quorum=2)
        await consort.whole(partial(told, through))
        (line,) = consort.news
        assert line.evaluation == seen


async def test_a_run_that_is_over_is_told_to_who_comes_late(tmp_path: Path) -> None:
    consort = Consort(tmp_path, "a", "b", "c", quorum=2, gather_s=0.0)
    early = [asyncio.create_task(consort.party(name).attend()) for name in ("a", "b")]
    coordinating = asyncio.create_task(consort.coordinate())
    for each in early:
        await each
    late = await consort.party("c").attend()
    assert late == await coordinating


def steps_of(tmp_path: Path) -> list[tuple[str, object, object]]:
    """Return every step of an undisturbed run, as the coordinator tells them."""

    async def watch() -> list[tuple[str, object, object]]:
        consort = Consort(tmp_path, "a", "b", "c", rounds=2)
        await consort.whole()
        return [(str(s["event"]), s.get("round"), s.get("what")) for s in consort.said]

    return asyncio.run(watch())


async def disturbed(tmp_path: Path, at: int, victim: str) -> ArrayRecord:
    """Return the model of a run in which `victim` is killed at step `at` and started again."""
    consort = Consort(tmp_path, "a", "b", "c", rounds=2)
    found = list((await killed_at(consort, at, victim, consort.party)).values())
    for each in found:
        assert each == found[0]
    assert isinstance(found[0], ArrayRecord)
    return found[0]


@pytest.mark.parametrize(
    ("victim", "every"),
    [
        ("a", 4),
        ("coordinator", 6),
        *(pytest.param(each, 1, marks=pytest.mark.slow) for each in ("coordinator", "a", "c")),
    ],
)
def test_a_process_that_dies_at_any_step_changes_nothing(
    tmp_path: Path, victim: str, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One that dies after all is over does not know whom it told, and waits for them.
    monkeypatch.setattr("wardian.learning.coordinator.attending.LINGER_S", 2.0)
    steps = steps_of(tmp_path / "undisturbed")
    model = expected(("a", "b", "c"), 2)
    for at in range(0, len(steps), every):
        assert asyncio.run(disturbed(tmp_path / f"{at}", at, victim)) == model, steps[at]


async def test_a_coordinator_that_was_put_back_is_refused(tmp_path: Path) -> None:
    consort = Consort(tmp_path, "a", "b", rounds=4)
    saved: list[Path] = []

    def hear(said: dict[str, object]) -> None:
        if said["event"] == "round.done" and said["round"] in {1, 3}:
            if said["round"] == 1:
                place = tmp_path / "saved"
                place.mkdir()
                for file in (tmp_path / "run").iterdir():
                    (place / file.name).write_bytes(file.read_bytes())
                saved.append(place)
            else:
                loop.call_soon(coordinating.cancel)

    loop = asyncio.get_running_loop()
    consort.heard = hear
    parties = [asyncio.create_task(consort.party(name).attend()) for name in ("a", "b")]
    coordinating = asyncio.create_task(consort.coordinate())
    with contextlib.suppress(asyncio.CancelledError):
        await coordinating
    for file in (tmp_path / "run").iterdir():
        file.unlink()
    for file in saved[0].iterdir():
        (tmp_path / "run" / file.name).write_bytes(file.read_bytes())
    kept = RunKeeper(tmp_path / "run", sealing=ToySealing(consort.platform.ppid)).load()
    assert kept is not None
    assert kept.round == 1  # the state of before opens: it is the parties who know better
    consort.heard = consort.said.append
    again = asyncio.create_task(consort.coordinate())
    async with asyncio.timeout(20):
        for each in parties:
            with pytest.raises(PolicyDenied):
                await each
    again.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await again


async def test_an_update_larger_than_memory_goes_over_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardian.learning.coordinator.run.IN_MEMORY_BYTES", 1024)
    consort = Consort(tmp_path, "a", "b", rounds=2, evaluate_every=0)
    shape = (700, 1000)  # three chunks
    model = await consort.whole(lambda: counting_app(shape))
    assert np.unique(model["w"]).size == 1
    assert model["w"][0, 0] == pytest.approx(float(expected(("a", "b"), 2)["w"][0, 0]))
    assert list((tmp_path / "answers").iterdir()) == []
