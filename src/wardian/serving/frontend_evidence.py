"""What a front end shows to a client that asks who it is, and what that evidence binds.

One definition for both ends; it imports only what a client on any system has.
"""

from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.transparency.cosigning import WitnessedHead

NONCE_BYTES: Final = 32
PATH: Final = "/v1/attestation"
Certificate = Annotated[bytes, msgspec.Meta(min_length=1, max_length=16 * 1024)]


class FrontendEvidence(wire.Message, frozen=True, kw_only=True):
    """The answer to `GET /v1/attestation?nonce=HEX`. Untrusted until it is verified.

    Attributes:
        evidence: binds `frontend_report_data`.
        manifest: the mesh manifest that the front end was admitted under.
        mesh_ca: the mesh CA's certificate, DER (base64 in JSON), whose key the evidence binds.
        issuing_ca: that of the CA which issues under this manifest; the connection's own
            certificate is one of its.
        witnessed: the head of the mesh's audit log as the broker gave it at this front end's last
            admission, and what witnesses signed.
    """

    evidence: Evidence
    manifest: SignedManifest
    mesh_ca: Certificate
    issuing_ca: Certificate
    witnessed: WitnessedHead


def frontend_report_data(
    *, nonce: bytes, tls_spki: bytes, ca_spki: bytes, manifest_digest: bytes, version: int
) -> bytes:
    """Return the 64 bytes of report data that a front end's evidence carries (TRUST T2, T24).

    Args:
        nonce: the client's, 32 bytes: the evidence is fresh.
        tls_spki: SubjectPublicKeyInfo (DER) of the key of the connection that it is shown on, so
            that it cannot be another machine's, shown by whoever sits between.
        ca_spki: likewise of the mesh CA.
        manifest_digest: SHA-256 of the manifest's signed bytes, 32 bytes.
        version: the manifest's.
    """
    return bind(
        Purpose.FRONTEND, nonce, tls_spki, ca_spki, manifest_digest, version.to_bytes(8, "big")
    )
