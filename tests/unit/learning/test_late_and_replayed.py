"""Answers that come too late, and messages that come twice or were recorded elsewhere."""

import asyncio
import contextlib
import secrets
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from relayed import hasten
from simulators.consortium import Consort, counting_app
from test_federated_run import expected
from test_malicious_party import attended, update

from wardian._internal import wire
from wardian.broker.certificates import spki_of
from wardian.broker.frames import FIRST_FRAME_BYTES, connect
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.refusal import decode_or_raise
from wardian.errors import PeerProtocolError, PolicyDenied, TransportError, WardianError
from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.content import specs_of
from wardian.learning.message import Message
from wardian.learning.messages import (
    Answer,
    Ask,
    Challenge,
    Claim,
    Here,
    Known,
    Over,
    PartyHello,
    Proof,
    Unwanted,
    claim_signed_bytes,
    encode,
)
from wardian.learning.party.link import CoordinatorLink
from wardian.learning.party.memory import MemoryFile
from wardian.learning.party.resident import Party

LARGE = (700, 1000)


@contextlib.asynccontextmanager
async def coordinated(world: Consort, *honest: str) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Give the tasks of `honest` parties, and of a coordinator that ends with the test."""
    tasks = [asyncio.create_task(world.party(name).attend()) for name in honest]
    tasks.append(asyncio.create_task(world.coordinate()))
    try:
        async with asyncio.timeout(30):
            while not await listens(world):
                await asyncio.sleep(0.01)
            yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def listens(world: Consort) -> bool:
    try:
        (await connect(("127.0.0.1", world.port))).abort()
    except TransportError:
        return False
    return True


def about(world: Consort, event: str, party: str = "c") -> list[dict[str, object]]:
    return [each for each in world.said if each["event"] == event and each["party"] == party]


def slow_app(shape: tuple[int, ...], until: threading.Event) -> ClientApp:
    """An app that trains in the first round until it is too late."""
    app, plain = ClientApp(), counting_app(shape)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if message.metadata.round == 1:
            assert until.wait(20)
        return plain(message, context)

    for kind in (app.query, app.evaluate):
        kind()(plain)
    return app


async def with_a_late_party(
    place: Path, until: str, shape: tuple[int, ...], **terms: Any
) -> tuple[Consort, list[ArrayRecord]]:
    """Return what everybody has after a run in which c answers its first question after `until`."""
    world = Consort(place, "a", "b", "c", **{"quorum": 2, "answer_s": 1.5, **terms})
    late = threading.Event()

    def hear(said: dict[str, object]) -> None:
        world.said.append(said)
        if said["event"] == until:
            late.set()

    world.heard = hear
    parties = [
        asyncio.create_task(world.party(name, counting_app(shape)).attend()) for name in "ab"
    ]
    parties.append(asyncio.create_task(world.party("c", slow_app(shape, late)).attend()))
    try:
        async with coordinated(world) as (coordinating,):
            found = await asyncio.gather(coordinating, *parties)
    finally:
        late.set()
        for each in parties:
            each.cancel()
        await asyncio.gather(*parties, return_exceptions=True)
    return world, [each for each in found if isinstance(each, ArrayRecord)]


@pytest.mark.parametrize("evaluate_every", [0, 1])
async def test_who_is_late_is_told_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    evaluate_every: int,
) -> None:  # fmt: skip
    """Its answer comes while the next question is asked: the evaluation, or the next round."""
    hasten(monkeypatch)
    world, models = await with_a_late_party(
        tmp_path, "round.done", (3, 2), rounds=2, evaluate_every=evaluate_every
    )
    assert len(models) == 4
    assert all(each == models[0] for each in models)
    done = [each for each in world.said if each["event"] == "round.done"]
    assert [each["cohort"] for each in done] == [["a", "b"], ["a", "b", "c"]]
    assert done[0]["dropped"] == {"c": "it did not answer in time"}
    assert len(about(world, "party.here")) == 1
    told = [r for r in caplog.records if r.getMessage() == "party.unwanted"]
    assert [each.fields["reason"] for each in told] == ["its time is over"]


async def test_a_large_answer_that_comes_when_nothing_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch)
    world, models = await with_a_late_party(tmp_path, "run.over", LARGE, rounds=1, evaluate_every=0)
    assert len(models) == 4
    assert all(each == models[0] for each in models)
    done = [each for each in world.said if each["event"] == "round.done"]
    assert [each["cohort"] for each in done] == [["a", "b"]]
    assert len(about(world, "party.here")) == 1


async def proved(
    world: Consort, hello: bytes | None = None, claim: bytes | None = None
) -> tuple[bytes, bytes]:
    """Return c's first messages, up to the proof; recorded ones are sent where they are given."""
    stream = await connect(("127.0.0.1", world.port))
    try:
        spki = spki_of(stream.peer_certificate())
        hello = hello or wire.encode(PartyHello(party="c", nonce=secrets.token_bytes(NONCE_BYTES)))
        await stream.send(hello)
        challenge = await stream.receive(most=FIRST_FRAME_BYTES)
        signed = claim_signed_bytes(spki=spki, hello=hello, challenge=challenge)
        claim = claim or wire.encode(Claim(signature=world.keys["c"].sign(signed)))
        await stream.send(claim)
        decode_or_raise(await stream.receive(most=2**20), Proof, what="coordinator proof")
        return hello, claim
    finally:
        stream.abort()


