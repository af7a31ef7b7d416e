"""A broker whose state does not open waits for its owners; one that is open is kept recoverable."""

import asyncio
import contextlib
import hashlib
import logging
from typing import Final

from wardian._internal import wire
from wardian._internal.agreed import Agreed
from wardian._internal.clock import monotonic, unix_time
from wardian._internal.files import replace_file
from wardian._internal.log import event
from wardian.broker.authority import Authority
from wardian.broker.recovery.backup import package_path, read_package
from wardian.broker.recovery.gathering import Gathering
from wardian.broker.recovery.keeper import refresh
from wardian.broker.recovery.place import RecoveryMeans, RecoveryPlace
from wardian.broker.standby.door import Door
from wardian.broker.standby.identity import nobody
from wardian.errors import ConfigError, CounterUnavailable, SealError
from wardian.roles.broker_home import BrokerHome
from wardian.roles.host import Address
from wardian.tee.backend import Enclave

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often it is looked whether a new recovery package is due."""


def opens(home: BrokerHome) -> bool:
    """Return whether the state at `home` opens as the newest; it is closed again.

    Raises:
        CounterUnavailable: nobody can say now, so it is not for the owners to say.
    """
    try:
        if home.load_key() is None or not home.has_state:
            return False
        home.open().close()
    except CounterUnavailable:
        raise
    except SealError as err:
        event(log, "recovery.needed", level=logging.WARNING, error=type(err).__name__)
        return False
    return True


async def until_recovered(
    enclave: Enclave, home: BrokerHome, agreed: Agreed, listen: Address
) -> None:
    """Return once enough owners gave the state at `home` its keys back; waits at `listen`.

    Raises:
        ConfigError: there is no state or no recovery package, or it cannot listen there.
        PolicyDenied, AuthenticationFailed: the package is not one of this mesh.
    """
    package = read_package(home.path)
    if package is None or not home.has_state:
        raise ConfigError(
            f"{home.path}: there is nothing to recover: restore a backup with its recovery package"
        )
    place = RecoveryPlace(
        Gathering(package, agreed.mesh),
        RecoveryMeans(
            attest=enclave.evidence,
            agreed_digest=hashlib.sha256(enclave.agreed_config()).digest(),
            recover=home.recover,
            ticks=monotonic,
        ),
    )
    door = Door(place.answer, context=nobody(now=unix_time()))
    address, port = await door.start(*listen)
    enclave.announce(
        "broker.awaits-owners", address=address, port=port, threshold=package.threshold
    )
    try:
        await place.recovered.wait()
        event(log, "recovery.done", level=logging.WARNING)
    finally:
        await door.aclose()


async def keep_recoverable(authority: Authority, home: BrokerHome) -> None:
    """Keep the owners' recovery package up to date, in the state and beside it, until cancelled.

    Raises:
        SealError: the state is in doubt.
    """
    while True:
        package = None
        try:
            package = refresh(authority) if authority.usable else None
        except CounterUnavailable:
            if not authority.usable:
                raise  # in doubt; else nothing was begun, and it is due at the next look
        raw = None if package is None else wire.encode(package)
        path = package_path(home.path)
        with contextlib.suppress(OSError):  # a full disk costs the file, which only helps
            if raw is not None and (not path.exists() or path.read_bytes() != raw):
                replace_file(path, raw)
        await asyncio.sleep(LOOK_S)
