"""What a job holds once the broker has written down what it gives out."""

from dataclasses import dataclass

from wardian.broker.exports.protocol import Recorded
from wardian.broker.exports.statement import ExportStatement
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.session.shown import ShownBroker
from wardian.broker.transparency.cosigning import WitnessedHead
from wardian.broker.transparency.following import follow_log
from wardian.errors import PeerProtocolError


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An export that may leave the job.

    Attributes:
        statement: what was told. `statement.served` is all that a line of the manifest has to say
            of the file that is served.
        digest: of the statement, 32 bytes.
        manifest: what the broker showed and its evidence bound.
        witnessed: the audit log with the export's own lines.
    """

    statement: ExportStatement
    digest: bytes
    manifest: VerifiedManifest
    witnessed: WitnessedHead


def verify_exported(
    recorded: Recorded, *, statement: ExportStatement, digest: bytes, shown: ShownBroker, now: int
) -> Exported:
    """Return that `statement` is written down, as the broker that was shown says.

    The signature already says that an attested broker sent it. This catches a broker that is wrong.

    Args:
        recorded: message 4, opened and authentic.
        statement: that was told.
        digest: of it, 32 bytes.
        shown: the broker of message 2.
        now: Unix seconds.

    Raises:
        PeerProtocolError: it is under another manifest, or the log has not the lines.
        AuthenticationFailed: the log does not go on from that of message 2.
    """
    if recorded.manifest_version != shown.manifest.manifest.version:
        raise PeerProtocolError("the export is under another manifest than the one shown")
    audit = follow_log(
        recorded.log,
        ca_spki=shown.ca_spki,
        mesh=shown.manifest.manifest.mesh,
        seen=shown.audit,
        demand=None,  # message 2 was witnessed as demanded, and this goes on from there
        now=now,
    )
    if audit.count < recorded.first - 1 + statement.lines:
        raise PeerProtocolError("the broker says an export is written that its log does not show")
    return Exported(
        statement=statement,
        digest=digest,
        manifest=shown.manifest,
        witnessed=recorded.log.witnessed,
    )
