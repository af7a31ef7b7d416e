"""A party's app in its thread: it may take long, fail, or be left alone; the connection lives."""

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest
from simulators.consortium import Consort, counting_app

from wardian.learning.app import ClientApp, Context, Handler
from wardian.learning.arrays import ArrayRecord
from wardian.learning.coordinator import attendant
from wardian.learning.message import Message
from wardian.learning.messages import FromParty, Still
from wardian.learning.party import resident
from wardian.learning.party.thread import AppThread
from wardian.learning.records import MetricRecord, RecordDict


async def test_what_is_done_is_returned_or_raised_in_order_and_in_one_thread() -> None:
    thread = AppThread().start()
    found = await asyncio.gather(*(thread.run(threading.get_ident) for _ in range(5)))
    assert len(set(found)) == 1
    assert found[0] != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 // 0)
    assert await thread.run(lambda: "next") == "next"
    thread.end()
    thread._thread.join(10)
    assert not thread._thread.is_alive()


async def test_who_does_not_wait_for_it_any_more_disturbs_nothing() -> None:
    thread, begun, go = AppThread().start(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go.wait(10)

    waiting = thread.run(work)
    while not begun.is_set():
        await asyncio.sleep(0)
    waiting.cancel()
    go.set()
    assert await thread.run(lambda: "next") == "next"
    thread.end()


def test_a_loop_that_ended_first_leaves_no_thread_behind() -> None:
    go = threading.Event()

    async def leave() -> AppThread:
        thread = AppThread().start()
        task = thread.run(lambda: go.wait(10))
        await asyncio.sleep(0)
        task.cancel()
        thread.end()
        return thread

    thread = asyncio.run(leave())
    go.set()
    thread._thread.join(10)
    assert not thread._thread.is_alive()


async def test_an_app_that_takes_long_does_not_keep_its_party_from_saying_that_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "STILL_S", 0.01)
    heard, enough = [], threading.Event()
    before = attendant.Attendant._hear

    async def hear(self: attendant.Attendant, said: FromParty) -> None:
        if isinstance(said, Still):
            heard.append(self.party)
            if len(heard) == 5:
                enough.set()
        await before(self, said)

    monkeypatch.setattr(attendant.Attendant, "_hear", hear)
    app = ClientApp()

    @app.query()
    def first(message: Message, context: Context) -> Message:
        arrays = ArrayRecord({"w": np.zeros(3)})
        return Message(RecordDict({"arrays": arrays}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        assert enough.wait(20)
        metrics = MetricRecord({"num-examples": 1})
        content = RecordDict({"arrays": message.content["arrays"], "metrics": metrics})
        return Message(content, reply_to=message)

    consort = Consort(tmp_path, "a", rounds=1, evaluate_every=0)
    assert (await consort.whole(lambda: app))["w"].tolist() == [0.0, 0.0, 0.0]
    assert len(heard) >= 5


async def test_who_says_that_it_is_there_says_it_between_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never in the middle of one, which takes several frames: both sides, all the time."""
    monkeypatch.setattr(resident, "STILL_S", 0.0001)
    monkeypatch.setattr(attendant, "STILL_S", 0.0001)
    consort = Consort(tmp_path, "a", "b", rounds=2, evaluate_every=0)
    model = await consort.whole(lambda: counting_app((1000, 777)))
    assert model["w"].shape == (1000, 777)


async def test_parties_of_one_process_may_share_a_thread(tmp_path: Path) -> None:
    threads: set[int] = set()

    def watched() -> ClientApp:
        app = counting_app()
        for kind, handler in app._handlers.items():

            def watch(message: Message, context: Context, handler: Handler = handler) -> Message:
                threads.add(threading.get_ident())
                return handler(message, context)

            app._handlers[kind] = watch
        return app

    thread, consort = AppThread().start(), Consort(tmp_path, "a", "b", rounds=2)
    parties = [consort.party(name, watched(), thread=thread) for name in ("a", "b")]
    attending = [asyncio.create_task(each.attend()) for each in parties]
    model = await consort.coordinate()
    assert [await each for each in attending] == [model, model]
    assert len(threads) == 1
    assert await thread.run(lambda: "it goes on") == "it goes on"
    thread.end()
