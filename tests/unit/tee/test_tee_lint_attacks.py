"""Manifests that defeat sealing or measurement, or that exhaust the lint: each is refused."""

import time
from pathlib import Path

import pytest

from wardian.errors import FormatError
from wardian.tee.manifest.canonical import parse_manifest
from wardian.tee.manifest.lint import lint

BASE = """
libos.entrypoint = "/usr/bin/python3"
loader.argv = ["python3"]
fs.root = { type = "tmpfs" }
sgx.remote_attestation = "dcap"
sgx.isvprodid = 3
sgx.use_exinfo = true
"""
DIGEST = "0" * 64
PYTHON = ('path = "/usr/bin/python3", uri = "file:/usr/bin/python3"',)
MAX_S = 2.0  # the attacks took 10 s and more; the square of their length is in it


def manifest(
    *,
    mounts: tuple[str, ...] = (),
    trusted: tuple[str, ...] = ("/usr/bin/python3",),
    allowed: tuple[str, ...] = (),
    more: str = "",
    base: str = BASE,
) -> str:
    lines = [base, more, "fs.mounts = ["]
    lines += [f"  {{ {mount} }}," for mount in (*PYTHON, *mounts)]
    lines += ["]", "sgx.trusted_files = ["]
    lines += [f'  {{ uri = "file:{path}", sha256 = "{DIGEST}" }},' for path in trusted]
    lines += ["]", "sgx.allowed_files = ["]
    lines += [f'  # reason: operations want it\n  "file:{path}",' for path in allowed]
    return "\n".join([*lines, "]", ""])


def rules(text: str) -> list[str]:
    return [each.rule for each in lint(text, name="m")]


def test_the_manifest_that_is_attacked_is_clean():
    assert rules(manifest()) == []
    assert (
        rules(manifest(allowed=("/run/progress",), mounts=('type = "tmpfs", path = "/tmp"',))) == []
    )


# What Gramine makes inside lies beneath the mounts: they cover it.
COVERING = [
    "/dev", "/dev/", "//dev", "/dev/.", "/x/../dev", "dev", "/dev/attestation",
    "/dev/attestation/keys", "/dev/attestation/keys/_sgx_mrenclave", "/dev/urandom", "/dev/shm",
    "/proc", "/proc/self", "/sys", "/sys/devices/system/cpu", "./sys", "../proc", "/../dev/null",
]  # fmt: skip


@pytest.mark.parametrize("path", COVERING)
@pytest.mark.parametrize("kind", ["chroot", "tmpfs", "encrypted"])
def test_no_mount_covers_what_gramine_makes(path, kind):
    rest = {"chroot": ', uri = "file:/opt/fake"', "tmpfs": ""}.get(
        kind, ', uri = "file:fake", key_name = "_sgx_mrenclave"'
    )
    assert rules(manifest(mounts=(f'type = "{kind}", path = "{path}"{rest}',))) == ["system-mount"]


def test_a_public_file_does_not_become_the_sealing_key():
    keys = 'path = "/dev/attestation/keys", uri = "file:/opt/keys"'
    known = manifest(mounts=(keys,), trusted=("/usr/bin/python3", "/opt/keys/_sgx_mrenclave"))
    chosen = manifest(mounts=(keys,), allowed=("/opt/keys/_sgx_mrenclave",))
    assert rules(known) == rules(chosen) == ["system-mount"]


@pytest.mark.parametrize("path", ["/devices", "/process", "/opt/dev", "/opt/sys", "/x/../opt"])
def test_a_mount_beside_them_is_none_of_them(path):
    assert rules(manifest(mounts=(f'path = "{path}", uri = "file:/srv/a"',))) == []


@pytest.mark.parametrize("path", ["/.", "//", "///", "/x/..", "", ".", "/../..", "x/.."])
def test_a_mount_over_the_root_is_told_however_it_is_written(path):
    text = manifest(mounts=(f'path = "{path}", uri = "file:/srv"',))
    assert "root-mount" in rules(text)
    assert set(rules(text)) <= {"root-mount", "entrypoint"}  # the root hides the program


