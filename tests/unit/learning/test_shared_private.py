"""Noise within a job: exact, within the budget, the same for the same job, and of no use to average."""

import csv
import io

import numpy as np
import onnxruntime
import pytest
from shared_world import SEED, A, Owner, csv_text, metrics, opened, plan_of, run

from wardian.broker.jobs.plan import Privacy
from wardian.crypto.keystream import Keystream
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, FormatError, LocalProtocolError, PolicyDenied
from wardian.learning.privacy.accounting import Releases, Sampling
from wardian.learning.privacy.gaussian import gaussian_epsilon, noise_within
from wardian.learning.privacy.noise import DiscreteGaussian
from wardian.learning.shared.joining import Joined
from wardian.learning.shared.seeds import Seeds
from wardian.learning.shared.trainers.private import NoisySums, _margins

PRIVACY = {"epsilon": 2.0, "delta": 1e-6}
NOISED = {"epsilon": 8.0, "delta": 1e-5, "without_noise": None}


def stream(seed: int = 0) -> DiscreteGaussian:
    return DiscreteGaussian(Keystream(Secret(seed.to_bytes(32))))


@pytest.fixture(scope="module")
def owner(tmp_path_factory) -> Owner:
    chance = np.random.default_rng(1)
    rows = chance.uniform(-1, 1, (4000, 3))
    target = (rows @ [2.0, -1.0, 0.5] + chance.logistic(size=4000) / 10 > 0).astype(int)
    columns = {f"x{at}": rows[:, at] for at in range(3)} | {"y": target}
    return Owner(A, tmp_path_factory.mktemp("private"), csv_text(columns))


def logistic(owner: Owner, **changes):
    given = {"l2": 0.1, "max_iterations": 15}
    return plan_of(
        [owner], [["x0", "x1", "x2"]], "logistic-regression",
        **{"parameters": given, "seed": None, "privacy": PRIVACY, **changes},
    )  # fmt: skip


def test_a_private_model_is_good_and_costs_what_it_may(owner) -> None:
    finished = run(logistic(owner), [owner], **NOISED)
    told = metrics(finished)
    assert sorted(told) == ["accuracy_noised", "rows_noised"]
    assert told["accuracy_noised"] > 0.85
    assert 3900 < told["rows_noised"] < 4100
    assert told["rows_noised"] != 4000
    assert finished.report["rows"] is None
    model = opened(finished.held, "model", A)
    _, labels = onnxruntime.InferenceSession(model).run(
        ["probabilities", "label"], {"input": np.array([[1, -1, 1], [-1, 1, -1]], np.float32)}
    )
    assert labels.tolist() == [1, 0]
    multiplier = noise_within(epsilon=2.0, delta=1e-6, rounds=17, parties=1)
    spent = Releases(rounds=17, noise=multiplier, rate=1.0, parties=1, sampling=Sampling.OPEN)
    assert 1.99 < gaussian_epsilon((spent,), 1e-6) <= 2.0


def test_the_same_job_has_the_same_noise_and_another_input_has_another(owner, tmp_path) -> None:
    plan = logistic(owner)
    first, again = (opened(run(plan, [owner], **NOISED).held, "model", A) for _ in range(2))
    assert first == again
    other_seed = run(plan, [owner], seed=Secret(b"2" * 32), **NOISED)
    assert opened(other_seed.held, "model", A) != first
    joined, less = (
        Joined(
            names=("x",),
            columns={"x": np.arange(float(rows))},
            label=None,
            sources=np.zeros(rows, np.uint8),
            owners=(frozenset({A}),),
            rows=rows,
        )
        for rows in (9, 8)
    )
    seeds = Seeds(SEED, plan)
    draws = [seeds.noise(each).draw(4).tolist() for each in (joined, joined, less)]
    assert draws[0] == draws[1] != draws[2]
    with pytest.raises(LocalProtocolError):
        Seeds(Secret(b"short"), plan)


def test_noise_has_the_deviation_that_the_books_count() -> None:
    privacy = Privacy(epsilon=1.0, delta=1e-6)
    multiplier = noise_within(epsilon=1.0, delta=1e-6, rounds=1, parties=1)
    rows = np.eye(2000)[:3]
    found = NoisySums(privacy, stream(), releases=1).sum(rows)
    assert np.std(found) == pytest.approx(2 * multiplier, rel=0.08)  # a row moves a sum by 2


