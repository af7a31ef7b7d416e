"""Where a role's modules come from: the places that were measured, and there only what opens."""

import importlib.util
import py_compile
import subprocess
import sys
import sysconfig
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    PathFinder,
    SourceFileLoader,
)
from importlib.util import module_from_spec
from pathlib import Path

import pytest

from wardian.tee import bootstrap
from wardian.tee.bootstrap import RoleFinder
from wardian.tee.manifest.bytecode import compile_file


class Files:
    """A directory of sources, bytecode for the listed ones below a prefix, and the finder."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root / "src"
        self.prefix = root / "bytecode"
        monkeypatch.setattr(sys, "pycache_prefix", str(self.prefix))

    def add(self, name: str, content: str = "", *, listed: bool = True) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        if listed:
            target = Path(importlib.util.cache_from_source(str(path)))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(compile_file(path))
        return path

    def load(self, name: str, folder: str = ""):
        spec = RoleFinder(
            str(self.root / folder),
            (ExtensionFileLoader, EXTENSION_SUFFIXES),
            (SourceFileLoader, SOURCE_SUFFIXES),
        ).find_spec(name)
        if spec is None:
            return None
        module = module_from_spec(spec)
        if spec.loader is not None:
            spec.loader.exec_module(module)
        return module


@pytest.fixture
def files(tmp_path, monkeypatch):
    return Files(tmp_path, monkeypatch)


def test_listed_modules_and_packages(files):
    files.add("one.py", "value = 1")
    files.add("pack/__init__.py", "value = 2")
    assert files.load("one").value == 1
    assert files.load("pack").value == 2
    assert files.load("pack").__path__ == [str(files.root / "pack")]


def test_what_is_installed_beside_the_role_does_not_exist(files):
    files.add("other.py", "raise SystemExit(66)", listed=False)
    files.add("pack/__init__.py", "raise SystemExit(66)", listed=False)
    assert files.load("other") is None
    assert files.load("pack") is None
    assert files.load("nowhere") is None


def test_the_bytecode_runs_and_not_the_source(files):
    path = files.add("one.py", "value = 1")
    path.write_text("value = 666")
    assert files.load("one").value == 1


def test_other_bytecode_is_never_read(files):
    poison = files.add("poison.py", "value = 666", listed=False)
    py_compile.compile(str(poison), cfile=str(files.root / "hidden.pyc"))
    plain = PathFinder.find_spec("hidden", [str(files.root)])
    module = module_from_spec(plain)
    plain.loader.exec_module(module)
    assert module.value == 666  # what Python itself does: so the attack is real
    assert files.load("hidden") is None


def test_an_empty_directory_is_no_package(files):
    """The host can make directories beside the role's files, also under Gramine."""
    (files.root / "torch").mkdir(parents=True)
    assert files.load("torch") is None
    files.add("torch/module.py", "value = 1", listed=False)
    assert files.load("torch") is None
    lib = Path(sysconfig.get_config_var("DESTSHARED"))
    (files.root / "torch" / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}").symlink_to(
        next(iter(sorted(lib.glob("*.so"))), lib)
    )
    assert files.load("torch") is None


def test_a_directory_with_modules_of_the_role_is_a_package(files):
    """Some libraries have folders without `__init__.py`."""
    files.add("namespace/deeper/module.py", "value = 1")
    assert files.load("namespace").__path__ == [str(files.root / "namespace")]
    assert files.load("namespace.deeper", "namespace") is not None
    assert files.load("namespace.deeper.module", "namespace/deeper").value == 1


def test_an_extension_module(files):
    found = Path(sysconfig.get_config_var("DESTSHARED")) / (
        "_heapq" + sysconfig.get_config_var("EXT_SUFFIX")
    )
    if not found.exists():
        pytest.skip("this interpreter has no _heapq as a shared object")
    files.root.mkdir()
    (files.root / found.name).write_bytes(found.read_bytes())
    assert files.load("_heapq").heappush
    (files.root / found.name).unlink()
    assert files.load("_heapq") is None


def test_only_the_places_are_left(tmp_path):
    """In an interpreter of its own: no zip file, no path hook but ours, no relative prefix."""
    code = (
        "import sys; sys.argv = ['x']; "
        f"sys.path.insert(0, {str(Path(bootstrap.__file__).parent)!r}); import bootstrap; "
        "bootstrap.import_from(['/nowhere']); "
        "print(sys.path, len(sys.path_hooks), sys.pycache_prefix)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-X", "pycache_prefix=b", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout == f"['/nowhere'] 1 {tmp_path / 'b'}\n"


def test_a_role_that_no_launcher_started_ends(tmp_path):
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", bootstrap.__file__, "wardian.roles.worker"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "not started by a launcher" in done.stderr