# The program is measured.
@pytest.mark.parametrize(
    "mounts",
    [
        ('path = "/usr/bin/python3", uri = "file:/opt/prog"',),
        ('path = "/usr/bin", uri = "file:/opt"',),
        ('path = "/usr/bin/../bin/", uri = "file:/opt"',),
        ('type = "tmpfs", path = "/usr"',),
        ('type = "encrypted", path = "/usr", uri = "file:e", key_name = "_sgx_mrenclave"',),
    ],
)
def test_the_last_mount_over_the_program_counts(mounts):
    assert rules(manifest(mounts=mounts)) == ["entrypoint"]
    assert rules(manifest(mounts=mounts, allowed=("/opt/prog", "/opt/python3"))) == ["entrypoint"]


@pytest.mark.parametrize(
    ("entrypoint", "root", "trusted"),
    [
        ("/app/run", '{ uri = "file:/srv" }', "/srv/app/run"),
        ("/app/run", '{ uri = "file:/" , type = "chroot" }', "/app/run"),
        ("run", '{ uri = "file:/srv" }', "/srv/run"),
        ("/run", "", "run"),  # without a root it is the directory where Gramine is started
    ],
)
def test_the_program_lies_in_the_root_where_no_mount_holds_it(entrypoint, root, trusted):
    base = BASE.replace("/usr/bin/python3", entrypoint)
    base = base.replace('fs.root = { type = "tmpfs" }', f"fs.root = {root}" if root else "")
    told = set(rules(manifest(base=base, trusted=(trusted, "/usr/bin/python3"))))
    assert told <= {"root-mount"}
    told = set(rules(manifest(base=base, trusted=(f"{trusted}x", "/usr/bin/python3"))))
    assert told - {"root-mount"} == {"entrypoint"}


def test_a_relative_program_begins_at_the_start_directory():
    base = BASE.replace("/usr/bin/python3", "python3")
    assert rules(manifest(base=base, more='fs.start_dir = "/usr/bin"')) == []
    assert rules(manifest(base=base, more='fs.start_dir = "/usr"')) == ["entrypoint"]


def test_a_program_that_the_host_may_change_is_refused_although_trusted():
    assert rules(manifest(allowed=("/usr/bin//python3",))) == ["entrypoint", "allowed-and-trusted"]
    assert rules(manifest(trusted=())) == ["entrypoint"]
    assert rules(manifest(trusted=(), allowed=("/usr/bin/python3",))) == ["entrypoint"]


@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_AUDIT"])
@pytest.mark.parametrize("form", ['"{}"', '{{ value = "{}" }}'])
@pytest.mark.parametrize(
    ("value", "is_refused"),
    [
        ("/h/x.so", False),
        ("", False),
        ("/h/x.so:/h/../h/x.so", False),
        ("/h/y.so", True),
        ("/h/x.so /h/y.so", True),
        ("/h/x.so:/h/y.so", True),
        ("x.so", True),  # looked for in directories
        ("$ORIGIN/x.so", True),
        ("/g/x.so", True),
    ],
)
def test_what_the_loader_puts_before_the_program_is_trusted(name, form, value, is_refused):
    text = manifest(
        mounts=('path = "/h", uri = "file:/srv/h"',),
        trusted=("/usr/bin/python3", "/srv/h/x.so"),
        more=f"loader.env.{name} = {form.format(value)}",
    )
    assert rules(text) == (["preload"] if is_refused else [])


def test_the_many_libraries_of_a_hostile_manifest_are_not_all_looked_for():
    names = [f"/h/{number}" for number in range(3000)]
    text = manifest(
        mounts=(
            *tuple(f'path = "/m{number}", uri = "file:/srv/{number}"' for number in range(3000)),
            'path = "/h", uri = "file:/h"',
        ),
        trusted=("/usr/bin/python3", *names),
        more=f'loader.env.LD_PRELOAD = "{":".join(names)}"',
    )
    start = time.process_time()
    assert rules(text) == ["preload"]
    assert time.process_time() - start < 2 * MAX_S


def test_an_allowed_library_is_not_loaded_first():
    text = manifest(
        mounts=('path = "/h", uri = "file:/srv/h"',),
        allowed=("/srv/h/tuning",),
        more='loader.env.LD_PRELOAD = "/h/tuning"',
    )
    assert rules(text) == ["preload"]


