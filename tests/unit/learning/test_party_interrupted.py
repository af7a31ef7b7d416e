"""A party whose connection ends, or who is ended, just when it would hurt."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from relayed import Relayed, hasten
from simulators.consortium import Consort, counting_app
from simulators.relay import Direction, Wire
from test_federated_run import expected
from test_hostile_network import FIRST

from wardian.errors import ConfigError
from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.message import Message


async def test_a_connection_that_is_cut_while_a_party_trains_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The party comes again meanwhile; nothing is begun a second time, and nothing is lost."""
    hasten(monkeypatch, still_s=0.05)
    at_work, asked_again = threading.Event(), threading.Event()
    calls: list[int] = []
    beside: list[str] = []

    def app() -> ClientApp:
        made, plain, one = ClientApp(), counting_app(), threading.Lock()

        @made.train()
        def train(message: Message, context: Context) -> Message:
            if not one.acquire(blocking=False):
                beside.append(context.party)
                return plain(message, context)
            try:
                if context.party == "a":
                    calls.append(message.metadata.round)
                    at_work.set()
                    assert asked_again.wait(20)
                return plain(message, context)
            finally:
                one.release()

        for kind in (made.query, made.evaluate):
            kind()(plain)
        return made

    async def treat(wire: Wire, _: Direction, record: bytes) -> Sequence[bytes]:
        if wire.number == 0 and at_work.is_set():
            wire.ending = "RST"
            return ()
        if wire.number == 1 and len(wire.records["down"]) > FIRST["down"]:
            asked_again.set()
        return (record,)

    run = Relayed(tmp_path, treat=treat, app=app)
    assert await run.model() == expected(("a", "b", "c"), 2)
    assert len(run.relay.wires) == 2
    assert beside == []
    assert calls == [1, 2]


async def test_a_party_that_ends_before_its_model_is_written_gets_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator stays until the model is where the party keeps it."""
    hasten(monkeypatch)
    world = Consort(tmp_path, "a", "b", rounds=1, evaluate_every=0)
    kept: list[ArrayRecord] = []

    def full(_: ArrayRecord) -> None:
        raise ConfigError("the disk is full")

    coordinating = asyncio.create_task(world.coordinate())
    other = asyncio.create_task(world.party("a").attend())
    async with asyncio.timeout(20):
        with pytest.raises(ConfigError, match="the disk is full"):
            await world.party("b", keep=full).attend()
        assert not coordinating.done()
        model = await world.party("b", keep=kept.append).attend()
        assert await other == await coordinating == model == expected(("a", "b"), 1)
    assert kept == [model]
