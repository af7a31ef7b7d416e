"""What a manifest covers: one byte of anything that runs changes the measurement, nothing else does."""

import dataclasses
import hashlib
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from enclave_directory import AGREED, SPEC, TINY, build
from simulators.of_no_mesh import AGREED as OF_NO_MESH

import wardian
from wardian.errors import ConfigError
from wardian.tee.manifest import candidates, file_lists
from wardian.tee.manifest.builder import Builder
from wardian.tee.manifest.candidates import find_candidates
from wardian.tee.role_table import ROLES

KEEPER = OF_NO_MESH["keeper"].encode()


def agreed_of(role: str) -> bytes:
    """Return settings that a role of this kind agrees on."""
    return OF_NO_MESH[role].encode() if role in OF_NO_MESH else AGREED


@pytest.fixture
def package(tmp_path) -> Path:
    copy = tmp_path / "elsewhere" / "wardian"
    shutil.copytree(
        Path(wardian.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__")
    )
    return copy


def spec(**changes):
    return {"tiny": dataclasses.replace(SPEC, **changes)}


def test_the_same_twice_and_in_any_directory(tmp_path):
    first, again = build(tmp_path / "a"), build(tmp_path / "a")
    elsewhere = build(tmp_path / "b")
    assert first == again == elsewhere
    assert (tmp_path / "a" / "tiny.manifest").read_text() == elsewhere.text
    for built in (tmp_path / "a").rglob("*.pyc"):
        twin = tmp_path / "b" / built.relative_to(tmp_path / "a")
        assert twin.read_bytes() == built.read_bytes()
    assert str(tmp_path) not in first.text


SLOW = ((), (pytest.mark.slow,))


@pytest.mark.parametrize(
    "role", [pytest.param(role, marks=SLOW[role != "worker"]) for role in sorted(ROLES)]
)
def test_every_role_in_two_checkouts_at_the_same_path(package, tmp_path, role):
    before = Builder(tmp_path / "a", deployment=agreed_of(role), package=package).build(role)
    shutil.move(package, tmp_path / "kept")
    shutil.copytree(tmp_path / "kept", package)
    assert (
        Builder(tmp_path / "b", deployment=agreed_of(role), package=package).build(role) == before
    )


@pytest.mark.parametrize(
    "role", [pytest.param(role, marks=SLOW[role != "frontend"]) for role in sorted(ROLES)]
)
def test_one_byte_of_any_own_file_changes_it(package, tmp_path, role):
    module = ROLES[role].entry.removeprefix("wardian.").replace(".", "/") + ".py"
    before = Builder(tmp_path / "d", deployment=agreed_of(role), package=package).build(role)
    for victim in (module, "__init__.py", "_internal/wire.py", "tee/bootstrap.py"):
        path = package / victim
        content = path.read_bytes()
        path.write_bytes(content + b"\nX_ADDED = 1\n")
        after = Builder(tmp_path / "d", deployment=agreed_of(role), package=package).build(role)
        assert after.mr_enclave != before.mr_enclave, victim
        path.write_bytes(content)


def test_a_comment_in_a_compiled_source_shows_too(package, tmp_path):
    before = build(tmp_path / "d", package=package)
    path = package / "errors.py"
    path.write_bytes(path.read_bytes() + b"# a comment\n")
    assert build(tmp_path / "d", package=package).mr_enclave != before.mr_enclave


@pytest.mark.slow
def test_what_is_no_part_of_the_role_does_not_matter(package, tmp_path):
    before = build(tmp_path / "d", package=package)
    (package / "tee" / "launch" / "launcher.py").write_text("raise SystemExit")
    (package / "new.py").write_text("raise SystemExit")
    (package / "_internal" / "hidden.pyc").write_bytes(b"junk")
    assert build(tmp_path / "d", package=package) == before
    (package / "_internal" / "extra.py").write_text("")  # in a package that is named whole
    assert build(tmp_path / "d", package=package).mr_enclave != before.mr_enclave


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory) -> bytes:
    """The measurement of a small role as it is."""
    return build(tmp_path_factory.mktemp("unchanged")).mr_enclave


