"""How a process asks the brokers of its mesh: the one that answered last comes first."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from wardian._internal.log import event
from wardian.errors import AdmissionRefused, ConfigError, TransportError, WardianError
from wardian.roles.host import Address

log = logging.getLogger(__name__)

PAUSE_S: Final = 0.2
PATIENCE_S: Final = 60.0
T = TypeVar("T")


class Addresses:
    """The addresses of the mesh's brokers; one of them is active."""

    __slots__ = ("_addresses",)

    def __init__(self, addresses: tuple[Address, ...]) -> None:
        """Ask at `addresses`, as the host says; a lie costs service and nothing else.

        Raises:
            ConfigError: there is none.
        """
        if not addresses:
            raise ConfigError("host settings: no broker address")
        self._addresses = list(addresses)

    async def first(self, ask: Callable[[Address], Awaitable[T]]) -> T:
        """Return the first answer that a broker gives.

        A refusal of this process by a broker that was verified is final. Otherwise another one may
        answer; if none does, an error after which it may be asked again comes before the others.
        """
        errors: list[WardianError] = []
        for address in tuple(self._addresses):
            try:
                answer = await ask(address)
            except AdmissionRefused:
                raise
            except WardianError as err:
                errors.append(err)
            else:
                self._addresses.remove(address)
                self._addresses.insert(0, address)
                return answer
        raise min(errors, key=lambda err: not err.retryable)


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Return what `ask` returns; who has no manifest yet, or is not there, is asked again.

    Raises:
        TransportError: nobody answered within a minute. For the rest see `ask`.
    """
    loop = asyncio.get_running_loop()
    patience = loop.time() + PATIENCE_S
    while True:
        try:
            return await ask()
        except TransportError as err:
            if not err.retryable or loop.time() > patience:
                raise
            event(log, "broker.awaited", level=logging.DEBUG, reason=type(err).__name__)
            await asyncio.sleep(PAUSE_S)
