"""A whole run in this process: the same app, the same strategy and the same rules, and no network.

A party cannot write to what it is told, and its answers are refused where a real run refuses them.
Nobody is attested here, and all data and answers are in one place: this is to try out a plan.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from wardian.errors import ConfigError, FormatError, JobFailed, PolicyDenied
from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.content import specs_of
from wardian.learning.coordinator.question import Wanted, update_wanted
from wardian.learning.message import Message, MessageType, Metadata
from wardian.learning.records import ConfigRecord, MetricRecord, Record, RecordDict, Setting
from wardian.learning.replies import HeldReplies
from wardian.learning.rounds import Outcome, Round, cohort
from wardian.learning.staging import METRICS
from wardian.learning.strategies.strategy import Strategy

log = logging.getLogger(__name__)

MAX_BYTES: Final = 2 * 1024**3
"""Largest answer, unless a plan says otherwise."""
_RUN: Final = "simulated"
MAX_REASON: Final = 200

Judge = Callable[[int, ArrayRecord], MetricRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """One round that stands.

    Attributes:
        round: from 1.
        cohort: whose answers became the model, sorted.
        dropped: of everybody else who was asked, why not.
        metrics: what the cohort measured in training, taken together.
        evaluation: what the parties measured of the new model, taken together; empty: not asked.
        judged: what `judge` said of it.
        sent_bytes: of arrays, to the cohort and to those who dropped out.
        received_bytes: of arrays, of answers that counted.
    """

    round: int
    cohort: tuple[str, ...]
    dropped: dict[str, str]
    metrics: dict[str, Any]
    evaluation: dict[str, Any]
    judged: dict[str, Any]
    sent_bytes: int
    received_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A run that is over.

    Attributes:
        arrays: the model.
        rounds: what happened, in order.
    """

    arrays: ArrayRecord
    rounds: tuple[RoundResult, ...]

    def to_json(self) -> bytes:
        """Return `rounds` as a list in JSON; what is no finite number is null."""
        return msgspec.json.encode(self.rounds)


def simulate(
    app: ClientApp,
    strategy: Strategy,
    parties: Mapping[str, Mapping[str, Setting]] | int,
    arrays: ArrayRecord,
    rounds: int,
    *,
    config: Mapping[str, Setting] | None = None,
    seed: int = 0,
    sample: float = 1.0,
    quorum: int = 1,
    attempts: int = 1,
    evaluate_every: int = 0,
    judge: Judge | None = None,
) -> History:
    """Return what came of a run from its first model to its last.

    The same arguments give the same history, bit for bit, if the app's functions do.

    Args:
        app: every party's.
        strategy: goes on from the state that it is in.
        parties: the settings of each by its name; or how many, whose settings are then
            "partition-id", counted from 0, and "num-partitions".
        arrays: the first model.
        rounds: how many, 1 or more.
        config: what all parties agreed to; it is in each message, and in `run_config`.
        seed: of who is asked in which round: the same as in a real run that all attend.
        sample: the part of the parties that is asked in a round, at least the quorum.
        quorum: the smallest cohort whose answers become a model, or an evaluation.
        attempts: how often a round is tried in which too few answered.
        evaluate_every: after how many rounds all parties evaluate the model; 0: never.
        judge: told each round's number and model; what it returns is kept in the history.

    Raises:
        ConfigError: a number is out of range.
        JobFailed: too few answered, or the strategy cannot work with those who did.
        FormatError: the strategy can make no model of the answers, or begin with `arrays`.
    """
    if rounds < 1 or attempts < 1 or evaluate_every < 0:
        raise ConfigError("simulation: rounds and attempts are 1 or more, evaluate_every 0 or more")
    strategy.demand_model(arrays)
    run = _Run(app, strategy, parties, config or {}, seed=seed, sample=sample, quorum=quorum)
    results = []
    for number in range(1, rounds + 1):
        asked = run.train(number, arrays, attempts)
        arrays, metrics = strategy.aggregate_train(number, arrays, asked.replies())
        evaluated = evaluate_every > 0 and number % evaluate_every == 0
        results.append(
            RoundResult(
                round=number,
                cohort=asked.outcome.answered,
                dropped=asked.outcome.dropped,
                metrics=dict(metrics),
                evaluation=run.evaluate(number, arrays) if evaluated else {},
                judged=dict(judge(number, arrays)) if judge is not None else {},
                sent_bytes=asked.sent_bytes,
                received_bytes=asked.received_bytes,
            )
        )
    return History(arrays=arrays, rounds=tuple(results))


