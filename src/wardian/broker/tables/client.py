"""A job obtains the keys of its tables from the broker."""

import secrets
from collections.abc import Callable

from wardian._internal.agreed import Agreed
from wardian._internal.clock import UnixTime
from wardian.attestation.evidence import Evidence
from wardian.broker.frames import connect
from wardian.broker.jobs.plan import JobPlan
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.session.client import obtain_over
from wardian.broker.state.audit import AuditHead
from wardian.broker.tables.granted import GrantedTables
from wardian.broker.tables.job_session import JobSession


async def obtain_tables(
    address: tuple[str, int],
    plan: JobPlan,
    *,
    agreed: Agreed,
    attest: Callable[[bytes], Evidence],
    tee: str,
    now: UnixTime,
    salt: bytes,
    again: bytes | None = None,
    seen: AuditHead | None = None,
) -> GrantedTables:
    """Return the tables of `plan`, from a broker that the owners trust; each owner allows it.

    The broker is verified first, and only then is this process's own evidence made and sent: see
    `session.client.obtain_over`. Whatever comes back was debited of every table before it left.

    Args:
        address: host and port, from the operator; a lie costs service and nothing else.
        plan: that this process runs, and no other.
        agreed: the measured `wardian.toml`.
        attest: makes this process's evidence over 64 bytes; called in another thread.
        tee: the kind of TEE, for the broker's log.
        now: the clock, Unix seconds.
        salt: 16 random bytes, that the job chose before it asked for the first time. Where no
            answer came, ask with the same: it was debited once, and costs another use at most.
        again: the id of a job that had the tables of this plan, in this code, and is dead. It costs
            a use of each table and nothing of any budget, because the noise is the same.
        seen: where the audit log ended when it was seen last.

    Raises:
        ConfigError: the plan is longer than a broker takes.
        AdmissionRefused: an owner refuses, on a connection that was verified; the text says which
            one and which rule.
        TransportError: no broker, a lost connection, or a broker that is busy or has no manifest
            yet; its `retryable` says whether to ask again.
        AttestationError, PolicyDenied, AuthenticationFailed, FormatError: the broker is not
            acceptable, or it refuses before it is verified; the text says which and why.
    """
    session = JobSession(
        plan,
        agreed=agreed,
        nonce=secrets.token_bytes(NONCE_BYTES),
        salt=salt,
        again=again,
        seen=seen,
    )
    stream = await connect(address)
    return await obtain_over(stream, session, attest=attest, tee=tee, now=now)
