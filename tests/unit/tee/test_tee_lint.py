"""The manifest lint: what the host may decide is refused, on the right line, whatever the file is."""

import json
import random
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from wardian.cli.enclave.lint import lint as command
from wardian.cli.main import exit_status
from wardian.errors import ConfigError, FormatError
from wardian.tee.manifest import source
from wardian.tee.manifest.graphene import _TABLE, explain, gather
from wardian.tee.manifest.lint import decode_manifest, lint
from wardian.tee.manifest.schema import KEYS, Kind, walk

VECTORS = Path(__file__).parents[2] / "vectors" / "manifests"
PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "manifest-lint.md").read_text()
CLEAN = (VECTORS / "clean.manifest").read_text()
OLD_FORMS = ("graphene-redis-server.manifest.template", "graphene-bash-java.manifest.template")
ESCAPES = "\x1b[2J\x9b31m\u202e"


def found(text: str, *, name: str = "app.manifest") -> list[tuple[int, str]]:
    return [(each.line, each.rule) for each in lint(text, name=name)]


def line_of(text: str, part: str) -> int:
    assert text.count(part) == 1, part
    return text[: text.index(part)].count("\n") + 1


def changed(before: str, after: str) -> str:
    assert CLEAN.count(before) == 1, before
    return CLEAN.replace(before, after)


def test_clean_manifest_has_nothing_found():
    assert lint(CLEAN, name="clean.manifest") == ()


def test_every_fault_of_the_careless_manifest_is_found_on_its_line():
    text = (VECTORS / "careless.manifest").read_text()
    assert found(text) == [
        (2, "entrypoint"),
        (3, "pointer-check"),
        (4, "log-level"),
        (5, "argv"),
        (5, "insecure-key"),
        (7, "insecure-key"),
        (8, "host-environment"),
        (9, "untrusted-source"),
        (10, "host-signal"),
        (11, "insecure-key"),
        (12, "experimental-key"),
        (13, "debug"),
        (15, "root-mount"),
        (18, "root-mount"),
        (19, "root-mount"),
        (19, "system-mount"),
        (20, "shared-memory"),
        (20, "system-mount"),
        (21, "mount-key"),
        (22, "mount-key"),
        (23, "mount-key"),
        (25, "insecure-key"),
        (27, "product-id"),
        (27, "exinfo"),
        *((line, "debug") for line in (28, 29, 30, 31)),
        (32, "file-policy"),
        (33, "enclave-size"),
        (34, "threads"),
        (35, "insecure-key"),
        (36, "insecure-key"),
        (37, "attestation"),
        (39, "no-digest"),
        (40, "wildcard"),
        (41, "wildcard"),
        (42, "no-digest"),
        (42, "wildcard"),
        (45, "allowed-without-reason"),
        (46, "allowed-without-reason"),
        (48, "wildcard"),
        (49, "allowed-and-trusted"),
    ]
    severities = {each.rule: each.severity for each in lint(text, name="careless")}
    warnings = {rule for rule, severity in severities.items() if severity == "warning"}
    assert warnings == {"product-id", "exinfo", "no-digest"}


