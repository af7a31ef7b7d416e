"""Workers die, connections break, the queue lies: each request still ends once, never wrongly."""

import asyncio
import socket
import threading

import pytest
from simulators import hostile_queue as hostile
from simulators.data_plane import (
    LANE,
    LANES,
    Collector,
    ToyModel,
    image,
    is_answer,
    receiver,
    sender,
)

from wardian.errors import JobFailed, Timeout
from wardian.serving.dispatch import Dispatcher
from wardian.serving.queue import front as queue_socket
from wardian.serving.queue import front_peer
from wardian.serving.queue import worker as worker_queue
from wardian.serving.queue.frames import Address, FrameKind, frame
from wardian.serving.queue.front import SocketFrontQueue
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.worker import SocketWorkerQueue
from wardian.serving.worker import Worker


class Running:
    """A worker in a thread, which can be cut off as kill -9 would."""

    def __init__(self, path: str, model: ToyModel) -> None:
        self.queue = SocketWorkerQueue(Address.parse(path), lane=LANE)
        self.worker = Worker(
            model=model, lane=LANE, max_batch=64, queue=self.queue, codec=receiver()
        )
        self.thread = threading.Thread(target=self.worker.run, daemon=True)
        self.thread.start()

    def cut(self) -> None:
        """Lose the connection; the worker then connects again, as a restarted one would."""
        self.queue._disconnect()


class Plane:
    def __init__(self, folder) -> None:
        self.path = str(folder / "front")
        self.relay = hostile.Relay(str(folder / "relay"), self.path)
        self.queue = SocketFrontQueue(Address.parse(self.path))
        self.dispatcher = Dispatcher(
            queue=self.queue, codecs={"digits": sender()}, lanes=LANES, max_waiting=999
        )
        self.requests = Collector(self.dispatcher)
        self.running: list[Running] = []

    async def start(self) -> None:
        await self.queue.start()
        await self.relay.start()

    async def worker(self, model=None, *, path: str = "") -> Running:
        running = Running(path or self.path, model or ToyModel())
        self.running.append(running)
        while not self.dispatcher.catalog()["digits"].ready:
            await asyncio.sleep(0.005)
        return running

    async def answer(self, value: float) -> bool:
        """Return whether one more request is answered rightly."""
        self.requests.submit(value, image(value), deadline_s=20)
        await self.requests.all_done()
        return is_answer(self.requests.outcomes[value], value)

    async def close(self) -> None:
        for running in self.running:
            running.worker.stop()
        await self.relay.close()
        await self.queue.close()
        self.dispatcher.close()
        for running in self.running:
            await asyncio.to_thread(running.thread.join, 10)
            assert not running.thread.is_alive()


@pytest.fixture
async def plane(tmp_path):
    plane = Plane(tmp_path)
    await plane.start()
    yield plane
    await plane.close()


async def test_a_worker_that_dies_in_the_middle_of_a_batch_costs_no_request(plane):
    deaths = []

    def die_at_first(batch) -> None:
        if len(batch) > 1 and not deaths:
            deaths.append(len(batch))
            running.cut()

    model = ToyModel(die_at_first)
    running = await plane.worker(model)
    for value in range(40):
        plane.requests.submit(value, image(value))
    outcomes = await plane.requests.all_done()
    assert deaths == [40]
    assert all(is_answer(outcomes[value], value) for value in range(40))
    assert set(model.batches[1:]) == {1}  # redelivered as singles


async def test_a_poisonous_request_is_isolated_and_given_up(plane):
    deaths = []

    def die_of_13(batch) -> None:
        if (batch == 13).any():
            deaths.append(len(batch))
            running.cut()

    running = await plane.worker(ToyModel(die_of_13))
    for value in (*range(20), 13.5):
        plane.requests.submit(value, image(value))
    outcomes = await plane.requests.all_done()
    assert deaths == [21, 1, 1]
    assert isinstance(outcomes[13].error, JobFailed)
    assert all(is_answer(outcomes[value], value) for value in outcomes if value != 13)
    assert await plane.answer(50)


async def test_a_worker_that_keeps_dying_ends_no_request_twice(plane):
    """Cut at random moments under load; every request ends once, rightly or with a typed error."""
    running = await plane.worker()
    loop = asyncio.get_running_loop()
    for cut in range(6):
        loop.call_later(0.02 + cut * 0.05, running.cut)
    for value in range(300):
        plane.requests.submit(value, image(value))
        await asyncio.sleep(0.001)
    outcomes = await plane.requests.all_done()
    assert len(outcomes) == 300
    wrong = [v for v, o in outcomes.items() if o.error is None and not is_answer(o, v)]
    assert wrong == []
    assert plane.requests.errors() <= {JobFailed}
    assert await plane.answer(1000)


