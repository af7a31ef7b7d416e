"""What a role may consist of, by name: all that is installed of what its table entry says.

Files are named by where they belong, so that one list of names fits every install prefix:

    python/   the interpreter, and what it reads beside itself before any of our code
    stdlib/   the standard library
    dynload/  its extension modules
    site/     the distributions of the role, by their RECORD
    app/      Wardian's own modules

`file_lists` narrows this down to what a role really opens; `elf` adds the shared objects.
"""

import importlib.metadata
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import wardian
from wardian.errors import ConfigError
from wardian.tee.role_table import ROLES, RoleSpec

BOOTSTRAP = "app/wardian/tee/bootstrap.py"
INTERPRETER = "python/interpreter"

_STDLIB_UNUSED = frozenset(
    {
        *("distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tkinter"),
        *("turtledemo", "unittest", "venv", "site-packages", "dist-packages", "__pycache__"),
    }
)


def spec_of(role: str, roles: Mapping[str, RoleSpec] = ROLES) -> RoleSpec:
    """Return the table's entry for `role`.

    Raises:
        ConfigError: there is none.
    """
    if role not in roles:
        raise ConfigError(f"no role is called {role!r}; there are {', '.join(sorted(roles))}")
    return roles[role]


def find_candidates(
    role: str, *, package: Path | None = None, roles: Mapping[str, RoleSpec] = ROLES
) -> dict[str, Path]:
    """Return where each file that `role` may consist of lies, by its name.

    Args:
        role: a name in `roles`.
        package: the directory of the package `wardian`; by default the one that is running.
        roles: the role table.

    Raises:
        ConfigError: no such role, or something that it needs is not installed.
    """
    spec = spec_of(role, roles)
    found = dict(_interpreter_files())
    found.update(_stdlib_files(standard_library(), also=spec.stdlib))
    for distribution in (*spec.distributions, *installed_versions(spec.optional)):
        found.update(_distribution_files(role, distribution, spec.data))
    found.update(_own_files(spec.modules, (package or running_package()).resolve()))
    return found


def running_package() -> Path:
    """Return the directory of the package that is running, however it was installed."""
    return Path(wardian.__file__).parent.resolve()


def standard_library() -> Path:
    """Return the directory of the standard library."""
    return Path(os.__file__).resolve().parent


def interpreter() -> Path:
    """Return the interpreter itself, past the links of a virtual environment."""
    return Path(sys.executable).resolve()


def _interpreter_files() -> Iterator[tuple[str, Path]]:
    """Yield the interpreter, and what steers it from beside it where somebody put that there."""
    program = interpreter()
    yield INTERPRETER, program
    influences = (
        program.parent / "pyvenv.cfg",
        program.parent.parent / "pyvenv.cfg",
        program.parent / "pybuilddir.txt",
        *sorted(program.parent.glob("*._pth")),
    )
    for number, path in enumerate(influences):
        if path.is_file():  # normally none of them exists
            yield f"python/{number}-{path.name}", path


def _stdlib_files(stdlib: Path, *, also: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Yield every module of the standard library but those that no program needs, and `also`."""
    unused = _STDLIB_UNUSED.difference(also)
    for folder, subfolders, names in os.walk(stdlib):
        here = Path(folder)
        relative = here.relative_to(stdlib)
        if relative == Path("lib-dynload"):
            root = PurePosixPath("dynload")
        else:
            root = PurePosixPath("stdlib", relative)
        subfolders[:] = [name for name in subfolders if name not in unused]
        for name in names:
            if name.endswith(".py") or is_shared_object(name):
                yield str(root / name), here / name


def installed_versions(distributions: tuple[str, ...]) -> dict[str, str]:
    """Return the installed version of each of `distributions` that is installed."""
    found = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _distribution_files(
    role: str, distribution: str, data: tuple[str, ...]
) -> Iterator[tuple[str, Path]]:
    """Yield the code of an installed distribution, the metadata with its version, and `data`."""
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
        code = file.suffix == ".py" or is_shared_object(file.name)
        if code or _is_metadata(file) or file.as_posix() in data:
            path = Path(str(file.locate()))
            yield str(PurePosixPath("site") / file), path.parent.resolve() / path.name


def is_shared_object(name: str) -> bool:
    """Return whether `name` is that of a shared object."""
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
