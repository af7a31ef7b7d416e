"""A job tells the broker what it gives out, before it does."""

import secrets
from collections.abc import Callable

from wardian._internal.agreed import Agreed
from wardian._internal.clock import UnixTime
from wardian.attestation.evidence import Evidence
from wardian.broker.exports.exported import Exported
from wardian.broker.exports.job_session import ExportSession
from wardian.broker.exports.statement import ExportStatement
from wardian.broker.frames import connect
from wardian.broker.jobs.plan import JobPlan
from wardian.broker.joint.masked import MaskedKey
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.session.client import obtain_over
from wardian.broker.session.shown import KnownBroker


async def tell_export(
    address: tuple[str, int],
    plan: JobPlan,
    statement: ExportStatement,
    *,
    key: MaskedKey | None,
    agreed: Agreed,
    attest: Callable[[bytes], Evidence],
    tee: str,
    now: UnixTime,
    known: KnownBroker,
) -> Exported:
    """Return that a broker which the owners trust has written down what comes out: it may leave.

    The broker is verified first, and only then is this process's own evidence made and sent, with
    the statement and the key: see `session.client.obtain_over`. Where no answer came, tell the same
    again: it is answered the same way.

    Args:
        address: host and port, from the operator; a lie costs service and nothing else.
        plan: that this process ran.
        statement: what comes out.
        key: of the model that goes to be served, masked; None where none does.
        agreed: the measured `wardian.toml`.
        attest: makes this process's evidence over 64 bytes; called in another thread.
        tee: the kind of TEE, for the broker's log.
        now: the clock, Unix seconds.
        known: the broker that the tables came from; no other is told.

    Raises:
        LocalProtocolError: the key is not the one that the statement names.
        AdmissionRefused: the manifest or an owner refuses, on a connection that was verified; the
            text says which rule. Nothing may leave.
        TransportError: no broker, a lost connection, or a broker that is busy; its `retryable` says
            whether to tell again. Nothing may leave before there was an answer.
        AttestationError, PolicyDenied, AuthenticationFailed, FormatError: the broker is not
            acceptable, or it refuses before it is verified; the text says which and why.
    """
    session = ExportSession(
        plan,
        statement,
        key=key,
        agreed=agreed,
        nonce=secrets.token_bytes(NONCE_BYTES),
        known=known,
    )
    stream = await connect(address)
    return await obtain_over(stream, session, attest=attest, tee=tee, now=now)