async def test_the_other_worker_takes_over(plane):
    first, second = await plane.worker(), None
    second = await plane.worker()
    while plane.queue.room(LANE) < 2:
        await asyncio.sleep(0.005)
    for value in range(100):
        plane.requests.submit(value, image(value))
        if value == 50:
            await asyncio.sleep(0.01)
            first.worker.stop()
            first.cut()
    outcomes = await plane.requests.all_done()
    assert all(is_answer(outcomes[value], value) for value in range(100))
    assert second.thread.is_alive()


async def test_a_worker_that_hangs_costs_a_timeout_and_its_late_answer_nothing(plane):
    release = threading.Event()

    def hang(batch) -> None:
        if (batch == 1).any():
            release.wait(20)

    await plane.worker(ToyModel(hang))
    plane.requests.submit(1, image(1), deadline_s=0.05)
    outcomes = await plane.requests.all_done()
    assert isinstance(outcomes[1].error, Timeout)
    plane.requests.submit(2, image(2))
    release.set()
    await plane.requests.all_done()
    assert is_answer(outcomes[2], 2)
    assert isinstance(outcomes[1].error, Timeout)


async def test_a_worker_that_is_told_to_stop_finishes_first(plane):
    running = await plane.worker()
    for value in range(20):
        plane.requests.submit(value, image(value))
    await asyncio.sleep(0)
    running.worker.stop()
    outcomes = await plane.requests.all_done()
    assert all(is_answer(outcomes[value], value) for value in range(20))
    await asyncio.to_thread(running.thread.join, 10)
    assert not running.thread.is_alive()
    assert plane.dispatcher.counters.redelivered == 0


class SpoilFirst(hostile.Flip):
    """Spoils the first `count` messages to the worker, and is honest from then on."""

    def __init__(self, count: int) -> None:
        super().__init__(5)
        self.left = count

    def __call__(self, direction: str, frame: hostile.Frame) -> list[hostile.Frame]:
        if direction == hostile.TO_FRONT or not self.left:
            return [frame]
        self.left -= 1
        return super().__call__(direction, frame)


async def test_two_spoilt_messages_do_not_retire_a_worker(plane, monkeypatch):
    """Red team: at credit 2 it never got another message, and was called ready for ever."""
    monkeypatch.setattr(queue_socket, "FORGOTTEN_GRACE_S", 0.3)
    plane.relay.trick = hostile.on_work(SpoilFirst(2))
    await plane.worker(path=plane.relay.path)
    for value in (1, 2):
        plane.requests.submit(value, image(value), deadline_s=0.1)
        await asyncio.sleep(0.01)
    await plane.requests.all_done()
    assert plane.requests.errors() == {Timeout}
    assert not plane.dispatcher.catalog()["digits"].ready
    assert await plane.answer(3)
    assert plane.dispatcher.catalog()["digits"].ready
    assert plane.dispatcher.counters.failed == 0


async def test_a_worker_leaves_for_a_spoilt_message_so_that_its_request_is_sent_again(
    plane, monkeypatch
):
    """Long before the deadline, and also if the carrier keeps the front end's end open."""
    monkeypatch.setattr(worker_queue, "REFUSED_GRACE_S", 0.1)
    plane.relay.trick = hostile.on_work(SpoilFirst(2))
    await plane.worker(path=plane.relay.path)
    for value in (1, 2):
        plane.requests.submit(value, image(value), deadline_s=20)
        await asyncio.sleep(0.01)
    outcomes = await plane.requests.all_done()
    assert all(is_answer(outcomes[value], value) for value in (1, 2))
    assert plane.dispatcher.counters.redelivered == 2


async def test_forgeries_before_the_true_message_do_not_make_a_worker_leave(plane, monkeypatch):
    monkeypatch.setattr(worker_queue, "REFUSED_GRACE_S", 0.1)
    plane.relay.trick = hostile.on_work(hostile.ForgeFirst(3))
    await plane.worker(path=plane.relay.path)
    for value in range(5):
        assert await plane.answer(value)
    await asyncio.sleep(0.4)
    assert await plane.answer(9)
    assert plane.dispatcher.counters.redelivered == 0
    assert list(plane.queue.peers) == [1]


