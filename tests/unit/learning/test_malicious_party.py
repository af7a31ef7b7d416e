"""What a party can do to the others: it is refused with a reason, named, and the round goes on."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulators.consortium import Consort, counting_app
from test_federated_run import expected

from wardian.attestation.appraisal.policy_file import load_policy
from wardian.crypto.signing import SigningKey
from wardian.errors import PolicyDenied, TransportError, WardianError
from wardian.learning.app import ClientApp
from wardian.learning.arrays import ArrayRecord
from wardian.learning.content import specs_of
from wardian.learning.messages import Answer, Ask, Here, Over, Unwanted, encode
from wardian.learning.party.link import CoordinatorLink
from wardian.learning.records import ConfigRecord, MetricRecord, RecordDict

GOOD = MetricRecord({"num-examples": 3})


def update(**changes: Any) -> RecordDict:
    arrays = {"w": np.ones((3, 2), np.float32), "b": np.ones(3, np.float64)} | changes
    return RecordDict({"arrays": ArrayRecord(arrays), "metrics": GOOD})


async def attended(consort: Consort) -> tuple[CoordinatorLink, Ask]:
    """Return c's connection, and what it is asked in the first round."""
    link = await consort.dial("c")
    await link.say(Here(run=None, round=0, head=None))
    while True:
        said, _ = await link.hear()
        if isinstance(said, Ask) and said.kind == "train":
            return link, said


async def beside(
    consort: Consort,
    rogue: Callable[[Consort], Awaitable[None]],
    *,
    app: Callable[[], ClientApp] = counting_app,
) -> ArrayRecord:
    """Return the model that a and b make while c does as it likes."""
    honest = [asyncio.create_task(consort.party(name, app()).attend()) for name in ("a", "b")]
    coordinating = asyncio.create_task(consort.coordinate())
    trouble = asyncio.create_task(patiently(consort, rogue))
    async with asyncio.timeout(30):
        models = [await each for each in honest]
        await trouble
        coordinating.cancel()  # c never comes for the model
        with contextlib.suppress(asyncio.CancelledError):
            await coordinating
    assert models[0] == models[1]
    assert models[0] is not None
    return models[0]


async def patiently(consort: Consort, rogue: Callable[[Consort], Awaitable[None]]) -> None:
    while True:
        try:
            return await rogue(consort)
        except TransportError as err:
            if "no broker answers" not in str(err):
                raise
            await asyncio.sleep(0.05)


def consort(tmp_path: Path, **terms: Any) -> Consort:
    fields: dict[str, Any] = {"rounds": 2, "quorum": 2, "gather_s": 0.7, "answer_s": 20.0}
    return Consort(tmp_path, "a", "b", "c", **(fields | terms))


def refusals(of: Consort) -> list[str]:
    return [
        str(s["reason"]) for s in of.said if s["event"] == "party.refused" and s["party"] == "c"
    ]


BAD = {
    "not a number": (update(b=np.array([1.0, np.nan, 2.0])), "no finite number"),
    "infinite": (update(w=np.full((3, 2), np.inf, np.float32)), "no finite number"),
    "another shape": (update(w=np.ones((2, 3), np.float32)), "other arrays"),
    "other elements": (update(w=np.ones((3, 2), np.float64)), "other arrays"),
    "one array more": (update(z=np.ones(1, np.float32)), "other arrays"),
    "no arrays": (RecordDict({"metrics": GOOD}), "other arrays"),
    "too large": (update(w=np.ones((600, 600), np.float32)), "at most"),
    "no examples": (
        RecordDict({"arrays": update()["arrays"], "metrics": MetricRecord({"num-examples": 0})}),
        "num-examples",
    ),
    "half examples": (
        RecordDict({"arrays": update()["arrays"], "metrics": MetricRecord({"num-examples": 0.5})}),
        "num-examples",
    ),
    "more examples than there are": (
        RecordDict(
            {"arrays": update()["arrays"], "metrics": MetricRecord({"num-examples": 2**62})}
        ),
        "num-examples",
    ),
    "settings": (
        RecordDict({"arrays": update()["arrays"], "metrics": GOOD, "x": ConfigRecord({"a": 1})}),
        "settings",
    ),
}


@pytest.mark.parametrize("bad", BAD)
async def test_an_answer_that_was_not_asked_for_is_refused(tmp_path: Path, bad: str) -> None:
    content, reason = BAD[bad]
    world = consort(tmp_path, max_update_bytes=1_000_000)

    async def rogue(world: Consort) -> None:
        link, ask = await attended(world)
        with contextlib.suppress(TransportError):
            await link.say(Answer(number=ask.number, records=specs_of(content)), content)
        with contextlib.suppress(WardianError):
            said, _ = await link.hear()
            assert isinstance(said, Unwanted)
            assert reason in said.reason
        link.abort()

    assert await beside(world, rogue) == expected(("a", "b"), 2)
    assert len(refusals(world)) == 1
    assert reason in refusals(world)[0]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00",
        b"\xc1" * 100,
        b"{}",
        encode(Unwanted(number=1, reason="")),
        b"\x93" * 50_000,
        b"\xdf" + b"\xff" * 9,
    ],
    ids=["a number", "no MessagePack", "JSON", "the other side's", "nested", "too many"],
)
async def test_garbage_costs_the_party_its_connection(tmp_path: Path, garbage: bytes) -> None:
    world = consort(tmp_path)

    async def rogue(world: Consort) -> None:
        link, _ = await attended(world)
        await link._stream.send(garbage)
        with pytest.raises(WardianError):
            while True:
                await link.hear()

    assert await beside(world, rogue) == expected(("a", "b"), 2)


