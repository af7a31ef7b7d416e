"""What a comparison found: the form of its JSON line, and the sums behind it. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from nets import labels
from numpy.typing import NDArray

CLEAR = "clear text"
SEALED = "TEE, in process"
CLEAR_SERVED = "clear text, served"
SERVED = "TEE, served"
ABY3 = "MPC, ABY3"
CHEETAH = "MPC, CHEETAH"
CKKS = "HE, CKKS"
PATHS = (CLEAR, SEALED, CLEAR_SERVED, SERVED, ABY3, CHEETAH, CKKS)


class Figures(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a path did with one network and one batch.

    Attributes:
        ms: of one request (all samples of the batch), the median of the rounds.
        ratio: to the clear text in process in the same round; the median, and the least and most.
        cpu_ms: of processors, of all processes that take part; the median of the rounds.
        cpu_ratio: to the clear text in process in the same round, likewise.
        over_served: to the clear text behind a front end in the same round, the median; 0 for what
            is not asked over a network.
        bytes: moved for one request, the mean: between all who take part.
        once_bytes: moved once, before the first request.
        steps: parts of `ms` by name, medians.
        max_error: largest absolute difference of a score from the clear text's.
        mean_error: mean of those.
        agreed: labels that were the clear text's, among `labels`.
    """

    ms: float
    ratio: float
    ratio_least: float
    ratio_most: float
    cpu_ms: float
    cpu_ratio: float
    over_served: float
    bytes: float
    once_bytes: int
    steps: dict[str, float]
    max_error: float
    mean_error: float
    agreed: int
    labels: int


class Row(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A path, a network and a batch: its figures, or why there are none."""

    path: str
    net: str
    batch: int
    absent: str = ""
    figures: Figures | None = None


class NetFacts(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How large a network is, and how good.

    Attributes:
        parameters: weights and biases.
        multiplications: of one sample.
        file_bytes: of its ONNX file.
        accuracy: in the clear, on held-out samples.
        held_out: how many those are.
        largest_score: absolute; errors are to be seen beside it.
    """

    parameters: int
    multiplications: int
    file_bytes: int
    accuracy: float
    held_out: int
    largest_score: float


class Comparison(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One run.

    Attributes:
        setting: commit, date, machine, load_average, rounds.
        seconds: of the whole run.
        others: of the machine's time during the rounds, what other processes took.
        versions: of engine and libraries, by name; of what is not installed "absent".
        nets: by name.
        rows: by path, network, batch.
    """

    setting: dict[str, Any]
    seconds: float
    others: float
    versions: dict[str, str]
    nets: dict[str, NetFacts]
    rows: list[Row]


class Seen(msgspec.Struct, kw_only=True):
    """One request of one round.

    Attributes:
        seconds: of the request.
        cpu_s: of processors, for it.
        clear_s: of the clear text in the same round.
        clear_cpu_s: of processors, likewise.
        served_s: of the clear text behind a front end in the same round; 0: not to be compared.
        bytes: moved.
        scores: what came, (batch, outputs).
        expected: what the clear text says.
        steps: parts of `seconds`.
    """

    seconds: float
    cpu_s: float
    clear_s: float
    clear_cpu_s: float
    served_s: float = 0.0
    bytes: float
    scores: NDArray[Any]
    expected: NDArray[Any]
    steps: dict[str, float] = msgspec.field(default_factory=dict)


def figures_of(seen: Sequence[Seen], *, once_bytes: int) -> Figures:
    """Return the figures of at least one request."""
    ratios = [each.seconds / each.clear_s for each in seen]
    errors = np.concatenate([np.abs(each.scores - each.expected).ravel() for each in seen])
    same = np.concatenate([labels(each.scores) == labels(each.expected) for each in seen])
    over = [each.seconds / each.served_s for each in seen if each.served_s]
    return Figures(
        ms=1e3 * statistics.median(each.seconds for each in seen),
        ratio=statistics.median(ratios),
        ratio_least=min(ratios),
        ratio_most=max(ratios),
        cpu_ms=1e3 * statistics.median(each.cpu_s for each in seen),
        cpu_ratio=statistics.median(each.cpu_s / each.clear_cpu_s for each in seen),
        over_served=statistics.median(over) if over else 0.0,
        bytes=statistics.mean(each.bytes for each in seen),
        once_bytes=once_bytes,
        steps={
            name: 1e3 * statistics.median(each.steps[name] for each in seen)
            for name in seen[0].steps
        },
        max_error=float(errors.max()),
        mean_error=float(errors.mean()),
        agreed=int(same.sum()),
        labels=len(same),
    )


def rows_of_run(
    seen: Mapping[tuple[str, str, int], Sequence[Seen]],
    once: Mapping[tuple[str, str], int],
    absent: Mapping[tuple[str, str], str],
    batches: Sequence[int],
    nets: Sequence[str],
) -> list[Row]:
    """Return a row for every path, network and batch: none is left out.

    Args:
        seen: by path, network and batch.
        once: bytes by path and network.
        absent: why a path has no figures, by path and network.
        batches: that were asked for.
        nets: that were compared.
    """
    rows = []
    for net in nets:
        for batch in batches:
            for path in PATHS:
                found = seen.get((path, net, batch), ())
                why = absent.get((path, net), "")
                if found and not why:
                    figures = figures_of(found, once_bytes=once.get((path, net), 0))
                    rows.append(Row(path=path, net=net, batch=batch, figures=figures))
                else:
                    why = why or "it was not reached"
                    rows.append(Row(path=path, net=net, batch=batch, absent=why))
    return rows


def decode(line: str | bytes) -> Comparison:
    """Return the comparison in a line of JSON; msgspec.ValidationError if it is of another form."""
    return msgspec.json.decode(line, type=Comparison)