async def test_what_was_lost_beside_a_spoilt_message_is_not_blamed(plane, monkeypatch):
    """One spoilt message costs its own deadline, and no neighbour is given up for it."""
    monkeypatch.setattr(queue_socket, "FORGOTTEN_GRACE_S", 0.05)
    for _ in range(3):
        plane.relay.trick = hostile.on_work(SpoilFirst(1))
        if not plane.running:
            await plane.worker(path=plane.relay.path)
        plane.requests.submit(f"spoilt {plane.requests.expected}", image(1), deadline_s=0.05)
        await asyncio.sleep(0.01)
        assert await plane.answer(plane.requests.expected + 10)
        await asyncio.sleep(0.2)
    assert plane.dispatcher.counters.failed == 0


async def test_a_peer_that_does_not_read_is_dropped(plane):
    plane.queue.max_unsent_bytes = 1024**2
    lane, sink = Lane("deaf", 1), _Welcoming()
    plane.queue.attach(sink)
    _, writer = await asyncio.open_unix_connection(plane.path)
    writer.write(
        frame(FrameKind.HELLO, b'{"protocol":1,"model":"deaf","version":1,"credit":1024}')
        + frame(FrameKind.ANSWER, bytes(9))
    )
    while not plane.queue.room(lane):
        await asyncio.sleep(0.005)
    for message in range(1, 100):
        plane.queue.send(message, bytes(256 * 1024), lane=lane, alone=False)
    while not sink.held:
        await asyncio.sleep(0.005)
    assert sink.held == list(range(1, 100))  # redelivered, as those of any peer that is gone
    assert not plane.queue.peers
    writer.close()


class _Welcoming:
    """A front end that admits whoever answers."""

    def __init__(self) -> None:
        self.held: list[int] = []

    def challenge(self, worker, lane) -> bytes:
        return b"?"

    def admit(self, worker, sealed) -> None: ...

    def gone(self, worker) -> None: ...

    def room_opened(self, lane) -> None: ...

    def lost(self, messages) -> None:
        self.held += messages


TRICKS = {
    "duplicates": (hostile.duplicate, True),
    "forges before the true frame": (hostile.ForgeFirst(1), True),
    "reorders": (hostile.Reorder(), False),
    "replays": (hostile.Replay(), False),
    "flips bits": (hostile.Flip(2), False),
    "swaps answers": (hostile.Swap(), False),
    "truncates": (hostile.truncate, False),
    "reflects": (hostile.Reflect(), True),
    "drops": (hostile.drop, False),
    "breaks off": (hostile.break_off, False),
}


@pytest.mark.parametrize("name", TRICKS)
async def test_a_hostile_queue_costs_service_but_never_a_wrong_answer(plane, name):
    trick, all_answered = TRICKS[name]
    plane.relay.trick = hostile.on_work(trick)
    await plane.worker(path=plane.relay.path)
    for value in range(60):
        plane.requests.submit(value, image(value), deadline_s=0.6)
        if value % 4 == 0:
            await asyncio.sleep(0.002)
    outcomes = await plane.requests.all_done()
    for value, outcome in outcomes.items():
        assert outcome.error is not None or is_answer(outcome, value)
    assert plane.requests.errors() <= {Timeout, JobFailed}
    if all_answered:
        assert plane.requests.errors() == set()
    # An honest way to another worker, and service is back.
    plane.running[0].worker.stop()
    plane.running[0].cut()
    await plane.worker()
    assert await plane.answer(1000)


