"""A workload obtains its certificate and its secrets from the broker."""

import secrets
from collections.abc import Callable

from wardian._internal.agreed import Agreed
from wardian._internal.clock import UnixTime
from wardian.attestation.evidence import Evidence
from wardian.broker.frames import connect
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.release.admission import Admission
from wardian.broker.release.workload_session import WorkloadSession
from wardian.broker.session.client import obtain_over
from wardian.broker.state.audit import AuditHead


async def obtain(
    address: tuple[str, int],
    *,
    role: str,
    models: tuple[str, ...],
    agreed: Agreed,
    attest: Callable[[bytes], Evidence],
    tee: str,
    now: UnixTime,
    names: tuple[str, ...] = (),
    renewal: bool = False,
    seen: AuditHead | None = None,
    queue_access: bool = False,
) -> Admission:
    """Return this process's admission to the mesh, from a broker that the owners trust.

    The broker is verified first, and only then is this process's own evidence made and sent: see
    `session.client.obtain_over`.

    Args:
        address: host and port, from the operator; a lie costs service and nothing else.
        role: what this process is, "frontend" or "worker".
        models: whose secrets are wanted: one for a worker; for a front end any number, of which it
            gets those that the manifest has.
        agreed: the measured `wardian.toml`.
        attest: makes this process's evidence over 64 bytes; called in another thread.
        tee: the kind of TEE, for the broker's log.
        now: the clock, Unix seconds.
        names: DNS names and IP addresses for a front end's certificate.
        renewal: this process has been admitted before and asks for a certificate and queue keys.
        seen: where the audit log ended then, `Admission.witnessed.head.audit`: it has to go on.
        queue_access: whether it asks for access to Redis, too: `Admission.queue_access`.

    Raises:
        AdmissionRefused: the broker does not admit this process, on a connection that was verified.
        TransportError: no broker, a lost connection, or a broker that is busy or has no manifest
            yet; its `retryable` says whether to ask again.
        AttestationError, PolicyDenied, AuthenticationFailed, FormatError: the broker is not
            acceptable, or it refuses; the text says which and why.
    """
    session = WorkloadSession(
        role=role,
        models=models,
        agreed=agreed,
        nonce=secrets.token_bytes(NONCE_BYTES),
        names=names,
        renewal=renewal,
        seen=seen,
        queue_access=queue_access,
    )
    stream = await connect(address)
    return await obtain_over(stream, session, attest=attest, tee=tee, now=now)