async def test_what_a_party_said_on_one_connection_proves_nothing_on_another(
    tmp_path: Path,
) -> None:
    world, other = Consort(tmp_path, "a", "b", "c"), Consort(tmp_path / "other", "a", "b", "c")
    other.keys = world.keys
    other.plan = world.plan
    here = encode(Here(run=None, round=0, head=None))
    async with coordinated(world), coordinated(other):
        hello, claim = await proved(world)
        for where in (world, other):
            with pytest.raises(PolicyDenied, match="refuses"):
                await proved(where, hello, claim)
            with pytest.raises(PolicyDenied, match="refuses"):
                await proved(where, claim=claim)
            stream = await connect(("127.0.0.1", where.port))
            await stream.send(here)
            with pytest.raises(PeerProtocolError, match="refuses"):
                decode_or_raise(await stream.receive(most=2**20), Challenge, what="challenge")
            stream.abort()
        assert about(world, "party.here") == about(other, "party.here") == []


async def test_who_says_twice_that_it_is_here_is_cut(tmp_path: Path) -> None:
    terms = {"rounds": 2, "quorum": 2, "gather_s": 0.7, "evaluate_every": 0}
    world = Consort(tmp_path, "a", "b", "c", **terms)
    async with coordinated(world, "a", "b") as (a, b, _):
        link, _ask = await attended(world)
        await link.say(Here(run=None, round=0, head=None))
        with pytest.raises(WardianError):
            while True:
                await link.hear()
        link.abort()
        assert await a == await b == expected(("a", "b"), 2)
    assert [each["reason"] for each in about(world, "party.refused")] == [
        "learning message: not its turn"
    ]


async def test_an_answer_that_comes_again_on_another_connection_counts_once(
    tmp_path: Path,
) -> None:
    """In the same round; and in the next one not at all."""
    world, go_on = Consort(tmp_path, "a", "b", "c", rounds=2, evaluate_every=0), threading.Event()
    late = asyncio.create_task(world.party("a", slow_app((3, 2), go_on)).attend())
    async with coordinated(world, "b") as (b, coordinating):
        link, ask = await attended(world)
        old = Answer(number=ask.number, records=specs_of(update()))
        await link.say(old, update())
        while not about(world, "party.answered"):
            await asyncio.sleep(0.01)
        link.abort()
        while not about(world, "party.gone"):
            await asyncio.sleep(0.01)
        link = await world.dial("c")
        await link.say(Here(run=None, round=0, head=None))
        await link.say(old, update())
        while len(about(world, "party.answered")) < 2:
            await asyncio.sleep(0.01)
        go_on.set()
        while not isinstance(ask := (await link.hear())[0], Ask):
            pass
        assert (ask.round, ask.kind) == (2, "train")
        await link.say(old, update())
        unwanted, _ = await link.hear()
        assert unwanted == Unwanted(number=old.number, reason="its time is over")
        await link.say(Answer(number=ask.number, records=specs_of(update())), update())
        while not isinstance((await link.hear())[0], Over):
            pass
        await link.say(Known())
        model = await coordinating
        assert await b == await late == model
    by = [ord(name) / 7 for name in "ab"]
    first = (sum(by) + 2 + 1) / 3
    assert model["b"][0] == pytest.approx((first + sum(by) + 4 + 1) / 3)


async def test_two_processes_of_one_party_count_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one, with a memory of its own, waits for the first to leave."""
    hasten(monkeypatch)
    world, go_on = Consort(tmp_path, "a", "b", "c", rounds=2), threading.Event()
    tries = 0

    async def dial() -> CoordinatorLink:
        nonlocal tries
        tries += 1
        if tries == 3:  # it was turned away twice by now
            go_on.set()
        return await world.dial("c")

    twin = Party("c", counting_app(), dial=dial, memory=MemoryFile(tmp_path / "twin"))
    slow = asyncio.create_task(world.party("a", slow_app((3, 2), go_on)).attend())
    async with coordinated(world, "b", "c") as (b, c, coordinating):
        while not about(world, "party.here"):
            await asyncio.sleep(0.01)
        second = asyncio.create_task(twin.attend())
        model = await coordinating
        assert await slow == await b == await c == model == expected(("a", "b", "c"), 2)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
    assert tries >= 3
