"""What a manifest names of Gramine itself: its library OS, and the C library that it patched.

With its own C library system calls are function calls into the library OS. With the machine's they
are caught one by one, which works and is slower: so where Gramine is installed its library comes
first, in `LD_LIBRARY_PATH`, from a mount that exists inside Gramine alone.
"""

import platform
from dataclasses import dataclass
from pathlib import Path

from wardian.errors import ConfigError

LIBOS = "libsysdb.so"


@dataclass(frozen=True, slots=True, kw_only=True)
class GramineFiles:
    """Gramine's files as its packages install them.

    Attributes:
        libos: the library OS; where Gramine is not installed, where it would be.
        runtime: the directory of its C library, or None.
    """

    libos: Path
    runtime: Path | None

    @property
    def runtime_files(self) -> tuple[Path, ...]:
        """The files of its C library, sorted."""
        if self.runtime is None:
            return ()
        return tuple(sorted(path for path in self.runtime.iterdir() if path.is_file()))


def find_gramine(directory: Path | None = None) -> GramineFiles:
    """Return where Gramine's libraries are, or would be.

    Args:
        directory: Gramine's library directory; by default that of its Debian packages.

    Raises:
        ConfigError: `directory` is given and holds no Gramine.
    """
    place = (directory or Path(f"/usr/lib/{platform.machine()}-linux-gnu/gramine")).resolve()
    runtime = place / "runtime" / "glibc"
    if directory is not None and not (place / LIBOS).is_file():
        raise ConfigError(f"{directory}: no {LIBOS} there; name Gramine's library directory")
    return GramineFiles(libos=place / LIBOS, runtime=runtime if runtime.is_dir() else None)
