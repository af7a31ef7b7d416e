"""The load generator against servers of the test, in virtual time: exact, and nothing sleeps."""

import asyncio
from collections.abc import Callable

import pytest
from simulators.virtual_time import LoopAlarm, run_virtually

from wardian.errors import (
    AttestationError,
    ConnectionLost,
    EvidenceInvalid,
    PeerProtocolError,
    QueueFull,
    WardianError,
)
from wardian.serving.client.attempts import Moved
from wardian.serving.client.messages import Answer
from wardian.serving.loadgen.drive import Driver, Ended
from wardian.serving.loadgen.load import ClosedLoad, OpenLoad
from wardian.serving.loadgen.payload import Payload

OK = Answer(status=200, headers={}, body=b"right")
BUSY = Answer(status=429, headers={}, body=b'{"error":"full"}')
PAYLOADS = [Payload(before=b"a", after=b"b", number=0), Payload(before=b"a", after=b"b", number=1)]


class Server:
    """Answers after `delay_s`, one at a time for each connection."""

    def __init__(self, delay_s: float = 0.001) -> None:
        self.delay_s = delay_s
        self.frozen_until = 0.0
        self.answer: Answer | WardianError = OK
        self.dials = 0
        self.refuses: WardianError | None = None
        self.links: list[FakeLink] = []
        self.keys: list[bytes] = []
        self.silent = False

    async def dial(self, unasked: Callable[[], None]) -> "FakeLink":
        self.dials += 1
        if self.refuses is not None:
            raise self.refuses
        link = FakeLink(self, unasked)
        self.links.append(link)
        return link


class FakeLink:
    def __init__(self, server: Server, unasked: Callable[[], None]) -> None:
        self.server = server
        self.unasked = unasked
        self.loop = asyncio.get_running_loop()
        self.dead = False
        self.done: Callable[[Answer | WardianError], None] | None = None

    @property
    def usable(self) -> bool:
        return not self.dead and self.done is None

    def send(self, parts: tuple[bytes, ...], done) -> None:
        assert self.usable
        self.done = done
        self.server.keys.append(parts[1])
        if self.server.silent:
            return
        now = self.loop.time()
        at = max(now, self.server.frozen_until) + self.server.delay_s
        self.loop.call_at(at, self.deliver, self.server.answer)

    def deliver(self, answer: Answer | WardianError) -> None:
        done, self.done = self.done, None
        if isinstance(answer, WardianError):
            self.dead = True
        if done is not None and not (self.dead and isinstance(answer, Answer)):
            done(answer)

    def abort(self) -> None:
        self.dead, self.done = True, None

    async def close(self) -> None:
        self.dead = True


def run(server: Server, load, *, plan=None, payloads=PAYLOADS, patience_s=5.0, **options):
    async def main():
        loop = asyncio.get_running_loop()
        driver = Driver(
            server.dial,
            payloads,
            patience_s=patience_s,
            alarm=LoopAlarm,
            clock=loop.time,
            **options,
        )
        if plan is not None:
            plan(loop, driver)
        try:
            return await driver.run(load)
        finally:
            await driver.close()

    return run_virtually(main())


def test_a_closed_loop_asks_as_fast_as_it_is_answered() -> None:
    server = Server(delay_s=0.01)
    report = run(server, ClosedLoad(connections=4, seconds=10))
    assert report.goodput == pytest.approx(400, rel=0.01)
    assert report.p50_ms == pytest.approx(10, rel=0.02)
    assert report.started == report.answered
    assert server.dials == 4
    assert len(set(server.keys)) == len(server.keys)  # each request has a key of its own


def test_an_open_loop_keeps_to_its_rate() -> None:
    report = run(Server(), OpenLoad(rate=200, seconds=10))
    assert report.answered == pytest.approx(2000, rel=0.1)
    assert (report.errors, report.not_started, report.lag_ms) == ({}, 0, 0.0)


