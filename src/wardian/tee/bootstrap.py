"""The first code of every simulated role: hardens the process, then imports measured files only.

The launcher runs this file with `python -I -S -B`, the entry module's name as its one argument and
a socket to the launcher as standard input. It uses the standard library alone until `install` has
replaced the interpreter's import system: from then on a module is imported only from a file of the
role's manifest, after its SHA-256 was compared, and compiled from source. No `.pth` file, no
`sitecustomize`, no bytecode cache and no file that somebody laid beside the measured ones is run.
"""

# What is imported here comes from the standard library's directory, which is measured as a whole.
# The zip file that the interpreter looks into before it is measured too, should it ever exist.
import sys

sys.path[:] = [path for path in sys.path if not path.endswith(".zip")]

import ctypes  # noqa: E402 (after the search path is known)
import hashlib  # noqa: E402
import importlib  # noqa: E402
import importlib.machinery  # noqa: E402
import importlib.metadata  # noqa: E402
import importlib.util  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import struct  # noqa: E402
from collections.abc import Iterable, Iterator, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from types import CodeType, ModuleType  # noqa: E402
from typing import NamedTuple  # noqa: E402

CHANNEL = 3
"""The file descriptor on which the role talks to its launcher."""

_ROOTS = ("stdlib", "dynload", "app", "site")  # in this order, as the interpreter's own path has it
_EXTENSIONS = tuple(importlib.machinery.EXTENSION_SUFFIXES)
_MAX_REPLY_BYTES = 4 * 1024 * 1024
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4


class Measured(NamedTuple):
    """A file of the role: its name in the manifest, the digest there (hex), and where it lies."""

    name: str
    sha256: str
    path: str


class MeasuredFinder:
    """The only finder of the process: knows the measured files and nothing else."""

    def __init__(self, files: Iterable[Measured]) -> None:
        self._files = {file.path: file for file in files}
        self._modules: dict[str, Measured] = {}
        self._packages: set[str] = set()
        for _, name, file in sorted(_importable(self._files.values())):
            self._modules.setdefault(name, file)
            self._packages.update(_parents(name))

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 (the manifest says where modules are)
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        """Return how to load the module `name`, or None if it is not part of the role."""
        file = self._modules.get(name)
        if file is None:
            return _namespace(name) if name in self._packages else None
        if file.path.endswith(_EXTENSIONS):
            loader: importlib.machinery.SourceFileLoader | importlib.machinery.ExtensionFileLoader
            loader = _ExtensionLoader(name, file.path)
            loader.finder = self
        else:
            loader = _SourceLoader(name, file.path)
            loader.finder = self
        folder = [os.path.dirname(file.path)] if _is_package(file) else None  # noqa: PTH120
        return importlib.util.spec_from_file_location(
            name, file.path, loader=loader, submodule_search_locations=folder
        )

    def find_distributions(
        self, context: importlib.metadata.DistributionFinder.Context | None = None
    ) -> Iterator[importlib.metadata.Distribution]:
        """Yield the measured distributions, for libraries that ask for their own version."""
        wanted = getattr(context, "name", None)
        for file in self._files.values():
            if file.name.endswith(".dist-info/METADATA"):
                self.read(file.path)
                found = importlib.metadata.PathDistribution(Path(file.path).parent)
                if wanted is None or _normal(found.metadata["Name"]) == _normal(wanted):
                    yield found

    def read(self, path: str) -> bytes:
        """Return the content of the measured file at `path`.

        Raises:
            ImportError: it is not a file of the role, or not as it was measured.
        """
        file = self._files.get(path)
        if file is None:
            raise ImportError(f"{path} is not a measured file of this role")
        content = Path(path).read_bytes()
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise ImportError(f"{path} was changed after it was measured: it is not run")
        return content


