"""A whole round in this process: parties, a coordinator, and who carries their messages."""

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np

from wardian.crypto.masks import Ring
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SignatureKind, SigningKey
from wardian.learning.masking.coordinator import MaskingCoordinator
from wardian.learning.masking.messages import Round, encode
from wardian.learning.masking.party import MaskingParty
from wardian.learning.masking.plan import MaskingPlan

RUN = bytes(range(32))
ROUND = 7


def signers(count: int) -> dict[str, SigningKey]:
    """The same keys every time; every fifth is of P-256."""
    kinds = [SignatureKind.P256, *[SignatureKind.ED25519] * 4]
    return {
        f"party-{place:03}": SigningKey.from_secret(
            Secret((place + 1).to_bytes(32)), kinds[place % 5]
        )
        for place in range(count)
    }


def changed(raw: bytes, kind: type[Round], **changes) -> bytes:
    """Return the message with other fields."""
    return encode(msgspec.structs.replace(msgspec.msgpack.decode(raw, type=kind), **changes))


def opened(raw: bytes, kind: type):
    return msgspec.msgpack.decode(raw, type=kind)


@dataclass
class World:
    """A roster, and the steps of a round; each can be taken with another number of parties."""

    count: int = 5
    threshold: int = 0
    elements: int = 9
    number: int = ROUND
    run: bytes = RUN
    signers: dict[str, SigningKey] = field(default_factory=dict)
    kept: dict[str, Secret] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.signers = self.signers or signers(self.count)
        self.plan = MaskingPlan(
            run=self.run,
            parties={name: signer.public for name, signer in self.signers.items()},
            threshold=self.threshold or 2 * self.count // 3 + 1,
            elements=self.elements,
        )
        self.names = sorted(self.signers)
        self.coordinator = MaskingCoordinator(self.plan, number=self.number)
        self.parties = {name: self.party(name) for name in self.names}
        source = np.random.default_rng(11)
        self.vectors: dict[str, Ring] = {
            name: source.integers(0, 2**64, self.elements, np.uint64) for name in self.names
        }

    def party(self, name: str, kept: Secret | None = None, **changes) -> MaskingParty:
        """Return the party, new or from what was kept."""
        settings = {"plan": self.plan, "number": self.number, "signer": self.signers[name]}
        settings |= {"keep": lambda state: self.kept.__setitem__(name, state), **changes}
        return MaskingParty(settings.pop("plan"), party=name, kept=kept, **settings)

    def restart(self, name: str) -> None:
        """The party's process ends, and another one goes on from what was kept."""
        self.parties[name] = self.party(name, self.kept[name])

    def plain(self, names: Collection[str]) -> Ring:
        total = np.zeros(self.elements, np.uint64)
        for name in names:
            total += self.vectors[name]
        return total

    def advertise(self, names: Collection[str]) -> bytes:
        for name in names:
            self.coordinator.advertised(name, self.parties[name].advertise())
        return self.coordinator.keys()

    def share(self, keys: bytes, names: Collection[str]) -> Mapping[str, bytes]:
        for name in names:
            self.coordinator.shared(name, self.parties[name].share(keys))
        return self.coordinator.deliveries()

    def mask(self, deliveries: Mapping[str, bytes], names: Collection[str]) -> bytes:
        for name in names:
            message = self.parties[name].mask(deliveries[name], self.vectors[name])
            self.coordinator.masked(name, message)
        return self.coordinator.survivors()

    def sign(self, survivors: bytes, names: Collection[str]) -> bytes:
        for name in names:
            self.coordinator.signed(name, self.parties[name].sign(survivors))
        self.revealing = self.coordinator.agreed()
        return self.revealing.agreements()

    def reveal(self, agreements: bytes, names: Collection[str]) -> Ring:
        for name in names:
            self.revealing.revealed(name, self.parties[name].reveal(agreements))
        return self.revealing.total()

    # Up to a step, with everybody

    def to_keys(self) -> bytes:
        return self.advertise(self.names)

    def to_deliveries(self) -> Mapping[str, bytes]:
        return self.share(self.to_keys(), self.names)

    def to_survivors(self, names: Collection[str] | None = None) -> bytes:
        return self.mask(self.to_deliveries(), self.names if names is None else names)

    def to_agreements(self, names: Collection[str] | None = None) -> bytes:
        survivors = self.to_survivors(names)
        return self.sign(survivors, self.names if names is None else names)

    def whole(
        self,
        lost: Mapping[str, int],
        *,
        shuffle: random.Random | None = None,
        between: Callable[[str, str], None] = lambda *_: None,
    ) -> tuple[Ring, list[str]]:
        """Return the sum, and whose vectors are in it.

        Args:
            lost: at which step, 0 to 4, a party is lost that does not stay to the end.
            shuffle: messages come in an order of its choosing.
            between: called with a step and a party before the party takes it.
        """

        def there(step: int) -> list[str]:
            names = [name for name in self.names if lost.get(name, 5) > step]
            if shuffle is not None:
                shuffle.shuffle(names)
            for name in names:
                between("asmgr"[step], name)
            return names

        keys = self.advertise(there(0))
        deliveries = self.share(keys, there(1))
        came = there(2)
        survivors = self.mask(deliveries, came)
        agreements = self.sign(survivors, there(3))
        return self.reveal(agreements, there(4)), sorted(came)
