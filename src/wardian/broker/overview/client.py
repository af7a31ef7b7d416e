"""Asking a broker for all that a screen about its mesh shows."""

from typing import Final

from wardian._internal import wire
from wardian.broker.audit_log.asking import Asked
from wardian.broker.audit_log.auditing import read_newest
from wardian.broker.frames import FRAME_BYTES, connect
from wardian.broker.mesh.manifest import SignedManifest, manifest_digest, manifest_signed_bytes
from wardian.broker.overview.view import Overview, look_over
from wardian.broker.overview.warnings import warnings_of
from wardian.broker.owners.manifest_log import Edition, ManifestLog, ManifestLogRequest
from wardian.broker.refusal import decode_or_raise
from wardian.broker.state.audit import AuditLine, verify_tail
from wardian.broker.status import Status
from wardian.broker.transparency.cosigning import verify_cosigned
from wardian.broker.transparency.sender import demand_sender
from wardian.crypto.signing import verify_signature
from wardian.errors import AuthenticationFailed, PeerProtocolError

MOST_LINES: Final = 2000
"""Audit lines that are read back, however long a lease is."""


async def read_overview(asked: Asked) -> tuple[Overview, tuple[str, ...]]:
    """Return the mesh of the broker that is asked, and what in it deserves a warning.

    Args:
        asked: whose; with a CA that somebody vouches for, it is that CA's broker who tells it all.

    Raises:
        TransportError: nobody answers there, or not as that broker does.
        FormatError: something does not parse.
        AuthenticationFailed: the head is not signed by that CA, the lines do not lead to it, the
            manifest is not the one that it names, or a witness or owner did not sign what it says.
    """
    status = await asked.status()
    head = status.witnessed.head
    for each in status.witnessed.cosigned:
        verify_cosigned(each, head)
    edition = None if not status.manifest_version else await _edition(asked, status)
    if (b"" if edition is None else manifest_digest(edition.signed)).hex() != head.manifest:
        raise AuthenticationFailed("the broker shows another manifest than its audit head names")
    if edition is not None:
        _verify_signers(edition.signed)
    seen = look_over(
        status,
        edition=edition,
        lines=await _recent(asked, status),
        verified=asked.ca_spki is not None,
        now=asked.now(),
    )
    return seen, warnings_of(seen, status, now=asked.now())


async def _edition(asked: Asked, status: Status) -> Edition:
    """Return the manifest of the version that the status names."""
    stream = await connect(asked.address)
    try:
        await stream.send(wire.encode(ManifestLogRequest(after=status.manifest_version - 1)))
        raw = await stream.receive(most=FRAME_BYTES)
        demand_sender(
            stream,
            status.witnessed.head,
            mesh_ca=status.mesh_ca,
            issuing_ca=status.issuing_ca,
            ca_spki=asked.ca_spki,
            now=asked.now,
        )
    finally:
        await stream.close()
    page = decode_or_raise(raw, ManifestLog, what="manifest log")
    if not page.editions:
        raise PeerProtocolError("the broker does not show the manifest that is in force")
    return page.editions[0]


def _verify_signers(signed: SignedManifest) -> None:
    """Return if every key that a manifest says it was signed with signed it, whosever they are."""
    message = manifest_signed_bytes(signed.manifest)
    for each in signed.signatures:
        verify_signature(bytes.fromhex(each.owner), bytes.fromhex(each.signature), message)


async def _recent(asked: Asked, status: Status) -> tuple[AuditLine, ...]:
    """Return the audit lines of the last lease, or as many as are read back."""
    lines = verify_tail(status.lines, head=status.audit)
    if len(lines) == status.audit.count or lines[0].time < status.time - status.lease_s:
        return lines
    return (await read_newest(asked, last=MOST_LINES))[1]
