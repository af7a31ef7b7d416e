"""Split networks, carried: see `learning.vertical.network`."""

from typing import Final

import numpy as np
from typing_extensions import override

from wardian._internal.vertical import Network
from wardian.errors import LocalProtocolError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.coordinator.stages.labels import LABELS, Learning
from wardian.learning.coordinator.stages.linear import noise_seed
from wardian.learning.coordinator.stages.stage import Asking, World, one
from wardian.learning.records import RecordDict
from wardian.learning.vertical.network.coordinator import SplitNetwork
from wardian.learning.vertical.network.messages import EMBEDDING, SLOPES
from wardian.learning.vertical.plans import network_plan, noise_terms
from wardian.learning.vertical.script import Of, Step

_SLOPES: Final = "told-slopes"
"""Of each party: what it is told next, made of noised errors, sealed before."""


def network_terms(world: World) -> Network:
    """Return what the plan says of the network."""
    found = world.plan.vertical
    if not isinstance(found, Network):
        raise LocalProtocolError("the plan has another model")
    return found


def network(world: World, labels: RecordDict, state: RecordDict | None = None) -> SplitNetwork:
    """Return the coordinator's side, new or as it was kept."""
    terms = network_terms(world)
    plan = network_plan(terms)
    noise = plan.noise(noise_terms(terms.noise), seed=noise_seed(world.secret))
    made = SplitNetwork(plan, noise, labels)
    if state is not None:
        made.restore(state)
    return made


def finished_network(world: World) -> SplitNetwork:
    """Return the common part of the finished model; it learns no more, so it has no labels."""
    made = network(world, one(LABELS, np.zeros(1)))
    made.restore_layers(world.kept.arrays(SplitNetwork.STATE[0]))
    return made


class NetworkStage(Learning):
    """Placement `embeddings`: embeddings come in, slopes of noised errors go out."""

    @override
    def _begin(self) -> None:
        labels = RecordDict({LABELS: self._world.kept.records[LABELS]})
        self._network = network(self._world, labels)
        self._world.kept.records.update(self._network.state())
        self._to(Step.EMBED)

    @override
    def _restore(self) -> None:
        kept = self._world.kept.records
        state = RecordDict({name: kept[name] for name in SplitNetwork.STATE})
        self._network = network(self._world, RecordDict({LABELS: kept[LABELS]}), state)

    @override
    def _asking(self, step: Step) -> Asking:
        asked = self._network.rows() if step is Step.EMBED else RecordDict()
        told = self._world.kept.arrays(_SLOPES) if _SLOPES in self._world.kept else ArrayRecord()
        contents = {
            party: RecordDict({**asked, **(one(SLOPES, told[party]) if party in told else {})})
            for party in self._parties
        }
        if step is Step.END:
            return Asking(step=step, of=Of.LEARN, contents=contents, tells=True)
        terms = network_terms(self._world)
        return Asking(
            step=step,
            of=Of.LEARN,
            contents=contents,
            arrays={EMBEDDING: None},
            max_bytes=8 * terms.batch * max(terms.embeddings.values()),
            tells=bool(told),
        )

    @override
    def _take(self, party: str, content: RecordDict) -> None:
        if self._step is Step.EMBED:
            self._network.take(party, content)

    @override
    def _advance(self) -> None:
        kept = self._world.kept
        if self._step is Step.END:
            kept.drop(_SLOPES, LABELS, SplitNetwork.STATE[1])
            self._to(None)
            return
        self._network.learn()
        slopes = {party: self._network.slopes(party)[SLOPES] for party in self._parties}
        kept.put_arrays(
            _SLOPES,
            {p: each[SLOPES] for p, each in slopes.items() if isinstance(each, ArrayRecord)},
        )
        kept.records.update(self._network.state())
        self._to(Step.END if self._network.over else Step.EMBED)
