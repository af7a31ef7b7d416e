"""Staying in the mesh: certificates and queue keys are renewed while the process serves.

A lease is renewed at half of it. In between a front end asks every few seconds what is in force,
and a worker does when a message is of an epoch that it does not know: what is news is taken up at
once. Nothing of it stops what is being served. It ends when no broker renewed the lease, or when
one that was verified says that this process belongs to the mesh no more.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from typing import Final, Protocol

from wardian._internal.log import event
from wardian.broker.lease import Lease, Moment, Renewals, Standing
from wardian.broker.release.admission import Admission
from wardian.errors import AdmissionRefused, PolicyDenied, Timeout, TransportError, WardianError
from wardian.roles.admission import Brokers, chance, moment

log = logging.getLogger(__name__)

POLL_S: Final = 2.0
"""How often a front end asks what is in force; up to a tenth sooner."""
LONGEST_PAUSE_S: Final = 5.0
"""Timers stand still while a machine sleeps, leases do not."""
LOOK_TIMEOUT_S: Final = 10.0


class Member(Protocol):
    """What a process does about news from the broker."""

    def noticed(self) -> None:
        """Another epoch than this process's is in force; its keys are about to come."""

    def adopt(self, admission: Admission) -> WardianError | None:
        """Serve under `admission` from now on; returns why that cannot be, if it cannot."""

    def left_alone(self) -> None:
        """Nobody gave the keys of the epoch that was noticed, and no broker answers any more.

        It is as if nothing had been said: what is at hand serves until the lease ends (TRUST T21).
        """


class Membership:
    """One process's place in the mesh. Everything runs on one event loop but `look_now`."""

    def __init__(
        self,
        brokers: Brokers,
        *,
        admission: Admission,
        lease: Lease,
        member: Member,
        poll_s: float | None = None,
        clock: Callable[[], Moment] = moment,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Keep the place that `admission` gave for the time of `lease`.

        Args:
            brokers: who renews it.
            admission: the first one, which `member` serves under already.
            lease: its.
            member: told of every other admission.
            poll_s: how often to ask what is in force; None: not unless `look_now` is called.
            clock: both clocks.
            pause: waits for so many seconds.
        """
        self._brokers, self._member, self._poll_s = brokers, member, poll_s
        self._clock, self._pause = clock, pause
        self._admission = admission
        self._renewals = Renewals(lease)
        self._poll_at = lease.began
        self._over: WardianError | None = None
        self._behind = False  # an epoch was noticed whose keys nobody gave
        self._asking = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> WardianError:
        """Renew until that is over; return why it is."""
        self._loop = asyncio.get_running_loop()
        while self._over is None:
            at = self._clock()
            if self._renewals.lease.standing(at) is Standing.ENDED:
                self._over = TransportError("the lease has ended: no broker renewed it")
            elif self._renewals.due(at):
                async with self._asking:
                    await self._renew()
            elif self._poll_s is not None and at.ticks >= self._poll_at:
                await self._look()
            else:
                await self._pause(self._pause_s(at))
        return self._over

    def look_now(self, *, timeout_s: float) -> None:
        """Ask what is in force and take up what is news; returns when that is done, or gone wrong.

        For other threads than the loop's, while `run` runs.

        Args:
            timeout_s: after which it returns in any case, and the question goes on.
        """
        if self._loop is None:
            return
        look = self._look()
        try:
            asked = asyncio.run_coroutine_threadsafe(look, self._loop)
        except RuntimeError:  # the loop has ended
            look.close()
            return
        with contextlib.suppress(TimeoutError, CancelledError):
            asked.result(timeout_s)

    def _pause_s(self, at: Moment) -> float:
        pause = min(LONGEST_PAUSE_S, self._renewals.wait_s(at))
        if self._poll_s is not None:
            pause = min(pause, max(0.0, self._poll_at - at.ticks))
        return pause

    async def _look(self) -> None:
        """Ask what is in force; if it is news, be admitted anew."""
        async with self._asking:
            if self._over is not None:
                return
            try:
                async with asyncio.timeout(LOOK_TIMEOUT_S):
                    answer = await self._brokers.in_force(self._admission)
            except (WardianError, OSError) as err:  # TimeoutError is an OSError
                event(log, "broker.silent", level=logging.DEBUG, kind=type(err).__name__)
                self._leave_alone()
            else:
                if answer.is_news_to(self._admission):
                    event(
                        log,
                        "epoch.noticed",
                        epoch=answer.epoch,
                        manifest_version=answer.manifest_version,
                    )
                    self._behind = True
                    self._member.noticed()
                    await self._renew()
            finally:
                pause_s = (self._poll_s or 0.0) * (1 - chance() / 10)
                self._poll_at = self._clock().ticks + pause_s

    def _leave_alone(self) -> None:
        """Let the member go on if it waits for keys that nobody is there to give.

        Whoever keeps brokers from answering could have kept the news from coming as well.
        """
        if self._behind:
            self._behind = False
            event(log, "epoch.behind", level=logging.WARNING, epoch=self._admission.epoch)
            self._member.left_alone()

    async def _renew(self) -> None:
        """Be admitted anew, and serve under that; or note that it failed, or that it is over."""
        try:
            admission, lease = await self._admitted_in_time()
            self._refuse_older(admission)
        except AdmissionRefused as err:
            self._over = err
        except (WardianError, OSError) as err:
            self._renewals.failed(self._clock(), chance=chance())
            event(
                log,
                "renewal.failed",
                level=logging.WARNING,
                kind=type(err).__name__,
                reason=str(err)[:200],
                left_s=int(self._renewals.lease.left_s(self._clock())),
            )
        else:
            self._admission, self._behind = admission, False
            self._renewals.renewed(lease)
            self._over = self._member.adopt(admission)
            event(
                log,
                "lease.renewed",
                manifest_version=admission.manifest.manifest.version,
                epoch=admission.epoch,
            )

    async def _admitted_in_time(self) -> tuple[Admission, Lease]:
        """Return the next admission, unless the lease ends first.

        The lease's clock is looked at, and not a timer trusted: it stands still with the machine.

        Raises:
            Timeout: it ended. For the rest see `Brokers.admit`.
        """
        asking = asyncio.ensure_future(self._brokers.admit(renews=self._admission))
        try:
            while left_s := self._renewals.lease.left_s(self._clock()):
                await asyncio.wait({asking}, timeout=min(LONGEST_PAUSE_S, left_s))
                if asking.done():
                    return asking.result()
        finally:
            asking.cancel()  # what it waits for is not waited for
            asking.add_done_callback(_forget)
        raise Timeout("no broker answered before the lease ended")

    def _refuse_older(self, admission: Admission) -> None:
        """Refuse what another mesh gave, or a broker whose state was set back."""
        known, manifest = self._admission, admission.manifest
        version = known.manifest.manifest.version
        same = manifest.digest == known.manifest.digest
        if admission.mesh_ca_spki != known.mesh_ca_spki:
            raise PolicyDenied("the broker is of another mesh CA than before", rule="mesh-ca")
        if admission.epoch < known.epoch or not (same or manifest.manifest.version > version):
            raise PolicyDenied(
                "the broker has an older manifest or epoch in force than this process knows",
                rule="in-force-older",
            )


def _forget(asked: "asyncio.Future[tuple[Admission, Lease]]") -> None:
    """Take note of what nobody waits for any more, so that the loop does not report it."""
    if not asked.cancelled():
        asked.exception()
