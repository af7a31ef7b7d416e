"""A mesh at a glance, put together from what its broker tells.

Pure: a status, a manifest and audit lines go in. What of it is verified the caller knows; the
manifest is the one that the audit head names, or it is left out.
"""

from collections.abc import Iterable

from wardian._internal import wire
from wardian.broker.certificates import certificate_digest, valid_until
from wardian.broker.mesh.lines import Line, ModelLine
from wardian.broker.mesh.manifest import MeshManifest, manifest_digest, parse_manifest
from wardian.broker.owners.manifest_log import Edition
from wardian.broker.state.audit import AuditHead, AuditLine
from wardian.broker.status import Status


class RoleView(wire.Message, frozen=True):
    """A role of the mesh."""

    name: str
    measurements: tuple[str, ...]
    certificates: int
    """Issued to it within the last lease, as the audit lines say."""


class SecretView(wire.Message, frozen=True):
    """A model's version, or a named secret."""

    name: str
    """For people: `digits version 1`, `secret token`."""
    owner: str
    given: bool
    """Whether the broker has the key, or the secret."""
    uses: int
    max_uses: int | None
    not_after: int | None
    """Unix seconds."""
    beacon_by: int | None
    """Until when the owner's newest beacon lets it be released, Unix seconds; None: it need not."""


class WitnessView(wire.Message, frozen=True):
    """A witness of the audit log; both None where it has signed none."""

    public: str
    lines_behind: int | None
    seconds_ago: int | None


class ManifestView(wire.Message, frozen=True):
    """The manifest in force."""

    version: int
    digest: str
    accepted: int
    """Unix seconds by the broker's clock."""
    signers: tuple[str, ...]
    """The owners whose signatures it carries."""
    any_platform: bool
    """Whether the owners take the risk of any platform (TRUST T12)."""
    tcb_statuses: tuple[str, ...]


class Overview(wire.Message, frozen=True):
    """The mesh, as one screen."""

    mesh: str
    simulated: bool
    measurement: str
    time: int
    manifest: ManifestView | None
    owners: tuple[str, ...]
    quorum: int
    issuing_ca: str
    """SHA-256 of its certificate, hex."""
    issuing_ca_until: int
    lease_s: int
    epoch: int
    epoch_began: int
    roles: tuple[RoleView, ...]
    models: tuple[SecretView, ...]
    secrets: tuple[SecretView, ...]
    counter: str
    standby: str
    head: AuditHead
    head_verified: bool
    """Whether the head is signed by a CA key that somebody vouches for."""
    witnesses: tuple[WitnessView, ...]
    head_threshold: int


def look_over(
    status: Status, *, edition: Edition | None, lines: Iterable[AuditLine], verified: bool, now: int
) -> Overview:
    """Return what a person wants to see of the mesh.

    Args:
        status: of its broker.
        edition: the manifest in force, and since when; None where there is none, or it is not the
            one that the status names.
        lines: audit lines of the last lease, or more.
        verified: whether the head's signature was verified under a CA that somebody vouches for.
        now: Unix seconds, by the reader's clock.

    Raises:
        FormatError: the issuing CA's certificate, or the manifest, does not parse.
    """
    read = None if edition is None else parse_manifest(edition.signed)
    since = status.time - status.lease_s
    return Overview(
        mesh=status.mesh,
        simulated=status.simulated,
        measurement=status.measurement,
        time=status.time,
        manifest=None if edition is None or read is None else _manifest(edition, read),
        owners=status.governance.owners,
        quorum=status.governance.quorum,
        issuing_ca=certificate_digest(status.issuing_ca).hex(),
        issuing_ca_until=valid_until(status.issuing_ca),
        lease_s=status.lease_s,
        epoch=status.epoch,
        epoch_began=status.epoch_began,
        roles=() if read is None else _roles(read, lines, since=since),
        models=() if read is None else tuple(_model(line, status) for line in read.models),
        secrets=()
        if read is None
        else tuple(_secret(line, line.said, line.said, status) for line in read.secrets),
        counter=status.keeping.said,
        standby=status.keeping.standby,
        head=status.audit,
        head_verified=verified,
        witnesses=_witnesses(status, now=now),
        head_threshold=status.governance.head_threshold,
    )


def _manifest(edition: Edition, read: MeshManifest) -> ManifestView:
    return ManifestView(
        version=read.version,
        digest=manifest_digest(edition.signed).hex(),
        accepted=edition.accepted,
        signers=tuple(each.owner for each in edition.signed.signatures),
        any_platform=read.trust.any_platform is not None,
        tcb_statuses=read.trust.tcb_statuses,
    )


def _roles(read: MeshManifest, lines: Iterable[AuditLine], *, since: int) -> tuple[RoleView, ...]:
    """Return the roles with the certificates that they were issued; each has lines of its own."""
    issued = {
        (line.entry.role, line.entry.certificate)
        for line in lines
        if line.time >= since and line.entry.certificate and line.entry.event == "release"
    }
    return tuple(
        RoleView(
            name=name,
            measurements=reference.measurements,
            certificates=sum(role == name for role, _ in issued),
        )
        for name, reference in read.roles.items()
    )


def _model(line: ModelLine, status: Status) -> SecretView:
    name = f"{line.name} version {line.version}"
    return _secret(line, name, name, status)


def _secret(line: Line, name: str, missing: str, status: Status) -> SecretView:
    return SecretView(
        name=name,
        owner=line.owner,
        given=missing not in status.missing,
        uses=status.uses.get(line.place, 0),
        max_uses=line.terms.max_uses,
        not_after=line.terms.not_after,
        beacon_by=_beacon_by(line, status),
    )


def _beacon_by(line: Line, status: Status) -> int | None:
    """Return until when the owner's newest beacon is young enough for this line."""
    if line.terms.max_beacon_age_s is None:
        return None
    return status.beacons.get(line.owner, 0) + line.terms.max_beacon_age_s


def _witnesses(status: Status, *, now: int) -> tuple[WitnessView, ...]:
    """Return every witness of `wardian.toml`, and how lately it signed."""
    count = status.audit.count
    signed = {each.cosignature.witness: each.cosignature for each in status.witnessed.cosigned}
    return tuple(
        WitnessView(
            public=public,
            lines_behind=count - signed[public].count if public in signed else None,
            seconds_ago=max(0, now - signed[public].time) if public in signed else None,
        )
        for public in status.governance.witnesses
    )