@pytest.mark.parametrize("size", [0, 1, 47, 49, 2**20])
async def test_content_of_another_length_than_its_records_say_is_refused(
    tmp_path: Path, size: int
) -> None:
    world = consort(tmp_path)

    async def rogue(world: Consort) -> None:
        link, ask = await attended(world)
        await link.say(Answer(number=ask.number, records=specs_of(update())))
        with contextlib.suppress(TransportError):
            await link._stream.send(bytes(size))
        with contextlib.suppress(TransportError):
            said, _ = await link.hear()
            assert isinstance(said, Unwanted)
        link.abort()

    assert await beside(world, rogue) == expected(("a", "b"), 2)
    assert refusals(world) == [f"a frame of {size} bytes; 48 were to come"]


async def test_who_says_much_and_sends_little_is_late(tmp_path: Path) -> None:
    world = consort(tmp_path, answer_s=1.0)

    async def rogue(world: Consort) -> None:
        link, ask = await attended(world)
        await link.say(Answer(number=ask.number, records=specs_of(update())))  # and no content
        await asyncio.sleep(2.0)
        link.abort()

    assert await beside(world, rogue) == expected(("a", "b"), 2)
    done = next(s for s in world.said if s["event"] == "round.done")
    assert done["dropped"] == {"c": "it did not answer in time"}


async def test_who_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    world = consort(tmp_path, answer_s=1.0, evaluate_every=0)
    shape = (700, 1000)  # more than the buffers between them hold

    async def rogue(world: Consort) -> None:
        link = await world.dial("c")
        await link.say(Here(run=None, round=0, head=None))
        await asyncio.sleep(4.0)
        link.abort()

    model = await beside(world, rogue, app=lambda: counting_app(shape))
    assert model["b"][0] == expected(("a", "b"), 2)["b"][0]
    done = next(s for s in world.said if s["event"] == "round.done")
    assert done["dropped"] == {"c": "it did not answer in time"}


async def test_an_answer_counts_once(tmp_path: Path) -> None:
    world = consort(tmp_path, rounds=1, quorum=3, evaluate_every=0)

    async def twice(world: Consort) -> None:
        link, ask = await attended(world)
        for _ in range(2):
            await link.say(Answer(number=ask.number, records=specs_of(update())), update())
        while not isinstance((await link.hear())[0], Over):
            pass
        link.abort()

    model = await beside(world, twice)
    by = [ord(name) / 7 + 1 for name in "ab"]
    assert model["b"][0] == pytest.approx(sum([*by, 1.0]) / 3)


async def test_an_old_answer_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    world = consort(tmp_path)

    async def replay(world: Consort) -> None:
        link, ask = await attended(world)
        await link.say(Answer(number=ask.number - 1, records=specs_of(update())), update())
        said, _ = await link.hear()
        assert isinstance(said, Unwanted)
        await link.say(Answer(number=ask.number, error="cannot"))
        said, _ = await link.hear()
        assert isinstance(said, Unwanted)
        link.abort()

    assert await beside(world, replay) == expected(("a", "b"), 2)


async def test_nobody_is_another(tmp_path: Path) -> None:
    world = consort(tmp_path)
    others = [("c", SigningKey.generate()), ("a", world.keys["c"]), ("d", world.keys["c"])]

    async def rogue(world: Consort) -> None:
        (await world.dial("c")).abort()  # the coordinator is there
        for name, key in others:
            with pytest.raises(WardianError, match="refuses"):
                await world.dial("c", party=name, key=key)

    assert await beside(world, rogue) == expected(("a", "b"), 2)
    assert "c" not in {s.get("party") for s in world.said}


async def test_a_party_that_is_here_is_not_pushed_out_by_another_of_its_name(
    tmp_path: Path,
) -> None:
    world = consort(tmp_path)

    async def twice(world: Consort) -> None:
        link, ask = await attended(world)
        second = await world.dial("c")
        await second.say(Here(run=None, round=0, head=None))
        with pytest.raises(TransportError, match="attends already"):
            await second.hear()
        await link.say(Answer(number=ask.number, error="enough"))
        link.abort()

    assert await beside(world, twice) == expected(("a", "b"), 2)


async def test_a_coordinator_of_other_code_gets_nothing(tmp_path: Path) -> None:
    world = consort(tmp_path)
    world.code = bytes(32)
    coordinating = asyncio.create_task(world.coordinate())
    async with asyncio.timeout(20):
        with pytest.raises(PolicyDenied):
            await world.party("a").attend()
    coordinating.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await coordinating
    assert world.said == []  # it never said that it is here


async def test_a_coordinator_on_an_unknown_machine_gets_nothing(tmp_path: Path) -> None:
    world = consort(tmp_path)
    other = Consort(tmp_path / "other", "a")
    coordinating = asyncio.create_task(world.coordinate())
    await asyncio.sleep(0.2)
    text = (
        f'simulation_root_sha256 = "{other.platform.root_sha256.hex()}"\n'
        f'measurements = ["{world.code.hex()}"]\n'
    )
    with pytest.raises(PolicyDenied):
        await world.dial("a", policy=load_policy(text.encode()))
    coordinating.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await coordinating
