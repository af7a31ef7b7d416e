"""A broker that has a peer: it follows the active one, and becomes it when that is gone."""

import asyncio
import logging
from collections.abc import Callable

from wardian._internal.clock import monotonic, unix_time
from wardian._internal.log import event
from wardian.broker.standby.course import Course, Heard, Step
from wardian.broker.standby.door import Door
from wardian.broker.standby.follower import Home, seek
from wardian.broker.standby.identity import nobody
from wardian.broker.standby.place import StandbyPlace
from wardian.broker.state.store import Store
from wardian.errors import SealError
from wardian.roles.host import Address
from wardian.tee.backend import Enclave

log = logging.getLogger(__name__)

PAUSE_S, LONGEST_PAUSE_S = 0.2, 30.0


class StandingBy:
    """The time until this broker is the active one."""

    def __init__(
        self,
        enclave: Enclave,
        home: Home,
        *,
        peer: Address,
        course: Course,
        open_state: Callable[[], Store],
    ) -> None:
        """Follow whoever is active at `peer`.

        Args:
            enclave: told when this broker stands by.
            home: where the copy is kept.
            peer: the other broker, from the operator.
            course: decides what to do next.
            open_state: opens the own state as the newest, or raises.
        """
        self._enclave, self._home, self._peer = enclave, home, peer
        self._course, self._open_state = course, open_state
        self._place = StandbyPlace()
        self._pause_s = PAUSE_S

    async def until_active(self, listen: Address) -> Store:
        """Return the state once it was opened as the newest; stands by at `listen` until then.

        Raises:
            ConfigError: it cannot listen there, or its files cannot be used.
        """
        door = Door(self._place.answer, context=nobody(now=unix_time()))
        address, port = await door.start(*listen)
        self._enclave.announce("broker.standing-by", address=address, port=port)
        try:
            while True:
                store = await self._next()
                if store is not None:
                    return store
                await asyncio.sleep(self._pause_s)
        finally:
            await door.aclose()

    async def _next(self) -> Store | None:
        """Ask the peer; return the state if this broker is to be the active one."""
        heard = await seek(self._peer, self._home, self._place)
        event(log, "standby.heard", level=logging.DEBUG, heard=heard.name.lower())
        again = heard in (Heard.BROKE_OFF, Heard.COPIED, Heard.REFUSES)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S) if again else PAUSE_S
        if self._course.heard(heard, now=monotonic()) is Step.SEEK:
            return None
        try:
            return self._open_state()
        except SealError as err:
            self._refused(err)
        return None

    def _refused(self, err: SealError) -> None:
        """Say that this broker does not take over, and go on looking for the active one."""
        kind, reason = type(err).__name__, str(err)[:500]
        event(log, "standby.not-newest", level=logging.WARNING, error=kind)
        self._enclave.announce("broker.not-newest", kind=kind, reason=reason)
        self._course.refused(err, now=monotonic())
