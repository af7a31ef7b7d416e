"""Who is at the other end of a connection: the broker that signed the head which came over it.

A signed head says what the log was, not that this is the newest: whoever carries bytes can show an
old one for ever, and put what it likes beside it. The broker's own certificate, whose key the TLS
handshake proved just now, says that nobody stands in between. So what a reader who knows the mesh
CA finds wrong is the broker's doing, and what the broker says without a signature is its own word.
"""

from typing import TYPE_CHECKING

from wardian._internal.clock import UnixTime
from wardian.broker.certificates import (
    BROKER,
    NO_MANIFEST,
    verify_ca_certificate,
    verify_issuing_certificate,
    verify_peer_certificate,
)
from wardian.broker.transparency.heads import SignedHead, verify_head
from wardian.errors import (
    AttestationError,
    AuthenticationFailed,
    FormatError,
    PeerProtocolError,
    PolicyDenied,
)

if TYPE_CHECKING:
    from wardian.broker.frames import FrameStream


def verify_sender(
    head: SignedHead,
    *,
    mesh_ca: bytes,
    issuing_ca: bytes,
    certificate: bytes,
    ca_spki: bytes,
    now: int,
) -> None:
    """Return if the broker that signed `head` is at the other end of the connection.

    Args:
        head: as it came, untrusted.
        mesh_ca: the certificate, DER, that came with it, untrusted.
        issuing_ca: likewise, of the CA that issues under the manifest which the head names.
        certificate: of the other end, DER, from the TLS handshake.
        ca_spki: the mesh CA's key (DER) that somebody vouches for.
        now: Unix seconds.

    Raises:
        FormatError: the mesh CA's certificate does not parse.
        AuthenticationFailed: it is another CA than the one given, or did not sign the head.
        PeerProtocolError: the connection does not end at a broker of this CA.
    """
    if verify_ca_certificate(mesh_ca) != ca_spki:
        raise AuthenticationFailed("the broker has another mesh CA than the one given")
    verify_head(head, ca_spki=ca_spki)
    digest = bytes.fromhex(head.manifest) or NO_MANIFEST
    try:
        issuer_spki = verify_issuing_certificate(
            issuing_ca, ca_spki=ca_spki, manifest_digest=digest, now=now
        )
        verify_peer_certificate(
            certificate, issuer_spki=issuer_spki, role=BROKER, manifest_digest=digest, now=now
        )
    except (FormatError, AuthenticationFailed, AttestationError, PolicyDenied) as err:
        raise PeerProtocolError(
            f"the connection does not end at a broker of this mesh CA: {err}"
        ) from err


def demand_sender(
    stream: "FrameStream",
    head: SignedHead,
    *,
    mesh_ca: bytes,
    issuing_ca: bytes,
    ca_spki: bytes | None,
    now: UnixTime,
) -> None:
    """Return if what came over `stream` came from the broker itself; see `verify_sender`.

    Where nobody vouches for a CA there is nothing to verify: `ca_spki` is None, and whoever
    answers is taken for what it says it is.
    """
    if ca_spki is None:
        return
    verify_sender(
        head,
        mesh_ca=mesh_ca,
        issuing_ca=issuing_ca,
        certificate=stream.peer_certificate(),
        ca_spki=ca_spki,
        now=now(),
    )
