"""What every role shares that sends requests to workers: its queue, its keys, its end."""

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

from typing_extensions import override

from wardian._internal.log import event
from wardian.broker.release.admission import Admission
from wardian.crypto.message import QueueSender
from wardian.errors import ConfigError, WardianError
from wardian.roles.host import HostSettings
from wardian.roles.membership import Member, Membership
from wardian.roles.queue_access import redis_access
from wardian.serving.dispatch import Dispatcher
from wardian.serving.queue.frames import Address
from wardian.serving.queue.front import SocketFrontQueue
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.redis_front import RedisFrontQueue

log = logging.getLogger(__name__)

Queue: TypeAlias = SocketFrontQueue | RedisFrontQueue
TakeUp: TypeAlias = Callable[[Admission], None]


def demand_queue(host: HostSettings) -> None:
    """Return if `host` names one queue.

    Raises:
        ConfigError: none, or more.
    """
    if (len(host.queues), bool(host.redis)) not in {(1, False), (0, True)}:
        raise ConfigError("host settings: a role that sends to workers needs one queue")


def open_queue(host: HostSettings, admission: Admission) -> Queue:
    """Return the queue that the host names; it is not started."""
    if host.redis:
        return RedisFrontQueue(redis_access(host, admission))
    return SocketFrontQueue(Address.parse(host.queues[0]))


def reach(host: HostSettings, queue: Queue) -> TakeUp:
    """Return what lets `queue` take up another admission: its certificate, where it is a Redis."""

    def take_up(admission: Admission) -> None:
        if isinstance(queue, RedisFrontQueue):
            queue.use(redis_access(host, admission))

    return take_up


def senders(admission: Admission) -> dict[str, QueueSender]:
    """Return what seals for the workers of each model."""
    found = {}
    for name in admission.models:
        key, epoch = admission.queue_key(name)
        found[name] = QueueSender(
            queue_key=key,
            model=name,
            epoch=epoch,
            certificate_digest=admission.certificate_digest,
        )
    return found


def lanes(admission: Admission) -> frozenset[Lane]:
    """Return the versions of the manifest."""
    lines = admission.manifest.manifest.models
    return frozenset(Lane(model=line.name, version=line.version) for line in lines)


async def until_over(membership: Membership) -> WardianError | None:
    """Return when a signal ends this process, or why it is not of the mesh any more."""
    staying = asyncio.ensure_future(membership.run())
    stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def stop() -> None:
        if not stopped.done():
            stopped.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    both: set[asyncio.Future[Any]] = {staying, stopped}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if staying.done():
        return staying.result()
    staying.cancel()
    await asyncio.gather(staying, return_exceptions=True)
    return None


class DispatchMember(Member):
    """Takes up what the broker gives while requests go on."""

    def __init__(
        self, admission: Admission, *, dispatcher: Dispatcher, take_up: tuple[TakeUp, ...]
    ) -> None:
        """Serve under `admission`, which all have taken up already.

        Args:
            admission: the first one.
            dispatcher: seals under its queue keys.
            take_up: told of each further one, in this order, before the dispatcher.
        """
        self._admission, self._dispatcher, self._take_up = admission, dispatcher, take_up

    @override
    def noticed(self) -> None:
        self._dispatcher.hold()

    @override
    def left_alone(self) -> None:
        self._dispatcher.go_on()

    @override
    def adopt(self, admission: Admission) -> WardianError | None:
        """Swap certificate, evidence and queue keys; no event comes between them."""
        was, self._admission = self._admission, admission
        moved = admission.manifest.digest != was.manifest.digest
        for take_up in self._take_up:
            take_up(admission)
        if moved or not _same_keys(admission, was):
            self._dispatcher.use(senders(admission), lanes=lanes(admission), moved=moved)
            event(log, "epoch.taken-up", epoch=admission.epoch, manifest_changed=moved)
        else:
            self._admission = replace(admission, secrets=was.secrets)
            admission.wipe()
            self._dispatcher.go_on()
        return None


def _same_keys(one: Admission, other: Admission) -> bool:
    """Return whether two admissions are of the same epoch, with the same keys."""
    return set(one.models) == set(other.models) and all(
        one.queue_key(name) == other.queue_key(name) for name in one.models
    )
