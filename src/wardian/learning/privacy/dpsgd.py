"""Differentially private training at a party: DP-SGD by Opacus, within a budget for the whole run.

What a party sends is then private record by record, whoever reads it: it needs to trust neither the
enclave nor its clipping. That costs far more accuracy than noise that is added once for everybody
(`central`), and protects a record, not a party. Both may be used together.

Opacus is an extra, and PyTorch the party's own (`pip install 'wardian[dp-sgd]' torch`). Its noise
is floating point from PyTorch's generator, seeded here by the operating system for each round:
enough against who reads models, not against who looks for the low bits of an update (see `noise`).
"""

import secrets
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wardian.errors import ConfigError, FormatError, PolicyDenied
from wardian.learning.privacy.accounting import verify_budget
from wardian.learning.records import MetricRecord, Record

if TYPE_CHECKING:
    import torch
    from torch.utils.data import DataLoader

STATE: Final = "dp-sgd"
"""The record of a party's state in which its steps are kept."""
_ACCOUNTANT: Final = "rdp"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingBudget:
    """What a party grants to all rounds of a run together.

    Attributes:
        epsilon: above 0.
        delta: above 0, and below one divided by the number of the party's records.
        epochs: through the party's records, in all rounds together; 1 or more.
        clip: the L2 norm to which the gradient of each record is clipped.
    """

    epsilon: float
    delta: float
    epochs: int
    clip: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is out of range, with ConfigError."""
        verify_budget(epsilon=self.epsilon, delta=self.delta)
        if self.epochs < 1:
            raise ConfigError("dp-sgd: epochs is a whole number of 1 or more")
        if not 0 < self.clip < float("inf"):
            raise ConfigError("dp-sgd: clip is a number above 0")


class PrivateTraining:
    """One round's training within a budget.

    Attributes:
        model: the model to call, which trains the one that was given.
        optimizer: to step with; it clips and adds noise.
        loader: to read batches from: each record is in each batch by chance.
    """

    __slots__ = ("_accountant", "_budget", "loader", "model", "optimizer")

    def __init__(
        self,
        model: "torch.nn.Module",
        optimizer: "torch.optim.Optimizer",
        loader: "DataLoader[Any]",
        *,
        budget: TrainingBudget,
        state: MutableMapping[str, Record],
        epochs: int,
    ) -> None:
        """Prepare to train `model` for `epochs`.

        Args:
            model: in training mode, with layers that Opacus knows (no batch normalisation).
            optimizer: of its parameters.
            loader: the party's records, the same in every round.
            budget: of the run.
            state: the party's own, `Context.state`: which steps were made before.
            epochs: of this round.

        Raises:
            PolicyDenied: these epochs would exceed the budget (rule `privacy-budget`).
            ConfigError: Opacus is not installed.
            FormatError: the state is none of this.
        """
        opacus, torch = _libraries()
        rate, steps = 1 / len(loader), len(loader)
        noise = opacus.accountants.utils.get_noise_multiplier(
            target_epsilon=budget.epsilon,
            target_delta=budget.delta,
            sample_rate=rate,
            steps=steps * budget.epochs,
            accountant=_ACCOUNTANT,
        )
        history = _history(state)
        ahead = opacus.accountants.RDPAccountant()
        ahead.history = [*history, (noise, rate, steps * epochs)]
        if epochs < 1 or not ahead.get_epsilon(budget.delta) <= budget.epsilon:
            raise PolicyDenied(
                "these epochs would exceed what the party grants to the run", rule="privacy-budget"
            )
        engine = opacus.PrivacyEngine(accountant=_ACCOUNTANT)
        engine.accountant.history = history
        fresh = torch.Generator().manual_seed(secrets.randbits(63))
        loader.generator = fresh  # a seed of the app's would tell which records are in which batch
        self.model, self.optimizer, self.loader = engine.make_private(
            module=model,
            optimizer=optimizer,
            data_loader=loader,
            noise_multiplier=noise,
            max_grad_norm=budget.clip,
            noise_generator=fresh,
        )
        self._accountant, self._budget = engine.accountant, budget

    def spent(self, state: MutableMapping[str, Record]) -> float:
        """Return the epsilon of all steps so far, at the budget's delta, and keep them in `state`.

        Call it once, when the round is trained and before anything is sent; the number may be sent
        as a metric.

        Raises:
            PolicyDenied: more was trained than was said, and than the budget has room for (rule
                `privacy-budget`): send nothing.
        """
        found = float(self._accountant.get_epsilon(self._budget.delta))
        if not found <= self._budget.epsilon:
            raise PolicyDenied("more was trained than was granted", rule="privacy-budget")
        noises, rates, steps = zip(*self._accountant.history, strict=True)
        state[STATE] = MetricRecord(
            {"noises": list(noises), "rates": list(rates), "steps": list(steps)}
        )
        return found


def _history(state: MutableMapping[str, Record]) -> list[tuple[float, float, int]]:
    """Return what `PrivateTraining.spent` kept: noise, rate and number of steps."""
    kept = state.get(STATE)
    if kept is None:
        return []
    try:
        noises, rates, steps = (kept[name] for name in ("noises", "rates", "steps"))
        return list(zip(noises, rates, steps, strict=True))  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError) as err:
        raise FormatError("dp-sgd: the party's state does not say what was spent") from err


def _libraries() -> tuple[Any, Any]:
    try:
        import opacus  # noqa: PLC0415  an extra
        import opacus.accountants.utils  # noqa: PLC0415
        import torch  # noqa: PLC0415
    except ImportError as err:
        raise ConfigError(
            f"dp-sgd: {err.name} is not installed: pip install 'wardian[dp-sgd]' torch"
        ) from err
    return opacus, torch
