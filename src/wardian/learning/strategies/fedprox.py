"""FedProx: as FedAvg, and each party is held near the model that it was given.

A party minimises its loss plus mu/2 times the squared distance from the round's model; mu travels
in the config as "proximal-mu". Its code takes the term from here.

Li et al., "Federated Optimization in Heterogeneous Networks", 2020.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from wardian.learning.arrays import Array, ArrayRecord
from wardian.learning.records import ConfigRecord, RecordDict
from wardian.learning.strategies.demands import real
from wardian.learning.strategies.fedavg import FedAvg

if TYPE_CHECKING:
    import torch

PROXIMAL_MU: Final = "proximal-mu"


class FedProx(FedAvg):
    """FedAvg with a proximal term at the parties."""

    def __init__(self, *, mu: float = 0.1) -> None:
        """Send `mu`, above 0: 0 is FedAvg.

        Raises:
            ConfigError: it is out of range.
        """
        self._mu = real("mu", mu, above=0)

    @override
    def configure_train(
        self, number: int, arrays: ArrayRecord, config: ConfigRecord, parties: Sequence[str]
    ) -> Mapping[str, RecordDict]:
        told = ConfigRecord({**config, PROXIMAL_MU: self._mu})
        return super().configure_train(number, arrays, told, parties)


def proximal_gradient(now: Array, given: Array, mu: float) -> Array:
    """Return what the term adds to the gradient of one array: mu times (now - given).

    Args:
        now: the array as it is in training.
        given: the same array of the round's model.
        mu: `config["proximal-mu"]`.
    """
    found: Array = mu * (now - given)
    return found


def proximal_loss(module: "torch.nn.Module", given: ArrayRecord, mu: float) -> "torch.Tensor":
    """Return the term as a PyTorch loss, to be added to the party's own. Needs PyTorch.

    Args:
        module: in training.
        given: the round's model; has each of the module's parameters under its name.
        mu: `config["proximal-mu"]`.
    """
    import torch  # noqa: PLC0415

    squares = [
        (each - torch.tensor(given[name], dtype=each.dtype, device=each.device)).square().sum()
        for name, each in module.named_parameters()
        if each.requires_grad
    ]
    return mu / 2 * torch.stack(squares).sum()
