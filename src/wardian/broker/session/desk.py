"""What the desks where something is released share: attest, decide, and a line of every refusal."""

from collections.abc import Callable

from wardian.attestation.evidence import Evidence
from wardian.attestation.results.result import AttestationResult
from wardian.broker.desk import Office
from wardian.broker.frames import ATTESTATION_FRAME_BYTES, FrameStream
from wardian.broker.limits import Place
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.session.answering import A, P
from wardian.broker.session.releasing import G, R, ReleasingEnd
from wardian.errors import QueueFull, TransportError


async def release_in(
    session: ReleasingEnd[R, A, P, G],
    stream: FrameStream,
    place: Place,
    *,
    raw: bytes,
    first: R,
    seen: int,
    office: Office,
    manifest: VerifiedManifest,
    role: str,
    release: Callable[[P, AttestationResult], G],
    refuse: Callable[[Exception, Evidence | None], None],
) -> None:
    """Carry out `session` to its end; a refusal is audited before it is told.

    Args:
        session: fresh.
        stream: to who asks.
        place: of the connection; firm once there is evidence.
        raw: message 1 as it travelled.
        first: the same, decoded.
        seen: how many lines of the audit log it says were seen.
        office: the broker's.
        manifest: in force.
        role: what the manifest calls who asks.
        release: decides what is released, which is counted when it returns.
        refuse: writes the line of a refusal to whom presented that evidence, if any, within the
            ration of those who presented as much.

    Raises:
        WardianError: refused.
    """
    authority = office.authority
    report_data = session.begin(
        raw,
        first,
        manifest=manifest,
        ca_certificate=authority.ca.certificate,
        issuing_certificate=authority.issuer.certificate,
    )
    try:
        evidence = await office.evidence(report_data)
        await stream.send(session.challenge(evidence, log=authority.transparency.show(seen)))
        place.since = office.ticks()  # the next step is the other end's
        raw = await stream.receive(most=ATTESTATION_FRAME_BYTES)
        proof = session.receive(raw, now=office.ticks())
        place.firm = True
        result = await office.verify(
            proof.evidence,
            policy=appraisal_policy(manifest.manifest, role),
            report_data=proof.report_data,
        )
        now = office.ticks()
        session.refuse_late(now)  # verifying took its time; what is counted then is for good
        released = release(proof, result)
        response = session.respond(released, sign=authority.ca.sign, now=now)
    except (TransportError, QueueFull):
        raise  # the peer left, was slow or must ask again: that is no refusal of it
    except Exception as err:
        refuse(err, session.presented)
        raise
    await stream.send(response)