# One change of the clean manifest, and the one thing that is then found.
CHANGES = [
    ("debug = false", "debug = true", "debug"),
    ("debug = false", "profile.enable = 'main'", "debug"),
    ("debug = false", "insecure__allow_memfaults_without_exinfo = false", "insecure-key"),
    ("stack.size", "experimental__enable_flock = false\nstack.size", "experimental-key"),
    ('log_level = "error"', 'log_level = "warning"', "log-level"),
    ("debug = false", "file_check_policy = 'allow_all_but_log'", "file-policy"),
    ("disallow_subprocesses = true", "enable_sigterm_injection = true", "host-signal"),
    ('env.LANG = "C.UTF-8"', "env.LANG = { passthrough = true }", "host-environment"),
    ('env.LANG = "C.UTF-8"', "env.LANG = { passthrough = false }", "host-environment"),
    ('env.LANG = "C.UTF-8"', "env.LANG = {}", "host-environment"),
    ('env.LANG = "C.UTF-8"', 'argv_src_file = "file:/opt/scorer/score.py"', "argv"),
    ('remote_attestation = "dcap"', "", "attestation"),
    ('remote_attestation = "dcap"', 'remote_attestation = "none"', "attestation"),
    ('remote_attestation = "dcap"', 'remote_attestation = "epid"', "removed-key"),
    ('enclave_size = "4G"', 'enclave_size = "3G"', "enclave-size"),
    ('enclave_size = "4G"', 'enclave_size = "0"', "enclave-size"),
    ('enclave_size = "4G"', 'enclave_size = "4g"', "wrong-type"),  # the signing tool knows no "g"
    ('enclave_size = "4G"', "enclave_size = 4294967296", "wrong-type"),
    ("max_threads = 16", "max_threads = 3", "threads"),
    ("isvprodid = 7", "", "product-id"),
    ("isvprodid = 7", "isvprodid = 65536", "wrong-type"),
    ("isvprodid = 7", "isvprodid = true", "wrong-type"),
    ("use_exinfo = true", "use_exinfo = false", "exinfo"),
    ("isvsvn = 2", "isvsvm = 2", "unknown-key"),
    ("isvsvn = 2", "thread_num = 8", "removed-key"),
    ("isvsvn = 2", '"seal_key.flags_mask" = "0x1"', "unknown-key"),  # one name, not two
    ('path = "/opt/scorer", uri = "file:/opt/scorer"', 'path = "/opt/scorer"', "missing-key"),
    ('path = "/opt/scorer", uri = "file:/opt/scorer"', 'uri = "file:/opt/scorer"', "missing-key"),
    ('uri = "file:/opt/scorer" }', 'uri = "file:///" }', "root-mount"),
    ('uri = "file:/opt/scorer" }', 'uri = "file:/opt/.." }', "root-mount"),
    ('uri = "file:/opt/scorer" }', 'uri = "file:../../.." }', "root-mount"),
    ('uri = "file:/opt/scorer" }', 'uri = "file:/proc/self" }', "root-mount"),
    ('path = "/opt/scorer", uri', 'path = "/", uri', "root-mount"),
    ('uri = "file:/opt/scorer" }', 'uri = "file:/opt", key_name = "k" }', "unknown-key"),
    ('type = "tmpfs", path = "/tmp"', 'type = "shm", path = "/tmp"', "wrong-type"),
    ('key_name = "_sgx_mrenclave"', 'key_name = "_sgx_mrenclave2"', "mount-key"),
    ('key_name = "_sgx_mrenclave"', 'key_name = "default"', "mount-key"),
    (', key_name = "_sgx_mrenclave"', "", "mount-key"),
    ('"file:/run/scorer/progress"', '"file:/run/scorer/"', "wildcard"),
    ('"file:/run/scorer/progress"', '"file:/run"', "wildcard"),
    ('"file:/run/scorer/progress"', '"file:"', "wildcard"),
    ('"file:/run/scorer/progress"', '"file:.."', "wildcard"),
    ('"file:/run/scorer/progress"', '"file:/run/scorer/*"', "wildcard"),
    ('"file:/run/scorer/progress"', '"tcp:/run/scorer/progress"', "wrong-type"),
    ('"file:/run/scorer/progress"', '"file:/opt//scorer/score.py"', "allowed-and-trusted"),
    ('uri = "file:/opt/scorer/score.py"', 'uri = "dev:/opt/scorer/score.py"', "wrong-type"),
    ('uri = "file:/opt/scorer/score.py"', 'uri = "file:/opt/scorer/."', "wildcard"),
    ('"file:/run/scorer/progress"', '"file:/opt/scorer"', "wildcard"),
    ('"file:/run/scorer/progress"', '"file:/opt/scorer.so"', "allowed-code"),
    ('uri = "file:/opt/scorer/score.py"', 'uri = "file:/opt/./scorer/python3.11"', "trusted-twice"),
    ('entrypoint = "/opt/scorer/python3.11"', 'entrypoint = "/opt/scorer/python"', "entrypoint"),
    ('LANG = "C.UTF-8"', 'LD_PRELOAD = "/opt/scorer/x.so"', "preload"),
    ('path = "/tmp"', 'path = "/dev/attestation"', "system-mount"),
    ("isvsvn = 2", 'seal_key.flags_mask = "0x0"', "seal-key"),
    ("disallow_subprocesses = true", "allowed_ioctls = [{ request_code = 1 }]", "ioctl-without-reason"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "rule"), CHANGES)
def test_one_change_and_only_that_is_found(before, after, rule):
    text = changed(before, after)
    at = [line for line, name in found(text) if name == rule]
    assert found(text) == [(line, rule) for line in at]
    assert len(at) == 1
    if after:  # a missing key is told at the table around it
        first = CLEAN[: CLEAN.index(before)].count("\n") + 1
        assert first - 1 <= at[0] <= first + after.count("\n")


@pytest.mark.parametrize("name", ["brackets", "braces", "plain"])
def test_a_file_with_brackets_in_its_name_is_one_file(name):
    path = {"brackets": "/usr/bin/[", "braces": "/opt/{a}", "plain": "/opt/]x["}[name]
    assert found(changed("/run/scorer/progress", path)) == []


