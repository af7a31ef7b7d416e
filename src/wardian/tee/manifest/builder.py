"""Builds a role's manifest: what it consists of, hashed, with the bytecode that will run.

The same installation and the same `wardian.toml` give the same bytes, wherever they are written to:
what lies in a role's directory is named relative to it, all else by its absolute path.
"""

import hashlib
import os
import sysconfig
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wardian._internal.agreed import Agreed, KeeperTerms
from wardian._internal.consortium import Consortium
from wardian._internal.files import replace_file
from wardian._internal.settings import parse
from wardian.errors import ConfigError
from wardian.tee.manifest.bytecode import (
    FOLDER,
    bytecode_path,
    compile_file,
    demand_debug_ranges,
)
from wardian.tee.manifest.candidates import (
    BOOTSTRAP,
    INTERPRETER,
    find_candidates,
    interpreter,
    is_shared_object,
    running_package,
    spec_of,
    standard_library,
)
from wardian.tee.manifest.canonical import measure_manifest
from wardian.tee.manifest.elf import SharedObjects, shared_objects
from wardian.tee.manifest.file_lists import narrow
from wardian.tee.manifest.gramine_files import find_gramine
from wardian.tee.manifest.sizes import enclave_bytes, max_threads
from wardian.tee.manifest.template import RUNTIME, Contents, TrustedFile, render
from wardian.tee.role_table import ROLES, RoleSpec

AGREED: Final = "wardian.toml"
"""The agreed settings, in a role's directory."""