class _SourceLoader(importlib.machinery.SourceFileLoader):
    """Compiles a measured source file. Never looks for bytecode.

    (Without `override`, here and below: until 3.12 it is not in the standard library.)
    """

    finder: MeasuredFinder

    def get_data(self, path: str) -> bytes:  # type: ignore[explicit-override]
        return self.finder.read(path)

    def get_code(self, fullname: str) -> CodeType:  # type: ignore[explicit-override]
        path = self.get_filename(fullname)
        code: CodeType = compile(self.finder.read(path), path, "exec", dont_inherit=True)
        return code


class _ExtensionLoader(importlib.machinery.ExtensionFileLoader):
    """Loads a measured shared object."""

    finder: MeasuredFinder

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:  # type: ignore[explicit-override]
        self.finder.read(self.path)
        return super().create_module(spec)


def _importable(files: Iterable[Measured]) -> Iterator[tuple[tuple[int, int], str, Measured]]:
    """Yield (precedence, module name, file) for every file that is a module.

    The precedence is the interpreter's: by place, then packages before modules and extension
    modules before sources.
    """
    for file in files:
        root, _, rest = file.name.partition("/")
        suffix = next((end for end in (*_EXTENSIONS, ".py") if rest.endswith(end)), None)
        if root not in _ROOTS or suffix is None:
            continue
        name = rest.removesuffix(suffix).replace("/", ".")
        rank = (0 if _is_package(file) else 2) + (1 if suffix == ".py" else 0)
        yield (_ROOTS.index(root), rank), name.removesuffix(".__init__"), file


def _is_package(file: Measured) -> bool:
    return file.name.rpartition("/")[2].partition(".")[0] == "__init__"


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


def _namespace(name: str) -> importlib.machinery.ModuleSpec:
    spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = []
    return spec


def _normal(distribution: str) -> str:
    return distribution.lower().replace("-", "_").replace(".", "_")


def harden() -> None:
    """Die with the launcher; leave no core dump; let no other process of this user look inside."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        for option, value in ((_PR_SET_PDEATHSIG, signal.SIGKILL), (_PR_SET_DUMPABLE, 0)):
            if libc.prctl(option, value, 0, 0, 0) != 0:
                raise SystemExit("bootstrap: this process cannot be closed to others")


def take_channel() -> None:
    """Move the launcher's socket from standard input to `CHANNEL`, which no child inherits."""
    os.dup2(0, CHANNEL, inheritable=False)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null != CHANNEL:
        os.close(null)


def fetch_files() -> list[Measured]:
    """Return the files of the role, as the launcher measured them."""
    with socket.socket(fileno=os.dup(CHANNEL)) as channel:
        request = b'{"type":"files"}'
        channel.sendall(struct.pack(">I", len(request)) + request)
        reply = json.loads(_receive(channel, _length(_receive(channel, 4))))
    return [Measured(*entry) for entry in reply["files"]]


def _length(header: bytes) -> int:
    length: int = struct.unpack(">I", header)[0]
    if length > _MAX_REPLY_BYTES:
        raise SystemExit("bootstrap: the launcher's answer is too long")
    return length


def _receive(channel: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        part = channel.recv(size - len(content))
        if not part:
            raise SystemExit("bootstrap: the launcher is gone")
        content += part
    return content


def install(finder: MeasuredFinder) -> None:
    """Make `finder` the only way to import what is not compiled into the interpreter."""
    compiled_in = (importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter)
    sys.meta_path[:] = [*compiled_in, finder]
    sys.path[:] = []
    sys.path_hooks[:] = []
    sys.path_importer_cache.clear()


def main() -> int:
    """Run the role whose entry module is the argument; return its exit status."""
    entry = sys.argv[1]
    harden()
    take_channel()
    install(MeasuredFinder(fetch_files()))
    enclave = importlib.import_module("wardian.tee.backend").enter("simulated")
    status: int = importlib.import_module(entry).main(enclave)
    return status


if __name__ == "__main__":
    sys.exit(main())
