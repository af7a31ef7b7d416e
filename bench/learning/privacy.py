"""What central privacy costs: accuracy on digits, and processor time for a round's mean.

Accuracy: softmax regression (650 parameters) on scikit-learn's digits, dealt out evenly; every
party takes part in every round, and epsilon counts for a party, not for an image. Ten rounds of
five full-batch steps at rate 1, updates clipped to 1 or adaptively; delta is a tenth of one divided
by the number of parties. The noise is what `accounting.noise_for` says, by privacy loss
distributions, in the environment of `make dp`.

Time: `private_mean` beside the plain mean in float64 over the same blocks, in turn, medians of
processor seconds of this process; the noise alone.

    python bench/learning/privacy.py [--seeds 3] [--turns 5]
"""

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from wardian.crypto.keystream import Keystream
from wardian.crypto.secret import Secret
from wardian.engines.environment import find_python
from wardian.learning.arrays import ArrayRecord
from wardian.learning.privacy.clipping import AdaptiveClip, FixedClip, PrivateMean
from wardian.learning.privacy.mean import LEAST_NOISE, private_mean
from wardian.learning.privacy.noise import DiscreteGaussian, Randomness
from wardian.learning.records import MetricRecord
from wardian.learning.replies import HeldReplies

RESULTS = Path(__file__).parent.parent / "results" / "learning_privacy.jsonl"
ROUNDS, STEPS, RATE = 10, 5, 1.0
HELD_OUT = 360
NOISES = """
import json, sys
from wardian.learning.privacy.accounting import noise_for
print(json.dumps([noise_for(**each, method="pld") for each in json.load(sys.stdin)]))
"""
Floats = NDArray[np.float64]


def noises(cells: list[tuple[int, float]]) -> list[float]:
    """Return the noise for each number of parties and epsilon."""
    calls = [
        {"epsilon": e, "delta": 0.1 / n, "rounds": ROUNDS, "cohort": n, "parties": n}
        for n, e in cells
    ]
    command = [str(find_python("dp")), "-c", NOISES]
    done = subprocess.run(
        command, input=json.dumps(calls), capture_output=True, check=True, text=True
    )
    found: list[float] = json.loads(done.stdout)
    return found


def trained(model: ArrayRecord, images: Floats, labels: Floats) -> ArrayRecord:
    """Return the model after a party's steps."""
    weights, bias = model["weights"].copy(), model["bias"].copy()
    for _ in range(STEPS):
        scores = images @ weights + bias
        likely = np.exp(scores - scores.max(1, keepdims=True))
        wrong = (likely / likely.sum(1, keepdims=True) - labels) / len(images)
        weights -= RATE * (images.T @ wrong)
        bias -= RATE * wrong.sum(0)
    return ArrayRecord({"weights": weights, "bias": bias})


def accuracy(parties: int, noise: float, clipping: FixedClip | AdaptiveClip, seed: int) -> float:
    """Return the share of held-out images that the model of a run gets right."""
    images, found = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order] / 16, np.eye(10)[found[order]]
    shares = np.array_split(np.arange(HELD_OUT, len(images)), parties)
    model = ArrayRecord({"weights": np.zeros((64, 10)), "bias": np.zeros(10)})
    mean, clip = PrivateMean(clipping, noise=noise, expected=parties), clipping.first()
    metrics = MetricRecord({"num-examples": 1})
    for number in range(1, ROUNDS + 1):
        answers = {
            f"{place:04}": ({"arrays": trained(model, images[mine], labels[mine])}, metrics)
            for place, mine in enumerate(shares)
        }
        random = Randomness(Secret(bytes([seed]) * 32), run=bytes(32), number=number)
        model, clip = mean.make(HeldReplies(answers), "arrays", model, clip=clip, random=random)
    scores = images[:HELD_OUT] @ model["weights"] + model["bias"]
    return float((scores.argmax(1) == labels[:HELD_OUT].argmax(1)).mean())


def utility(seeds: int) -> list[dict[str, Any]]:
    """Return a row for each number of parties and epsilon."""
    cells = [(parties, epsilon) for parties in (10, 100) for epsilon in (2.0, 4.0, 8.0)]
    rows = []
    settings: list[tuple[int, float, float, FixedClip | AdaptiveClip]] = [
        (parties, np.inf, LEAST_NOISE, FixedClip(norm=1000.0)) for parties in (10, 100)
    ]
    for (parties, epsilon), noise in zip(cells, noises(cells), strict=True):
        settings.append((parties, epsilon, noise, FixedClip(norm=1.0)))
        bit_noise = max(parties / 20, noise)
        settings.append((parties, epsilon, noise, AdaptiveClip(bit_noise=bit_noise)))
    for parties, epsilon, noise, clipping in settings:
        found = [accuracy(parties, noise, clipping, seed) for seed in range(seeds)]
        rows.append(
            {
                "parties": parties,
                "epsilon": epsilon if np.isfinite(epsilon) else None,
                "noise": round(noise, 3),
                "clipping": type(clipping).__name__,
                "accuracy": round(statistics.mean(found), 4),
                "deviation": round(statistics.pstdev(found), 4),
            }
        )
        print(rows[-1], flush=True)
    return rows


def plain_mean(replies: HeldReplies, model: ArrayRecord) -> ArrayRecord:
    """Return the even mean, in float64."""
    made = {name: np.empty_like(array) for name, array in model.items()}
    for block in replies.blocks("arrays"):
        kept = made[block.array].reshape(-1)[block.start :][: block.values.shape[1]]
        kept[:] = block.values.mean(0, dtype=np.float64)
    return ArrayRecord(made)


def seconds(call: Callable[[], object]) -> float:
    """Return the processor seconds of a call."""
    began = time.process_time()
    call()
    return time.process_time() - began


def costs(parties: int, elements: int, turns: int) -> dict[str, Any]:
    """Return what a round's mean takes, private and plain."""
    drawn = np.random.default_rng(0)
    model = ArrayRecord({"w": np.zeros(elements, np.float32)})
    metrics = MetricRecord({"num-examples": 1})
    answers = {
        f"{place:04}": (
            {"arrays": ArrayRecord({"w": drawn.standard_normal(elements, np.float32)})},
            metrics,
        )
        for place in range(parties)
    }
    replies = HeldReplies(answers)
    random = Randomness(Secret(bytes(32)), run=bytes(32), number=1)

    def private() -> object:
        return private_mean(
            replies, "arrays", model, clip=1.0, noise=1.0, expected=parties, random=random
        )

    def noise() -> object:
        return DiscreteGaussian(Keystream(Secret(bytes(32)))).draw(elements)

    taken: dict[str, list[float]] = {"private": [], "plain": [], "noise": []}
    for _ in range(turns):
        taken["private"].append(seconds(private))
        taken["plain"].append(seconds(lambda: plain_mean(replies, model)))
        taken["noise"].append(seconds(noise))
    return {
        "parties": parties,
        "elements": elements,
        **{f"{name}_s": round(statistics.median(each), 4) for name, each in taken.items()},
    }


def main() -> None:
    """Measure, print, and keep a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    timed = [costs(*each, args.turns) for each in ((100, 10_000), (10, 1_000_000))]
    for each in timed:
        print(each, flush=True)
    line = {"accuracy": utility(args.seeds), "costs": timed}
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as sink:
        sink.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