def test_a_variable_may_be_called_anything():
    assert found(changed("env.LANG", 'env."insecure__x.debug__y"')) == []


def test_edmm_needs_fewer_slots_and_no_preheating():
    edmm = changed("edmm_enable = false", "edmm_enable = true")
    assert found(edmm.replace("max_threads = 16", "max_threads = 1")) == []
    assert [rule for _, rule in found(edmm.replace("max_threads = 16", "max_threads = 0"))] == [
        "threads"
    ]
    assert [rule for _, rule in found(edmm.replace("isvsvn = 2", "preheat_enclave = true"))] == [
        "enclave-size"
    ]


@pytest.mark.parametrize(
    ("size", "instead"), [("1000M", "1G"), ("3G", "4G"), ("1", None), ("100K", "1M"), ("5G", "8G")]
)
def test_the_next_power_of_two_is_named(size, instead):
    told = lint(changed('enclave_size = "4G"', f'enclave_size = "{size}"'), name="m")
    assert [each.instead for each in told] == (
        [f'sgx.enclave_size = "{instead}"'] if instead else []
    )


@pytest.mark.parametrize("uri", ["file:/", "file:///", "file:/usr/..", "dev:/"])
def test_the_whole_machine_is_called_so(uri):
    told = lint(changed("file:/run/scorer/progress", uri), name="m")
    assert [each.message for each in told] == [f"{uri} is the whole machine"]


def test_arguments_have_exactly_one_source():
    argv = 'argv = ["python3.11", "-I", "-B", "/opt/scorer/score.py"]'
    assert [rule for _, rule in found(changed(argv, ""))] == ["argv"]
    assert [rule for _, rule in found(changed(argv, "argv = []"))] == ["argv"]
    trusted = 'argv_src_file = "file:/opt/scorer/score.py"'
    assert found(changed(argv, trusted)) == []
    assert [rule for _, rule in found(changed(argv, f"{argv}\n{trusted}"))] == ["argv"]
    assert [rule for _, rule in found(changed(argv, 'argv_src_file = "file:a"'))] == [
        "untrusted-source"
    ]


def test_empty_file_misses_everything_that_must_be_there():
    assert found("") == [
        (1, "missing-key"),
        (1, "missing-key"),
        (1, "argv"),
        (1, "product-id"),
        (1, "attestation"),
        (1, "exinfo"),
    ]


# Reasons: each entry has its own, and it is a comment.
UNREASONED = {
    "a reason in the text of the entry": ['"file:/a # reason: it says so"'],
    "an empty reason": ["# reason:", '"file:/a"'],
    "a reason of no words": ["# reason: …", '"file:/a"'],
    "another comment": ["# because", '"file:/a"'],
    "the reason of an entry that is commented out": ["# reason: gone", '# "file:/b",', '"file:/a"'],
    "a blank line between": ["# reason: gone", "", '"file:/a"'],
    "a reason above in a multi-line text": ['"""file:/b', '# reason: no"""', ', "file:/a"'],
    "a reason behind the end of another text": ['"""file:/b', '""" # reason: no', ', "file:/a"'],
    "two entries with one reason": ['"file:/a", "file:/b", # reason: both'],
    "two entries with one reason above": ["# reason: both", '"file:/a", "file:/b",'],
    "a line separator that is no line's end": ['"file:/b", # x \u2028# reason: y', '"file:/a"'],
}


@pytest.mark.parametrize("lines", UNREASONED.values(), ids=UNREASONED)
def test_what_is_no_reason(lines):
    text = CLEAN[: CLEAN.index("allowed_files = [")] + "allowed_files = [\n" + "\n".join(lines)
    text += "\n]\n"
    first = CLEAN[: CLEAN.index("allowed_files = [")].count("\n") + 2
    told = [line for line, rule in found(text) if rule == "allowed-without-reason"]
    entries = tomllib.loads(text)["sgx"]["allowed_files"]
    assert len(told) == len(entries)
    assert set(told) <= set(range(first, first + len(lines)))


def test_the_reason_of_one_entry_does_not_serve_the_next():
    text = changed(
        "  # reason: the program reports its progress here, and nothing reads it back\n",
        '  "dev:tty", # reason: it is asked for a word\n',
    )
    assert found(text) == [(line_of(text, "/run/scorer/progress"), "allowed-without-reason")]


