"""What is in force: a question that costs next to nothing, asked by front ends every few seconds.

    front end                                                   broker
       | ForceRequest                                             |
       |--------------------------------------------------------->|
       | InForce    manifest, epoch, issuing CA                   |
       |<---------------------------------------------------------|

So a turned epoch reaches every front end within seconds and not with its next renewal. Nothing in
the answer is secret and nothing of it is signed: it counts because the connection ends at the
broker. The TLS handshake proves, freshly, the key of a certificate for the role of the broker; that
is of the issuing CA which the answer shows, for the manifest which the answer names; and that is of
the mesh CA, which the asking process knows from the broker's evidence.
"""

from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from wardian._internal import wire
from wardian._internal.clock import UnixTime
from wardian.broker.certificates import (
    BROKER,
    verify_issuing_certificate,
    verify_peer_certificate,
)
from wardian.broker.frames import FIRST_FRAME_BYTES, connect
from wardian.broker.mesh.fields import Hex32
from wardian.broker.message_fields import Der
from wardian.broker.refusal import decode_or_raise
from wardian.errors import PolicyDenied

if TYPE_CHECKING:
    from wardian.broker.release.admission import Admission

ASK_TIMEOUT_S: Final = 5.0
"""For the connection, and again for the answer."""


class ForceRequest(
    wire.Message, frozen=True, tag_field="format", tag="wardian in force request v1"
):
    """Ask what is in force."""


class InForce(wire.Message, frozen=True, tag_field="format", tag="wardian in force v1"):
    """What is in force at a broker."""

    manifest_digest: Hex32
    manifest_version: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    epoch: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    """Of the queue keys."""
    issuing_ca: Der
    """Of the CA that issues under that manifest."""

    def is_news_to(self, admission: "Admission") -> bool:
        """Return whether `admission` is of before: of an older manifest or epoch."""
        manifest, epoch = admission.manifest, admission.epoch
        return (self.manifest_digest, self.epoch) != (manifest.digest.hex(), epoch)


async def ask_in_force(
    address: tuple[str, int], *, admission: "Admission", now: UnixTime
) -> InForce:
    """Return what the broker at `address` has in force now.

    Args:
        address: host and port, from the operator; a lie costs service and nothing else.
        admission: of this process, whose mesh CA the broker is known by.
        now: the clock, Unix seconds.

    Raises:
        TransportError: no broker answers there, or it cannot say now.
        FormatError, AuthenticationFailed, EvidenceStale, PolicyDenied: see `verify_in_force`.
    """
    stream = await connect(address, timeout_s=ASK_TIMEOUT_S)
    try:
        await stream.send(wire.encode(ForceRequest()))
        raw = await stream.receive(most=FIRST_FRAME_BYTES, timeout_s=ASK_TIMEOUT_S)
        answer = decode_or_raise(raw, InForce, what="answer on what is in force")
        certificate = stream.peer_certificate()
    finally:
        await stream.close()
    verify_in_force(answer, certificate=certificate, admission=admission, now=now())
    return answer


def verify_in_force(
    answer: InForce, *, certificate: bytes, admission: "Admission", now: int
) -> None:
    """Return if `answer` came from a broker of this mesh, and is not older than what is known.

    Args:
        answer: untrusted.
        certificate: of the other end of the connection that it came on, DER, from the handshake.
        admission: of this process.
        now: Unix seconds.

    Raises:
        FormatError, AuthenticationFailed, EvidenceStale: a certificate is not what it should be.
        PolicyDenied: likewise; or the answer is of before this admission (rule `in-force-older`),
            as it is from a broker whose state was set back.
    """
    digest = bytes.fromhex(answer.manifest_digest)
    issuer_spki = verify_issuing_certificate(
        answer.issuing_ca, ca_spki=admission.mesh_ca_spki, manifest_digest=digest, now=now
    )
    verify_peer_certificate(
        certificate, issuer_spki=issuer_spki, role=BROKER, manifest_digest=digest, now=now
    )
    known = admission.manifest
    version = known.manifest.version
    same = digest == known.digest and answer.manifest_version == version
    if answer.epoch < admission.epoch or not (same or answer.manifest_version > version):
        raise PolicyDenied(
            "the broker has an older manifest or epoch in force than this process knows",
            rule="in-force-older",
        )
