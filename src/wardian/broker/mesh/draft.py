"""A manifest in the making: what its owners are about to look at and to sign."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from wardian._internal import wire
from wardian._internal.agreed import Agreed
from wardian.broker.mesh.fields import Name
from wardian.broker.mesh.lines import Line, ModelLine, SecretLine
from wardian.broker.mesh.manifest import MeshManifest, SignedManifest, manifest_digest
from wardian.broker.mesh.trust import RoleReference, TrustAnchor
from wardian.broker.mesh.verify import verify_content, verify_names
from wardian.errors import ConfigError

MAX_LINE_FILE_BYTES: Final = 64 * 1024


class LineFile(wire.Message, frozen=True, tag_field="format", tag="wardian line v1"):
    """A line on its way from its owner to whoever puts the manifest together."""

    mesh: Name
    kind: Literal["model", "secret"]
    model: ModelLine | None = None
    secret: SecretLine | None = None

    @property
    def line(self) -> Line:
        """The line.

        Raises:
            ConfigError: the file has none, or one of another kind than it says.
        """
        found = self.model if self.kind == "model" else self.secret
        other = self.secret if self.kind == "model" else self.model
        if found is None or other is not None:
            raise ConfigError("the file holds no line of the kind that it names")
        return found


def line_file(line: Line, *, mesh: str) -> LineFile:
    """Return the file for `line`."""
    if isinstance(line, ModelLine):
        return LineFile(mesh=mesh, kind="model", model=line)
    return LineFile(mesh=mesh, kind="secret", secret=line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a manifest is to change against the one before; None leaves a thing as it was.

    Attributes:
        trust: what vouches for platforms.
        roles: measurements in hex by role.
        change_threshold: how many owners change it from then on.
        lines: signed by their owners; each replaces the one of the same model and version, or of
            the same secret.
        without: lines that go, as `NAME:VERSION` of a model and `NAME` of a secret.
    """

    trust: TrustAnchor | None = None
    roles: Mapping[str, tuple[str, ...]] | None = None
    change_threshold: int | None = None
    lines: tuple[Line, ...] = ()
    without: Collection[str] = ()


def draft_manifest(
    changes: Changes, *, agreed: Agreed, previous: tuple[SignedManifest, MeshManifest] | None
) -> MeshManifest:
    """Return the manifest that follows `previous` with `changes`, as it will be signed.

    Args:
        changes: against `previous`, or all of it where there is none.
        agreed: `wardian.toml`.
        previous: the manifest in force, and what it says.

    Raises:
        ConfigError: something is missing for a first manifest, or `without` names what is not
            there.
        PolicyDenied, AuthenticationFailed: whatever would refuse it once it is signed.
    """
    before = previous[1] if previous else None
    trust = changes.trust or (before.trust if before else None)
    if trust is None:
        raise ConfigError("a first manifest says what vouches for the platforms of the mesh")
    roles = before.roles if before else {}
    if changes.roles is not None:
        roles = {role: RoleReference(measurements=each) for role, each in changes.roles.items()}
    if not roles:
        raise ConfigError("a first manifest says which code is which role: give reference values")
    kept = _lines(before.owned_lines if before else (), changes)
    threshold = changes.change_threshold or (before.change_threshold if before else None)
    manifest = MeshManifest(
        mesh=agreed.mesh.name,
        version=before.version + 1 if before else 1,
        previous=manifest_digest(previous[0]).hex() if previous else None,
        change_threshold=threshold or agreed.mesh.threshold,
        trust=trust,
        roles=roles,
        models=tuple(line for line in kept if isinstance(line, ModelLine)),
        secrets=tuple(line for line in kept if isinstance(line, SecretLine)),
    )
    verify_content(manifest, mesh=agreed.mesh)
    verify_names(manifest, agreed=agreed)
    return manifest


def _lines(before: Iterable[Line], changes: Changes) -> list[Line]:
    """Return the lines that were there before without those that go, and those that come."""
    kept = {_name(line): line for line in before}
    gone = set(changes.without)
    if not gone <= kept.keys():
        missing = ", ".join(sorted(gone - kept.keys()))
        raise ConfigError(f"the manifest before has no line {missing} that could be left out")
    kept |= {_name(line): line for line in changes.lines}
    return [line for name, line in sorted(kept.items()) if name not in gone]


def _name(line: Line) -> str:
    return f"{line.name}:{line.version}" if isinstance(line, ModelLine) else line.name
