"""Parties with some columns each, and everything that each of them is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from carrying import carried
from sklearn.datasets import load_breast_cancer, load_digits

from wardian.crypto.secret import Secret
from wardian.learning.records import RecordDict
from wardian.learning.vertical.linear.coordinator import (
    EmbeddingsRegression,
    FeaturesRegression,
    LinearModel,
)
from wardian.learning.vertical.linear.descent import LinearPlan
from wardian.learning.vertical.linear.party import LinearParty
from wardian.learning.vertical.network.coordinator import SplitNetwork
from wardian.learning.vertical.network.party import NetworkParty
from wardian.learning.vertical.network.plan import NetworkPlan
from wardian.learning.vertical.noise import LabelNoise, NoiseTerms, Protection
from wardian.learning.vertical.trees.coordinator import BinsBoosting
from wardian.learning.vertical.trees.forest import Forest
from wardian.learning.vertical.trees.party import TreeParty
from wardian.learning.vertical.trees.plan import TreePlan
from wardian.learning.vertical.unsafe_no_noise import UnsafeNoNoise

CLEAR = UnsafeNoNoise()
LABELS_OF = "a"

Parts = Mapping[str, np.ndarray]


@dataclass
class Told:
    """What a party was told, in order."""

    by: dict[str, list[RecordDict]] = field(default_factory=dict)

    def tell(self, party: str, content: RecordDict) -> RecordDict:
        arrived = carried(content)
        self.by.setdefault(party, []).append(arrived)
        return arrived


def noise(plan: LinearPlan | NetworkPlan, *, mu: float = 1.0, seed: int = 7) -> LabelNoise:
    return plan.noise(NoiseTerms(mu=mu), seed=Secret(bytes([seed]) * 32))


def split_rows(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three quarters to learn from, one quarter held out."""
    order = np.random.default_rng(seed).permutation(count)
    return order[: count * 3 // 4], order[count * 3 // 4 :]


def breast_cancer() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Columns of one scale and labels, to learn from and held out."""
    features, labels = load_breast_cancer(return_X_y=True)
    learnt, held = split_rows(len(features))
    mean, deviation = features[learnt].mean(axis=0), features[learnt].std(axis=0)
    scaled, labels = (features - mean) / deviation, labels.astype(float)
    return scaled[learnt], labels[learnt], scaled[held], labels[held]


def ten_and_twenty(features: np.ndarray) -> dict[str, np.ndarray]:
    return {"a": features[:, :10], "b": features[:, 10:]}


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    features, labels = load_digits(return_X_y=True)
    learnt, held = split_rows(len(features))
    scaled, labels = features / 16, labels.astype(float)
    return scaled[learnt], labels[learnt], scaled[held], labels[held]


def halves(features: np.ndarray) -> dict[str, np.ndarray]:
    """The left half of the pictures, and the right one."""
    pictures = features.reshape(-1, 8, 8)
    left, right = pictures[:, :, :4], pictures[:, :, 4:]
    return {"a": left.reshape(-1, 32).copy(), "b": right.reshape(-1, 32).copy()}


def linear_parties(parts: Parts, labels: np.ndarray) -> dict[str, LinearParty]:
    return {
        name: LinearParty(each, labels if name == LABELS_OF else None)
        for name, each in parts.items()
    }


def by_features(
    parts: Parts, labels: np.ndarray, plan: LinearPlan
) -> tuple[dict[str, LinearParty], LinearModel, Told]:
    parties, told = linear_parties(parts, labels), Told()
    coordinator = FeaturesRegression(plan, parties=list(parts), labels_of=LABELS_OF)
    for name, party in parties.items():
        coordinator.take(name, carried(party.features()))
    model = coordinator.fit()
    for name, party in parties.items():
        party.take_weights(told.tell(name, coordinator.part(name)))
    return parties, model, told


def by_embeddings(
    parts: Parts, labels: np.ndarray, plan: LinearPlan, protection: Protection
) -> tuple[dict[str, LinearParty], LinearModel, Told]:
    parties, told = linear_parties(parts, labels), Told()
    coordinator = EmbeddingsRegression(plan, protection, parties=list(parts), labels_of=LABELS_OF)
    for name, party in parties.items():
        coordinator.start(name, carried(party.start()))
    begin = coordinator.begin()
    for name, party in parties.items():
        party.begin(told.tell(name, begin))
    while not coordinator.over:
        for name, party in parties.items():
            coordinator.take(name, carried(party.partial()))
        errors = coordinator.errors()
        for name, party in parties.items():
            party.step(told.tell(name, errors))
    return parties, coordinator.model(), told


def by_bins(
    parts: Parts, labels: np.ndarray, plan: TreePlan
) -> tuple[dict[str, TreeParty], Forest, Told]:
    parties, told = {}, Told()
    coordinator = BinsBoosting(plan, parties=list(parts), labels_of=LABELS_OF)
    for name, each in parts.items():
        parties[name] = TreeParty(each, labels if name == LABELS_OF else None)
        coordinator.take(name, carried(parties[name].bins()))
    forest = coordinator.grow()
    for name, party in parties.items():
        party.take_splits(told.tell(name, coordinator.part(name)))
    return parties, forest, told


def by_network(
    parts: Parts, labels: np.ndarray, plan: NetworkPlan, protection: Protection
) -> tuple[dict[str, NetworkParty], SplitNetwork, Told]:
    told = Told()
    parties = {
        name: NetworkParty(
            each,
            labels if name == LABELS_OF else None,
            widths=(plan.embeddings[name],),
            rate=plan.rate,
            momentum=plan.momentum,
            seed=10 + place,
        )
        for place, (name, each) in enumerate(parts.items())
    }
    coordinator = SplitNetwork(plan, protection, carried(parties[LABELS_OF].labels()))
    while not coordinator.over:
        rows = coordinator.rows()
        for name, party in parties.items():
            coordinator.take(name, carried(party.embed(told.tell(name, rows))))
        coordinator.learn()
        for name, party in parties.items():
            party.step(told.tell(name, coordinator.slopes(name)))
    return parties, coordinator, told


def answers(parties: Mapping, parts: Parts) -> dict[str, RecordDict]:
    """What the parties say of new records."""
    return {name: carried(party.answer(parts[name])) for name, party in parties.items()}