def test_a_reason_may_take_lines_and_an_entry_its_header():
    text = changed(
        "  # reason: the program reports its progress here, and nothing reads it back\n",
        "  # Reason: the program reports its progress here,\n  # and nothing reads it back\n",
    )
    assert found(text) == []
    mount = (
        "\n# reason: the owner's broker hands the key out\n[[fs.mounts]]\ntype = 'encrypted'\n"
        "path = '/m'\nuri = 'file:m'\nkey_name = 'models' {}\n"
    )
    program = "\n[[fs.mounts]]\npath = '/opt/scorer'\nuri = 'file:/opt/scorer'\n"
    table = re.sub(r"mounts = \[\n(.*?)\n\]", "", CLEAN, flags=re.DOTALL) + program
    assert found(table + mount.format("")) == []
    alone = mount.replace("# reason: the owner's broker hands the key out\n", "")
    assert [rule for _, rule in found(table + alone.format(""))] == ["mount-key"]
    assert found(table + alone.format("# reason: the broker hands it out")) == []


def test_key_that_secret_provisioning_sets_needs_no_reason_but_default_does():
    def text(name: str) -> str:
        given = changed("_sgx_mrenclave", name)
        return given.replace('LANG = "C.UTF-8"', f'SECRET_PROVISION_SET_KEY = "{name}"')

    assert found(text("models")) == []
    assert [rule for _, rule in found(text("default"))] == ["mount-key"]
    assert [rule for _, rule in found(text("_sgx_platform"))] == ["mount-key"]


# Lines.
TRICKY = (
    r'''
top = """a
[not.a.table]
# reason: not a comment
b = \"""1""""
'quoted key' . "with \"part\"" = { x = [1, [2, 3]], y.z = 'a = b', }
'''.replace(", }", " }")
    + r"""
literal = '''
]] } # ' ''
'''
[a . "b c"]   # comment ]
when = 1979-05-27T07:32:00.5Z
float = 6.626e-34
list = [ # first
  "x", # ]
  { k = 1 },

  [ "y",
    'z' ],
]
[[t]]
n = 1
[[t.u]]
m = 1
[[t.u]]
m = 2
[t.v]
w = 3
[[t]]
n = 2
"""
)


def test_every_key_of_tricky_toml_has_its_line():
    manifest = source.parse_manifest(TRICKY, name="tricky")
    rows = TRICKY.split("\n")

    def descend(value, path):
        if path:
            assert path in manifest.lines, path
        if isinstance(value, dict):
            for name, inner in value.items():
                descend(inner, (*path, name))
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                descend(inner, (*path, index))

    descend(tomllib.loads(TRICKY), ())
    at = manifest.line
    assert rows[at(("quoted key", 'with "part"', "y", "z")) - 1].startswith("'quoted key'")
    assert rows[at(("a", "b c")) - 1].startswith("[a .")
    assert rows[at(("a", "b c", "list", 2, 1)) - 1].strip() == "'z' ],"
    assert rows[at(("a", "b c", "list", 1, "k")) - 1].strip() == "{ k = 1 },"
    assert [at(("t", 0, "u", index, "m")) for index in (0, 1)] == [
        rows.index("m = 1") + 1,
        rows.index("m = 2") + 1,
    ]
    assert rows[at(("t", 0, "v", "w")) - 1] == "w = 3"
    assert rows[at(("t", 1, "n")) - 1] == "n = 2"
    assert at(("nowhere",)) == 1


@pytest.mark.parametrize("seed", range(20))
def test_the_line_holds_whatever_stands_around_it(seed):
    """Comments, blank lines, multi-line texts and CRLF before a fault move its line, and no more."""
    dice = random.Random(seed)
    noise = ["", "# x = 1", "   ", "#[table]", 'env.N{} = """a\n# b\n"""', "env.N{} = '''\n]\n'''"]
    before = "\n".join(dice.choice(noise).format(number) for number in range(dice.randrange(1, 30)))
    text = changed('log_level = "error"', f'{before}\nlog_level = "trace"')
    expected = [(line_of(text, 'log_level = "trace"'), "log-level")]
    assert found(text) == expected
    assert found(text.replace("\n", "\r\n")) == expected


# The schema.
SAMPLES = {
    Kind.TEXT: ("x", [1, True, [], {}]),
    Kind.FLAG: (True, [1, "true", []]),
    Kind.COUNT: (8, [-1, True, "8", 2**63]),
    Kind.WHOLE: (-8, [True, "8"]),
    Kind.ID16: (65535, [-1, 65536, True, "1"]),
    Kind.SIZE: ("16M", [16, "16 M", "16T", "-1", "M", "1.5G"]),
    Kind.MASK: ("0xff", [255, "0xgg", ""]),
    Kind.DIGEST: ("ab" * 32, ["ab" * 31, "xy" * 32, 1]),
}


