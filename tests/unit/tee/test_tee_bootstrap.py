"""The importer of a role: measured files or nothing."""

import hashlib
import importlib.machinery
import importlib.metadata
import py_compile
import shutil
import sys
import sysconfig
from importlib.util import module_from_spec
from pathlib import Path

import pytest

from wardian.tee.bootstrap import Measured, MeasuredFinder


class Files:
    """Files in a directory, and the finder over them as they were when it was made."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.listed: list[Measured] = []

    def add(self, name: str, content: str | bytes = "", *, listed: bool = True) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = content.encode() if isinstance(content, str) else content
        path.write_bytes(raw)
        if listed:
            self.listed.append(Measured(name, hashlib.sha256(raw).hexdigest(), str(path)))
        return path

    def load(self, name: str):
        spec = MeasuredFinder(self.listed).find_spec(name)
        if spec is None:
            return None
        module = module_from_spec(spec)
        if spec.loader is not None:
            spec.loader.exec_module(module)
        return module


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


def test_measured_module_and_package(files):
    files.add("app/one.py", "value = 1")
    files.add("app/pack/__init__.py", "value = 2")
    files.add("app/pack/inner.py", "value = 3")
    assert files.load("one").value == 1
    assert files.load("pack").value == 2
    assert files.load("pack").__path__ == [str(files.root / "app/pack")]
    assert files.load("pack.inner").value == 3


def test_unmeasured_module_does_not_exist(files):
    files.add("app/one.py", "value = 1")
    files.add("app/two.py", "value = 2", listed=False)
    files.add("config/three.py", "value = 3")
    assert files.load("two") is None
    assert files.load("three") is None


def test_changed_after_it_was_measured(files):
    path = files.add("app/one.py", "value = 1")
    path.write_text("value = 2")
    with pytest.raises(ImportError, match="changed after it was measured"):
        files.load("one")


def test_bytecode_is_never_read(files):
    path = files.add("app/one.py", "value = 1")
    poison = files.add("app/poison.py", "value = 666", listed=False)
    cache = path.parent / "__pycache__" / f"one.{sys.implementation.cache_tag}.pyc"
    py_compile.compile(
        str(poison),
        cfile=str(cache),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    py_compile.compile(str(poison), cfile=str(path.parent / "hidden.pyc"))
    plain = importlib.machinery.PathFinder.find_spec("one", [str(path.parent)])
    module = module_from_spec(plain)
    plain.loader.exec_module(module)
    assert module.value == 666  # what Python itself does: so the attack is real
    assert files.load("one").value == 1
    assert files.load("hidden") is None


def test_precedence_is_the_interpreters(files):
    files.add("site/twice.py", "value = 'site'")
    files.add("stdlib/twice.py", "value = 'stdlib'")
    files.add("app/both.py", "value = 'module'")
    files.add("app/both/__init__.py", "value = 'package'")
    assert files.load("twice").value == "stdlib"
    assert files.load("both").value == "package"


def test_namespace_package(files):
    files.add("site/space/deep/module.py", "value = 1")
    assert files.load("space").__path__ == []
    assert files.load("space.deep").__path__ == []
    assert files.load("space.deep.module").value == 1


def extension() -> Path:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    found = Path(sysconfig.get_config_var("DESTSHARED")) / f"_heapq{suffix}"
    if not found.exists():
        pytest.skip("this interpreter has no _heapq as a shared object")
    return found


def test_extension_module(files):
    source = extension()
    files.add(f"dynload/{source.name}", source.read_bytes())
    assert files.load("_heapq").heappush


def test_changed_extension_module_is_not_loaded(files):
    source = extension()
    path = files.add(f"dynload/{source.name}", source.read_bytes())
    path.write_bytes(source.read_bytes() + b"\0")
    with pytest.raises(ImportError, match="changed"):
        files.load("_heapq")


def test_data_of_a_package_is_measured_too(files):
    files.add("app/one.py")
    other = files.add("app/data.txt", "secret", listed=False)
    loader = MeasuredFinder(files.listed).find_spec("one").loader
    with pytest.raises(ImportError, match="not a measured file"):
        loader.get_data(str(other))


def test_version_of_a_measured_distribution(files):
    metadata = "Metadata-Version: 2.1\nName: Some-Thing\nVersion: 1.5\n"
    files.add("site/some_thing-1.5.dist-info/METADATA", metadata)
    files.add("site/other-2.dist-info/METADATA", "Name: other\n", listed=False)
    finder = MeasuredFinder(files.listed)
    context = importlib.metadata.DistributionFinder.Context
    assert [found.version for found in finder.find_distributions()] == ["1.5"]
    assert [found.version for found in finder.find_distributions(context(name="some.thing"))] == [
        "1.5"
    ]
    assert list(finder.find_distributions(context(name="other"))) == []


def test_whole_package_tree_is_found_under_its_own_names(files):
    import msgspec

    shutil.copytree(Path(msgspec.__file__).parent, files.root / "site" / "msgspec")
    for path in (files.root / "site").rglob("*.py"):
        files.add(str(path.relative_to(files.root)), path.read_bytes())
    finder = MeasuredFinder(files.listed)
    for name in ("msgspec", "msgspec.json", "msgspec.structs"):
        assert finder.find_spec(name).name == name
