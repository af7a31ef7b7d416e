"""What a role consists of, byte for byte, and the digest of it: the simulated MRENCLAVE.

Files are named by where they belong, not by where they lie, so that the same code measures the
same on every machine and under every install prefix:

    python/   the interpreter, its shared library, and what it reads before any of our code
    stdlib/   the standard library, walked: a file that somebody adds there shows
    dynload/  its extension modules
    site/     the distributions of the role, by their RECORD
    app/      Wardian's own modules
    config/   wardian.toml

Not measured: the kernel, the C library and the system's shared objects. In the simulation they are
as trusted as the launcher; under Gramine the manifest lists them.
"""

import hashlib
import importlib.metadata
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import wardian
from wardian._internal import wire
from wardian.errors import ConfigError
from wardian.tee.role_table import ROLES, RoleSpec

BOOTSTRAP = "app/wardian/tee/bootstrap.py"
CONFIG = "config/wardian.toml"
INTERPRETER = "python/interpreter"
NO_BYTECODE_PATH = "/dev/null/none"
"""Where the interpreter looks for bytecode: below a file that is no directory, so never any."""

_STDLIB_UNUSED = frozenset(
    {
        *("distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tkinter"),
        *("turtledemo", "unittest", "venv", "site-packages", "dist-packages", "__pycache__"),
    }
)
_CODE = (".py", ".pyc")  # in the standard library a .pyc beside the sources would be imported
_MAX_FILE_BYTES = 2 * 1024**3


class MeasuredFile(wire.Message, frozen=True, kw_only=True):
    """A file by its name in the role and the SHA-256 of its content, in hex."""

    path: str
    sha256: str


class RoleManifest(wire.Message, frozen=True, kw_only=True):
    """Everything that decides what a role's process does, except its inputs.

    Attributes:
        role: its name in the role table.
        argv: the whole command line; names of files are those of `files`.
        env: the whole environment.
        files: sorted by path.
        product_id: ISVPRODID.
        svn: ISVSVN.
        format: names this form.
    """

    role: str
    argv: tuple[str, ...]
    env: dict[str, str]
    files: tuple[MeasuredFile, ...]
    product_id: int
    svn: int
    format: str = "wardian role manifest v1"

    def canonical(self) -> bytes:
        """Return the one encoding of this manifest."""
        return wire.encode(self)

    @property
    def mr_enclave(self) -> bytes:
        """The measurement, 32 bytes: SHA-256 of the canonical encoding."""
        return hashlib.sha256(self.canonical()).digest()


def measure_role(
    role: str,
    *,
    agreed: bytes,
    package: Path | None = None,
    roles: Mapping[str, RoleSpec] = ROLES,
) -> RoleManifest:
    """Return the manifest of `role` as it is installed here, for this interpreter.

    Nothing is cached: a cache would be one more thing to trust, and this takes a fraction of a
    second.

    Args:
        role: a name in `roles`.
        agreed: the bytes of `wardian.toml`.
        package: the directory of the package `wardian`; by default the one that is running.
        roles: the role table.

    Raises:
        ConfigError: no such role, or something that it needs is not installed.
    """
    return measure_files(
        role, locate_role(role, package=package, roles=roles), agreed=agreed, roles=roles
    )


def measure_files(
    role: str,
    located: Mapping[str, Path],
    *,
    agreed: bytes,
    roles: Mapping[str, RoleSpec] = ROLES,
) -> RoleManifest:
    """Return the manifest of `role` over the files that `locate_role` found; see `measure_role`."""
    spec = spec_of(role, roles)
    names = sorted(located)
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        digests = list(pool.map(_digest, (located[name] for name in names)))
    files = dict(zip(names, digests, strict=True))
    files[CONFIG] = hashlib.sha256(agreed).hexdigest()
    return RoleManifest(
        role=role,
        argv=(
            INTERPRETER,
            *("-I", "-S", "-B"),  # no environment, no site-packages, no .pth, no bytecode written
            *("-X", f"pycache_prefix={NO_BYTECODE_PATH}"),  # and none read
            BOOTSTRAP,
            spec.entry,
        ),
        env=dict(spec.environment),
        files=tuple(MeasuredFile(path=name, sha256=files[name]) for name in sorted(files)),
        product_id=spec.product_id,
        svn=spec.svn,
    )


def spec_of(role: str, roles: Mapping[str, RoleSpec] = ROLES) -> RoleSpec:
    """Return the table's entry for `role`.

    Raises:
        ConfigError: there is none.
    """
    if role not in roles:
        raise ConfigError(f"no role is called {role!r}; there are {', '.join(sorted(roles))}")
    return roles[role]