def test_one_row_moves_a_sum_by_no_more_than_the_noise_was_made_for() -> None:
    privacy = Privacy(epsilon=1.0, delta=1e-6)
    chance = np.random.default_rng(5)
    rows = chance.normal(size=(50, 7))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    step = 2 * noise_within(epsilon=1.0, delta=1e-6, rounds=1, parties=1) / 2**24

    def exact(some: np.ndarray) -> np.ndarray:
        """Whole numbers of the grid, without the noise, which is the same here."""
        noised = NoisySums(privacy, stream(), releases=1).sum(some)
        noise = NoisySums(privacy, stream(), releases=1).sum(np.zeros((1, 7)))
        return np.round((noised - noise) / step)

    whole = exact(rows)
    for at in range(50):
        swapped = rows.copy()
        swapped[at] = -rows[at]
        for other in (swapped, np.delete(rows, at, axis=0)):
            moved = np.linalg.norm((exact(other) - whole) * step)
            assert moved <= 2.0


def test_one_row_more_changes_no_other_s_share_by_its_last_bit() -> None:
    """A matrix product takes a row's sum in an order that hangs on where it stands."""
    chance = np.random.default_rng(3)
    rows, weights = chance.normal(size=(9001, 31)) / 40, chance.normal(size=31) * 1e3
    whole = _margins(rows, weights)
    assert np.abs(whole - rows @ weights).max() < 1e-9
    for out in (0, 1, 4000, 8999):
        left = np.delete(rows, out, axis=0)
        assert (_margins(left, weights) == np.delete(whole, out)).all()


def test_no_sum_too_many_and_no_row_that_is_too_long() -> None:
    privacy = Privacy(epsilon=1.0, delta=1e-6)
    sums = NoisySums(privacy, stream(), releases=1)
    sums.sum(np.zeros((1, 1)))
    with pytest.raises(LocalProtocolError):
        sums.sum(np.zeros((1, 1)))
    with pytest.raises(LocalProtocolError):
        NoisySums(privacy, stream(), releases=1).sum(np.array([[2.0]]))
    with pytest.raises(ConfigError, match="delta"):
        NoisySums(Privacy(epsilon=1.0), stream(), releases=1)


def test_private_statistics(owner, tmp_path) -> None:
    values = np.random.default_rng(2).uniform(-3, 3, 5000)
    few = ["1" if at < 3 else "" for at in range(5000)]
    of = Owner(A, tmp_path, csv_text({"v": values, "few": few}))
    plan = plan_of(
        [of], [["v", "few"]], "statistics", label=None, seed=None,
        privacy=PRIVACY, parameters={"largest": 2.0},
    )  # fmt: skip
    finished = run(plan, [of], smallest_cohort=50, **NOISED)
    raw = opened(finished.held, "aggregates", A)
    assert raw is not None
    (row,) = csv.DictReader(io.StringIO(raw.decode()))  # `few` is left out by its noised count
    cut = np.clip(values, -2, 2)
    assert row["column"] == "v"
    assert float(row["rows"]) == pytest.approx(5000, abs=100)
    assert float(row["mean"]) == pytest.approx(cut.mean(), abs=0.05)
    assert float(row["deviation"]) == pytest.approx(cut.std(), abs=0.05)


def test_what_a_private_run_refuses(owner, tmp_path) -> None:
    with pytest.raises(PolicyDenied) as refused:
        run(logistic(owner), [owner], smallest_cohort=5000, **NOISED)
    assert refused.value.rule == "cohort-small"
    with pytest.raises(ConfigError, match="no noise is enough"):
        run(logistic(owner, privacy={"epsilon": 1e-12, "delta": 1e-6}), [owner], **NOISED)
    columns = {f"x{at}": range(100) for at in range(3)}
    for number, (changes, told) in enumerate(
        (
            ({"y": [0, 2] * 50}, "classes are 0 and 1"),
            ({"x1": [*range(99), ""], "y": [0, 1] * 50}, "column x1: a value is missing"),
        )
    ):
        (tmp_path / str(number)).mkdir()
        other = Owner(A, tmp_path / str(number), csv_text({**columns, **changes}))
        with pytest.raises(FormatError, match=told):
            run(logistic(other), [other], **NOISED)
