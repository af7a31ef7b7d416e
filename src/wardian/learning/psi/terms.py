"""What parties consented to before they intersect: who, how many records, how often."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from wardian.crypto.group_key import Group
from wardian.errors import ConfigError, PolicyDenied

MAX_PARTIES: Final = 64
MAX_IDENTIFIERS: Final = 100_000_000
SHARE: Final = "share"
"""Records of the messages; what is in them has the same name."""
SHARES: Final = "shares"
DEAL: Final = "deal"
TAGS: Final = "tags"
POSITIONS: Final = "positions"
_USE: Final = "wardian psi v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PsiTerms:
    """The same for every party and the coordinator.

    Attributes:
        keys: each party's public key by its name, 32 or 33 bytes; 2 to 64 parties.
        caps: how many identifiers each party may submit, by its name.
        runs: how many runs these terms allow: each is a chance to ask about other identifiers.
    """

    keys: Mapping[str, bytes]
    caps: Mapping[str, int]
    runs: int

    def __post_init__(self) -> None:
        """Refuse terms that do not say all.

        Raises:
            ConfigError: too few or too many parties, a cap is missing or out of range, no run.
        """
        if not 1 < len(self.keys) <= MAX_PARTIES:
            raise ConfigError(f"psi: 2 to {MAX_PARTIES} parties intersect")
        if len(set(self.keys.values())) < len(self.keys):
            raise ConfigError("psi: two parties have the same key")
        if set(self.caps) != set(self.keys):
            raise ConfigError("psi: `caps` says for each party, and for nobody else, how many")
        if not all(0 < cap <= MAX_IDENTIFIERS for cap in self.caps.values()):
            raise ConfigError(f"psi: a cap is 1 to {MAX_IDENTIFIERS}")
        if self.runs < 1:
            raise ConfigError("psi: `runs` is 1 or more")

    @property
    def parties(self) -> tuple[str, ...]:
        """The parties' names, sorted."""
        return tuple(sorted(self.keys))

    def group(self, run: bytes) -> Group:
        """Return who agrees the key of `run`."""
        return Group(self.keys, use=_USE, run=run)

    def demand_run(self, before: int) -> None:
        """Return if one more run is allowed after `before` of them.

        Raises:
            PolicyDenied: rule `psi-runs`.
        """
        if before >= self.runs:
            raise PolicyDenied("as many runs as were consented to are over", rule="psi-runs")

    def demand_size(self, party: str, size: int) -> None:
        """Return if `party` may submit `size` identifiers.

        Raises:
            PolicyDenied: it takes no part (rule `psi-party`), or they are too many (`psi-size`).
        """
        if party not in self.caps:
            raise PolicyDenied("this party takes no part", rule="psi-party")
        if size > self.caps[party]:
            raise PolicyDenied("more identifiers than were consented to", rule="psi-size")