RUNS_MODELS: Final = "wardian.inference.model"
"""A role that may import this opens models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltRole:
    """A role's manifest, and what there is to say about it.

    Attributes:
        role: its name.
        text: the manifest, TOML.
        mr_enclave: the simulated measurement, 32 bytes.
        files: how many files are trusted.
        total_bytes: how large these are together.
        minimal: whether the list of files is what the role was seen to open.
        patched_libc: whether Gramine's own C library was found and is part of it.
    """

    role: str
    text: str
    mr_enclave: bytes
    files: int
    total_bytes: int
    minimal: bool
    patched_libc: bool


class Builder:
    """Builds manifests into one directory. Files that roles share are read once."""

    def __init__(
        self,
        directory: Path,
        *,
        deployment: bytes,
        package: Path | None = None,
        roles: Mapping[str, RoleSpec] = ROLES,
        gramine: Path | None = None,
        edmm: bool = False,
    ) -> None:
        """Begin a build. Nothing is written yet.

        Args:
            directory: made if it is not there; gets `ROLE.manifest`, `wardian.toml`, `bytecode/`.
            deployment: the bytes of `wardian.toml`; of a keeper's `keeper.toml`.
            package: the directory of the package `wardian`; by default the one that is running.
            roles: the role table.
            gramine: where Gramine's libraries lie; by default where its packages put them.
            edmm: whether memory and threads are added while an enclave runs (SGX 2).

        Raises:
            ConfigError: there is no Gramine where it shall be.
        """
        self._directory = directory
        self._package = (package or running_package()).resolve()
        self._roles = roles
        self._gramine = find_gramine(gramine)
        self._edmm = edmm
        self._known: dict[str, tuple[str, int]] = {}
        self._deployment = deployment

    def build(self, role: str) -> BuiltRole:
        """Write the manifest of `role` and the bytecode that it needs; return what was built.

        Raises:
            ConfigError: no such role, `deployment` is not what such a role agrees on, or something
                that it needs is missing or cannot be read.
        """
        spec = spec_of(role, self._roles)
        agreed = self._parse(spec)
        demand_debug_ranges()
        self._know(AGREED, self._deployment)
        candidates = find_candidates(role, package=self._package, roles=self._roles)
        chosen, minimal = narrow(role, spec, candidates)
        objects = [path for path in chosen.values() if is_shared_object(path.name)]
        linked = shared_objects(chosen[INTERPRETER], objects)
        native = [linked.loader, *linked.libraries, *self._gramine.runtime_files]
        trusted = self._trusted(chosen, native, data=spec.data)
        contents = Contents(
            role=role,
            entrypoint=str(interpreter()),
            argv=self._command(spec, candidates),
            environment={**spec.environment, **self._library_path(linked)},
            libos=self._libos(),
            mounts=_mounts(
                [path.parent for path in (*chosen.values(), linked.loader, *linked.libraries)]
                + _search_path(candidates, self._package)
            ),
            runtime=str(self._gramine.runtime or ""),
            trusted=trusted,
            allowed=spec.allowed,
            keeps_state=spec.keeps_state,
            enclave_bytes=enclave_bytes(spec, agreed, runs_models=_runs_models(spec)),
            max_threads=max_threads(spec, agreed, runs_models=_runs_models(spec), edmm=self._edmm),
            edmm=self._edmm,
            product_id=spec.product_id,
            svn=spec.svn,
        )
        text = render(contents)
        self._write(AGREED, self._deployment)
        self._write(f"{role}.manifest", text.encode())
        return BuiltRole(
            role=role,
            text=text,
            mr_enclave=measure_manifest(text),
            files=len(trusted),
            total_bytes=sum(self._known[file.uri][1] for file in trusted),
            minimal=minimal,
            patched_libc=self._gramine.runtime is not None,
        )

    def _parse(self, spec: RoleSpec) -> Agreed | None:
        """Return the mesh that the role is of, if it is of one, once its settings were read."""
        if spec.of_mesh:
            return parse(self._deployment, Agreed, name=AGREED)
        kind = Consortium if spec.entry.endswith(".aggregator") else KeeperTerms
        parse(self._deployment, kind, name=AGREED)
        return None

    def _trusted(
        self, chosen: Mapping[str, Path], native: Iterable[Path], *, data: tuple[str, ...]
    ) -> tuple[TrustedFile, ...]:
        """Return every trusted file: sources as the bytecode that runs, all else as it is.

        A source that is among `data` is there both ways: a library reads it as well.
        """
        sources, as_is = [], list(native)
        for name, path in chosen.items():
            read = name.removeprefix("site/") in data
            if not name.endswith(".py") or name == BOOTSTRAP or read:
                as_is.append(path)
            if not name.endswith(".py") or name == BOOTSTRAP:
                continue
            if not name.startswith("site/") or self._compiles(path):
                sources.append(path)
        uris = {f"file:{path}": path for path in as_is}
        fresh = [uri for uri in uris if uri not in self._known]
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            digests = pool.map(_digest, (uris[uri] for uri in fresh))
            self._known.update(zip(fresh, digests, strict=True))
        found = [*uris, *(self._compiled(source) for source in sources), f"file:{AGREED}"]
        return tuple(TrustedFile(uri=uri, sha256=self._known[uri][0]) for uri in sorted(found))

    def _compiles(self, source: Path) -> bool:
        """Return whether a library's file can run at all: some are for other versions of Python."""
        try:
            self._compiled(source)
        except ConfigError as err:
            if isinstance(err.__cause__, SyntaxError):
                return False
            raise
        return True

    def _compiled(self, source: Path) -> str:
        """Return the URI of the bytecode of `source`, written if this build has not done so yet."""
        place = bytecode_path(source)
        if f"file:{place}" not in self._known:
            self._write(place, compile_file(source))
        return f"file:{place}"

    def _write(self, name: str, content: bytes) -> None:
        """Write a file of the role's directory and remember its digest."""
        target = self._directory / name
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not target.parent.resolve().is_relative_to(self._directory.resolve()):
                raise ConfigError(f"{target.parent}: is a link out of {self._directory}")
            replace_file(target, content)
        except OSError as err:
            raise ConfigError(f"{target}: cannot be written: {err.strerror}") from err
        self._know(name, content)

    def _know(self, name: str, content: bytes) -> None:
        self._known[f"file:{name}"] = (hashlib.sha256(content).hexdigest(), len(content))

    def _command(self, spec: RoleSpec, candidates: Mapping[str, Path]) -> tuple[str, ...]:
        """Return the command line: no environment, no site-packages, no bytecode written."""
        return (
            str(interpreter()),
            *("-I", "-S", "-B", "-X", "utf8", "-X", f"pycache_prefix={FOLDER}"),
            str(candidates[BOOTSTRAP]),
            spec.entry,
            *map(str, _search_path(candidates, self._package)),
        )

    def _library_path(self, linked: SharedObjects) -> dict[str, str]:
        """Return where the loader looks, if that has to be said: then all of it has to be.

        Gramine's own loader has other default directories, and where the variable is set Gramine
        looks for the loader itself nowhere else.
        """
        if not self._gramine.runtime and not linked.extra_directories:
            return {}
        places = [RUNTIME] if self._gramine.runtime else []
        places += sorted({str(path.parent) for path in (*linked.libraries, linked.loader)})
        return {"LD_LIBRARY_PATH": ":".join(places)}

    def _libos(self) -> TrustedFile:
        path = self._gramine.libos
        digest = _digest(path)[0] if path.is_file() else ""
        return TrustedFile(uri=f"file:{path}", sha256=digest)


def _runs_models(spec: RoleSpec) -> bool:
    return RUNS_MODELS in spec.modules


def _search_path(candidates: Mapping[str, Path], package: Path) -> list[Path]:
    """Return `sys.path`: the interpreter's order, and nothing that is not said here."""
    dynload = {path.parent for name, path in candidates.items() if name.startswith("dynload/")}
    site = {
        path.parents[name.count("/") - 1]
        for name, path in candidates.items()
        if name.startswith("site/")
    }
    places = [standard_library(), *sorted(dynload), package.parent, *sorted(site)]
    return list(dict.fromkeys(places))


def _mounts(folders: Iterable[Path]) -> tuple[str, ...]:
    """Return the fewest directories that hold all of `folders`; none lies in another."""
    installed = Path(sysconfig.get_config_var("installed_base") or "/usr").resolve()
    found: list[Path] = []
    for folder in sorted(set(folders)):
        inside = folder.is_relative_to(installed) and installed != Path("/usr")
        place = installed if inside else folder
        if not any(place.is_relative_to(other) for other in found):
            found.append(place)
    return tuple(str(path) for path in found)


def _digest(path: Path) -> tuple[str, int]:
    """Return the SHA-256 of the file `path` in hex, and its size in bytes."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size
    except OSError as err:
        raise ConfigError(f"{path}: cannot be measured: {err.strerror}") from err