# What is allowed is one file, and no code.
@pytest.mark.parametrize(
    "path",
    [
        "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/python3",
        "/usr/lib64/../lib/python3", "/usr/lib/python3.11", "/usr/local/lib/python3.11",
        "/usr/lib/python3/dist-packages", "/usr/lib/python3.11/lib-dynload", "/etc/ssl",
        "/etc/ssl/certs", "/etc/ld.so.conf.d", "/usr/local/bin", "/usr/libexec", "/usr/lib/jvm",
        "../../../../usr/lib", "../../etc",
    ],
)  # fmt: skip
def test_a_directory_of_the_system_is_known(path):
    assert rules(manifest(allowed=(path,))) == ["wildcard"]


@pytest.mark.parametrize(
    ("allowed", "beneath"),
    [
        (("/opt/app",), {"trusted": ("/usr/bin/python3", "/opt/app/main")}),
        (("/opt/app",), {"mounts": ('path = "/m", uri = "file:/opt//app/models"',)}),
        (("/opt/app", "/opt/app/log"), {}),
        (("app",), {"trusted": ("/usr/bin/python3", "./app/main")}),
        (("app/",), {"trusted": ("/usr/bin/python3", "./app/main")}),
        (("out/", "out/log"), {}),
        (("state/",), {"mounts": ('path = "/m", uri = "file:state/inner"',)}),
        (("state/",), {"mounts": ('path = "/m", uri = "file:state"',)}),
        (("../out/",), {}),
        (("out/in/",), {}),
        (("/usr/bin/../bin/.",), {}),
    ],
)
def test_what_has_files_beneath_it_is_a_directory(allowed, beneath):
    assert rules(manifest(allowed=allowed, **beneath)) == ["wildcard"]


def test_a_folder_of_the_role_s_own_may_be_allowed_for_what_nobody_knows_yet():
    assert rules(manifest(allowed=("out/", "tables/"), trusted=PYTHON_ONLY)) == []


def test_a_name_that_begins_as_another_is_no_directory_of_it():
    text = manifest(allowed=("/opt/app", "/opt/app2/log", "/opt/app-log"), trusted=PYTHON_ONLY)
    assert rules(text) == []


PYTHON_ONLY = ("/usr/bin/python3",)


@pytest.mark.parametrize(
    "path",
    [
        "wardian.toml", "/etc/wardian/wardian.toml", "/srv/h/x.so", "/usr/lib/libc.so.6",
        "/usr/lib/ld-linux-x86-64.so.2", "/opt/main.py", "/opt/main.cpython-311.pyc", "/opt/a.pth",
        "/opt/python311.zip", "/opt/a.jar",
    ],
)  # fmt: skip
def test_code_and_the_agreed_settings_are_not_allowed_files(path):
    assert rules(manifest(allowed=(path,))) == ["allowed-code"]


@pytest.mark.parametrize("second", ["/usr//bin/python3", "/usr/bin/./python3", "//usr/bin/python3"])
def test_a_file_is_trusted_once(second):
    assert rules(manifest(trusted=("/usr/bin/python3", second))) == ["trusted-twice"]


# Sealing and the host's devices.
@pytest.mark.parametrize(
    ("name", "default"),
    [("flags", "0xffffffffffffffff"), ("xfrm", "0xfffffffffff9ff1b"), ("misc", "0xffffffff")],
)
def test_the_sealing_key_depends_on_all_that_it_does_by_default(name, default):
    def told(mask: str) -> list[str]:
        return rules(manifest(more=f'# reason: x\nsgx.seal_key.{name}_mask = "{mask}"'))

    assert told("0x0") == ["seal-key"]
    assert told("0xfffffffe") == ["seal-key"]
    assert told(default) == told(default[2:].upper()) == []


def test_each_device_request_has_its_reason():
    text = manifest(more="sys.ioctl_structs.x = [{ size = 4096, direction = 'out' }]\n{}")
    entry = "sys.allowed_ioctls = [{}{{ request_code = 1, struct = 'x' }}]"
    assert rules(text.replace("{}", entry.format(""))) == ["ioctl-without-reason"]
    assert rules(text.replace("{}", entry.format("\n# reason: the clock is asked for\n"))) == []


