"""The seam to the copies of a broker's state that other brokers keep."""

from typing import Final, Protocol

from typing_extensions import override

from wardian.broker.state.contents import Commit


class Replicas(Protocol):
    """Copies that are brought up with every commit, before it is counted and acted upon."""

    @property
    def said(self) -> str:
        """What a status says of them; empty where there never are any."""

    def ship(self, commit: Commit) -> None:
        """Return once every copy that is kept up has `commit` on its disk.

        A copy that does not say so in time is not kept up any more; that is no error.

        Raises:
            SealError: this broker must not act on `commit`.
        """


class NoReplicas(Replicas):
    """There are none."""

    @property
    @override
    def said(self) -> str:
        """Nothing."""
        return ""

    @override
    def ship(self, commit: Commit) -> None:
        """Return at once."""


NO_REPLICAS: Final = NoReplicas()