def test_a_stall_is_seen_by_an_open_loop_and_hidden_by_a_closed_one() -> None:
    """Coordinated omission: the server stands still for one of ten seconds."""

    def freeze(server: Server):
        def plan(loop, _driver) -> None:
            loop.call_later(5.0, setattr, server, "frozen_until", loop.time() + 6.0)

        return plan

    server = Server()
    closed = run(server, ClosedLoad(connections=1, seconds=10), plan=freeze(server))
    server = Server()
    load = OpenLoad(rate=100, seconds=10, connections=256)
    opened = run(server, load, plan=freeze(server))
    assert closed.p99_ms < 2  # one slow answer among nine thousand
    assert opened.p99_ms > 800  # a tenth of those that arrived had to wait
    assert opened.p50_ms < 2
    assert opened.answered == opened.started


def test_what_cannot_start_is_counted_and_not_queued() -> None:
    server = Server(delay_s=1.0)
    report = run(server, OpenLoad(rate=100, seconds=10, connections=5))
    assert report.started == pytest.approx(50, abs=6)
    assert report.started + report.not_started == pytest.approx(1000, rel=0.1)
    assert report.max_ms < 1010


def test_a_generator_that_stands_still_says_so_and_counts_from_when_it_was_due() -> None:
    def plan(loop, _driver) -> None:
        def stand_still() -> None:
            loop.now += 2.0

        loop.call_later(3.0, stand_still)

    report = run(Server(), OpenLoad(rate=50, seconds=10), plan=plan)
    assert report.lag_ms == pytest.approx(2000, rel=0.05)
    assert report.max_ms == pytest.approx(2000, rel=0.05)
    assert report.not_started == 0


def test_a_clock_that_jumps_over_the_end_still_accounts_for_every_arrival() -> None:
    def plan(loop, _driver) -> None:
        def jump() -> None:
            loop.now += 3600

        loop.call_later(5.0, jump)

    load = OpenLoad(rate=100, seconds=10, connections=8)
    report = run(Server(), load, plan=plan)
    assert report.started + report.not_started == pytest.approx(1000, rel=0.1)
    assert report.seconds == 10


def test_all_errors_end_in_a_report() -> None:
    server = Server()
    server.answer = BUSY
    report = run(server, ClosedLoad(connections=2, seconds=1))
    assert set(report.errors) == {"QueueFull"}
    assert report.errors["QueueFull"] < 250  # it pauses after each: no busy loop
    assert report.p50_ms is None
    opened = run(server, OpenLoad(rate=100, seconds=1))
    assert opened.failed == opened.started > 50


def test_a_server_that_never_answers_is_given_up_in_time() -> None:
    server = Server()
    server.silent = True
    ended: list[Ended] = []
    load = OpenLoad(rate=20, seconds=2)
    report = run(server, load, patience_s=0.5, observe=ended.append)
    assert report.errors == {"Timeout": report.started}
    assert max(each.at - each.sent for each in ended) < 0.7
    assert len(ended) == report.started


def test_a_lost_connection_is_retried_under_the_same_key() -> None:
    server = Server()

    def plan(loop, _driver) -> None:
        def lose() -> None:
            for link in server.links:
                if link.done is not None:
                    link.deliver(ConnectionLost("reset"))

        for number in range(20):
            loop.call_later(0.1 + 0.1 * number, lose)

    server.delay_s = 0.03
    report = run(server, ClosedLoad(connections=3, seconds=3), plan=plan)
    assert report.retried > 20
    assert report.errors == {}
    assert len(server.keys) - len(set(server.keys)) == report.retried


def test_a_server_that_is_gone_ends_each_request_once() -> None:
    server = Server()

    def plan(loop, _driver) -> None:
        def die() -> None:
            server.refuses = ConnectionLost("refused")
            for link in server.links:
                link.deliver(ConnectionLost("reset"))
                link.dead = True

        loop.call_later(1.0, die)

    ended: list[Ended] = []
    report = run(server, OpenLoad(rate=100, seconds=3), plan=plan, observe=ended.append)
    assert report.errors["ConnectionLost"] == pytest.approx(200, rel=0.2)
    assert report.answered == pytest.approx(100, rel=0.3)
    assert len(ended) == report.started == report.answered + report.failed


