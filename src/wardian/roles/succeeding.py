"""A broker of new code takes the mesh over from the old one; the old one has nothing left to do."""

import asyncio
import logging
from functools import partial
from typing import Final, NoReturn

from wardian._internal.agreed import Agreed
from wardian._internal.clock import monotonic, unix_time
from wardian._internal.log import event
from wardian.broker.standby.door import Door
from wardian.broker.standby.follower import Home
from wardian.broker.standby.identity import nobody
from wardian.broker.standby.retired import RetiredPlace
from wardian.broker.standby.successor import take_over
from wardian.broker.state.store import Store
from wardian.errors import ConfigError, CounterUnavailable, PolicyDenied, SealError, WardianError
from wardian.roles.broker_home import BrokerHome, when_counted
from wardian.roles.host import Address
from wardian.tee.backend import Enclave

log = logging.getLogger(__name__)

PAUSE_S: Final = 1.0


async def succeed(home: BrokerHome, follower: Home, peer: Address) -> None:
    """Return once the state at `home` is this code's to decide with.

    So it is already where this broker was started before. Else the old broker at `peer` is asked
    until it handed over; what was received before a crash is taken up.

    Raises:
        PolicyDenied: the old broker refuses, or is not acceptable.
        SealError, ConfigError: the state that it gave cannot be taken up here.
    """
    if await when_counted(home.is_own) or await when_counted(partial(_adopted, home)):
        return
    while True:
        try:
            await take_over(peer, follower)
            break
        except (ConfigError, PolicyDenied):
            raise
        except WardianError as err:  # what a carrier can do once must not end it for good
            event(log, "handover.awaited", level=logging.WARNING, error=type(err).__name__)
            await asyncio.sleep(PAUSE_S)
    await when_counted(home.adopt)
    event(log, "handover.done", level=logging.WARNING)


def _adopted(home: BrokerHome) -> bool:
    """Return whether a state that was handed over lies at `home`, and was taken up now."""
    try:
        home.adopt()
    except CounterUnavailable:
        raise  # nobody can say now: what lies here may be this code's already
    except (SealError, PolicyDenied) as err:
        event(log, "handover.none-here", level=logging.DEBUG, error=type(err).__name__)
        return False
    return True


async def stay_retired(enclave: Enclave, store: Store, agreed: Agreed, listen: Address) -> NoReturn:
    """Give the state to the successor whenever it asks, and send everybody else there, for good.

    Raises:
        ConfigError: it cannot listen there.
        SealError, PolicyDenied, AuthenticationFailed, FormatError: the state is not in order.
    """
    place = RetiredPlace(
        store, agreed=agreed, attest=enclave.evidence, now=unix_time, ticks=monotonic
    )
    door, for_good = Door(place.answer, context=nobody(now=unix_time())), asyncio.Event()
    try:
        address, port = await door.start(*listen)
        enclave.announce("broker.handed-over", address=address, port=port)
        while True:
            await for_good.wait()
    finally:
        await door.aclose()
        store.close()
