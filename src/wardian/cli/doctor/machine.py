"""The machine as `wardian doctor` looks at it: one seam, so that tests look at other machines."""

import importlib.metadata
import importlib.util
import itertools
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_RUN_S = 2.0
_READ_BYTES, _MAX_READS = 64 * 1024, 128
"""Files below `/proc/sys` refuse to be read in pieces of megabytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Everything that the checks may ask. Nothing here raises: what cannot be had is None.

    Attributes:
        root: the directory that `/proc`, `/sys`, `/dev` and `/etc` lie in.
        system: "Linux", "Darwin" or "Windows".
        architecture: "x86_64", "aarch64" and so on.
        python: version of the interpreter that runs this.
        cores: logical processors.
        memory_bytes: the main memory, where `/proc` does not tell.
        soft_limits: of this process, in bytes, by name: "core" and "memlock"; -1 is no limit.
        landlock: the version of Landlock's interface, 0 for none, None if nobody knows; and what
            it leaves open, a sentence each.
        which: returns where a program is installed.
        run: returns what a program prints on both outputs; it gets at most `MAX_RUN_S` seconds.
        module: returns the version of an importable module, "" if it has none.
        usable: whether this process may read and write a path.
    """

    root: Path
    system: str
    architecture: str
    python: tuple[int, int, int]
    cores: int
    memory_bytes: int | None
    soft_limits: Mapping[str, int]
    landlock: tuple[int | None, tuple[str, ...]]
    which: Callable[[str], str | None]
    run: Callable[[Sequence[str]], str | None]
    module: Callable[[str], str | None]
    usable: Callable[[Path], bool]

    def text(self, path: str) -> str | None:
        """Return what the file holds, at most 8 MiB of it, or None if it cannot be read."""
        try:
            with (self.root / path.lstrip("/")).open("rb") as file:
                parts = itertools.islice(iter(lambda: file.read(_READ_BYTES), b""), _MAX_READS)
                return b"".join(parts).decode(errors="replace")
        except OSError:
            return None

    def number(self, path: str) -> int | None:
        """Return the decimal number that the file holds, or None."""
        return decimal((self.text(path) or "").strip())

    def exists(self, path: str) -> bool:
        """Return whether there is such a path, as far as this process may see it."""
        try:
            return (self.root / path.lstrip("/")).exists()
        except OSError:
            return False

    def may_use(self, path: str) -> bool:
        """Return whether this process may read and write that path."""
        return self.usable(self.root / path.lstrip("/"))

    def names(self, directory: str) -> tuple[str, ...]:
        """Return the sorted names in the directory; none if it cannot be read."""
        try:
            return tuple(sorted(os.listdir(self.root / directory.lstrip("/"))))  # noqa: PTH208
        except OSError:
            return ()


def decimal(text: str) -> int | None:
    """Return the number from 0 that `text` is in at most 20 decimal digits, as 2**64 has, or None.

    Python takes no more than 4300 digits, and calls also others than 0 to 9 digits.
    """
    return int(text) if len(text) <= 20 and text.isascii() and text.isdigit() else None


def this_machine() -> Machine:
    """Return the machine that this runs on."""
    return Machine(
        root=Path("/"),
        system=platform.system(),
        architecture=platform.machine(),
        python=sys.version_info[:3],
        cores=os.cpu_count() or 1,
        memory_bytes=_memory_bytes(),
        soft_limits=_soft_limits(),
        landlock=_landlock(),
        which=shutil.which,
        run=run_bounded,
        module=module_version,
        usable=lambda path: os.access(path, os.R_OK | os.W_OK),
    )


def run_bounded(arguments: Sequence[str], *, limit_s: float = MAX_RUN_S) -> str | None:
    """Return what a program prints on both outputs, whatever its exit status; None if it is slow.

    No shell is involved. A program that takes longer than `limit_s` is killed.
    """
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=limit_s,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace")


def module_version(name: str) -> str | None:
    """Return the version of a module's distribution, unimported; None if it is missing."""
    try:
        if importlib.util.find_spec(name) is None:
            return None
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
    except (ImportError, ValueError):
        return None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return None


def _soft_limits() -> Mapping[str, int]:
    try:
        import resource  # noqa: PLC0415 (POSIX only)
    except ImportError:
        return {}
    return {
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "memlock": resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
    }


def _landlock() -> tuple[int | None, tuple[str, ...]]:
    try:
        from wardian.tee.launch import landlock  # noqa: PLC0415 (POSIX only)
    except ImportError:
        return None, ()
    version = landlock.abi()
    return version, landlock.unenforced(version)
