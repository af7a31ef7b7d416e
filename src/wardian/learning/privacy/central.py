"""Central differential privacy around a strategy: parties are clipped, noise is added once.

The strategy inside never sees what a party sent. It is given the answers of a cohort of one, whose
update is the noisy mean; so whatever it makes of that, with momentum or without, is as private.

Nothing else that parties measured is published: neither losses nor numbers of records, and nobody
is asked to evaluate, for those figures would carry no noise. All parties count the same, since a
weight would tell how many records a party has.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from typing_extensions import override

from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, FormatError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.privacy.clipping import AdaptiveClip, FixedClip, PrivateMean
from wardian.learning.privacy.ledger import Ledger, Spend, cohort_digest
from wardian.learning.privacy.mean import LEAST_CLIP, MOST_CLIP, verify
from wardian.learning.privacy.noise import DiscreteGaussian, Randomness
from wardian.learning.records import ConfigRecord, MetricRecord, RecordDict
from wardian.learning.replies import HeldReplies, Replies
from wardian.learning.strategies.strategy import Strategy

ARRAYS: Final = "arrays"
STATE: Final = "privacy"
"""The record of the state in which clip and ledger are kept."""
_NOBODY: Final = "cohort"


class CentralPrivacy(Strategy):
    """A strategy whose models say little of any one party."""

    robust = True  # it looks at the norm of each update: masked ones are of no use to it

    def __init__(
        self,
        inner: Strategy,
        *,
        clipping: FixedClip | AdaptiveClip,
        noise: float,
        expected: int,
        ledger: Ledger,
        secret: Secret,
    ) -> None:
        """Wrap `inner`: federated averaging, with or without a server's optimiser.

        Args:
            inner: takes the plain mean of the record "arrays".
            clipping: how long an update may be.
            noise: the noise multiplier; see `accounting.noise_for`.
            expected: by how many parties a sum is divided: those that the plan expects to answer.
            ledger: empty; names the run.
            secret: of the enclave; see `noise.Randomness`.

        Raises:
            ConfigError: `inner` looks at single updates, or wants more than "arrays"; or a number
                is out of range.
        """
        if inner.robust:
            raise ConfigError(
                f"privacy: {type(inner).__name__} looks at single updates, of which central "
                "privacy leaves it none: choose one of them"
            )
        if tuple(inner.records) != (ARRAYS,):
            raise ConfigError(
                f"privacy: {type(inner).__name__} takes more from parties than their arrays, and "
                "that would be published without noise"
            )
        if expected > ledger.terms.parties:
            raise ConfigError("privacy: expected is more than the run has parties")
        self._inner, self._ledger, self._secret = inner, ledger, secret
        self._mean = PrivateMean(clipping, noise=noise, expected=expected)
        self._clip = clipping.first()

    @property
    def ledger(self) -> Ledger:
        """What was spent, as of the last round that was made."""
        return self._ledger

    @override
    def configure_train(
        self, number: int, arrays: ArrayRecord, config: ConfigRecord, parties: Sequence[str]
    ) -> Mapping[str, RecordDict]:
        """See `Strategy`. The round is not begun if the budget has no room for it.

        Raises:
            PolicyDenied: it has none.
            ConfigError: an array is not of floating point.
        """
        verify(arrays, clip=self._clip, noise=self._mean.noise, expected=self._mean.expected)
        self._ledger.admit(number, noise=self._mean.noise)
        return self._inner.configure_train(number, arrays, config, parties)

    @override
    def aggregate_train(
        self, number: int, arrays: ArrayRecord, replies: Replies
    ) -> tuple[ArrayRecord, MetricRecord]:
        """See `Strategy`. Keep `state` before the model leaves: the round is entered there.

        Raises:
            PolicyDenied: the budget has no room, or the round was made of other answers before.
        """
        debiting = _Debiting(self, number, replies.parties)
        moved, clip = self._mean.make(replies, ARRAYS, arrays, clip=self._clip, random=debiting)
        alone = {_NOBODY: ({ARRAYS: moved}, MetricRecord({"num-examples": 1}))}
        model, _ = self._inner.aggregate_train(number, arrays, HeldReplies(alone))
        metrics = {
            "clip": self._clip,
            "noise": self._mean.noise,
            "epsilon": self._ledger.spent(),
            "delta": self._ledger.terms.delta,
            "budget": self._ledger.terms.epsilon,
        }
        self._clip = clip
        return model, MetricRecord(metrics)

    @override
    def configure_evaluate(
        self, number: int, arrays: ArrayRecord, config: ConfigRecord, parties: Sequence[str]
    ) -> Mapping[str, RecordDict]:
        """Return nothing: what parties measure on their data would be published without noise."""
        return {}

    @override
    def aggregate_evaluate(self, number: int, replies: Replies) -> MetricRecord:
        """Return nothing; see `configure_evaluate`."""
        return MetricRecord()

    @override
    def state(self) -> RecordDict:
        kept = ConfigRecord({"clip": self._clip, "ledger": self._ledger.encode()})
        return RecordDict({**self._inner.state(), STATE: kept})

    @override
    def restore(self, state: RecordDict) -> None:
        """See `Strategy`. Who sealed the state vouches that it is the newest.

        Raises:
            FormatError: it is none of this strategy's.
            PolicyDenied: the ledger was kept under other terms.
        """
        kept = state.get(STATE)
        entries = kept if isinstance(kept, ConfigRecord) else {}
        clip, raw = entries.get("clip"), entries.get("ledger")
        if not isinstance(clip, float) or not isinstance(raw, bytes):
            raise FormatError("privacy: the state has no clip or no ledger")
        if not LEAST_CLIP <= clip <= MOST_CLIP:
            raise FormatError("privacy: the clip of the state is out of range")
        now = self._ledger
        ledger = Ledger.decode(raw, terms=now.terms, accountant=now.accountant)
        self._inner.restore(RecordDict({n: each for n, each in state.items() if n != STATE}))
        self._ledger, self._clip = ledger, clip

    def _debit(self, number: int, parties: Sequence[str], inputs: bytes) -> DiscreteGaussian:
        """Return the noise for a result that is entered now."""
        self._ledger = self._ledger.debit(
            Spend(
                round=number,
                cohort=cohort_digest(parties),
                inputs=inputs,
                noise=self._mean.noise,
            )
        )
        run = self._ledger.terms.run
        return Randomness(self._secret, run=run, number=number).noise(inputs)


class _Debiting:
    """Gives noise against an entry in the ledger: no noise without, and no result without noise."""

    def __init__(self, privacy: CentralPrivacy, number: int, parties: Sequence[str]) -> None:
        self._privacy, self._number, self._parties = privacy, number, parties

    def noise(self, inputs: bytes) -> DiscreteGaussian:
        """See `NoiseSource`."""
        return self._privacy._debit(self._number, self._parties, inputs)  # noqa: SLF001
