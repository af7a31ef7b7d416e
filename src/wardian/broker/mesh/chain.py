"""Which manifest may follow which: the manifests of a mesh are one chain, and only grow."""

from collections.abc import Callable
from typing import Final

from wardian._internal.agreed import Mesh
from wardian.broker.mesh.lines import line_mark
from wardian.broker.mesh.manifest import MeshManifest, SignedManifest
from wardian.broker.mesh.verify import VerifiedManifest, verify_manifest
from wardian.errors import PolicyDenied

MAX_VERSION_STEP: Final = 2**20
"""How far a version may lie above the one before it. Numbers end at 2**53: after a manifest that
took the last of them there would be no other, and nothing could be withdrawn any more."""


def verify_successor(offered: VerifiedManifest, *, current: VerifiedManifest | None) -> None:
    """Return if `offered` may come into force after `current`, which is in force now.

    Args:
        offered: verified under the same `wardian.toml`.
        current: None where no manifest has been in force.

    Raises:
        PolicyDenied: the rule `manifest-version` for one that is older, another of the same
            version, or one whose number is too far above; `manifest-previous` for one that was made
            to follow another; and `manifest-threshold-current` where fewer owners signed it than
            `current` demands of its successor, whatever `offered` itself demands.
    """
    version = 0 if current is None else current.manifest.version
    if offered.manifest.version <= version:
        raise PolicyDenied(
            f"manifest version {offered.manifest.version} does not come after version {version}, "
            "which is in force: versions only grow",
            rule="manifest-version",
        )
    if offered.manifest.version > version + MAX_VERSION_STEP:
        raise PolicyDenied(
            f"manifest version {offered.manifest.version} is too far above version {version}, "
            f"which is in force: at most {MAX_VERSION_STEP:,}, for numbers have an end",
            rule="manifest-version",
        )
    if offered.manifest.previous != (None if current is None else current.digest.hex()):
        raise PolicyDenied(
            f"manifest version {offered.manifest.version} was not made to follow the one in force "
            f"(version {version}): its `previous` names another",
            rule="manifest-previous",
        )
    if current is not None and len(offered.signers) < current.manifest.change_threshold:
        raise PolicyDenied(
            f"{len(offered.signers)} owners signed the manifest, fewer than the one in force "
            "demands for a change",
            rule="manifest-threshold-current",
        )


def follow(
    signed: SignedManifest, *, current: VerifiedManifest | None, mesh: Mesh
) -> VerifiedManifest:
    """Return the manifest in `signed`: signed by enough owners, and the successor of `current`.

    For readers of a history, oldest first: whoever follows it from the first manifest on knows that
    none was left out in the middle or put elsewhere. Whether the last one is the newest there is,
    the history itself cannot show.

    Args:
        signed: untrusted.
        current: the manifest before; None for the first that the mesh ever had.
        mesh: `[mesh]` of `wardian.toml`.

    Raises:
        FormatError, AuthenticationFailed, PolicyDenied: see `verify_manifest`, `verify_successor`.
    """
    manifest = verify_manifest(signed, mesh=mesh)
    verify_successor(manifest, current=current)
    return manifest


def refuse_superseded(manifest: MeshManifest, *, mark_of: Callable[[str], bytes | None]) -> None:
    """Return if no line of `manifest` is older than one that has been in force.

    An owner withdraws a measurement by signing a new line. The old one stays well signed, and the
    other owners still have it: without this they could bring it back (TRUST T7).

    Args:
        manifest: verified, about to come into force.
        mark_of: the mark (`line_mark`) that is remembered at a place (`Line.place`), if any.

    Raises:
        PolicyDenied: the rule `line-serial`.
    """
    for line in manifest.owned_lines:
        known, mark = mark_of(line.place), line_mark(line, mesh=manifest.mesh)
        if known is None or known[:8] < mark[:8] or known == mark:
            continue
        newest = int.from_bytes(known[:8], "big")
        raise PolicyDenied(
            f"the line of {line.said} has serial {line.serial}, but its owner's line of serial "
            f"{newest} was in force: an older line does not come back"
            if line.serial < newest
            else f"the line of {line.said} is another than the one of the same serial {newest} "
            "that was in force: its owner raises the serial with every change",
            rule="line-serial",
        )
