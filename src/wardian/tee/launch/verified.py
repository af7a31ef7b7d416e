"""A manifest as the simulated platform takes it: read from disk, every trusted file hashed.

What Gramine does at start, the launcher does here: a file that is not as it was measured stops the
launch. A change after that is not noticed, which hardware would not let pass.
"""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wardian.errors import ConfigError, FormatError
from wardian.tee.manifest.canonical import (
    manifest_identity,
    manifest_text,
    measure_manifest,
    parse_manifest,
)
from wardian.tee.manifest.elf import read_loader
from wardian.tee.manifest.template import RUNTIME

AGREED = "wardian.toml"
_FILE = "file:"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedManifest:
    """What a role's manifest says, and that its trusted files are what it says.

    Attributes:
        mr_enclave: the simulated measurement, 32 bytes.
        argv: the whole command line; the first is the interpreter.
        environment: the whole environment.
        files: every trusted file, absolute.
        mounts: directories that appear inside the enclave, absolute.
        agreed: the bytes of `wardian.toml`, as they were hashed.
        product_id: ISVPRODID.
        svn: ISVSVN.
    """

    mr_enclave: bytes
    argv: tuple[str, ...]
    environment: dict[str, str]
    files: tuple[Path, ...]
    mounts: tuple[Path, ...]
    agreed: bytes
    product_id: int
    svn: int


def load_manifest(path: Path) -> VerifiedManifest:
    """Return the manifest at `path`, all of whose trusted files are as it says.

    Args:
        path: `ROLE.manifest` in a role's directory, as `wardian enclave build` writes it.

    Raises:
        ConfigError: it cannot be read, is none, or a trusted file differs or is missing; names it.
    """
    try:
        text = manifest_text(path.read_bytes())
    except (OSError, FormatError) as err:
        raise ConfigError(
            f"{path}: no manifest to launch there; run `wardian enclave build` first"
        ) from err
    try:
        table = parse_manifest(text)
        argv, environment = _strings(table["loader"]["argv"]), table["loader"]["env"]
        product_id, svn = manifest_identity(table)
        expected = _expected(_files(table["sgx"]), path.parent)
        _demand_variables(environment)
        _demand_trusted(Path(argv[0]), table["libos"]["entrypoint"], expected)
        mounts = tuple(sorted(_mounts(table["fs"]["mounts"], path.parent)))
    except (KeyError, TypeError, AttributeError, ValueError, FormatError) as err:
        raise ConfigError(
            f"{path}: is not a manifest of this release; run `wardian enclave build`"
        ) from err
    _demand_unchanged(expected)
    return VerifiedManifest(
        mr_enclave=measure_manifest(text),
        argv=argv,
        environment=environment,
        files=tuple(sorted(expected)),
        mounts=mounts,
        agreed=_read_agreed(path.parent / AGREED, expected),
        product_id=product_id,
        svn=svn,
    )


def _strings(values: list[object]) -> tuple[str, ...]:
    """Return the command line `values`."""
    if not values or not all(isinstance(value, str) and "\0" not in value for value in values):
        raise FormatError("manifest: an argument is no text")
    return tuple(map(str, values))


def _demand_variables(environment: dict[str, object]) -> None:
    for name, value in environment.items():
        if not isinstance(value, str) or "\0" in name + value or "=" in name or not name:
            raise FormatError("manifest: the environment has to be names and texts")


def _expected(files: Iterable[dict[str, str]], directory: Path) -> dict[Path, str]:
    """Return the digest of each trusted file. One that is there twice could have two."""
    found: dict[Path, str] = {}
    for file in files:
        place = _located(file["uri"], directory)
        if place in found:
            raise FormatError("manifest: a trusted file is there twice")
        found[place] = file["sha256"]
    return found


def _demand_trusted(program: Path, entrypoint: str, expected: dict[Path, str]) -> None:
    """Refuse a program that is not measured, or another one than Gramine would start."""
    if entrypoint != str(program) or not {program, read_loader(program)} <= set(expected):
        raise FormatError("manifest: the program and its loader have to be trusted files")


def _read_agreed(path: Path, expected: dict[Path, str]) -> bytes:
    try:
        agreed = path.read_bytes()
    except OSError:
        agreed = b""
    if hashlib.sha256(agreed).hexdigest() != expected.get(path):
        raise ConfigError(f"{path}: was changed after it was measured, or is not part of it")
    return agreed


def _files(sgx: dict[str, Any]) -> Iterable[dict[str, str]]:
    files: list[dict[str, str]] = sgx["trusted_files"]
    return files


def _located(uri: str, directory: Path) -> Path:
    if not uri.startswith(_FILE):
        raise ConfigError("a trusted file is named by a file: URI")
    return directory / uri.removeprefix(_FILE)


def _mounts(mounts: Iterable[dict[str, str]], directory: Path) -> Iterable[Path]:
    """Yield the plain directories that a role sees; what exists under Gramine alone is left out."""
    for mount in mounts:
        if mount.get("type", "chroot") == "chroot" and mount["path"] != RUNTIME:
            yield _located(mount["uri"], directory).resolve()


def _demand_unchanged(expected: dict[Path, str]) -> None:
    paths = list(expected)
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        for path, digest in zip(paths, pool.map(_digest, paths), strict=True):
            if digest != expected[path]:
                raise ConfigError(
                    f"{path}: was changed after it was measured, or is gone; nothing is started. "
                    "Build the manifest anew if the change is wanted"
                )


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