GARBAGE = {
    "nothing": b"",
    "noise": bytes(range(256)) * 40,
    "a giant": b"\x7f\xff\xff\xff\x01",
    "an empty frame": bytes(8),
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "an answer first": frame(FrameKind.ANSWER, bytes(99)),
    "no json": frame(FrameKind.HELLO, b"{"),
    "another model": frame(FrameKind.HELLO, b'{"protocol":1,"model":"x","version":1,"credit":1}'),
    "no answer": frame(FrameKind.HELLO, b'{"protocol":1,"model":"digits","version":1,"credit":9}'),
    "a wrong answer": (
        frame(FrameKind.HELLO, b'{"protocol":1,"model":"digits","version":1,"credit":9}')
        + frame(FrameKind.ANSWER, bytes(200))
    ),
    "a stranger's credit": frame(FrameKind.CREDIT, bytes(8)),
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_whoever_connects_and_says_anything_harms_nobody(plane, name):
    await plane.worker()
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(plane.path)
        stranger.sendall(GARBAGE[name])
        assert all([await plane.answer(value) for value in range(5)])
        assert plane.queue.room(LANE) == 1


async def test_a_stranger_that_says_nothing_is_dropped(plane, monkeypatch):
    monkeypatch.setattr(front_peer, "GREETING_TIMEOUT_S", 0.05)
    reader, writer = await asyncio.open_unix_connection(plane.path)
    assert await reader.read() == b""
    writer.close()


async def test_more_peers_than_allowed_are_turned_away(plane, monkeypatch):
    await plane.worker()
    monkeypatch.setattr(queue_socket, "MAX_PEERS", 3)
    strangers = [await asyncio.open_unix_connection(plane.path) for _ in range(3)]
    assert await strangers[2][0].read() == b""
    assert await plane.answer(1)
    for _, writer in strangers:
        writer.close()


async def test_an_admitted_peer_that_only_lies_is_dropped_in_the_end(plane):
    """Its worker is genuine, its messages are not: sixteen strikes, then a new connection."""
    plane.relay.trick = hostile.on_work(
        lambda direction, sent: [sent] if direction == hostile.TO_WORKER
        else [(sent[0], sent[1][:8] + b"lie" * 50)] * 20
    )  # fmt: skip
    running = await plane.worker(path=plane.relay.path)
    plane.requests.submit("first", image(7), deadline_s=30)
    while not plane.dispatcher.counters.redelivered:
        await asyncio.sleep(0.005)
    plane.relay.trick = lambda _, sent: [sent]
    await plane.requests.all_done()
    assert is_answer(plane.requests.outcomes["first"], 7)
    assert running.thread.is_alive()


async def test_the_socket_is_the_user_s_alone_and_is_not_taken_from_another(plane, tmp_path):
    from wardian.errors import ConfigError

    assert (tmp_path / "front").stat().st_mode & 0o777 == 0o600
    second = SocketFrontQueue(Address.parse(plane.path))
    with pytest.raises(ConfigError, match="another front end"):
        await second.start()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="not a socket"):
        await SocketFrontQueue(Address.parse(str(tmp_path / "file"))).start()
    with pytest.raises(ConfigError, match="No such file"):
        await SocketFrontQueue(Address.parse(str(tmp_path / "nowhere" / "q"))).start()


async def test_a_socket_that_a_dead_front_end_left_is_taken_over(tmp_path):
    path = tmp_path / "stale"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    front = SocketFrontQueue(Address.parse(str(path)))
    await front.start()
    await front.close()
    assert not path.exists()


async def test_a_worker_may_be_there_before_its_front_end(tmp_path):
    plane = Plane(tmp_path)
    early = Running(plane.path, ToyModel())
    plane.running.append(early)
    await asyncio.sleep(0.05)
    await plane.start()
    while not plane.dispatcher.catalog()["digits"].ready:
        await asyncio.sleep(0.005)
    assert await plane.answer(1)
    await plane.close()


@pytest.mark.parametrize("garbage", [frame(FrameKind.CREDIT, bytes(8)), bytes(8), b"\xff" * 64])
async def test_a_worker_survives_a_front_end_that_talks_nonsense(tmp_path, garbage):
    """Whoever listens there is not believed; once the true front end is back, work goes on."""
    path = tmp_path / "front"
    greeted = asyncio.Event()

    async def impostor(reader, writer) -> None:
        await reader.read(1)
        writer.write(garbage)
        await writer.drain()
        writer.close()
        greeted.set()

    server = await asyncio.start_unix_server(impostor, str(path))
    running = Running(str(path), ToyModel())
    await greeted.wait()
    server.close()
    plane = Plane(tmp_path)
    plane.running.append(running)
    await plane.start()
    while not plane.dispatcher.catalog()["digits"].ready:
        await asyncio.sleep(0.005)
    assert await plane.answer(1)
    await plane.close()


async def test_a_front_end_that_says_nothing_keeps_no_worker_that_stops(tmp_path, monkeypatch):
    """TRUST T21: its host holds the socket open, and the worker has a model in its memory."""
    monkeypatch.setattr(worker_queue, "STOP_GRACE_S", 0.3)
    path = str(tmp_path / "q.sock")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen()
        queue = worker_queue.SocketWorkerQueue(
            Address.parse(path), lane=Lane(model="digits", version=1)
        )
        taking = asyncio.ensure_future(asyncio.to_thread(queue.take))
        held, _ = await asyncio.to_thread(silent.accept)
        with held:
            queue.stop()
            assert await asyncio.wait_for(taking, 10) is None