@pytest.mark.parametrize(
    "changed",
    [
        {"agreed": AGREED + b"\n"},
        {"roles": spec(product_id=78)},
        {"roles": spec(svn=2)},
        {"roles": spec(environment={"X": "1"})},
        {"roles": spec(entry="wardian._internal.wire")},
        {"roles": spec(distributions=())},
        {"roles": spec(heap_bytes=3 * 1024**3)},
        {"roles": spec(threads=9)},
        {"roles": spec(keeps_state=True)},
        {"roles": spec(allowed=())},
        {"edmm": True},
    ],
    ids=lambda changed: hashlib.sha256(repr(changed).encode()).hexdigest()[:8],
)
def test_everything_else_that_it_covers(tmp_path, unchanged, changed):
    assert build(tmp_path, **changed).mr_enclave != unchanged


@pytest.mark.slow
def test_the_agreed_settings_change_every_role_and_the_operator_s_none(tmp_path):
    """`operator.toml` is no input of a build at all; `wardian.toml` is one of each."""
    before = Builder(tmp_path / "a", deployment=AGREED)
    after = Builder(tmp_path / "b", deployment=AGREED.replace(b"1000000", b"1000001"))
    for role in ROLES:
        if ROLES[role].of_mesh:
            assert before.build(role).mr_enclave != after.build(role).mr_enclave
    keepers = [
        Builder(tmp_path / "c", deployment=terms).build("keeper").mr_enclave
        for terms in (KEEPER, KEEPER.replace(b"keeper", b"others"), b"")
    ]
    assert len(set(keepers)) == len(keepers)


def test_each_role_takes_the_settings_of_its_kind_alone(tmp_path):
    with pytest.raises(ConfigError, match="unknown field `mesh`"):
        Builder(tmp_path, deployment=AGREED).build("keeper")
    with pytest.raises(ConfigError, match="unknown field `service`"):
        Builder(tmp_path, deployment=KEEPER).build("broker")


def test_the_manifest_says_what_is_started(tmp_path):
    built = build(tmp_path, roles=spec(keeps_state=True))
    table = tomllib.loads(built.text)
    interpreter = str(Path(sys.executable).resolve())
    assert table["libos"]["entrypoint"] == interpreter
    argv = table["loader"]["argv"]
    assert argv[:8] == [
        *(interpreter, "-I", "-S", "-B", "-X", "utf8", "-X", "pycache_prefix=bytecode")
    ]
    assert argv[8].endswith("/wardian/tee/bootstrap.py")
    assert argv[9] == "wardian.errors"
    assert argv[10] == str(candidates.standard_library())
    assert not {name for name in table["loader"]["env"] if name.startswith("PYTHON")}
    sgx = table["sgx"]
    assert (sgx["debug"], sgx["remote_attestation"]) == (False, "dcap")
    assert (sgx["isvprodid"], sgx["isvsvn"], sgx["enclave_size"]) == (77, 1, "512M")
    assert table["fs"]["root"] == {"type": "tmpfs"}
    encrypted = [mount for mount in table["fs"]["mounts"] if mount.get("type") == "encrypted"]
    assert [mount["key_name"] for mount in encrypted] == ["_sgx_mrenclave"]
    assert "insecure__" not in built.text


def test_trusted_files_are_what_lies_there_and_all_of_it(tmp_path):
    built = build(tmp_path)
    files = tomllib.loads(built.text)["sgx"]["trusted_files"]
    assert len(files) == built.files == len({file["uri"] for file in files})
    assert [file["uri"] for file in files] == sorted(file["uri"] for file in files)
    total = 0
    for file in files:
        content = (tmp_path / file["uri"].removeprefix("file:")).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
        total += len(content)
    assert total == built.total_bytes
    uris = [file["uri"] for file in files]
    assert "file:wardian.toml" in uris
    assert any(uri.endswith("/libc.so.6") for uri in uris)
    assert any("/ld-linux" in uri for uri in uris)
    assert any(uri.startswith("file:bytecode/") and "/os.cpython" in uri for uri in uris)
    assert [uri for uri in uris if uri.endswith(".py")] == [
        f"file:{find_candidates('tiny', roles=TINY)['app/wardian/tee/bootstrap.py']}"
    ]