def tree_of(pattern: str, value):
    for part in reversed(pattern.split(".")):
        name = "anything" if part == "*" else part.removesuffix("[]")
        value = {name: [value] if part.endswith("[]") else value}
    return value


@pytest.mark.parametrize("pattern", KEYS)
def test_every_key_takes_its_type_and_no_other(pattern):
    key = KEYS[pattern]
    good, bad = (
        (key.choices[0], ["no such", 1, True])
        if key.choices
        else SAMPLES.get(key.kind, ([{"size": 4}], []))
    )

    def wrong(value):
        whole = {"fs": {"mounts": []}, "libos": {"entrypoint": "/x"}}
        root, inner = next(iter(tree_of(pattern, value).items()))
        whole[root] = {**whole.get(root, {}), **inner}
        return [each for each in walk(whole) if not each.missing]

    assert wrong(good) == []
    for value in bad:
        is_table_instead = pattern in {"loader.env.*", "sgx.trusted_files[]"} and value == {}
        assert bool(wrong(value)) is not is_table_instead, value


@pytest.mark.parametrize(
    "text",
    [
        "fs = 1",
        "fs.mounts = 1",
        "fs.mounts.a = 1",
        "sgx = []",
        "fs.mounts = [1]",
        "sgx.trusted_files = [1]",
    ],
)
def test_a_table_or_list_is_not_something_else(text):
    assert "wrong-type" in {rule for _, rule in found(text)}


def test_slip_of_a_key_is_told():
    told = lint(changed("max_threads", "max_thread"), name="m")
    assert [each.instead for each in told] == ["sgx.max_threads, if that is meant"]


# Graphene: every key is explained.
@pytest.mark.parametrize("name", OLD_FORMS)
def test_old_form_is_explained_key_by_key(name):
    text = (VECTORS / name).read_text()
    keys = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if line and not line.startswith("#"):
            keys[line.partition("=")[0].strip()] = number
    told = lint(text, name=name)
    explained = {each.key: each.line for each in told if each.rule == "graphene-key"}
    assert explained == keys
    assert len(keys) > 25
    assert (told[0].line, told[0].rule, told[0].severity) == (1, "graphene-manifest", "refusal")
    assert len(told) == len(keys) + 1
    assert all(each.message and each.instead for each in told)


def instead_of(name: str) -> dict[str, str]:
    return {each.key: each.instead for each in lint((VECTORS / name).read_text(), name=name)}


def test_values_of_the_old_server_are_translated():
    today = instead_of(OLD_FORMS[0])
    template = ", a template: `gramine-manifest -DNAME=VALUE` fills it in"
    arch = '{ path = "{{ arch_libdir }}", uri = "file:{{ arch_libdir }}" }'
    libc = 'sgx.trusted_files = ["file:{{ gramine.runtimedir() }}/libc.so.6"]'
    reason = ' with "# reason: …" above the entry'
    expected = {
        "loader.exec": 'libos.entrypoint = "/redis-server"',
        "loader.env.LC_ALL": 'loader.env.LC_ALL = "C"',
        "fs.mount.arch.type": f"fs.mounts = [{arch}]{template}",
        "fs.mount.etc.uri": 'fs.mounts = [{ path = "/etc", uri = "file:/etc" }]',
        "sys.brk.size": 'sys.brk.max_size = "32M"',
        "sgx.enclave_size": 'sgx.enclave_size = "1024M"',
        "sgx.thread_num": "sgx.max_threads = 8",
        "sgx.isvprodid": "sgx.isvprodid = 1",
        "sgx.debug": "sgx.debug = false",
        "sgx.require_avx": 'sgx.cpu_features.avx = "required"',
        "sgx.trusted_files.libc": f"{libc}{template}",
        "sgx.allowed_files.hosts": f'sgx.allowed_files = ["file:/etc/hosts"]{reason}',
    }
    assert {key: today[key] for key in expected} == expected
    gone = {"net.rules.1", "net.allow_bind.redis", "sgx.allow_file_creation", "sgx.rpc_thread_num"}
    assert all(today[key].startswith("nothing") for key in gone)


