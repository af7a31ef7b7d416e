"""A network of dense layers, by PyTorch, from batches, as ONNX that workers serve.

Rows come in the order of the plan's inputs and of their files, 65536 at a time; within these they
are shuffled anew in every epoch, by a generator of the job's seed. Numbers are of 32 bits. With one
thread PyTorch's products, sums and cross entropy on a processor take their terms in one order, so
the same rows in the same order make the same model, byte by byte. (Its switch that refuses what is
not deterministic, and its optimizers, load a compiler, which has no place in a job: so the one that
is used, Adam, stands here.)

Columns are brought to mean 0 and deviation 1 first, and the model takes them as they were.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError
from wardian.learning.layers import Layer, classifier
from wardian.learning.shared.exact import Moments
from wardian.learning.shared.extra import extra
from wardian.learning.shared.rows import Batch, Sources, even_batches
from wardian.learning.shared.trainers.linear import folded, whole_layers
from wardian.learning.shared.trainers.survey import Survey, measured, surveyed
from wardian.learning.shared.trainers.tell import Tally, fifth
from wardian.learning.shared.trainers.trained import Task, Trained

_FADING: Final = (0.9, 0.999)
_SMALL: Final = 1e-8


def dense_network(task: Task) -> Trained:
    """Return a model of two classes or more.

    Raises:
        FormatError: a value is missing; the label is not of classes; or training went to
            infinity, of rows that were not matched.
        PolicyDenied: the rules `join-small` and `cohort-small`.
        ConfigError: PyTorch is not installed.
    """
    extra("torch")
    survey = surveyed(task, classes=True)
    halves = measured(task, survey)
    with _one_thread():
        whole = _Network(task, survey, halves.whole, kept=False)
        whole.train()
        layers = whole_layers(whole.layers(), task.rows.owners)
        model = classifier(layers, labels=survey.classes.tolist())
        if halves.kept is None:
            return Trained(model=model)
        some = _Network(task, survey, halves.kept, kept=True)
        some.train()
        return Trained(model=model, metrics=some.tried().accuracy())


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let PyTorch compute with one thread within."""
    torch = extra("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Network:
    """Weights, and what moves them."""

    def __init__(self, task: Task, survey: Survey, moments: Moments, *, kept: bool) -> None:
        self._torch = torch = extra("torch")
        self._task, self._survey, self._moments, self._kept = task, survey, moments, kept
        self._chance = torch.Generator().manual_seed(task.seed)
        inside = [task.whole("hidden")] * task.whole("layers")
        sizes = [len(task.rows.names), *inside, len(survey.classes)]
        self._weights: list[Any] = []
        for begin, end in itertools.pairwise(sizes):
            bound = (6 / begin) ** 0.5  # He's uniform one, for ReLU
            weight = torch.empty(begin, end).uniform_(-bound, bound, generator=self._chance)
            self._weights += [weight.requires_grad_(), torch.zeros(end, requires_grad=True)]
        self._means = [torch.zeros_like(each) for each in self._weights]
        self._squares = [torch.zeros_like(each) for each in self._weights]
        self._steps = 0

    def train(self) -> None:
        """Go through the rows as often as the plan says."""
        torch, size = self._torch, self._task.whole("batch")
        for _ in range(self._task.whole("epochs")):
            for values, places, _ in self._batches(tried=False if self._kept else None):
                order = torch.randperm(len(places), generator=self._chance)
                for begin in range(0, len(places), size):
                    chosen = order[begin : begin + size]
                    scores = self._scores(values[chosen])
                    loss = torch.nn.functional.cross_entropy(scores, places[chosen])
                    self._move(torch.autograd.grad(loss, self._weights))

    def _move(self, gradients: Sequence[Any]) -> None:
        """Take a step of Adam (Kingma and Ba, 2015, algorithm 1)."""
        self._steps += 1
        first, second = 1 - _FADING[0] ** self._steps, 1 - _FADING[1] ** self._steps
        pace = self._task.number("learning_rate") / first
        with self._torch.no_grad():
            for weight, gradient, mean, square in zip(
                self._weights, gradients, self._means, self._squares, strict=True
            ):
                mean.mul_(_FADING[0]).add_(gradient, alpha=1 - _FADING[0])
                square.mul_(_FADING[1]).addcmul_(gradient, gradient, value=1 - _FADING[1])
                weight.addcdiv_(mean, (square / second).sqrt().add_(_SMALL), value=-pace)

    def tried(self) -> Tally:
        """Return of how many rows that were left out the class is found."""
        tally = Tally(self._task)
        with self._torch.no_grad():
            for values, places, sources in self._batches(tried=True):
                tally.add(sources, (self._scores(values).argmax(dim=1) == places).numpy())
        return tally

    def layers(self) -> list[Layer]:
        """Return weights and biases, first to last, that take columns as they are in tables."""
        found = [each.detach().double().numpy() for each in self._weights]
        scale = (self._survey.lowest + self._moments.mean, self._moments.deviation)
        first = folded(found[0], found[1], scale)
        return [first, *zip(found[2::2], found[3::2], strict=True)]

    def _scores(self, values: Any) -> Any:
        for at in range(0, len(self._weights), 2):
            if at:
                values = values.relu()
            values = values @ self._weights[at] + self._weights[at + 1]
        return values

    def _batches(self, *, tried: bool | None) -> Iterator[tuple[Any, Any, Sources]]:
        """Yield columns and places as tensors, and sources: of rows tried, of others, or of all."""
        begin = 0
        for batch in even_batches(self._task.rows.batches()):
            (values, places), sources = self._scaled(batch), batch.sources
            if tried is not None:
                chosen = fifth(self._task, begin, batch.rows, self._survey.rows) == tried
                values, places, sources = values[chosen], places[chosen], sources[chosen]
            begin += batch.rows
            if len(places):
                yield self._torch.from_numpy(values), self._torch.from_numpy(places), sources

    def _scaled(self, batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if batch.label is None:
            raise FormatError("no label")
        values = np.empty((batch.rows, len(self._task.rows.names)), np.float32)
        mean, deviation = self._moments.mean, self._moments.deviation
        for at, name in enumerate(self._task.rows.names):
            values[:, at] = (batch.columns[name] - self._survey.lowest[at] - mean[at]) / deviation[
                at
            ]
        return values, self._survey.places(batch.label)