SMALL = {"job": (1900, 400_000)}
"""Files and bytes of a role that trains: scikit-learn and SciPy alone are a thousand."""


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_traced_role_is_small(tmp_path, role):
    if file_lists.load_lists() is None:
        pytest.skip(f"nobody has traced on such a machine yet: no {file_lists.list_name()}")
    built = Builder(tmp_path, deployment=agreed_of(role)).build(role)
    if not built.minimal:
        pytest.fail("the file list does not fit what is installed: run `make trace`, commit it")
    files, manifest_bytes = SMALL.get(role, (800, 200_000))
    assert len(built.text.encode()) <= manifest_bytes
    assert built.files < files


@pytest.mark.slow
def test_sizes_and_threads(tmp_path):
    def table(agreed: bytes, role: str = "worker", **options):
        return tomllib.loads(Builder(tmp_path, deployment=agreed, **options).build(role).text)[
            "sgx"
        ]

    small = table(AGREED)
    assert small["enclave_size"] == "1G"
    large = table(AGREED.replace(b"1000000", b"4000000000"))
    assert large["enclave_size"] == "16G"
    threads = table(AGREED + b"threads = 16\n")
    assert threads["max_threads"] == small["max_threads"] + 2 * 15  # of two engines, by default
    for count, more in ((1, 0), (16, 15)):
        one = table(AGREED + b'engine = "openvino"\nthreads = %d\n' % count)
        assert one["max_threads"] == small["max_threads"] - 1 + more
    assert table(AGREED + b"threads = 16\n", "broker") == table(AGREED, "broker") | {
        "trusted_files": table(AGREED + b"threads = 16\n", "broker")["trusted_files"]
    }
    assert table(AGREED, edmm=True)["max_threads"] == 1


def test_gramine_s_own_files_are_named_where_it_is_installed(tmp_path):
    gramine = tmp_path / "gramine"
    (gramine / "runtime" / "glibc").mkdir(parents=True)
    (gramine / "libsysdb.so").write_bytes(b"library OS")
    (gramine / "runtime" / "glibc" / "libc.so.6").write_bytes(b"patched")
    built = build(tmp_path / "d", gramine=gramine)
    assert built.patched_libc
    table = tomllib.loads(built.text)
    digest = hashlib.sha256(b"library OS").hexdigest()
    assert table["loader"]["entrypoint"] == {"uri": f"file:{gramine}/libsysdb.so", "sha256": digest}
    # Gramine looks nowhere else, neither for the loader nor for libraries: all of it is named.
    first, *rest = table["loader"]["env"]["LD_LIBRARY_PATH"].split(":")
    assert first == "/gramine-runtime"
    files = [Path(file["uri"].removeprefix("file:")) for file in table["sgx"]["trusted_files"]]
    libraries = [path for path in files if ".so" in path.name and "python" not in str(path)]
    outside = {path.parent for path in libraries} - {gramine / "runtime" / "glibc"}
    assert {str(path) for path in outside if path.is_absolute()} <= set(rest)
    assert f"file:{gramine}/runtime/glibc/libc.so.6" in [
        file["uri"] for file in table["sgx"]["trusted_files"]
    ]
    with pytest.raises(ConfigError, match=r"no libsysdb\.so"):
        build(tmp_path / "d", gramine=tmp_path)


def test_a_build_that_fails_leaves_the_last_one_whole(tmp_path):
    build(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="no role is called"):
        build(tmp_path, "nobody", agreed=AGREED + b"\n")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_link_out_of_the_directory_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "bytecode").symlink_to(victim)
    with pytest.raises(ConfigError, match="is a link out of"):
        build(tmp_path / "d")
    assert list(victim.rglob("*.pyc")) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"PYTHONHASHSEED": "1"},
        {"PYTHONOPTIMIZE": "2"},
        {"PYTHONDEVMODE": "1"},
        {"LC_ALL": "POSIX"},
        {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": "/nowhere"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_builder_s_environment_is_no_input(tmp_path, changes):
    assert in_another_interpreter(tmp_path, changes) == build(tmp_path).mr_enclave.hex()


def test_an_interpreter_that_compiles_otherwise_is_refused(tmp_path):
    told = in_another_interpreter(tmp_path, {"PYTHONNODEBUGRANGES": "1"})
    assert "PYTHONNODEBUGRANGES changes every measurement" in told


def in_another_interpreter(tmp_path, changes):
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\nfrom enclave_directory import build\n"
        "from wardian.errors import ConfigError\n"
        f"try: print(build(Path({str(tmp_path / 'other')!r})).mr_enclave.hex())\n"
        "except ConfigError as err: print(err)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/usr/bin:/bin", **changes},
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    return done.stdout.strip()


