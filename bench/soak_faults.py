"""All that `soak.py` does to a mesh, and doing it one after the other."""

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from soak_cluster import FROZEN_S, FULL_S, Cluster
from soak_judge import QUIET_S, Happened, Observed
from soak_machines import BROKER, CLIENT, FRONTEND, REDIS

from wardian._internal.clock import monotonic

CUT_S = 10.0
RESET_S = 2.0
LONGEST_PAUSE_S = 15.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that can be done to a mesh.

    Attributes:
        name: as it stands in the results.
        act: does it, and returns when it is over.
        lasts_s: how long that takes.
        kills: the processes that it ends.
        deaf: whether clients and the front end cannot hear each other meanwhile.
    """

    name: str
    act: Callable[[], Awaitable[None]]
    lasts_s: float = 0.0
    kills: tuple[str, ...] = ()
    deaf: bool = False


def faults_of(cluster: Cluster, *, small_disk: bool) -> list[Fault]:
    """Return all that can be done to a mesh, in the order in which it is done.

    Args:
        cluster: the mesh, all of whose processes run.
        small_disk: whether its state directory lies on a file system that may be filled.
    """
    names, worker = list(cluster.starts()), cluster.workers()[0]
    found = [_kill(name, partial(cluster.kill, name)) for name in names if name != REDIS]
    if REDIS in names:
        found += [
            _kill(REDIS, partial(cluster.kill, REDIS), " (it comes back with its data)"),
            _kill(REDIS, cluster.forget, " (it comes back with nothing)"),
        ]
    found += [
        Fault(
            name=f"SIGSTOP of {name}, {FROZEN_S:g} s",
            act=partial(cluster.freeze, name),
            lasts_s=FROZEN_S,
            deaf=name == FRONTEND,
        )
        for name in (worker, FRONTEND, BROKER, REDIS)
        if name in names
    ]
    if small_disk:
        found += [_full_disk(cluster, ()), _full_disk(cluster, (worker, BROKER))]
    found += _cuts(cluster, worker)
    together = partial(cluster.kill_all, names)
    return [*found, Fault(name="kill -9 of all at once", act=together, kills=tuple(names))]


def _cuts(cluster: Cluster, worker: str) -> list[Fault]:
    """Return a cut of each pair of parties, one worker standing for all, and resets."""
    found = []
    for link in cluster.links:
        one, _, other = link.partition(" and ")
        if one not in (CLIENT, FRONTEND, worker):
            continue
        found.append(_disturbance(cluster, "cut", link, CUT_S, deaf=one == CLIENT))
        if other != BROKER:
            found.append(_disturbance(cluster, "reset", link, RESET_S))
        elif one == worker:
            found.append(_disturbance(cluster, "cut", link, CUT_S, kills=(worker,)))
    return found


def _kill(name: str, act: Callable[[], Awaitable[None]], how: str = "") -> Fault:
    return Fault(name=f"kill -9 of {name}{how}", act=act, kills=(name,))


def _full_disk(cluster: Cluster, kills: tuple[str, ...]) -> Fault:
    return Fault(
        name=f"disk full, {FULL_S:g} s{_meanwhile(kills)}",
        act=partial(cluster.fill_disk, kills),
        lasts_s=FULL_S,
        kills=kills,
    )


def _disturbance(
    cluster: Cluster,
    act: str,
    link: str,
    seconds: float,
    *,
    kills: tuple[str, ...] = (),
    deaf: bool = False,
) -> Fault:
    what = {"cut": "cut off", "reset": "resets"}[act]
    return Fault(
        name=f"{link}: {what}, {seconds:g} s{_meanwhile(kills)}",
        act=partial(cluster.disturb, act, link, seconds, kills),
        lasts_s=seconds,
        kills=kills,
        deaf=deaf,
    )


def _meanwhile(kills: tuple[str, ...]) -> str:
    return f", kill -9 of {' and '.join(kills)} meanwhile" if kills else ""


@dataclass
class Injected:
    """What was done in a run: how often each process was killed, and which faults never came."""

    killed: Counter[str]
    not_done: list[str]


async def inject(
    cluster: Cluster, faults: list[Fault], seconds: float, observed: Observed
) -> Injected:
    """Do one fault after the other within `seconds`; again from the first while time is.

    Between two there is quiet for longer than what tells that the first is over. Cancelled: the
    fault that lasts is ended.
    """
    done = Injected(Counter(), [])
    shortest = QUIET_S + 1.0
    spare = seconds - sum(each.lasts_s for each in faults)
    pause = min(max(spare / (len(faults) + 1), shortest), LONGEST_PAUSE_S)
    until = monotonic() + seconds - shortest
    turn = 0
    while True:
        await asyncio.sleep(pause)
        fault = faults[turn % len(faults)]
        if monotonic() + fault.lasts_s > until:
            break
        before = cluster.starts()
        happened = Happened(fault.name, monotonic(), deaf=fault.deaf)
        observed.faults.append(happened)
        print(f"{fault.name} ...", file=sys.stderr, flush=True)
        await fault.act()
        happened.until = monotonic() if fault.lasts_s else happened.at
        done.killed.update(fault.kills)
        turn += 1
        await cluster.restarted(before, fault.kills)
    done.not_done = [fault.name for fault in faults[turn:]]
    return done
