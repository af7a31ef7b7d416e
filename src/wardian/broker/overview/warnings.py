"""What in a mesh deserves a warning: what is missing, what ends soon, which risk somebody took."""

from collections.abc import Iterator
from typing import Final

from wardian._internal.counter import CounterKeeper
from wardian.broker.mesh.trust import UNPROTECTED, UNPROTECTED_ROLES
from wardian.broker.overview.view import Overview, SecretView
from wardian.broker.status import Status

DAY_S: Final = 24 * 3600
SOON_S: Final = 7 * DAY_S
"""What ends within this time is warned of."""
WITNESSED_S: Final = DAY_S
"""A witness that has not come for so long is warned of."""
SKEW_S: Final = 300
"""Between the broker's clock and the reader's."""
GOOD_TCB: Final = frozenset({"UpToDate", "SWHardeningNeeded"})


def warnings_of(seen: Overview, status: Status, *, now: int) -> tuple[str, ...]:
    """Return what a person should know, the gravest first; empty if all is well.

    Args:
        seen: the mesh.
        status: what it was made from.
        now: Unix seconds, by the reader's clock.
    """
    return (
        *_risks(seen, status),
        *_log(seen),
        *_absences(seen),
        *_ends(seen, status),
        *(told for each in (*seen.models, *seen.secrets) for told in _terms(each, seen.time)),
        *_clock(seen, now),
    )


def _risks(seen: Overview, status: Status) -> Iterator[str]:
    if seen.simulated:
        yield "simulated: no hardware protects the keys of this mesh"
    if status.keeping.counter is CounterKeeper.HOST:
        yield (
            "the state's counter is a file of the host, which can put back an older state and run "
            "two brokers on it"
        )
    for role in seen.roles:
        if role.name in UNPROTECTED_ROLES:
            yield (
                f"the role {role.name} is {UNPROTECTED}: what its clients ask, and are answered, "
                "is the operator's to read: in a Redis, or under a key of a keystore"
            )
    if seen.manifest is None:
        return
    if seen.manifest.any_platform:
        yield "any platform is accepted: a key taken out of any chip signs evidence that verifies"
    lax = sorted(set(seen.manifest.tcb_statuses) - GOOD_TCB)
    if lax:
        yield f"platforms are accepted that are {', '.join(lax)}"


def _log(seen: Overview) -> Iterator[str]:
    if not seen.head_verified:
        yield "nobody vouches for the CA that signed all this: give --ca mesh-ca.pem"
    if not seen.witnesses:
        yield (
            "no witness is named in wardian.toml: a single broker can fork its audit log, and a "
            "fresh party cannot tell"
        )
    elif seen.head_threshold == 0:
        yield "witnesses are named, but no process demands them: head_threshold is 0"
    for each in seen.witnesses:
        if each.seconds_ago is None:
            yield f"witness {each.public[:16]}… has signed no head of this log"
        elif each.seconds_ago > WITNESSED_S:
            yield f"witness {each.public[:16]}… was here {each.seconds_ago // 3600} hours ago"


def _absences(seen: Overview) -> Iterator[str]:
    if seen.manifest is None:
        yield "there is no mesh manifest: the owners have to provide it (`wardian mesh propose`)"
    for each in (*seen.models, *seen.secrets):
        if not each.given:
            yield f"{each.name}: its owner {each.owner[:16]}… has not given it"
    if seen.standby == "none":
        yield "the standby is not kept up: what this machine's disk loses is lost"


def _ends(seen: Overview, status: Status) -> Iterator[str]:
    if status.collateral_expires is not None and status.collateral_expires - seen.time < SOON_S:
        yield f"collateral: the vendor's statements are {_over(status.collateral_expires, seen)}"
    if seen.issuing_ca_until - seen.time < SOON_S:
        yield f"the issuing CA's certificate is {_over(seen.issuing_ca_until, seen)}"


def _over(end: int, seen: Overview) -> str:
    left = end - seen.time
    return f"over since {-left // 3600} hours" if left < 0 else f"over in {left // 3600} hours"


def _terms(each: SecretView, time: int) -> Iterator[str]:
    if each.max_uses is not None and each.uses >= each.max_uses:
        yield f"{each.name}: all {each.max_uses} releases were had"
    if each.not_after is not None and time > each.not_after:
        yield f"{each.name}: its time is over"
    elif each.not_after is not None and each.not_after - time < SOON_S:
        yield f"{each.name}: its time is over in {(each.not_after - time) // 3600} hours"
    if each.beacon_by is not None and time > each.beacon_by:
        yield f"{each.name}: the newest time beacon of its owner is too old, or there is none"


def _clock(seen: Overview, now: int) -> Iterator[str]:
    if abs(seen.time - now) > SKEW_S:
        yield f"the broker's clock and this machine's differ by {abs(seen.time - now)} seconds"