# Values of a wrong type.
@pytest.mark.parametrize("value", ['["x"]', "{ a = 1 }", "1", "[[]]", "1979-05-27", "1.5"])
@pytest.mark.parametrize(
    "key",
    [
        "loader.argv_src_file", "loader.env_src_file", "loader.env.LD_PRELOAD", "fs.start_dir",
        "sgx.seal_key", "sgx.seal_key.flags_mask", "sys.allowed_ioctls", "sgx.allowed_files",
        "sgx.trusted_files", "fs.root", "fs.root.type", "fs.root.uri", "fs.mounts",
        "libos.entrypoint", "loader.entrypoint", "sgx.profile.enable", "fs.root.key_name",
    ],
)  # fmt: skip
def test_a_wrong_type_is_a_finding_and_no_traceback(key, value):
    rows = [
        row for row in BASE.split("\n") if not row.startswith(key.rpartition(".root")[0] or key)
    ]
    assert lint("\n".join(rows) + f"\n{key} = {value}\n", name="m")


@pytest.mark.parametrize("value", ['["chroot"]', "[]", "{}", "1", "{ a = 1 }", "true"])
@pytest.mark.parametrize("key", ["type", "uri", "path", "key_name"])
def test_a_wrong_type_in_a_mount_is_a_finding(key, value):
    rest = {
        "path": '"/a"',
        "uri": '"file:/a"',
        "type": '"encrypted"',
        "key_name": '"k"',
        key: value,
    }
    for left_out in ("", "uri", "path", "type"):
        mount = ", ".join(f"{name} = {each}" for name, each in rest.items() if name != left_out)
        assert "wrong-type" in rules(manifest(mounts=(mount,))) or left_out == key


# Time.
SLOW = {
    "an open text": '"""\n' + '\\"""\n' * 16_000,
    "an open literal": "'''\n" + "\\'''\n" * 16_000,
    "open texts of one line": '"' + '\\"' * 60_000,
    "open texts behind a value": 'a = 1\nb = """' + '\\"""' * 30_000,
    "old form with an open text": "loader.exec = file:x\nloader.env.X = a" + '\\"' * 40_000,
}


@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW)
def test_a_text_that_is_not_closed_costs_no_square_of_its_length(text):
    start = time.process_time()
    try:
        lint(text, name="m")
    except FormatError as err:
        assert str(err).startswith("m:")  # noqa: PT017 (the old form is no error)
    assert time.process_time() - start < MAX_S


@pytest.mark.parametrize(
    "piece", ["../", "x/", "a.so.1", "-linux-gnu", "python3/", "[", "./", "//"]
)
def test_a_long_path_costs_no_square_of_its_length(piece):
    path = "/usr/lib/" + piece * 60_000 + "x"
    start = time.process_time()
    rules(manifest(allowed=(path, path[9:]), mounts=(f'path = "{path}", uri = "file:{path}"',)))
    assert time.process_time() - start < MAX_S


KEYS = {
    "a key": "a." * 30_000 + "a = 1\n",
    "a table": "[" + "a." * 30_000 + "a]\n",
    "an array of tables": "[[" + "a . " * 30_000 + "a]]\n",
    "an inline table": "x = {" + "'a'." * 30_000 + "a = 1}\n",
    "behind a text": 'x = """\n"""\n' + "a." * 30_000 + "a = 1\n",
}


@pytest.mark.parametrize("text", KEYS.values(), ids=KEYS)
def test_a_key_of_many_parts_is_refused_before_it_is_read(text):
    start = time.process_time()
    with pytest.raises(FormatError, match="nested deeper than 16"):
        parse_manifest(text)
    assert time.process_time() - start < MAX_S


def test_dots_in_a_value_are_not_counted_as_a_key():
    path = ":".join(f"/opt/lib-{n}.{n}.so" for n in range(40))
    table = parse_manifest(f'x = "{path}"\ny = """\n{path}"""\nz = ["{{{{ a }}}}"]\n')
    assert table == {"x": path, "y": path, "z": ["{{ a }}"]}


def test_open_text_is_told_with_its_line():
    with pytest.raises(FormatError, match=r"^m:\d+: not TOML"):
        lint('a = """' + '\\"""\n' * 3, name="m")


def test_wardians_own_files_are_not_what_the_lint_calls_code():
    table = Path(__file__).parents[3] / "src" / "wardian" / "tee" / "role_table.py"
    assert '"host.json"' in table.read_text()
    assert rules(manifest(allowed=("host.json",), mounts=('path = "/w", uri = "file:."',))) == []