def test_values_of_the_old_shell_are_translated():
    today = instead_of(OLD_FORMS[1])
    input_mount = 'type = "encrypted", path = "/srv/input", uri = "file:/srv/input"'
    expected = {
        "loader.exec": 'libos.entrypoint = "/bin/bash"',  # through the mount of $(EXECDIR)
        "loader.argv0_override": 'loader.argv = ["bash"]',
        "sgx.protected_files.input": f'fs.mounts = [{{ {input_mount}, key_name = "default" }}]',
        "sgx.remote_attestation": 'sgx.remote_attestation = "dcap"',
    }
    assert {key: today[key] for key in expected} == expected
    for gone in ("sgx.trusted_children.java", "$(TRUSTED_CHILDREN)", "loader.env.LD_PRELOAD"):
        assert today[gone].startswith("nothing")


def test_the_narrowest_mount_says_where_a_file_lies_inside():
    mounts = {"fs.mount.b.uri": "file:/srv/app/", "fs.mount.b.path": "/app"}
    mounts |= {"fs.mount.a.uri": "file:/srv", "fs.mount.a.path": "/data/"}
    mounts |= {"fs.mount.c.uri": "file:/srv/ap", "fs.mount.c.path": "/no"}
    told = explain("loader.exec", "file:/srv/app/run", gather(mounts))
    assert told is not None
    assert told.today == 'libos.entrypoint = "/app/run"'
    told = explain("loader.exec", "file:/srv/apple", gather(mounts))
    assert told is not None
    assert told.today == 'libos.entrypoint = "/data/apple"'
    many = {f"fs.mount.m{n}.{part}": f"file:/{n}" for n in range(1500) for part in ("uri", "path")}
    assert len(gather(many).mounts) == 1000  # else a hostile file costs the square of its length


def test_what_an_old_manifest_left_to_the_host_is_refused():
    told = lint((VECTORS / OLD_FORMS[1]).read_text(), name="m")
    severity = {each.key: each.severity for each in told}
    assert severity["sgx.file_check_policy"] == "refusal"
    assert severity["loader.insecure__use_cmdline_argv"] == "refusal"
    assert severity["blob.server.port"] == "refusal"
    assert severity["sys.stack.size"] == "warning"


def test_every_key_of_the_form_of_2021_is_told():
    name = "graphene-2021.manifest"
    text = (VECTORS / name).read_text()
    told = lint(text, name=name)
    by_line = {each.line: each for each in told if each.rule == "removed-key"}
    by_line |= {each.line: each for each in told if each.rule == "wrong-type"}
    table = ""
    for number, line in enumerate(text.split("\n"), start=1):
        table = line.strip("[]") + "." if line.startswith("[") else table
        if " = " in line and not line.startswith("#") and "enclave_size" not in line:
            assert by_line[number].key == table + line.partition(" = ")[0]
    told_for = {each.key: each.instead for each in told}
    assert told_for["libos.entrypoint"] == 'libos.entrypoint = "/usr/bin/node"'
    assert told_for["sgx.isnsvn"] == "sgx.isvsvn = 3"
    assert told_for["sgx.require_pkru"] == 'sgx.cpu_features.pkru = "disabled"'
    assert told_for["sgx.disable_amx"] == 'sgx.cpu_features.amx = "disabled"'
    assert told_for["sgx.require_exinfo"] == "sgx.use_exinfo = true"


@pytest.mark.parametrize("pattern", _TABLE)
def test_every_old_key_is_known_under_each_of_its_names(pattern):
    names = re.search(r"\(([a-z0-9|]+)\)", pattern)
    for name in names[1].split("|") if names else ["x"]:
        key = re.sub(r"\([a-z0-9|]+\)", name, pattern).replace("(*)", "x")
        key = key.replace("**", "x.y").replace("*", "x")
        told = explain(key, "1", gather({key: "1"}))
        assert told is not None
        assert told.why
        assert "<" not in told.today
    assert explain(f"{key}x.never", "1", gather({})) is None or "**" in pattern


@pytest.mark.parametrize(
    "text",
    [
        'libos.entrypoint = "/bin/x\nsgx.debug = false\n',  # a forgotten quote is not an old file
        "sgx.debug = tru\n[sgx]\n",
        "sgx.max_threads =\nsgx.debug = false\n",
        "fs.mounts = [ x ]\nsgx.enclave_size = 1G\n",
        "word\nsgx.enclave_size = 1G\n",
        "sgx.enclave_size = 1G\x00\n",
        "= 1G\n",
    ],
)
def test_broken_toml_is_not_taken_for_graphene(text):
    with pytest.raises(FormatError, match=r"^m:[12]: not TOML"):
        lint(text, name="m")