@pytest.mark.parametrize(
    ("outcome", "kind", "attempts"),
    [
        (ConnectionLost("reset"), "ConnectionLost", 3),
        (Moved("elsewhere"), "Moved", 9),
        (PeerProtocolError("nonsense"), "PeerProtocolError", 1),
    ],
)
def test_each_kind_of_loss_is_survived_as_often_as_by_the_client(outcome, kind, attempts) -> None:
    server = Server(delay_s=0.1)
    server.answer = outcome
    report = run(server, OpenLoad(rate=5, seconds=1, connections=4), patience_s=60)
    assert report.errors == {kind: report.started}
    assert len(server.keys) == attempts * report.started


def test_a_front_end_that_is_not_the_one_is_never_asked() -> None:
    server = Server()
    server.refuses = EvidenceInvalid("another enclave")
    with pytest.raises(AttestationError):
        run(server, OpenLoad(rate=5, seconds=1, connections=4))
    assert server.keys == []


def test_one_that_changes_under_load_is_not_asked_again() -> None:
    server = Server()

    def plan(loop, _driver) -> None:
        def swap() -> None:
            server.refuses = EvidenceInvalid("another enclave")
            for link in server.links:
                link.dead = True

        loop.call_later(0.5, swap)

    report = run(server, OpenLoad(rate=100, seconds=1), plan=plan)
    assert set(report.errors) == {"EvidenceInvalid"}
    assert report.errors["EvidenceInvalid"] == pytest.approx(50, rel=0.5)


def test_a_wrong_answer_is_no_answer() -> None:
    class Wrong(WardianError):
        pass

    def judge(payload: Payload, _answer: Answer) -> None:
        if payload.number == 1:
            raise Wrong("not what the plain model says")

    report = run(Server(), ClosedLoad(connections=1, seconds=1), judge=judge)
    assert report.errors["Wrong"] > 20
    assert report.answered > 20


def test_answers_that_nobody_asked_for_are_counted() -> None:
    server = Server()

    def plan(loop, _driver) -> None:
        loop.call_later(0.5, lambda: [server.links[0].unasked() for _ in range(3)])

    report = run(server, OpenLoad(rate=10, seconds=1), plan=plan)
    assert report.unasked == 3


def test_stopping_by_hand_reports_what_there_is() -> None:
    server = Server()

    def plan(loop, driver) -> None:
        def stop() -> None:
            server.silent = True
            driver.stop()

        loop.call_later(2.0, stop)

    report = run(server, OpenLoad(rate=1000, seconds=60), plan=plan)
    assert report.stopped
    assert report.seconds == pytest.approx(2.0, abs=0.1)
    assert report.goodput == pytest.approx(1000, rel=0.1)
    assert report.started == report.answered + report.failed + report.unfinished


def test_stopping_does_not_wait_for_ever() -> None:
    server = Server()
    server.silent = True
    times: list[float] = []

    def plan(loop, driver) -> None:
        loop.call_later(1.0, lambda: (times.append(loop.time()), driver.stop()))

    load = ClosedLoad(connections=3, seconds=60)
    report = run(server, load, plan=plan, patience_s=500, observe=None)
    assert (report.unfinished, report.answered) == (3, 0)


def test_a_slow_start_is_not_part_of_the_load() -> None:
    server = Server()
    dial = server.dial

    async def slow(unasked):
        await asyncio.sleep(3.0)
        return await dial(unasked)

    server.dial = slow
    report = run(server, OpenLoad(rate=100, seconds=2, connections=64))
    assert report.max_ms < 5
    assert report.not_started == 0


def test_connections_are_kept_from_one_load_to_the_next() -> None:
    server = Server()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        driver = Driver(server.dial, PAYLOADS, patience_s=5, alarm=LoopAlarm, clock=loop.time)
        for _ in range(3):
            await driver.run(ClosedLoad(connections=4, seconds=1))
        await driver.close()

    run_virtually(main())
    assert server.dials == 4


def test_a_judge_that_refuses_with_back_pressure_names_it() -> None:
    def judge(_payload: Payload, _answer: Answer) -> None:
        raise QueueFull("full")

    report = run(Server(), OpenLoad(rate=10, seconds=1), judge=judge)
    assert set(report.errors) == {"QueueFull"}
