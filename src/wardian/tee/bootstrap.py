"""The first code of every role, in every TEE: closes the process, then runs the role's entry.

Started as `python -I -S -B -X pycache_prefix=bytecode bootstrap.py ENTRY PLACE...`, all of which is
measured, with the role's directory as working directory. Nothing but the PLACEs is imported from;
which files in them can be opened at all, Gramine or the launcher's Landlock rules decide.

Under Gramine the library OS is the confinement. In the simulation the process holds a socket to the
launcher as standard input, and gives up here what Landlock does not take: system calls.
"""

import os
import resource
import signal
import stat
import sys
from importlib import import_module
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from types import ModuleType

CHANNEL = 3
"""The file descriptor on which a simulated role talks to its launcher."""

GRAMINE = "/dev/attestation"
"""Gramine's library OS shows this directory to its process; no host can hide it or put it there."""

SOURCES = (SourceFileLoader, SOURCE_SUFFIXES)
LOADERS = ((ExtensionFileLoader, EXTENSION_SUFFIXES), SOURCES)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3


def harden() -> None:
    """Die with the launcher, leave no core, be closed to other processes, be nobody's root."""
    import ctypes  # noqa: PLC0415 (under Gramine it is not needed)

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None)
    for option, value in ((_PR_SET_PDEATHSIG, signal.SIGKILL), (_PR_SET_DUMPABLE, 0)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise SystemExit("bootstrap: this process cannot be closed to others")
    nothing = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: twice 32 bits of each
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    if libc.capset(header, nothing) != 0:  # root, too, is an ordinary user from here on
        raise SystemExit("bootstrap: this process cannot give up its privileges")


def take_channel() -> None:
    """Move the launcher's socket from standard input to `CHANNEL`, which no child inherits."""
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        raise SystemExit("bootstrap: not started by a launcher; use `wardian enclave run`")
    os.dup2(0, CHANNEL, inheritable=False)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null != CHANNEL:
        os.close(null)


class RoleFinder(FileFinder):
    """Finds what the role consists of: a module whose file cannot be opened does not exist.

    What else is installed beside it is refused by Gramine or the kernel. Libraries that would use
    it if it were there have to be told that it is not, as `ModuleNotFoundError` does.
    """

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> ModuleSpec | None:  # type: ignore[explicit-override]
        """Return how to load the module `fullname`, or None. (Python 3.11 knows no `override`)."""
        spec = super().find_spec(fullname, target)
        if spec is None:
            return None
        if spec.loader is None or spec.origin is None:  # a directory without `__init__.py`
            places = spec.submodule_search_locations or ()
            return spec if any(_has_module(place, fullname) for place in places) else None
        compiled = isinstance(spec.loader, SourceFileLoader) and spec.cached
        try:
            os.close(os.open(compiled or spec.origin, os.O_RDONLY))
        except OSError:
            return None
        return spec


def _has_module(place: str, package: str) -> bool:
    """Return whether a module of the role lies in `place`: what the host made is no package.

    Bytecode tells: its place is measured, wherever the host has links to a shared object.
    """
    inside = RoleFinder(place, SOURCES)
    names = {name.partition(".")[0] for name in os.listdir(place)}  # noqa: PTH208 (no pathlib yet)
    return any(inside.find_spec(f"{package}.{name}") for name in sorted(names) if name)


def import_from(places: list[str]) -> None:
    """Make `places` the only ones that modules come from: no zip files, no other bytecode."""
    sys.path[:] = places
    if sys.pycache_prefix is not None:
        sys.pycache_prefix = os.path.abspath(sys.pycache_prefix)  # noqa: PTH100 (no pathlib yet)
    sys.path_hooks[:] = [RoleFinder.path_hook(*LOADERS)]
    sys.path_importer_cache.clear()


def which_tee() -> str:
    """Return the name of the TEE that this process is in."""
    if not os.path.isdir(GRAMINE):  # noqa: PTH112 (no pathlib yet)
        return "simulated"
    attests = os.path.exists(f"{GRAMINE}/attestation_type")  # noqa: PTH110
    return "gramine" if attests else "gramine-direct"


def main() -> int:
    """Run the role whose entry module is the first argument; return its exit status."""
    entry, *places = sys.argv[1:]
    tee = which_tee()
    if tee == "simulated":
        harden()
        take_channel()
    import_from(places)
    if tee == "simulated":
        import_module("wardian.tee.seccomp").install()
    enclave = import_module("wardian.tee.backend").enter(tee)
    status: int = import_module(entry).main(enclave)
    return status


if __name__ == "__main__":
    sys.exit(main())