def locate_role(
    role: str, *, package: Path | None = None, roles: Mapping[str, RoleSpec] = ROLES
) -> dict[str, Path]:
    """Return where each file of `role` lies, by its name in the manifest.

    Raises:
        ConfigError: no such role, or something that it needs is not installed.
    """
    spec = spec_of(role, roles)
    found = dict(_interpreter_files())
    found.update(_stdlib_files(Path(os.__file__).resolve().parent))
    for distribution in spec.distributions:
        found.update(_distribution_files(role, distribution))
    found.update(_own_files(spec.modules, (package or _running_package()).resolve()))
    return found


def _running_package() -> Path:
    """Return the directory of the package that is running, however it was installed."""
    return Path(wardian.__file__).parent


def _interpreter_files() -> Iterator[tuple[str, Path]]:
    """Yield the interpreter and the files beside it that it reads before any of our code."""
    interpreter = Path(sys.executable).resolve()
    yield INTERPRETER, interpreter
    shared = _mapped_libpython()
    for library in shared:
        yield f"python/{library.name}", library
    zipped = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    influences = (
        interpreter.parent / "pyvenv.cfg",
        interpreter.parent.parent / "pyvenv.cfg",
        interpreter.parent / "pybuilddir.txt",
        Path(os.__file__).resolve().parent.parent / zipped,
    )
    for number, path in enumerate(influences):
        if path.is_file():  # normally none of them exists: one that somebody adds shows
            yield f"python/{number}-{path.name}", path
    for number, folder in enumerate(sorted({library.parent for library in (interpreter, *shared)})):
        for path in sorted(folder.glob("*._pth")):  # names search paths, even under -I -S
            yield f"python/pth{number}-{path.name}", path


def _mapped_libpython() -> list[Path]:
    """Return the interpreter's shared library, where it has one and the system tells."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    except OSError:
        return []
    paths = {
        line.split(maxsplit=5)[5].strip() for line in maps.splitlines() if "/libpython" in line
    }
    return sorted(Path(path).resolve() for path in paths)


def _stdlib_files(stdlib: Path) -> Iterator[tuple[str, Path]]:
    """Yield every file of the standard library that the interpreter could import."""
    for folder, subfolders, names in os.walk(stdlib):
        here = Path(folder)
        relative = here.relative_to(stdlib)
        if relative == Path("lib-dynload"):
            root = PurePosixPath("dynload")
        else:
            root = PurePosixPath("stdlib", relative)
        subfolders[:] = [name for name in subfolders if name not in _STDLIB_UNUSED]
        for name in names:
            if name.endswith(_CODE) or _is_shared_object(name):
                yield str(root / name), here / name


def _distribution_files(role: str, distribution: str) -> Iterator[tuple[str, Path]]:
    """Yield the code of an installed distribution, and the metadata that says its version."""
    try:
        files = importlib.metadata.distribution(distribution).files
    except importlib.metadata.PackageNotFoundError:
        files = None
    if files is None:
        raise ConfigError(
            f"the role {role} needs {distribution}, which is not installed; "
            "run pip install 'wardian[serve]'"
        )
    for file in files:
        if ".." in file.parts or "tests" in file.parts:
            continue  # commands in bin/ and test suites are no part of a role
        if file.suffix == ".py" or _is_shared_object(file.name) or _is_metadata(file):
            yield str(PurePosixPath("site") / file), Path(str(file.locate()))


def _is_shared_object(name: str) -> bool:
    return name.endswith(".so") or ".so." in name


def _is_metadata(file: PurePosixPath) -> bool:
    return file.name == "METADATA" and file.parent.suffix == ".dist-info"


def _own_files(modules: tuple[str, ...], package: Path) -> Iterator[tuple[str, Path]]:
    """Yield the sources of the named modules and packages, and of the packages above them."""
    for module in modules:
        parts = module.split(".")[1:]
        for depth in range(len(parts)):
            yield _own(package, package.joinpath(*parts[:depth], "__init__.py"))
        place = package.joinpath(*parts)
        if place.is_dir():
            for source in place.rglob("*.py"):
                yield _own(package, source)
        elif place.with_suffix(".py").is_file():
            yield _own(package, place.with_suffix(".py"))
        else:
            raise ConfigError(f"the role table names {module}, which is not installed")


def _own(package: Path, source: Path) -> tuple[str, Path]:
    return str(PurePosixPath("app/wardian", source.relative_to(package).as_posix())), source


def _digest(path: Path) -> str:
    """Return the SHA-256 of the file `path`, in hex."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise ConfigError(f"{path}: cannot be measured: {err.strerror}") from err
