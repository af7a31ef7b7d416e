"""The standbys of an active broker: who is kept up, and who is on the way to be. One thread."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from typing_extensions import override

from wardian._internal.log import event
from wardian.broker.standby.commits import CommitsLink
from wardian.broker.state.contents import Commit
from wardian.broker.state.replicas import Replicas
from wardian.errors import AuthenticationFailed, Timeout, TransportError

log = logging.getLogger(__name__)

MOST_WAITING: Final = 256
"""Commits that are kept for a standby that is still taking the state; then it begins anew."""

CATCH_UP_S: Final = 2.0
"""How long a standby may take over them; nothing is decided meanwhile."""

_KEPT_UP: Final = "a standby has every commit"
_ALONE: Final = "no standby is kept up: what is decided now is lost with this machine"


@dataclass(slots=True, eq=False)
class Joining:
    """A standby that takes the state.

    Attributes:
        waiting: what was committed meanwhile.
        overtaken: whether that is more than is kept for it.
    """

    waiting: list[Commit] = field(default_factory=list)
    overtaken: bool = False


class Standbys(Replicas):
    """The copies of this broker's state that standbys keep."""

    __slots__ = ("_joining", "_links", "on_lost", "peer", "under")

    on_lost: Callable[[], None]
    """Told, in the middle of a commit, that a standby is not kept up any more."""
    peer: tuple[str, int]
    """Where the standby listens, from the operator."""
    under: bytes
    """Digest of the manifest by which the standby that is kept up was admitted."""

    def __init__(self, peer: tuple[str, int]) -> None:
        """Keep up the standby that listens at `peer`, once it has asked to be."""
        self.peer, self.under = peer, b""
        self._joining, self._links = list[Joining](), list[CommitsLink]()
        self.on_lost = lambda: None

    @property
    def kept_up(self) -> bool:
        """Whether a standby has every commit so far."""
        return bool(self._links)

    @property
    @override
    def said(self) -> str:
        """What becomes of the state when this broker's machine is lost."""
        return _KEPT_UP if self._links else _ALONE

    @override
    def ship(self, commit: Commit) -> None:
        """Return once every standby has `commit`; those that do not say so in time are given up."""
        for joining in self._joining:
            joining.overtaken = joining.overtaken or len(joining.waiting) >= MOST_WAITING
            if not joining.overtaken:
                joining.waiting.append(commit)
        for link in tuple(self._links):
            self._try(link, lambda link=link: link.ship(commit))  # type: ignore[misc]

    def beat(self) -> None:
        """Let every standby know that this broker lives, and give up those that do not."""
        for link in tuple(self._links):
            self._try(link, link.beat)

    @contextmanager
    def joining_one(self) -> Iterator[Joining]:
        """Keep what is committed while a standby takes the state."""
        joining = Joining()
        self._joining.append(joining)
        try:
            yield joining
        finally:
            self._joining.remove(joining)

    def attach(
        self, joining: Joining, link: CommitsLink, *, mark: bytes, under: bytes = b""
    ) -> None:
        """Keep up one more standby, from the next commit on.

        Args:
            joining: what was committed since it was sent the state.
            link: to it.
            mark: of the copy that it was sent.
            under: digest of the manifest by which it was admitted.

        Raises:
            TransportError, AuthenticationFailed: it has another copy, or does not answer.
        """
        if joining.overtaken:
            raise Timeout("too much was committed while the standby took the state: ask again")
        if link.beat() != mark:
            raise AuthenticationFailed("the standby has another copy than it was sent")
        deadline = time.monotonic() + CATCH_UP_S
        for commit in joining.waiting:
            if time.monotonic() > deadline:
                raise Timeout("the standby is slower than what is committed: ask again")
            link.ship(commit)
        for other in self._links:  # the same standby, come back; there is one address
            other.close()
        self._links, self.under = [link], under

    def close(self) -> None:
        """Close all connections."""
        for link in self._links:
            link.close()
        self._links = []

    def _try(self, link: CommitsLink, work: Callable[[], object]) -> None:
        """Do `work`; if that fails, the standby is not kept up any more."""
        try:
            work()
        except (TransportError, AuthenticationFailed) as err:
            link.close()
            self._links.remove(link)
            event(log, "standby.lost", level=logging.WARNING, error=type(err).__name__)
            self.on_lost()