Answer = tuple[dict[str, ArrayRecord], MetricRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A question that is over."""

    outcome: Outcome
    answers: dict[str, Answer]
    sent_bytes: int
    alike: bool

    def replies(self) -> HeldReplies:
        return HeldReplies(self.answers, alike=self.alike)

    @property
    def received_bytes(self) -> int:
        return sum(each.nbytes for arrays, _ in self.answers.values() for each in arrays.values())


class _Run:
    """The parties of a simulation, each with its state."""

    def __init__(
        self,
        app: ClientApp,
        strategy: Strategy,
        parties: Mapping[str, Mapping[str, Setting]] | int,
        config: Mapping[str, Setting],
        *,
        seed: int,
        sample: float,
        quorum: int,
    ) -> None:
        if isinstance(parties, int):
            width = len(str(parties - 1))
            parties = {
                f"party-{place:0{width}}": {"partition-id": place, "num-partitions": parties}
                for place in range(parties)
            }
        if not (0 < sample <= 1 and 1 <= quorum <= len(parties)):
            raise ConfigError("simulation: sample is in (0, 1], quorum from 1 to the parties")
        self._app, self._strategy, self._config = app, strategy, ConfigRecord(config)
        self._seed, self._sample, self._quorum = seed, sample, quorum
        self._settings = {name: ConfigRecord(each) for name, each in sorted(parties.items())}
        self._states: dict[str, dict[str, Record]] = {name: {} for name in self._settings}

    def train(self, number: int, arrays: ArrayRecord, attempts: int) -> _Asked:
        """Return the answers of a cohort that is large enough."""
        wanted = update_wanted(self._strategy, arrays, max_bytes=MAX_BYTES)
        reasons = ""
        for attempt in range(1, attempts + 1):
            chosen = cohort(
                self._settings, sample=self._sample, quorum=self._quorum,
                seed=self._seed, number=number, attempt=attempt,
            )  # fmt: skip
            contents = self._strategy.configure_train(number, arrays, self._told(number), chosen)
            asked = self._ask(MessageType.TRAIN, number, contents, wanted, self._quorum)
            if asked.outcome.stands:
                return asked
            reasons = "".join(f"; {p}: {why}" for p, why in [*asked.outcome.dropped.items()][:1])
        raise JobFailed(f"round {number}: fewer than {self._quorum} parties answered{reasons}")

    def evaluate(self, number: int, arrays: ArrayRecord) -> dict[str, Any]:
        """Return what all parties measure of the model, together; of too few of them nothing."""
        contents = self._strategy.configure_evaluate(
            number, arrays, self._told(number), tuple(self._settings)
        )
        wanted = Wanted(arrays={}, max_bytes=0, examples=True)
        asked = self._ask(MessageType.EVALUATE, number, contents, wanted, self._quorum)
        if not asked.outcome.stands:
            return {}
        return dict(self._strategy.aggregate_evaluate(number, asked.replies()))

    def _told(self, number: int) -> ConfigRecord:
        return ConfigRecord({"server-round": number, **self._config})

    def _ask(
        self,
        kind: MessageType,
        number: int,
        contents: Mapping[str, RecordDict],
        wanted: Wanted,
        quorum: int,
    ) -> _Asked:
        standing = Round(contents, quorum=quorum, until=math.inf)
        answers: dict[str, Answer] = {}
        sent = 0
        for party in sorted(contents):
            content = _unwritable(contents[party])
            sent += sum(each.nbytes for each in content.array_records.values())
            metadata = Metadata(run=_RUN, round=number, party=party, message_type=kind)
            context = Context(
                party=party,
                run_config=self._config,
                node_config=self._settings[party],
                state=dict(self._states[party]),
            )
            try:
                answers[party] = self._answer(Message(content, metadata=metadata), context, wanted)
            except (FormatError, PolicyDenied) as err:
                standing.refuse(party, str(err)[:MAX_REASON])
            else:
                self._states[party] = dict(context.state)
                standing.answer(party)
        return _Asked(
            outcome=standing.close(), answers=answers, sent_bytes=sent, alike=not wanted.shorter
        )

    def _answer(self, message: Message, context: Context, wanted: Wanted) -> Answer:
        """Return what the app answers, copied.

        Raises:
            FormatError: it raised, said that it cannot, or answered with anything else.
            PolicyDenied: the answer is too large.
        """
        try:
            reply = self._app(message, context)
        except Exception as err:
            log.exception("the party's app failed")
            raise FormatError(f"the app failed: {type(err).__name__}") from err
        if reply.error is not None:
            raise FormatError(reply.error)
        return taken(reply.content, wanted)


def taken(content: RecordDict, wanted: Wanted) -> Answer:
    """Return the array records of an answer, copied, and its metrics.

    Raises:
        PolicyDenied: it is too large.
        FormatError: it is made of anything else than `wanted`, or holds what is no finite number.
    """
    wanted.demand(specs_of(content))
    arrays = content.array_records
    for each in arrays.values():
        for name, array in each.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise FormatError(f"answer: {name} holds what is no finite number")
    copied = {  # in one order, whatever the party's
        name: ArrayRecord({n: array.copy() for n, array in arrays[name].items()})
        for name in wanted.arrays or ()
    }
    if wanted.verify is not None:
        wanted.verify(copied)
    return copied, content.metric_records[METRICS]


def _unwritable(content: RecordDict) -> RecordDict:
    """Return `content` with arrays that cannot be written to, as they come from a connection."""
    found: dict[str, Record] = {}
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            views = {each: array.view() for each, array in record.items()}
            for view in views.values():
                view.flags.writeable = False
            found[name] = ArrayRecord(views)
        else:
            found[name] = record
    return RecordDict(found)
