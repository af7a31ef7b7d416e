"""From a manifest and the operator's settings to what a simulated role may touch.

The manifest says which files; the role table which read-only entries of `/proc` and `/sys`, and
why; the operator's settings say where the models, the state, the sockets and the ports are. All
else the kernel refuses.
"""

from dataclasses import dataclass
from pathlib import Path

from wardian.tee.launch.landlock import Access
from wardian.tee.launch.verified import VerifiedManifest
from wardian.tee.manifest.bytecode import FOLDER
from wardian.tee.manifest.elf import read_loader
from wardian.tee.role_table import RoleSpec

_SELF = "/proc/self/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What a role may reach because the operator's settings name it.

    Attributes:
        read: directories whose files are read.
        files: single files that are read.
        write: directories for state.
        sockets: directories in which Unix sockets are made.
        bind: TCP ports to listen on; 0 is any that the kernel chooses.
        connect: TCP ports to connect to.
    """

    read: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    sockets: tuple[Path, ...] = ()
    bind: tuple[int, ...] = ()
    connect: tuple[int, ...] = ()


def access(manifest: VerifiedManifest, spec: RoleSpec, reach: Reach, *, directory: Path) -> Access:
    """Return all that the role of `manifest` may touch.

    Args:
        manifest: verified.
        spec: the role's entry in the role table.
        reach: what the operator's settings name.
        directory: the role's directory.
    """
    interpreter = Path(manifest.argv[0])
    programs = {interpreter, read_loader(interpreter)}
    own = [file.path.removeprefix(_SELF) for file in spec.kernel if file.path.startswith(_SELF)]
    others = [file.path for file in spec.kernel if not file.path.startswith(_SELF)]
    kernel = [path for path in others if Path(path).exists()]
    return Access(
        read=(
            *(path for path in manifest.files if path not in programs),
            *(Path(path) for path in kernel if not path.endswith("/")),
            Path("/dev/urandom"),
            *reach.files,
        ),
        tree=(*(Path(path) for path in kernel if path.endswith("/")), *reach.read),
        execute=tuple(sorted(programs)),
        list=(*(mount for mount in manifest.mounts if mount != directory), directory / FOLDER),
        write=reach.write,
        sockets=reach.sockets,
        read_write=(Path("/dev/null"),),
        own=tuple(own),
        bind=reach.bind,
        connect=reach.connect,
    )
