"""The exponential that is the same on every processor, of which two would show more than noise."""

import hashlib
import os
import subprocess
import sys
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from shared_world import A, Owner, csv_text, opened, plan_of, run

from wardian.learning.shared.exact import exp
from wardian.learning.shared.trainers import private

VALUES = np.concatenate(
    [
        np.random.default_rng(1).uniform(-700, 700, 2000),
        np.random.default_rng(2).normal(size=2000),
        [0.0, -0.0, 1e-300, -1e-17, 700.0, -700.0, 0.34657359027997264, 0.34657359027997270],
    ]
)
OTHERS = ("AVX512_ICL X86_V4", "AVX512_ICL X86_V4 X86_V3")
"""Features of a processor that NumPy is told to do without."""
CODE = """
import hashlib, numpy
from wardian.learning.shared.exact import exp
values = numpy.random.default_rng(3).normal(size=100_000) * 9
print(hashlib.sha256(exp(values).tobytes()).hexdigest())
"""


class Basic:
    """NumPy without what processors may round differently."""

    def __getattr__(self, name: str) -> Any:
        assert name not in {"exp", "expm1", "exp2", "log", "log1p", "tanh", "power", "dot", "mean"}
        return getattr(np, name)


def test_it_is_within_two_units_of_the_last_place() -> None:
    with localcontext() as digits:
        digits.prec = 50
        for value, found in zip(VALUES.tolist(), exp(VALUES).tolist(), strict=True):
            right = Decimal(value).exp()
            assert abs(Decimal(found) / right - 1) < Decimal(2) ** -51
    assert exp(np.zeros(1)) == 1.0
    assert exp(np.zeros((2, 3))).shape == (2, 3)


@pytest.mark.parametrize("without", OTHERS)
def test_a_processor_of_another_kind_has_the_same(without: str) -> None:
    values = np.random.default_rng(3).normal(size=100_000) * 9
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NPY_DISABLE_CPU_FEATURES": without},
    )
    assert done.stdout.strip() == hashlib.sha256(exp(values).tobytes()).hexdigest()


EDGE = 'epsilon=float.fromhex("0x1.a92210e2c4f65p+0"), delta=float.fromhex("0x1.0c3cb3f61d60ap-20")'
BOUGHT = f"""
from wardian.learning.privacy.gaussian import noise_within
print(noise_within({EDGE}, rounds=2, parties=1).hex())
import numpy
from wardian.broker.jobs.plan import Privacy
from wardian.crypto.keystream import Keystream
from wardian.crypto.secret import Secret
from wardian.learning.privacy.noise import DiscreteGaussian
from wardian.learning.shared.trainers import statistics
class Task:
    privacy = Privacy(epsilon=8.0, delta=1e-6)
    class joined:
        names = tuple(map(str, range(300)))
        features = staticmethod(lambda: numpy.full((500, 300), 0.7))
    class terms:
        smallest_cohort = 1
        refuse_small_join = staticmethod(lambda rows: None)
    number = staticmethod(lambda name: 1.0)
for seed in range(60):
    Task.noise = DiscreteGaussian(Keystream(Secret(bytes([seed]) * 32)))
    print(*map(repr, statistics._noised(Task)))
print(*(noise_within(epsilon=e / 7, delta=1e-6, rounds=17, parties=1).hex() for e in range(1, 9)))
"""


def test_a_budget_buys_the_same_noise_on_every_processor() -> None:
    """On two grids the same noise shows what it hides; the plan's author chooses the edge."""
    told = set()
    for tuned in ("", "glibc.cpu.hwcaps=-FMA,-AVX2,-AVX512F,-FMA4"):
        env = {**os.environ, "GLIBC_TUNABLES": tuned}
        if not tuned:
            del env["GLIBC_TUNABLES"]
        done = subprocess.run(
            [sys.executable, "-c", BOUGHT], capture_output=True, text=True, check=True, env=env
        )
        told.add(done.stdout)
    assert len(told) == 1


def test_a_private_model_is_made_without_a_library_s_own(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(1).uniform(-1, 1, 400)
    owner = Owner(A, tmp_path, csv_text({"x": rows, "y": (rows > 0).astype(int)}))
    plan = plan_of(
        [owner], [["x"]], "logistic-regression",
        parameters={"l2": 0.1, "max_iterations": 5}, seed=None,
        privacy={"epsilon": 2.0, "delta": 1e-6},
    )  # fmt: skip
    monkeypatch.setattr(private, "np", Basic())
    finished = run(plan, [owner], epsilon=8.0, delta=1e-5, without_noise=None)
    assert opened(finished.held, "model", A)