# What cannot be judged.
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\nb = " + "[" * 17 + "]" * 17, 2),
        ("\n\na = " + "{b = " * 17 + "1" + "}" * 17, 3),
        ("x = 1\n" + ".".join("a" * 18) + " = 1", 2),
        ("x = 1\n[" + ".".join("a" * 18) + "]", 2),
        ("x = { " + ".".join("a" * 18) + " = 1 }", 1),
        ("\nx = " + "9" * 5000 + "\n\n", 2),
        ("\n\n\nx = [1,\n", 5),
        ("a = 1\na = 2", 2),
        ("a = '\x01'", 1),
        ("\ufeffa = 1", 1),
        ("[" * 100_000, 1),
        ('a = """' + "x\n" * 50, 51),
    ],
)
def test_malformed_text_ends_in_a_format_error_with_its_line(text, line):
    with pytest.raises(FormatError, match=rf"^evil:{line}: "):
        lint(text, name="evil")


def test_the_deepest_that_is_read_does_not_exhaust_the_stack():
    key = ".".join("a" * 16)
    deep = f"{{ {key} = " * 16 + "1" + " }" * 16
    assert (1, "unknown-key") in found(f"{key} = {deep}")


def test_dots_and_brackets_in_values_are_not_nesting():
    classpath = ":".join(f"/opt/lib-{n}.{n}.jar" for n in range(100))
    old = f"loader.exec = file:java\nloader.env.CLASSPATH = {classpath}\n"
    assert found(old)[0] == (1, "graphene-manifest")
    assert found(changed('"C.UTF-8"', f'"{"[{" * 50}{classpath}"')) == []


@pytest.mark.parametrize(
    ("raw", "line"), [(b"a = 1\n\nb = '\xff'", 3), (b"\x7fELF\x02\x01\x01\x80", 1)]
)
def test_binary_ends_in_a_format_error_with_its_line(raw, line):
    with pytest.raises(FormatError, match=rf"^evil:{line}: not text"):
        decode_manifest(raw, name="evil")


def test_size_is_bounded(monkeypatch):
    assert source.MAX_CHARS == 64 * 1024**2
    monkeypatch.setattr(source, "MAX_CHARS", len(CLEAN) - 1)
    with pytest.raises(FormatError, match="^big:1: "):
        lint(CLEAN, name="big")
    monkeypatch.undo()
    with pytest.raises(FormatError, match="^big:1: "):
        decode_manifest(b"#" * (64 * 1024**2 + 1), name="big")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ((VECTORS / "rendered-later.manifest.template").read_text(), 2),
        ("a = 1\n{% if x %}\nb = 1\n{% endif %}\n", 2),
        ("\n\n{# a note #}\na = 1", 3),
        ("sgx.trusted_files = [\n  {{ files }}\n]", 2),
    ],
)
def test_a_template_is_told_that_it_has_to_be_rendered(text, line):
    with pytest.raises(ConfigError, match=rf"^t:{line}: this is a template, and a rendered"):
        lint(text, name="t")


def test_a_placeholder_in_a_comment_is_none():
    assert found(CLEAN + "# {{ x }} {% y %}\n") == []


def judged(text: str) -> tuple[tuple[source.Finding, ...], str | None]:
    try:
        return lint(text, name="m"), None
    except (ConfigError, FormatError) as err:
        return (), str(err)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_manifests_end_in_findings_or_a_typed_error(data):
    name = data.draw(st.sampled_from(sorted(each.name for each in VECTORS.glob("*.manifest*"))))
    text = (VECTORS / name).read_text()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        upto = data.draw(st.integers(at, min(len(text), at + 40)))
        piece = data.draw(st.text(alphabet="[]{}\"'=,.#\\\n ab1\x1b\x9b\u2028é", max_size=8))
        text = text[:at] + piece + text[upto:]
    told, error = judged(text)
    if error is not None:
        assert re.match(r"m:\d+: ", error)
        assert error.isprintable()
    lines = text.count("\n") + 1
    assert all(1 <= each.line <= lines for each in told)
    assert all(f"{each.key}{each.message}{each.instead}".isprintable() for each in told)


# What is shown.
@pytest.mark.parametrize(
    "text",
    [
        changed('env.LANG = "C.UTF-8"', 'env."\\u001b[2J\\u202e" = { passthrough = true }'),
        changed('"file:/run/scorer/progress"', '"file:/run/\\u001b]0;x\\u0007/"'),
        changed('"file:/run/scorer/progress"', '"file:/run/\x9b2J/"'),
        changed("isvsvn = 2", '"\\u001b[2J" = 2'),
        changed("_sgx_mrenclave", "\\u001b[2J"),
        "loader.exec = file:x\nloader.env.X = a\x9b31m\u202eb\nsgx.\x9bkey = 1\n",
    ],
)
def test_no_finding_moves_the_cursor(text):
    told = lint(text, name=f"m{ESCAPES}")
    assert told
    for each in told:
        assert f"{each.key}{each.message}{each.instead}".isprintable()


