"""A plan with a privacy budget, over sockets: what leaves is noised, counted, and the same again."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from privacy_samples import model, moved, replies
from simulators.consortium import Consort

from wardian._internal.consortium import MaskingTerms, PrivacyTerms
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, PolicyDenied, SealError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.coordinator.course import Course
from wardian.learning.coordinator.keeping import RunKeeper, Standing
from wardian.learning.coordinator.run import Run
from wardian.learning.planned import planned_strategy, verify_plan
from wardian.learning.privacy.accounting import Releases, Sampling
from wardian.learning.privacy.gaussian import gaussian_epsilon, noise_within
from wardian.learning.records import ConfigRecord

NAMES = ("a", "b", "c", "d")
BUDGET = PrivacyTerms(epsilon=8.0, delta=1e-5, clip=1.0)


def private(place: Path, **terms: Any) -> Consort:
    consort = Consort(place, *NAMES, rounds=3)
    privacy = msgspec.structs.replace(BUDGET, **terms)
    consort.plan = msgspec.structs.replace(
        consort.plan, privacy=privacy, strategy={"name": "fedavg"}
    )
    return consort


def course_of(run: Run) -> Course:
    return Course(run, planned_strategy(run.plan, run=run.id, secret=run.secret))


async def test_every_round_is_noised_and_says_what_was_spent(tmp_path: Path) -> None:
    consort = private(tmp_path)
    consort.course_of = course_of
    model = await consort.whole()
    spent = [line.metrics["epsilon"] for line in consort.news]
    assert spent == sorted(spent)
    assert spent[0] > 0
    assert spent[-1] == pytest.approx(8.0, rel=1e-4)
    assert spent[-1] <= 8.0
    assert {frozenset(line.metrics) for line in consort.news} == {
        frozenset({"clip", "noise", "epsilon", "delta", "budget"})
    }
    assert all(line.evaluation == {} for line in consort.news)
    again = private(tmp_path / "again")
    again.course_of = course_of
    assert await again.whole() != model  # another run, another secret


async def test_who_was_killed_publishes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise that is drawn anew over the same answers could be averaged away."""
    consort = private(tmp_path)
    consort.course_of = course_of
    made: list[ArrayRecord] = []
    save = RunKeeper.save

    def save_but_once(keeper: RunKeeper, standing: Standing) -> None:
        if standing.round == 2:
            made.append(standing.model)
            if len(made) == 1:  # the model was made, and nobody was told of it
                raise SealError("the machine lost its power")
        save(keeper, standing)

    monkeypatch.setattr(RunKeeper, "save", save_but_once)
    parties = [asyncio.create_task(consort.party(name).attend()) for name in NAMES]
    with pytest.raises(SealError):
        await consort.coordinate()
    model = await consort.coordinate()
    assert len(made) == 2
    assert made[0] == made[1]
    assert all(each == model for each in await asyncio.gather(*parties))
    assert consort.news[-1].metrics["epsilon"] == pytest.approx(8.0, rel=1e-4)


def test_the_same_answers_in_the_same_run_give_the_same_noise() -> None:
    consort = private(Path("unused"))
    kept = [
        planned_strategy(consort.plan, run=bytes(32), secret=Secret(bytes([seed]) * 32))
        for seed in (1, 1, 2)
    ]
    before = model()
    found = []
    for strategy in kept:
        strategy.configure_train(1, before, ConfigRecord(), NAMES)
        answers = replies({name: moved(before, 0.1, seed=1) for name in NAMES})
        found.append(strategy.aggregate_train(1, before, answers)[0])
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"privacy": {"noise": 0.2}}, "cost an epsilon of"),
        ({"privacy": {"expected": 5}}, "more than the run has parties"),
        ({"privacy": {"quantile": 0.5}}, "bit_noise"),
        ({"strategy": {"name": "median"}}, "single updates"),
        ({"strategy": {"name": "scaffold", "parties": 4}}, "takes more from parties"),
        ({"masking": True}, "leave out one of the two"),
    ],
)
def test_what_cannot_be_kept_is_said_when_the_plan_is_read(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    plan = private(tmp_path, **changes.get("privacy", {})).plan
    if "strategy" in changes:
        plan = msgspec.structs.replace(plan, strategy=changes["strategy"])
    if "masking" in changes:
        plan = msgspec.structs.replace(plan, masking=MaskingTerms())
    with pytest.raises(ConfigError, match=reason):
        verify_plan(plan)


async def test_a_round_beyond_the_budget_is_not_begun(tmp_path: Path) -> None:
    """A coordinator whose plan grants less than its rounds would cost stops, and says so."""
    consort = private(tmp_path)

    def stingy(run: Run) -> Course:
        strategy = planned_strategy(run.plan, run=run.id, secret=run.secret)
        more = msgspec.structs.replace(run.plan.run, rounds=5)
        run.plan = msgspec.structs.replace(run.plan, run=more)
        return Course(run, strategy)

    consort.course_of = stingy
    parties = [asyncio.create_task(consort.party(name).attend()) for name in NAMES]
    with pytest.raises(PolicyDenied) as caught:
        await consort.coordinate()
    assert caught.value.rule == "privacy-budget"
    assert await asyncio.gather(*parties) == [None] * 4
    assert [line.round for line in consort.news] == [1, 2, 3]


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0, 50.0])
def test_the_noise_is_the_least_that_the_budget_takes(epsilon: float) -> None:
    noise = noise_within(epsilon=epsilon, delta=1e-6, rounds=40, parties=9)

    def spent(noise: float) -> float:
        each = Releases(rounds=40, noise=noise, rate=1.0, parties=9, sampling=Sampling.OPEN)
        return gaussian_epsilon((each,), 1e-6)

    assert spent(noise) <= epsilon < spent(noise * (1 - 3e-6))


def test_the_books_know_no_other_sampling() -> None:
    each = Releases(rounds=1, noise=1.0, rate=0.5, parties=4, sampling=Sampling.POISSON)
    with pytest.raises(ConfigError, match="whose cohort may be known"):
        gaussian_epsilon((each,), 1e-6)
