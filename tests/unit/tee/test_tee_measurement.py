"""What a measurement covers: one byte of any file of a role changes it, and nothing else does."""

import importlib.metadata
import py_compile
import shutil
import sys
from pathlib import Path

import pytest

import wardian
from wardian.errors import ConfigError
from wardian.tee import measurement
from wardian.tee.measurement import BOOTSTRAP, CONFIG, INTERPRETER, locate_role, measure_role
from wardian.tee.role_table import ROLES, RoleSpec

AGREED = b"[mesh]\n"
SPEC = RoleSpec(
    entry="wardian.errors",
    modules=("wardian.errors", "wardian._internal", "wardian.tee.bootstrap"),
    distributions=("msgspec",),
    product_id=77,
)
TINY = {"tiny": SPEC}


@pytest.fixture
def package(tmp_path) -> Path:
    copy = tmp_path / "elsewhere" / "wardian"
    shutil.copytree(
        Path(wardian.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__")
    )
    return copy


def measure(package=None, *, role="tiny", agreed=AGREED, roles=TINY):
    return measure_role(role, agreed=agreed, package=package, roles=roles)


def test_same_code_same_measurement_wherever_it_lies(package):
    here, there = measure(), measure(package)
    assert here == there
    assert here.mr_enclave == there.mr_enclave
    assert len(here.mr_enclave) == 32
    assert str(package) not in here.canonical().decode()
    assert str(Path(wardian.__file__).parent) not in here.canonical().decode()
    assert sys.prefix not in here.canonical().decode()


@pytest.mark.parametrize("role", sorted(ROLES))
def test_one_byte_of_any_own_file_changes_it(package, role):
    module = ROLES[role].entry.removeprefix("wardian.").replace(".", "/") + ".py"
    if not (package / module).exists():
        pytest.fail(f"the role table names {module}")
    before = measure_role(role, agreed=AGREED, package=package).mr_enclave
    for victim in (module, "__init__.py", "_internal/wire.py", "tee/bootstrap.py"):
        path = package / victim
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert measure_role(role, agreed=AGREED, package=package).mr_enclave != before, victim
        path.write_bytes(content)
    assert measure_role(role, agreed=AGREED, package=package).mr_enclave == before


def test_added_module_in_a_measured_package_changes_it(package):
    before = measure(package).mr_enclave
    (package / "_internal" / "extra.py").write_text("")
    assert measure(package).mr_enclave != before


def test_file_of_another_role_does_not_matter(package):
    before = measure(package).mr_enclave
    (package / "tee" / "launcher.py").write_text("raise SystemExit")
    (package / "new.py").write_text("raise SystemExit")
    assert measure(package).mr_enclave == before


def test_bytecode_does_not_matter(package):
    before = measure(package).mr_enclave
    py_compile.compile(str(package / "errors.py"))
    assert list(package.rglob("*.pyc"))
    (package / "_internal" / "hidden.pyc").write_bytes(b"junk")
    assert measure(package).mr_enclave == before


def test_everything_else_that_it_covers():
    base = measure()
    different = {
        "agreed": measure(agreed=AGREED + b"\n"),
        "name": measure(role="other", roles={"other": SPEC}),
        "product": measure(roles={"tiny": spec(product_id=78)}),
        "svn": measure(roles={"tiny": spec(svn=2)}),
        "environment": measure(roles={"tiny": spec(environment={"X": "1"})}),
        "entry": measure(roles={"tiny": spec(entry="wardian._internal.wire")}),
        "distribution": measure(roles={"tiny": spec(distributions=())}),
    }
    values = [base.mr_enclave, *(each.mr_enclave for each in different.values())]
    assert len(set(values)) == len(values)


def spec(**changes):
    fields = {
        "entry": SPEC.entry,
        "modules": SPEC.modules,
        "distributions": SPEC.distributions,
        "product_id": SPEC.product_id,
    }
    return RoleSpec(**(fields | changes))


def test_manifest_says_what_is_started():
    manifest = measure()
    assert manifest.argv == (
        INTERPRETER,
        "-I",
        "-S",
        "-B",
        "-X",
        "pycache_prefix=/dev/null/none",
        BOOTSTRAP,
        "wardian.errors",
    )
    assert "HOME" in manifest.env
    assert not {name for name in manifest.env if name.startswith(("PYTHON", "LD_"))}
    names = [file.path for file in manifest.files]
    assert names == sorted(names)
    assert {INTERPRETER, BOOTSTRAP, CONFIG} <= set(names)
    for present in ("stdlib/os.py", "stdlib/encodings/__init__.py", "site/msgspec/__init__.py"):
        assert present in names
    assert any(name.startswith("dynload/_socket.") for name in names)
    assert any(name.startswith("site/msgspec/_core.") for name in names)
    assert not [name for name in names if "/tests/" in name or "__pycache__" in name]
    assert not [name for name in names if name.startswith("stdlib/site-packages")]


def test_shared_interpreter_library_is_measured(monkeypatch, tmp_path):
    library = tmp_path / "libpython3.so"
    library.write_bytes(b"elf")
    monkeypatch.setattr(measurement, "_mapped_libpython", lambda: [library])
    assert "python/libpython3.so" in {file.path for file in measure().files}


def test_system_without_proc(monkeypatch):
    def absent(*_args, **_kwargs):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    assert measurement._mapped_libpython() == []


def test_added_file_in_the_standard_library_shows(tmp_path):
    (tmp_path / "lib-dynload").mkdir()
    (tmp_path / "test").mkdir()
    for name in ("os.py", "json.cpython-311.so", "hidden.pyc", "notes.txt", "test/x.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "lib-dynload" / "_ssl.so").write_text("")
    assert dict(measurement._stdlib_files(tmp_path)).keys() == {
        "stdlib/os.py",
        "stdlib/json.cpython-311.so",
        "stdlib/hidden.pyc",
        "dynload/_ssl.so",
    }


def test_file_beside_the_interpreter_that_steers_it_shows(monkeypatch, tmp_path):
    interpreter = tmp_path / "bin" / "python"
    interpreter.parent.mkdir()
    interpreter.write_bytes(b"elf")
    (tmp_path / "pyvenv.cfg").write_text("home = /evil")
    monkeypatch.setattr(sys, "executable", str(interpreter))
    names = dict(measurement._interpreter_files())
    assert names[INTERPRETER] == interpreter
    assert (tmp_path / "pyvenv.cfg") in names.values()
    (interpreter.parent / "python._pth").write_text("/evil")
    names = dict(measurement._interpreter_files())
    assert (interpreter.parent / "python._pth") in names.values()


def test_what_cannot_be_measured(package, monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="no role is called 'nobody'.*broker, frontend, worker"):
        measure_role("nobody", agreed=AGREED)
    with pytest.raises(ConfigError, match="needs not-there.*pip install"):
        measure(roles={"tiny": spec(distributions=("not-there",))})
    with pytest.raises(ConfigError, match="names wardian.nothing"):
        measure(roles={"tiny": spec(modules=("wardian.nothing",))})
    (package / "errors.py").unlink()
    (package / "errors.py").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"wardian\.errors|cannot be measured"):
        measure(package)
    (package / "_internal" / "wire.py").unlink()
    (package / "_internal" / "wire.py").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError, match="cannot be measured"):
        measure(package, roles={"tiny": spec(modules=("wardian._internal",))})


def test_distribution_without_a_record(monkeypatch):
    class Unrecorded:
        files = None

    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: Unrecorded)
    with pytest.raises(ConfigError, match="needs msgspec"):
        measure()


# --- the role table ------------------------------------------------------------------------------


def test_each_role_has_its_own_product_id():
    assert len({role.product_id for role in ROLES.values()}) == len(ROLES)


@pytest.mark.parametrize(
    ("role", "absent"),
    [
        ("broker", ("app/wardian/serving", "app/wardian/inference", "site/numpy", "site/openvino")),
        ("frontend", ("site/openvino", "app/wardian/inference/openvino")),
        ("worker", ("site/httptools",)),
    ],
)
def test_role_does_not_hold_what_it_does_not_need(role, absent):
    names = locate_role(role)
    never = ("app/wardian/tee/simulation", "app/wardian/tee/launcher", "app/wardian/cli")
    for prefix in (*absent, *never):
        assert not [name for name in names if name.startswith(prefix)], prefix