@pytest.mark.parametrize("text", ["a = ", "a = '\x1b[2J'", "{{ x }}", "[a]\n[a]\n"])
def test_no_error_moves_the_cursor(text):
    with pytest.raises((ConfigError, FormatError)) as caught:
        lint(text, name=f"m{ESCAPES}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", sorted(each.name for each in VECTORS.glob("*.manifest*")))
def test_no_key_is_shown(name):
    text = (VECTORS / name).read_text()
    if "{{" in text:
        return
    shown = repr(lint(text, name=name))
    for secret in re.findall(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", text):
        assert secret not in shown


def test_a_value_of_megabytes_is_cut():
    told = lint(changed("/run/scorer/progress", "/" + "x" * 10**6 + "/"), name="m")
    assert [each.rule for each in told] == ["wildcard"]
    assert len(told[0].message) < 1100


# The command.
def run(tmp_path, text, *options):
    file = tmp_path / "app.manifest"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return CliRunner().invoke(command, [str(file), *options]), file


def test_command_ends_with_zero_if_nothing_is_refused(tmp_path):
    result, _ = run(tmp_path, CLEAN)
    assert (result.exit_code, result.stdout) == (0, "")
    result, file = run(tmp_path, changed("isvprodid = 7", ""))
    assert result.exit_code == 0
    table = line_of(CLEAN, "[sgx]\n")
    assert result.stdout.startswith(f"{file}:{table} product-id: sgx.isvprodid: ")
    assert result.stderr == "0 refused, 1 warnings\n"


def test_command_ends_with_three_and_a_line_for_each_finding(tmp_path):
    text = changed("debug = false", "debug = true")
    result, file = run(tmp_path, text)
    assert result.exit_code == 3
    assert result.stdout == (
        f"{file}:{line_of(text, 'debug = true')} debug: sgx.debug: the host reads the memory of a "
        "debug enclave; write sgx.debug = false\n"
    )


def test_command_prints_json(tmp_path):
    text = (VECTORS / "careless.manifest").read_text()
    result, _ = run(tmp_path, text, "--json")
    assert result.exit_code == 3
    told = json.loads(result.stdout)
    assert [(each["line"], each["rule"]) for each in told] == found(text)
    assert all(
        list(each) == ["line", "key", "rule", "severity", "message", "instead"] for each in told
    )
    clean, _ = run(tmp_path, CLEAN, "--json")
    assert (clean.exit_code, json.loads(clean.stdout)) == (0, [])


@pytest.mark.parametrize("text", [b"\xff", b"a = ", b"a = \x00", "a = {{ b }}", "[" * 50])
def test_command_ends_with_two_if_it_cannot_read(tmp_path, text):
    result, file = run(tmp_path, text)
    assert isinstance(result.exception, ConfigError)
    assert exit_status(result.exception) == 2
    assert str(result.exception).startswith(f"{file}:1: ")


def test_command_ends_with_two_if_used_wrongly(tmp_path):
    assert CliRunner().invoke(command, [str(tmp_path / "none")]).exit_code == 2
    assert CliRunner().invoke(command, [str(tmp_path)]).exit_code == 2
    assert CliRunner().invoke(command, []).exit_code == 2


def test_command_shows_no_escape_of_a_file_name(tmp_path):
    file = tmp_path / "m\x1b[2J"
    file.write_text(changed("debug = false", "debug = true"))
    result = CliRunner().invoke(command, [str(file)])
    assert result.stdout.startswith(f"{tmp_path}/m?[2J:")
    assert "\x1b" not in result.output


# The page.
def test_the_page_explains_every_rule_and_no_other():
    seen = {rule for each in VECTORS.glob("*.manifest") for _, rule in found(each.read_text())}
    seen |= {rule for name in OLD_FORMS for _, rule in found((VECTORS / name).read_text())}
    seen |= {rule for _, _, rule in CHANGES}
    rules = PAGE[PAGE.index("## Rules") : PAGE.index("### Signals")]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", rules, re.MULTILINE)) == seen


def test_the_page_lists_every_key_old_and_new():
    for pattern, key in KEYS.items():
        row = f"| `{pattern}` | {key.expectation()} | {key.default} | {key.note} |"
        assert row in PAGE.split("\n")
    for pattern, (_, why) in _TABLE.items():
        shown = pattern.replace("(*)", "*").replace("|", ", ")
        assert f"| `{shown}` | {why} |" in PAGE.split("\n")