def test_what_cannot_be_built(package, tmp_path):
    with pytest.raises(
        ConfigError, match="no role is called 'nobody'.*broker, frontend, job, keeper, worker"
    ):
        Builder(tmp_path, deployment=AGREED).build("nobody")
    with pytest.raises(ConfigError, match="needs not-there.*pip install"):
        build(tmp_path, roles=spec(distributions=("not-there",)))
    with pytest.raises(ConfigError, match=r"names wardian\.nothing"):
        build(tmp_path, roles=spec(modules=("wardian.nothing",)))
    with pytest.raises(ConfigError, match=r"wardian\.toml"):
        build(tmp_path, agreed=b"[mesh]\n")
    (package / "errors.py").write_text("def broken(:\n")
    with pytest.raises(ConfigError, match=r"errors\.py: cannot be compiled"):
        build(tmp_path, package=package)
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        build(tmp_path / "taken" / "d")


def test_each_role_has_its_own_product_id():
    assert len({role.product_id for role in ROLES.values()}) == len(ROLES)


def test_no_role_resolves_names_or_trusts_the_host():
    for role in ROLES.values():
        assert all(file.reason for file in (*role.allowed, *role.kernel))
        assert all(not file.path.startswith("/etc") for file in role.kernel)


# What the lists do


def test_a_list_that_does_not_fit_is_not_used(monkeypatch):
    found = find_candidates("worker")
    lists = file_lists.load_lists()
    assert lists is not None
    assert file_lists.narrow("worker", ROLES["worker"], found)[1]
    for changed in (
        {"format": "another"},
        {"distributions": lists.distributions | {"numpy": "0.1"}},
        {"roles": {}},
        {"roles": lists.roles | {"worker": (*lists.roles["worker"], "stdlib/not_there.py")}},
    ):
        other = file_lists.FileLists(
            **({f: getattr(lists, f) for f in lists.__struct_fields__} | changed)
        )
        monkeypatch.setattr(file_lists, "load_lists", lambda other=other: other)
        assert file_lists.narrow("worker", ROLES["worker"], found) == (found, False)


def test_a_module_inside_another_interpreter_is_not_missed(monkeypatch):
    found = find_candidates("worker")
    lists = file_lists.load_lists()
    victim = next(name for name in lists.roles["worker"] if name.startswith("dynload/"))
    module = victim.removeprefix("dynload/").partition(".")[0]
    del found[victim]
    assert not file_lists.narrow("worker", ROLES["worker"], found)[1]
    monkeypatch.setattr(sys, "builtin_module_names", (*sys.builtin_module_names, module))
    assert file_lists.narrow("worker", ROLES["worker"], found)[1]


def test_a_file_beside_the_interpreter_that_steers_it_shows(monkeypatch, tmp_path):
    interpreter = tmp_path / "bin" / "python"
    interpreter.parent.mkdir()
    interpreter.write_bytes(b"elf")
    (tmp_path / "pyvenv.cfg").write_text("home = /evil")
    (interpreter.parent / "python._pth").write_text("/evil")
    monkeypatch.setattr(sys, "executable", str(interpreter))
    found = set(dict(candidates._interpreter_files()).values())
    assert found == {interpreter, tmp_path / "pyvenv.cfg", interpreter.parent / "python._pth"}


@pytest.mark.parametrize(
    ("role", "absent"),
    [
        (
            "broker",
            (
                *("app/wardian/serving/api", "app/wardian/serving/client", "app/wardian/serving/d"),
                *("app/wardian/serving/queue", "app/wardian/serving/worker"),
                *("app/wardian/inference", "site/numpy", "site/openvino"),
            ),
        ),
        ("frontend", ("site/openvino", "app/wardian/inference/openvino")),
        ("worker", ("site/httptools",)),
    ],
)
def test_a_role_does_not_hold_what_it_does_not_need(role, absent):
    names = find_candidates(role)
    never = ("app/wardian/tee/launch", "app/wardian/tee/manifest", "app/wardian/cli")
    for prefix in (*absent, *never):
        assert not [name for name in names if name.startswith(prefix)], prefix
