"""The shared objects that a program and its extension modules need: the system's loader says.

The loader itself resolves them (`--list`, what `ldd` runs), by its own rules for RPATH, RUNPATH and
default directories, so nothing is guessed and no second reading of those rules can differ. Nothing
of the program is run by it.
"""

import os
import re
import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wardian.errors import ConfigError

_PT_INTERP = 3
_LINE = re.compile(r"^\t(?:\S+ => )?(/.*) \(0x[0-9a-f]+\)$", re.MULTILINE)
_DEFAULT_DIRECTORY = re.compile(r"^  (/\S+) \(system search path\)$", re.MULTILINE)
_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedObjects:
    """What a program loads.

    Attributes:
        loader: the ELF interpreter, as the program names it.
        libraries: absolute paths as the loader opens them, sorted; links are not resolved.
        extra_directories: where it finds some of them only through its cache, which is no part of
            a role: these belong into `LD_LIBRARY_PATH`.
    """

    loader: Path
    libraries: tuple[Path, ...]
    extra_directories: tuple[Path, ...]


def shared_objects(program: Path, modules: Iterable[Path]) -> SharedObjects:
    """Return what `program` needs to load itself and `modules`, directly and indirectly.

    Args:
        program: an ELF executable with dynamic linking, 64 bit, little endian.
        modules: shared objects that it may open while it runs; no part of the answer themselves.
            One that needs something that is not installed cannot be opened, and adds nothing.

    Raises:
        ConfigError: not such a program, or the program itself needs what is not installed.
    """
    loader = read_loader(program)
    own = sorted({path.resolve() for path in modules})
    if _list(loader, program, own) is None:
        own = [module for module in own if _list(loader, program, [module]) is not None]
    uncached = _list(loader, program, own, "--inhibit-cache")
    found = uncached or _list(loader, program, own)
    if found is None:
        raise ConfigError(f"{program}: needs shared objects that are not installed; see ldd")
    libraries = sorted(path for path in found if path != loader and path.resolve() not in own)
    directories: tuple[Path, ...] = ()
    if uncached is None:
        known = {module.parent for module in own} | _default_directories(loader)
        directories = tuple(sorted({path.parent for path in libraries} - known))
    return SharedObjects(loader=loader, libraries=tuple(libraries), extra_directories=directories)


def read_loader(program: Path) -> Path:
    """Return the ELF interpreter that `program` names (System V ABI, PT_INTERP).

    Raises:
        ConfigError: `program` is no dynamically linked ELF file of 64 bit, little endian.
    """
    try:
        with program.open("rb") as file:
            header = file.read(64)
            if header[:6] != b"\x7fELF\x02\x01":
                raise ConfigError(f"{program}: is no 64-bit little-endian ELF program")
            (offset,) = struct.unpack_from("<Q", header, 32)
            size, count = struct.unpack_from("<HH", header, 54)
            file.seek(offset)
            table = file.read(size * count)
            for at in range(0, len(table), size):
                kind, _, start, _, _, length = struct.unpack_from("<IIQQQQ", table, at)
                if kind == _PT_INTERP:
                    file.seek(start)
                    return Path(os.fsdecode(file.read(length).rstrip(b"\0")))
    except (OSError, struct.error) as err:
        raise ConfigError(f"{program}: cannot be read as an ELF program: {err}") from err
    raise ConfigError(f"{program}: is linked statically; a role needs a dynamic interpreter")


def _list(loader: Path, program: Path, modules: list[Path], *options: str) -> set[Path] | None:
    """Return what the loader would load, or None if something of it is missing."""
    if any(mark in str(path) for path in modules for mark in " :"):
        raise ConfigError(
            "the loader cannot be told of paths with spaces or colons; install afresh"
        )
    preload = ("--preload", ":".join(map(str, modules))) if modules else ()
    done = _run(loader, *options, *preload, "--list", str(program))
    if done.returncode != 0 or b" => not found" in done.stdout:
        return None
    listed = done.stdout.decode(errors="surrogateescape")
    return {Path(os.path.normpath(path)) for path in _LINE.findall(listed)}


def _default_directories(loader: Path) -> set[Path]:
    """Return where the loader looks without being told (ld.so(8), option --help)."""
    told = _run(loader, "--help").stdout.decode(errors="surrogateescape")
    return {Path(path) for path in _DEFAULT_DIRECTORY.findall(told)}


def _run(loader: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(
            [str(loader), *arguments],
            env={},
            cwd="/",
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as err:
        raise ConfigError(f"{loader}: cannot be asked what a program needs") from err
