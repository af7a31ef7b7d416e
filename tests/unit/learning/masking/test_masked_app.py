"""A party under masks: whatever a coordinator asks, its update leaves under masks, and once."""

from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest

from wardian._internal.consortium import Consortium, MaskingTerms, PartyTerms, RunTerms
from wardian.crypto.signing import SigningKey
from wardian.errors import AuthenticationFailed, ConfigError, FormatError, PolicyDenied, SealError
from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.masking.app import MaskedApp
from wardian.learning.masking.coordinator import MaskingCoordinator
from wardian.learning.masking.revealing import Revealing
from wardian.learning.masking.steps import MASK_STEP, Step, question_of, said
from wardian.learning.masking.vectors import VectorForm, masking_plan
from wardian.learning.message import Message, MessageType, Metadata
from wardian.learning.planned import verify_plan
from wardian.learning.records import ConfigRecord, MetricRecord, RecordDict

RUN = bytes(range(32))
NAMES = ("a", "b", "c")
MODEL = ArrayRecord({"w": np.arange(6, dtype=np.float32).reshape(2, 3)})


def changing_app(by: float) -> ClientApp:
    app = ClientApp()

    @app.query()
    def first(message: Message, context: Context) -> Message:
        return Message(RecordDict({"arrays": MODEL}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        times = context.state.get("times", MetricRecord({"n": 0}))
        context.state["times"] = MetricRecord({"n": int(times["n"]) + 1})
        arrays = {
            n: (each + by).astype(each.dtype) for n, each in message.content["arrays"].items()
        }
        metrics = MetricRecord({"num-examples": 2, "loss": by})
        return Message(
            RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message
        )

    app.evaluate()(train)
    return app


@dataclass
class World:
    """Three parties under masks, and a coordinator that can be anything."""

    by: dict[str, float] = field(default_factory=lambda: {"a": 1.0, "b": 2.0, "c": 6.0})
    round: int = 1

    def __post_init__(self) -> None:
        self.keys = {name: SigningKey.generate() for name in NAMES}
        self.plan = Consortium(
            name="three",
            run=RunTerms(rounds=2, quorum=3, evaluate_every=0),
            strategy={"name": "fedavg"},
            masking=MaskingTerms(metrics=("loss",)),
            parties={name: PartyTerms(key=key.public.hex()) for name, key in self.keys.items()},
        )
        self.apps = {
            name: MaskedApp(changing_app(self.by[name]), self.plan, signer=self.keys[name])
            for name in NAMES
        }
        self.contexts = {name: Context(party=name) for name in NAMES}

    def ask(
        self, party: str, content: RecordDict, kind: MessageType = MessageType.TRAIN
    ) -> RecordDict:
        about = Metadata(run=RUN.hex(), round=self.round, party=party, message_type=kind)
        return self.apps[party](Message(content, metadata=about), self.contexts[party]).content

    def told(self, model: ArrayRecord = MODEL) -> RecordDict:
        return RecordDict({"arrays": model, "config": ConfigRecord({"server-round": self.round})})

    def first(self, party: str, number: int, model: ArrayRecord = MODEL) -> bytes:
        about = ConfigRecord({"number": number, "step": "model"})
        return said(self.ask(party, RecordDict({**self.told(model), MASK_STEP: about})))

    def step(self, party: str, number: int, step: Step, raw: bytes) -> bytes:
        return said(self.ask(party, question_of(number, step, raw)))

    def to_agreement(self, number: int) -> Revealing:
        self.form = VectorForm.of(self.plan, MODEL)
        self.masking = masking_plan(self.plan, self.form, run=RUN, told=self.told())
        coordinator = MaskingCoordinator(self.masking, number=number)
        for name in NAMES:
            coordinator.advertised(name, self.first(name, number))
        keys = coordinator.keys()
        for name in NAMES:
            coordinator.shared(name, self.step(name, number, Step.KEYS, keys))
        self.vectors = {}
        for name, raw in coordinator.deliveries().items():
            self.vectors[name] = self.step(name, number, Step.DELIVERY, raw)
            coordinator.masked(name, self.vectors[name])
        survivors = coordinator.survivors()
        for name in NAMES:
            coordinator.signed(name, self.step(name, number, Step.SURVIVORS, survivors))
        return coordinator.agreed()

    def reveal(self, revealing: Revealing) -> tuple[ArrayRecord, MetricRecord]:
        for name in NAMES:
            raw = self.step(name, revealing.number, Step.AGREEMENTS, revealing.agreements())
            revealing.revealed(name, raw)
        return self.form.decode(revealing.total())


def test_the_mean_comes_out_and_no_vector_says_anything() -> None:
    world = World()
    arrays, metrics = world.reveal(world.to_agreement(1))
    assert (arrays["w"] == MODEL["w"] + 3).all()
    assert dict(metrics) == {"loss": 3.0, "num-examples": 6}
    for name in NAMES:
        clear = world.form.encode(
            ArrayRecord({"w": MODEL["w"] + np.float32(world.by[name])}),
            MetricRecord({"num-examples": 2, "loss": world.by[name]}),
        )
        for number in clear:
            assert number.tobytes() not in world.vectors[name]


@pytest.mark.parametrize("kind", [MessageType.TRAIN, MessageType.EVALUATE, MessageType.QUERY])
def test_what_is_asked_in_the_clear_is_refused(kind: MessageType) -> None:
    world = World()
    with pytest.raises((PolicyDenied, FormatError)):
        world.ask("a", world.told(), kind)
    assert world.contexts["a"].state == {}


def test_an_update_that_was_summed_is_not_masked_again() -> None:
    """The difference of two sums over different lists would be an update."""
    world = World()
    world.reveal(world.to_agreement(1))
    with pytest.raises(PolicyDenied) as caught:
        world.first("a", 2)
    assert caught.value.rule == "mask-once"
    world.round = 2
    assert world.first("a", 3)


def test_a_round_that_nobody_revealed_in_begins_anew_with_the_same_update() -> None:
    world = World()
    world.to_agreement(1)
    arrays, _ = world.reveal(world.to_agreement(2))
    assert (arrays["w"] == MODEL["w"] + 3).all()
    assert world.contexts["a"].state["times"] == MetricRecord({"n": 1})
    with pytest.raises(PolicyDenied):  # what was agreed on before is gone
        world.step("a", 1, Step.AGREEMENTS, b"")


@pytest.mark.parametrize("number", [3, 4])
def test_a_number_is_used_once(number: int) -> None:
    """Keys of a round before, some of them known by now, would be accepted again."""
    world = World()
    world.first("a", 4)
    with pytest.raises(PolicyDenied) as caught:
        world.first("a", number)
    assert caught.value.rule == "mask-once"


def test_parties_who_are_told_different_models_do_not_sum() -> None:
    """Others could be told a model that makes their updates known: the sum would be the victim's."""
    world = World()
    other = ArrayRecord({"w": np.zeros((2, 3), np.float32)})
    form = VectorForm.of(world.plan, MODEL)
    plan = masking_plan(world.plan, form, run=RUN, told=world.told())
    coordinator = MaskingCoordinator(plan, number=1)
    coordinator.advertised("a", world.first("a", 1))
    for name in ("b", "c"):
        with pytest.raises((PolicyDenied, AuthenticationFailed)):
            coordinator.advertised(name, world.first(name, 1, other))


def test_a_round_goes_on_where_it_was_kept() -> None:
    world = World()
    revealing = world.to_agreement(1)
    kept = revealing.encode()
    world.reveal(revealing)
    arrays, _ = world.reveal(Revealing.decode(kept, world.masking))
    assert (arrays["w"] == MODEL["w"] + 3).all()
    for damaged in ({}, {**kept, "sum": b"odd"}, {**kept, "summed": b"\x00"}):
        with pytest.raises(SealError):
            Revealing.decode(damaged, world.masking)


@pytest.mark.parametrize("by", [65.0, float("nan"), float("inf")])
def test_an_update_beyond_the_bound_does_not_leave(by: float) -> None:
    world = World(by={"a": by, "b": 0.0, "c": 0.0})
    with pytest.raises(FormatError, match="bound"):
        world.first("a", 1)


def test_garbage_is_refused_and_changes_nothing() -> None:
    world = World()
    world.first("a", 1)
    before = dict(world.contexts["a"].state)
    for content in (
        RecordDict(),
        RecordDict({MASK_STEP: ConfigRecord({"number": 1, "step": "all"})}),
        RecordDict({MASK_STEP: ConfigRecord({"number": 0, "step": "keys"})}),
        question_of(1, Step.KEYS, b"\xc1"),
        question_of(1, Step.DELIVERY, b""),
        question_of(2, Step.KEYS, b""),
    ):
        with pytest.raises((FormatError, PolicyDenied)):
            world.ask("a", content)
    after = world.contexts["a"].state
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"strategy": {"name": "median"}}, "single updates"),
        ({"strategy": {"name": "scaffold", "parties": 3}}, "more from parties"),
        ({"run": RunTerms(rounds=1, quorum=3)}, "evaluate_every"),
        ({"run": RunTerms(rounds=1, quorum=3, evaluate_every=0, sample=0.5)}, "sample"),
        ({"run": RunTerms(rounds=1, quorum=2, evaluate_every=0)}, "two thirds"),
        ({"masking": MaskingTerms(bound=1e9, fraction_bits=40)}, "could wrap"),
    ],
)
def test_what_excludes_masks_is_said_when_the_plan_is_read(
    changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        verify_plan(msgspec.structs.replace(World().plan, **changes))
