"""Reference values of what was built or signed: of a manifest, or of a SIGSTRUCT."""

import hashlib
import re
from pathlib import Path
from typing import Final

from wardian._internal import settings
from wardian.errors import ConfigError
from wardian.tee.manifest.canonical import (
    MAX_MANIFEST_BYTES,
    manifest_identity,
    manifest_text,
    measure_manifest,
    parse_manifest,
)
from wardian.tee.manifest.lint import demand_clean_signed
from wardian.tee.manifest.reference_values import RoleValues, SgxRole, SimulatedRole
from wardian.tee.manifest.sigstruct import demand_identity, parse_sigstruct, verify_sigstruct

MANIFEST: Final = ".manifest"
SIGNED_MANIFEST: Final = ".manifest.sgx"
SIGNATURE: Final = ".sig"
"""What the files of a role are called behind its name; the last two are Gramine's names."""

_ROLE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def role_of(path: Path, suffix: str) -> str:
    """Return the role that the file `path` is of: its name without `suffix`.

    Raises:
        ConfigError: the name is not a role's name and `suffix`.
    """
    role = path.name.removesuffix(suffix)
    if role == path.name or not _ROLE.fullmatch(role):
        raise ConfigError(f"{path}: is not called ROLE{suffix}; keep the name that the build gave")
    return role


def measure_file(path: Path) -> tuple[str, RoleValues]:
    """Return role and reference values of one enclave, from what was built or signed.

    Args:
        path: `ROLE.manifest` for a simulated enclave; `ROLE.sig`, or `ROLE.manifest.sgx` with
            `ROLE.sig` beside it, for one on hardware.

    Raises:
        ConfigError: another name, the file cannot be read, or its manifest lacks its identity.
        FormatError: not a manifest, or not a SIGSTRUCT.
        AuthenticationFailed: the signature is wrong.
        PolicyDenied: a debug enclave, or beside the signature lies a manifest of another product
            or version, or one that the lint refuses.
    """
    if path.name.endswith(SIGNATURE):
        manifest = path.with_name(role_of(path, SIGNATURE) + SIGNED_MANIFEST)
        return _measure_signed(path, manifest if manifest.exists() else None)
    if path.name.endswith(SIGNED_MANIFEST):
        signature = path.with_name(role_of(path, SIGNED_MANIFEST) + SIGNATURE)
        return _measure_signed(signature, path)
    role, raw = role_of(path, MANIFEST), settings.read(path, limit_bytes=MAX_MANIFEST_BYTES)
    text = manifest_text(raw)
    manifest_identity(parse_manifest(text))
    measured = SimulatedRole(
        measurements=(measure_manifest(text).hex(),),
        manifest_sha256=(hashlib.sha256(raw).hexdigest(),),
    )
    return role, measured


def _measure_signed(signature: Path, manifest: Path | None) -> tuple[str, RoleValues]:
    """Return role and reference values of a SIGSTRUCT, which has to fit `manifest` if given.

    No SIGSTRUCT names its manifest: that the two belong together would take the loader's pages to
    say. So the manifest is linted, has to be of the same product and version, and is noted as what
    lay beside the signature, not as what was signed.
    """
    verified = verify_sigstruct(parse_sigstruct(settings.read(signature)))
    manifests: tuple[str, ...] = ()
    if manifest is not None:
        raw = settings.read(manifest, limit_bytes=MAX_MANIFEST_BYTES)
        text = manifest_text(raw)
        demand_identity(verified, parse_manifest(text))
        demand_clean_signed(text, name=str(manifest))
        manifests = (hashlib.sha256(raw).hexdigest(),)
    signed = verified.sigstruct
    measured = SgxRole(
        measurements=(signed.mr_enclave.hex(),),
        signer=signed.mr_signer.hex(),
        product_id=signed.product_id,
        svn=signed.svn,
        date=signed.date,
        manifest_sha256=manifests,
    )
    return role_of(signature, SIGNATURE), measured
