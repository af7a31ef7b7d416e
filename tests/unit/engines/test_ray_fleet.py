"""A fleet's logic, against a module that has of Ray what it uses."""

import io
import queue
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from wardian.engines import WorkersSpec, WorkerStatus
from wardian.engines.ray.driver import NODES_S, Driver, await_nodes
from wardian.engines.ray.fleet import STALE_S, STOP_S, Fleet
from wardian.engines.ray.messages import Ask, Keep, Workers, parse_answer

SPEC = WorkersSpec(name="w", argv=("/w",), env={"A": "1"}, logs=Path("/l"), replicas=1)


class RayError(Exception):
    pass


class Reference:
    def __init__(self, what: str) -> None:
        self.what, self.value = what, None


class Actor:
    def __init__(self, arguments) -> None:
        self.arguments, self.calls = arguments, []
        self.beat = SimpleNamespace(remote=lambda: self._call("beat"))
        self.stop = SimpleNamespace(remote=lambda: self._call("stop"))

    def _call(self, what: str) -> Reference:
        self.calls.append(Reference(what))
        return self.calls[-1]

    def done(self, value) -> None:
        self.calls[-1].value = value


class FakeRay:
    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self) -> None:
        self.actors: list[Actor] = []
        self.killed: list[Actor] = []
        self.options: dict[str, object] = {}

    def remote(self, _class):
        def options(**options):
            self.options = options
            return SimpleNamespace(remote=self._make)

        return SimpleNamespace(options=options)

    def _make(self, *arguments) -> Actor:
        self.actors.append(Actor(arguments))
        return self.actors[-1]

    def wait(self, references, *, num_returns, timeout):
        done = [each for each in references if each.value is not None][:num_returns]
        return done, [each for each in references if each not in done]

    def get(self, reference):
        if isinstance(reference.value, Exception):
            raise reference.value
        return reference.value

    def kill(self, actor, *, no_restart) -> None:
        assert no_restart
        self.killed.append(actor)


@pytest.fixture
def ray():
    return FakeRay()


@pytest.fixture
def clock():
    return SimpleNamespace(now=1000.0)


@pytest.fixture
def fleet(ray, clock):
    return Fleet(ray, object, cpus=0.5, now=lambda: clock.now)


def beat(*, actor: int = 7, starts: int = 1, state="ready"):
    status = WorkerStatus(name="w-1", state=state, place="node", pid=9, starts=starts)
    return {**asdict(status), "actor": actor}


def test_an_actor_is_given_strings_and_a_number_and_beats_without_pause(fleet, ray) -> None:
    fleet.keep(SPEC, 1)
    fleet.turn(0)
    assert ray.options["num_cpus"] == 0.5
    assert ray.options["max_restarts"] == ray.options["max_task_retries"] == -1
    (actor,) = ray.actors
    plain = {"name": "w", "argv": ["/w"], "env": {"A": "1"}, "logs": "/l", "replicas": 1}
    assert actor.arguments == (plain, 1)
    actor.done(beat())
    fleet.turn(0)
    fleet.turn(0)
    assert [call.what for call in actor.calls] == ["beat", "beat"]
    assert [each.state for each in fleet.workers()] == ["ready"]


def test_a_beat_that_does_not_come_back_is_a_worker_that_waits(fleet, ray, clock) -> None:
    fleet.keep(SPEC, 1)
    fleet.turn(0)
    ray.actors[0].done(beat())
    fleet.turn(0)
    fleet.turn(0)
    clock.now += STALE_S + 0.1
    (status,) = fleet.workers()
    assert (status.state, status.pid, status.place) == ("waiting", None, "")
    ray.actors[0].done(beat(actor=8))  # Ray started it again, elsewhere
    fleet.turn(0)
    (status,) = fleet.workers()
    assert (status.state, status.starts) == ("ready", 2)


def test_a_failed_worker_stays_so_while_its_actor_is_gone(fleet, ray, clock) -> None:
    fleet.keep(SPEC, 1)
    fleet.turn(0)
    ray.actors[0].done(beat(state="failed"))
    fleet.turn(0)
    clock.now += STALE_S + 0.1
    assert [each.state for each in fleet.workers()] == ["failed"]


def test_an_actor_that_is_dead_for_good_is_made_anew_later_and_later(fleet, ray, clock) -> None:
    fleet.keep(SPEC, 1)
    waited = []
    for made in range(1, 5):
        fleet.turn(0)
        assert len(ray.actors) == made
        ray.actors[-1].done(RayError())
        fleet.turn(0)
        (status,) = fleet.workers()
        assert (status.state, status.reason) == ("waiting", "RayError")
        before = clock.now
        while len(ray.actors) == made:
            clock.now += 0.05
            fleet.turn(0)
        waited.append(clock.now - before)
    assert waited == sorted(waited)
    assert waited[-1] > 2 * waited[0]


def test_the_last_ones_are_stopped_and_then_killed(fleet, ray, clock) -> None:
    fleet.keep(SPEC, 3)
    fleet.turn(0)
    fleet.keep(SPEC, 1)
    assert not fleet.settled
    first, second, third = ray.actors
    assert [each.calls[-1].what for each in ray.actors] == ["beat", "stop", "stop"]
    second.done("stopped")
    fleet.turn(0)
    assert ray.killed == [second]
    clock.now += STOP_S + 0.1  # the third hangs
    fleet.turn(0)
    assert ray.killed == [second, third]
    assert fleet.settled
    assert len(fleet.workers()) == 1
    fleet.keep(SPEC, 0)
    first.done("stopped")
    fleet.turn(0)
    assert fleet.workers() == ()
    assert first in ray.killed


def test_a_worker_that_has_no_actor_yet_needs_no_end(fleet, ray) -> None:
    fleet.keep(SPEC, 1)
    fleet.keep(SPEC, 0)
    assert fleet.settled
    fleet.turn(0)
    assert ray.actors == []


def test_a_driver_answers_at_once_but_for_what_has_to_end_first(fleet, ray) -> None:
    sink = io.BytesIO()
    driver = Driver(fleet, sink)

    def answered() -> list[int]:
        return [parse_answer(line).id for line in sink.getvalue().splitlines()]

    spec = Workers.of(SPEC)
    driver.take(Keep(id=1, spec=spec, replicas=1))
    driver.turn()
    assert answered() == [1]
    driver.take(Keep(id=2, spec=spec, replicas=0))
    driver.take(Ask(id=3))
    driver.turn()
    assert answered() == [1, 3]
    ray.actors[0].done("stopped")
    driver.turn()
    driver.turn()
    assert answered() == [1, 3, 2]


def test_a_driver_ends_with_its_orders(fleet) -> None:
    orders: queue.Queue[Keep | Ask | None] = queue.Queue()
    sink = io.BytesIO()
    for order in (Ask(id=1), None, Ask(id=2)):
        orders.put(order)
    Driver(fleet, sink).run(orders)
    assert [parse_answer(line).id for line in sink.getvalue().splitlines()] == [1]


def test_workers_wait_for_nodes_that_are_still_starting() -> None:
    asked: list[int] = []

    def nodes() -> list[dict[str, bool]]:
        asked.append(len(asked))
        return [{"Alive": True}, {"Alive": len(asked) > 2}]

    await_nodes(SimpleNamespace(nodes=nodes), 2)
    assert len(asked) == 3


def test_a_node_that_does_not_come_is_not_waited_for_for_ever() -> None:
    times = iter([0.0, 1.0, NODES_S])
    await_nodes(SimpleNamespace(nodes=lambda: [{"Alive": True}]), 2, now=lambda: next(times))
