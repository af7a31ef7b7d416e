"""Batches from what is there: pure, never waiting for more.

Groups that fit together are stacked up to the model's largest batch; a group of more rows than that
is run in slices. A batch that fails in the engine is run again request by request, so that a bad
request gets its own error and its neighbours get their answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from wardian.errors import JobFailed, RequestError
from wardian.inference.spec import Model, Tensors
from wardian.serving.rules import InputRules
from wardian.serving.tensors import Failure, Group


class Work(NamedTuple):
    """A group that waits to be run.

    Attributes:
        source: which message it came with; handed back with the answer.
        tenant: as in the message; groups of different tenants never share a batch (TRUST T19).
        group: the requests and their inputs.
    """

    source: int
    tenant: str
    group: Group


class Ran(NamedTuple):
    """Answers to requests of the message `source`."""

    source: int
    group: Group


@dataclass(slots=True)
class Batch:
    """Works that one inference takes together."""

    works: list[Work]
    rows: int


def refuse(work: Work, failure: Failure) -> Ran:
    """Return the answer to `work` that has no tensors, because of `failure`."""
    ids = work.group.ids
    return Ran(work.source, Group(ids=ids, rows=[0] * len(ids), failure=failure))


class Batcher:
    """Plans and runs batches for one model. One caller at a time."""

    def __init__(self, model: Model, *, max_rows: int, batch_across_tenants: bool = False) -> None:
        """Run `model` with at most `max_rows` rows at a time, where it is batchable.

        Args:
            model: loaded.
            max_rows: most rows of one inference.
            batch_across_tenants: the model's owner said that strangers may share a batch. If not,
                only requests of one message are joined: whose the others are is a front end's word.
        """
        self._model = model
        self._across = batch_across_tenants
        self._max_rows = max_rows
        self.batchable = model.batchable and max_rows > 1
        self.rules = InputRules(
            inputs=model.inputs, outputs=model.outputs, batchable=self.batchable
        )

    def plan(self, works: Sequence[Work]) -> tuple[list[Batch], list[Ran]]:
        """Return `works` as batches, and the answers of those that cannot be run at all."""
        batches: list[Batch] = []
        refused: list[Ran] = []
        growing: dict[object, Batch] = {}
        for work in works:
            group = work.group
            tensors = {name: parts[0] for name, parts in group.parts.items()}
            try:
                rows, key, _ = self.rules.measure(tensors)
            except RequestError:
                key, rows = None, 0
            # Requests that may not be stacked, and yet are, or whose rows do not add up.
            if not rows or (len(group.ids) > 1 and (key is None or 0 in group.rows)):
                refused.append(refuse(work, Failure.BAD_INPUT))
                continue
            mates = (None if self._across else work.source, work.tenant, key)
            batch = growing.get(mates) if key is not None else None
            if batch is None or batch.rows + rows > self._max_rows:
                batch = growing[mates] = Batch([], 0)
                batches.append(batch)
            batch.works.append(work)
            batch.rows += rows
        return batches, refused

    def run(self, batch: Batch) -> list[Ran]:
        """Return the answers of `batch`: one group a work, or one a request where it failed."""
        works = batch.works
        try:
            outputs = self._infer(_stacked(works), batch.rows)
        except RequestError:  # what a model that generates is asked with is not of its form
            return [refuse(work, Failure.BAD_INPUT) for work in works]
        except JobFailed:
            singles = [single for work in works for single in _singles(work)]
            if len(singles) == 1:
                return [refuse(works[0], Failure.FAILED)]
            return [self._run_single(single) for single in singles]
        if len(works) == 1:
            return [Ran(works[0].source, _answer(works[0].group, outputs))]
        ran, start = [], 0
        for work in works:
            stop = start + _rows(work.group)
            mine = {name: array[start:stop] for name, array in outputs.items()}
            ran.append(Ran(work.source, _answer(work.group, mine)))
            start = stop
        return ran

    def _run_single(self, work: Work) -> Ran:
        group = work.group
        try:
            outputs = self._infer(_stacked([work]), _rows(group))
        except JobFailed:
            return refuse(work, Failure.FAILED)
        return Ran(work.source, _answer(group, outputs))

    def _infer(self, inputs: Tensors, rows: int) -> Tensors:
        """Return the outputs for `inputs`, in slices if they are too many rows for one inference.

        Raises:
            JobFailed: the engine failed, or does not answer row by row.
        """
        step = self._max_rows
        if not self.batchable or rows <= step:
            outputs = self._model.infer(inputs)
        else:
            slices = [
                self._model.infer({name: array[at : at + step] for name, array in inputs.items()})
                for at in range(0, rows, step)
            ]
            outputs = {name: np.concatenate([one[name] for one in slices]) for name in slices[0]}
        if self.batchable and any(len(array) != rows for array in outputs.values()):
            raise JobFailed("the model's answer has another number of rows than its input")
        return outputs


def _stacked(works: list[Work]) -> Tensors:
    """Return the inputs of `works`, one after the other along axis 0."""
    first = works[0].group.parts
    if len(works) == 1:
        return {name: parts[0] for name, parts in first.items()}
    return {name: np.concatenate([work.group.parts[name][0] for work in works]) for name in first}


def _singles(work: Work) -> list[Work]:
    """Return `work` as works of one request each."""
    group = work.group
    if len(group.ids) == 1:
        return [work]
    singles, start = [], 0
    for number, rows in zip(group.ids, group.rows, strict=True):
        stop = start + rows
        parts = {name: [stack[0][start:stop]] for name, stack in group.parts.items()}
        singles.append(work._replace(group=Group(ids=[number], rows=[rows], parts=parts)))
        start = stop
    return singles


def _rows(group: Group) -> int:
    return len(next(iter(group.parts.values()))[0])


def _answer(group: Group, outputs: Tensors) -> Group:
    parts = {name: [array] for name, array in outputs.items()}
    return Group(ids=group.ids, rows=group.rows, parts=parts)
