"""SIGKILL to an aggregator and to each party at every step that the aggregator announces.

The parties' app waits at gates, so that the run stands still at the step while the process dies.
Every step has a round of its own, all in one run: a run that is wrong once is wrong at its end.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consortium_process import Consortium
from test_federated_processes import same

APP = Path(__file__).parent / "gated_party.py"
PARTIES = ("a", "b")
BEGINNING = ("aggregator.listening", "party.here a", "party.here b", "first model answered")
IN_A_ROUND = ("train answered", "round.done", "evaluate answered", "round.evaluated")
END = ("run.over", "party.gone")
EVERY = frozenset((*BEGINNING, *IN_A_ROUND, *END))
ROUNDS = len(IN_A_ROUND) + 1


class GatedRun(Consortium):
    """A run of a and b in which `victim` is killed at some `steps`, and started again."""

    def __init__(self, place: Path, victim: str, steps: frozenset[str]) -> None:
        self.gates = place / "gates"
        self.gates.mkdir()
        self.mark, self.victim, self.steps, self.killed = 0, victim, steps, []
        super().__init__(place, *PARTIES, rounds=ROUNDS, app=APP)

    def open(self, *gates: str) -> None:
        for gate in gates:
            (self.gates / gate).touch()

    def reached(self, step: str, event: str, **fields: Any) -> None:
        """Return when the aggregator has announced `event` anew; kill and start if it is time."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            said = self.said()
            for at in range(self.mark, len(said)):
                if said[at]["event"] == event and fields.items() <= said[at].items():
                    self.mark = at + 1
                    return self.perhaps_kill(step)
            time.sleep(0.005)
        raise AssertionError(f"no {event} {fields}: {self.aggregator.text[-2000:]}")

    def perhaps_kill(self, step: str) -> None:
        if step not in self.steps:
            return
        process = self.aggregator if self.victim == "aggregator" else self.parties.get(self.victim)
        if process is None:
            return  # it is not there yet
        assert process.process.poll() is None
        process.kill()
        self.mark = len(self.said())
        process.start()
        self.killed.append(step)
        if self.victim == "aggregator":
            self.reached("", "aggregator.listening")

    def begin(self) -> None:
        self.reached("aggregator.listening", "aggregator.listening")
        for name in PARTIES:
            self.party(name, gates=self.gates)
            self.reached(f"party.here {name}", "party.here", party=name)
        self.open("query-0-a")
        self.reached("first model answered", "party.answered", party="a", round=0)

    def one_round(self, number: int, step: str) -> None:
        """Go through a round, and perhaps kill at this one `step` of it."""

        def now(each: str) -> str:
            return each if each == step else ""

        self.open(f"train-{number}-a")
        self.reached(now("train answered"), "party.answered", party="a", round=number)
        self.open(f"train-{number}-b")
        self.reached(now("round.done"), "round.done", round=number)
        self.open(f"evaluate-{number}-a")
        if now("evaluate answered"):
            self.reached("evaluate answered", "party.answered", party="a", round=number)
        self.open(f"evaluate-{number}-b")
        if now("round.evaluated"):
            self.reached("round.evaluated", "round.evaluated", round=number)

    def last_round(self) -> None:
        """Go through it; one party is held up, so that it has not heard yet that the run is over."""
        held, other = ("b", "a") if self.victim == "b" else ("a", "b")
        self.open(*(f"train-{ROUNDS}-{name}" for name in PARTIES), f"evaluate-{ROUNDS}-{held}")
        self.reached("", "round.done", round=ROUNDS)
        self.reached("", "party.answered", party=held, round=ROUNDS)
        process = self.parties[held].process
        os.kill(process.pid, signal.SIGSTOP)
        self.open(f"evaluate-{ROUNDS}-{other}")
        self.reached("run.over", "run.over")
        assert self.parties[other].process.wait(60) == 0
        if self.victim == "aggregator":
            self.perhaps_kill("party.gone")
        if self.parties[held].process is process:
            os.kill(process.pid, signal.SIGCONT)

    def finish(self) -> list[dict[str, np.ndarray]]:
        for party in self.parties.values():
            assert party.process.wait(60) == 0, party.text[-2000:]
        if self.victim == "aggregator":  # it does not know that the other one has the model already
            self.aggregator.process.terminate()
            assert self.aggregator.process.wait(60) in {0, -signal.SIGTERM}
            return [dict(np.load(self.model(name))) for name in self.names]
        return self.models()


def through(place: Path, victim: str, steps: frozenset[str]) -> list[dict[str, np.ndarray]]:
    """Return what both parties have after a run in which `victim` was killed at `steps`."""
    run = GatedRun(place, victim, steps)
    try:
        run.begin()
        for number, step in enumerate(IN_A_ROUND, start=1):
            run.one_round(number, step)
        run.last_round()
        models = run.finish()
    finally:
        run.end()
    missing = set(steps) - set(run.killed)
    if victim != "aggregator":  # which is there before any party, and alone once they are gone
        missing -= {"aggregator.listening", "party.gone"} | (
            {"party.here a"} if victim == "b" else set()
        )
    assert missing == set()
    return models


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, np.ndarray]]:
    run = Consortium(tmp_path_factory.mktemp("undisturbed"), *PARTIES, rounds=ROUNDS, app=APP)
    (run.place / "all").touch()
    try:
        for name in PARTIES:
            run.party(name, gates=run.place)
        models = run.models()
        assert same(models, models[0])
        yield models[0]
    finally:
        run.end()


@pytest.mark.parametrize(
    ("victim", "steps"),
    [
        ("aggregator", frozenset({"round.done"})),
        ("a", frozenset({"train answered", "run.over"})),
        pytest.param("aggregator", EVERY, marks=pytest.mark.slow),
        pytest.param("a", EVERY, marks=pytest.mark.slow),
        pytest.param("b", EVERY, marks=pytest.mark.slow),
    ],
    ids=["aggregator-once", "a-twice", "aggregator", "a", "b"],
)
def test_a_process_that_is_killed_at_a_step_changes_nothing(
    undisturbed: dict[str, np.ndarray], tmp_path: Path, victim: str, steps: frozenset[str]
) -> None:
    assert same(through(tmp_path, victim, steps), undisturbed)
