"""What a masked round is about: who takes part, how many it takes, how long a vector is."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from wardian._internal import wire
from wardian.crypto.masks import MAX_ELEMENTS
from wardian.crypto.shamir import MAX_SHARES, SET_ID_BYTES
from wardian.crypto.signing import ED25519_PUBLIC_BYTES, P256_PUBLIC_BYTES
from wardian.errors import ConfigError, LocalProtocolError, PolicyDenied

MIN_PARTIES: Final = 3
"""Of two, each could take its own vector off the sum."""
MAX_PARTIES: Final = MAX_SHARES
"""As many as a key can be shared among; each party agrees with every other one."""
RUN_BYTES: Final = 32
SCOPE_LABEL: Final = "wardian masked round v1"
SET_LABEL: Final = "wardian mask share set v1"

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskingPlan:
    """What coordinator and parties agreed to beforehand; from the measured plan, not from the wire.

    Attributes:
        run: 32 bytes that name the run.
        parties: the roster: each party's name and the public key that it signs with (Ed25519,
            32 bytes, or P-256, 33 bytes); 3 to 255.
        threshold: how many survivors it takes, more than two thirds of the roster.
        elements: length of a vector, 1 to 2^32.
    """

    run: bytes
    parties: Mapping[str, bytes]
    threshold: int
    elements: int
    _indexes: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what would protect nobody.

        Raises:
            ConfigError: names the setting.
        """
        count = len(self.parties)
        if len(self.run) != RUN_BYTES:
            raise ConfigError(f"masking: `run` has {RUN_BYTES} bytes")
        if not MIN_PARTIES <= count <= MAX_PARTIES:
            raise ConfigError(
                f"masking: `parties`: {MIN_PARTIES} to {MAX_PARTIES} are needed, not {count}"
            )
        for name, public in self.parties.items():
            if not _NAME.match(name):
                raise ConfigError("masking: `parties`: a name is 1 to 64 of a-z 0-9 . _ -")
            if len(public) not in {ED25519_PUBLIC_BYTES, P256_PUBLIC_BYTES}:
                raise ConfigError(f"masking: `parties.{name}`: not a key of Ed25519 or P-256")
        if len({public[-32:] for public in self.parties.values()}) < count:
            raise ConfigError("masking: `parties` names one key twice")
        if not 2 * count < 3 * self.threshold <= 3 * count:
            raise ConfigError(
                f"masking: `threshold` is more than two thirds of the parties: of {count}, "
                f"{2 * count // 3 + 1} to {count}"
            )
        if not 1 <= self.elements <= MAX_ELEMENTS:
            raise ConfigError(f"masking: `elements` is 1 to {MAX_ELEMENTS}")
        roster = dict(sorted(self.parties.items()))  # a copy: what was looked at stays so
        indexes = {name: index for index, name in enumerate(roster, start=1)}
        object.__setattr__(self, "parties", MappingProxyType(roster))
        object.__setattr__(self, "_indexes", indexes)

    def index(self, party: str) -> int:
        """Return the index of the shares that `party` gets: its place among all names, from 1.

        Raises:
            PolicyDenied: it is not on the roster (rule `mask-roster`).
        """
        if party not in self._indexes:
            raise PolicyDenied("not a party of this run", rule="mask-roster")
        return self._indexes[party]

    def scope(self, number: int) -> bytes:
        """Return 32 bytes that stand for this plan and the round of this number, and no other.

        Args:
            number: 1 to 2^63; within a run it is never used again, not for another attempt either.

        Raises:
            LocalProtocolError: another number.
        """
        if not 1 <= number <= 2**63:
            raise LocalProtocolError("masking: the number of a round is 1 to 2^63")
        roster = [part for name, public in self.parties.items() for part in (name.encode(), public)]
        numbers = [value.to_bytes(8) for value in (number, self.threshold, self.elements)]
        return hashlib.sha256(wire.fields(SCOPE_LABEL, self.run, *numbers, *roster)).digest()


def set_id(scope: bytes, dealer: str, what: str) -> bytes:
    """Return the name of the sharing of `dealer`'s `what` ("key" or "seed"), 16 bytes."""
    parts = scope, dealer.encode(), what.encode()
    return hashlib.sha256(wire.fields(SET_LABEL, *parts)).digest()[:SET_ID_BYTES]


def verify_maskable(*, strategy: str, robust: bool, clips: bool) -> None:
    """Return if a strategy can work on the sum of masked updates. For whoever builds the plan.

    Args:
        strategy: its name in the plan.
        robust: whether it looks at single updates (`Strategy.robust`).
        clips: whether the coordinator is to clip single updates, for differential privacy or
            otherwise.

    Raises:
        ConfigError: it cannot: nobody but the party sees a single update.
    """
    if robust:
        raise ConfigError(
            f"`strategy.name` is {strategy!r}, which compares single updates, and `masking` hides "
            "them: leave out one of the two"
        )
    if clips:
        raise ConfigError(
            "clipping by the coordinator needs single updates, and `masking` hides them: let the "
            "parties clip, or leave out one of the two"
        )
