"""A state whose counter was lost is accepted once, because the owners say that it is the newest."""

import hashlib
import logging
from dataclasses import dataclass

from wardian._internal.agreed import Mesh
from wardian._internal.counter import count, generation_of, standing
from wardian._internal.log import event
from wardian.crypto.counter_recovery import CounterRecovery, SignedRecovery, verify_recovery
from wardian.errors import CounterLost, PolicyDenied, StateRolledBack
from wardian.tee.sealed_state import SealedPlace, SealedState, Unsealed

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryScope:
    """Which statements this process may use.

    Attributes:
        mesh: `[mesh]` of the measured `wardian.toml`.
        role: what this process is.
        measurement: its own MRENCLAVE, 32 bytes, from evidence of its own.
        counter: the name of the state's counter.
    """

    mesh: Mesh
    role: str
    measurement: bytes
    counter: str


def recover(place: SealedPlace, signed: SignedRecovery, *, scope: RecoveryScope) -> SealedState:
    """Return the state at `place`, its counter set to it, as `signed` allows once.

    The file stays as it is, and the counter is advanced to it in one step: a crash leaves the
    counter lost, hence the statement good, or the state counted.

    Args:
        place: where the state lies; opening it raised `CounterLost`.
        signed: from the owners, by way of the host: untrusted.
        scope: what the statement has to be for.

    Raises:
        PolicyDenied: the owners did not sign it, or it is for something else (rules
            `recovery-...`, see `verify_recovery`; `recovery-for` and `recovery-state` here), the
            counter was not lost: the statement was used, or was never needed (`recovery-used`),
            or it does not stand where the owners saw it: somebody counted since
            (`recovery-counted`).
        AuthenticationFailed, FormatError: a signature or the statement is not in order.
        CounterUnavailable: the counter cannot be reached now (retryable).
        SealError: the file is not this state, or cannot be read.
    """
    verified = verify_recovery(signed, mesh=scope.mesh)
    recovery = verified.recovery
    _demand_for(recovery, place, scope)
    sealed = place.load()
    if sealed is None or hashlib.sha256(sealed).hexdigest() != recovery.state_digest:
        raise PolicyDenied("the recovery is for another state file", rule="recovery-state")
    state = place.unseal(sealed)
    if generation_of(state.stamped) != recovery.generation:
        raise PolicyDenied("the recovery is for another generation", rule="recovery-state")
    counted = place.counter.read()
    _demand_lost(state, counted=counted)
    if counted != recovery.counted:
        raise PolicyDenied(
            "the counter moved since the owners looked: the recovery is for another value of it",
            rule="recovery-counted",
        )
    count(place.counter, at=counted, to=state.stamped)
    event(
        log,
        "state.recovered",
        level=logging.WARNING,
        state=place.label,
        generation=recovery.generation,
        owners=len(verified.signers),
    )
    return SealedState.open(place)


def _demand_for(recovery: CounterRecovery, place: SealedPlace, scope: RecoveryScope) -> None:
    """Refuse a statement about another code, counter or keeper."""
    for what, found, own in (
        ("role", recovery.role, scope.role),
        ("measurement", recovery.measurement, scope.measurement.hex()),
        ("counter", recovery.counter, scope.counter),
        ("keeper of the counter", recovery.keeper, place.counter.keeper_id.hex()),
    ):
        if found != own:
            raise PolicyDenied(f"the recovery is for another {what}", rule="recovery-for")


def _demand_lost(state: Unsealed, *, counted: int) -> None:
    """Refuse to move a counter that still knows what is the newest."""
    if counted == 0:
        return
    try:
        standing(state.stamped, follows=state.follows, counted=counted, what="the state")
    except CounterLost:
        return
    except StateRolledBack as err:
        raise PolicyDenied(
            "the counter knows a newer state than this one: the recovery was used, or the state "
            "is an older copy",
            rule="recovery-used",
        ) from err
    raise PolicyDenied(
        "the counter was not lost: it knows this state. Open it", rule="recovery-used"
    )
