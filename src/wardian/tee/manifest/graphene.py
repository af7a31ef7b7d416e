"""Manifests of Graphene, before it became Gramine: how to read one, and where each key went.

Until the end of 2020 a manifest was no TOML but lines `key = value` with values mostly unquoted and
`$(NAME)` for what the build filled in. From then until 2024 Gramine renamed or removed keys one by
one. Source: gramineproject/graphene and gramineproject/gramine, Documentation/manifest-syntax.rst
and their history; the month is that of the change, "removed" that of the end of its grace period.
"""

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from wardian.tee.manifest.schema import quote


@dataclass(frozen=True, slots=True)
class OldKey:
    """One line of an old manifest. `key` is the macro itself where a line holds nothing else."""

    line: int
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Others:
    """What a translation needs to know of the other keys of the file."""

    values: Mapping[str, str]
    mounts: tuple[tuple[str, str], ...]
    """Path on the host without a trailing slash, and path inside; the longest first."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a key went. `today` is what to write for it now, empty where nothing is."""

    today: str
    why: str


_LINE = re.compile(
    r"""
    \s* (?P<key> [^\s=.#"'\[\]{}()$]+ (?: \. [^\s=.#"'\[\]{}()$]+ )+ ) \s* = \s*
    (?: "(?P<quoted> [^"]* )" | (?P<bare> [^"'\s\#][^\#]* | ) ) \s* (?: \#.* )?
    """,
    re.VERBOSE,
)
_MACRO = re.compile(r"\$\(([A-Za-z_]\w*)\)")
_TOML_VALUE = re.compile(r"true|false|[+-]?[0-9][0-9_.]*")
_TOML_BRACKETS: Final = ("[", "{")
_MOUNT_URI = re.compile(r"fs\.mount\.([^.]+)\.uri")
_MAX_MOUNTS: Final = 1000  # further ones change no path: nobody has so many


def parse_graphene(text: str) -> tuple[OldKey, ...] | None:
    """Return the keys of a manifest in the form of before 2021, or None if it is not one.

    One it is if every line is `key = value`, a macro, a comment or blank, and at least one value
    is written as TOML could not be.
    """
    found, old = [], False
    for number, line in enumerate(text.split("\n"), start=1):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        if any(ord(char) < 32 and char != "\t" for char in bare):
            return None
        if _MACRO.fullmatch(bare):
            found.append(OldKey(number, bare, ""))
            old = True
            continue
        match = _LINE.fullmatch(bare)
        if match is None:
            return None
        value = match["quoted"] if match["quoted"] is not None else match["bare"].strip()
        if match["quoted"] is None and value and not _TOML_VALUE.fullmatch(value):
            if value.startswith(_TOML_BRACKETS) and not match["key"].startswith("net."):
                return None
            old = True
        found.append(OldKey(number, match["key"], value))
    return tuple(found) if old else None


def gather(values: Mapping[str, str]) -> Others:
    """Return what `explain` needs to know of a file with these keys; a mount, say, is three."""
    mounts: list[tuple[str, str]] = []
    for key, uri in values.items():
        named = _MOUNT_URI.fullmatch(key)
        path = values.get(f"fs.mount.{named[1]}.path", "") if named else ""
        host = uri.removeprefix("file:").rstrip("/")
        if path and host and len(mounts) < _MAX_MOUNTS:
            mounts.append((host, path.rstrip("/")))
    return Others(values, tuple(sorted(mounts, key=lambda mount: -len(mount[0]))))


def explain(key: str, value: str, others: Others) -> Explanation | None:
    """Return where `key` went, or None if it never was a key or still is one.

    Args:
        key: dotted, or a macro.
        value: as text, `true` and `false` for a TOML boolean.
        others: what `gather` made of the whole file.
    """
    if _MACRO.fullmatch(key):
        return Explanation("", "the build put lines here: list what they named, one by one")
    row = _ANY_ROW.fullmatch(key)
    if row is None:
        return None
    pattern, today, why = _ROWS[row.lastgroup or ""]
    match = pattern.fullmatch(key)
    name = match[1] if match and pattern.groups else ""
    written = today(name, value, others) if callable(today) else _fill(today, value)
    return Explanation(written, why)


def fill_macros(value: str) -> str:
    """Return `value` with Jinja's placeholders, which `gramine-manifest` fills in, for macros."""
    value = re.sub(r"\$\(GRAPHENEDIR\)/Runtime\b", "{{ gramine.runtimedir() }}", value)
    return _MACRO.sub(lambda macro: "{{ " + macro[1].lower() + " }}", value)


Translate = Callable[[str, str, Others], str]
"""Takes the name in the key, the value and the rest of the file; gives what to write today."""


def _fill(today: str, value: str) -> str:
    plain = fill_macros(value)
    written = {"<value>": quote(plain), "<n>": plain}
    return re.sub("<value>|<n>", lambda slot: written[slot[0]], today)


def _inside(uri: str, others: Others) -> str:
    """Return the path inside that the file `uri` of the host has by the mounts of the file."""
    host = uri.removeprefix("file:")
    for root, path in others.mounts:
        if f"{host}/".startswith(f"{root}/"):
            return fill_macros(path + host[len(root) :])
    if host.startswith(("/", "$(")):
        return fill_macros(host)
    return fill_macros(posixpath.join("/", posixpath.normpath(host)))  # the root was the directory


def _entrypoint(_name: str, value: str, others: Others) -> str:
    return f"libos.entrypoint = {quote(_inside(value, others))}"


def _mount(name: str, _value: str, others: Others) -> str:
    parts = {part: others.values.get(f"fs.mount.{name}.{part}") for part in ("type", "path", "uri")}
    if parts["type"] == "chroot":
        del parts["type"]
    fields = [f"{part} = {quote(fill_macros(text))}" for part, text in parts.items() if text]
    return f"fs.mounts = [{{ {', '.join(fields)} }}]"


def _protected(key_name: str) -> Translate:
    def today(_name: str, value: str, others: Others) -> str:
        path, uri = quote(_inside(value, others)), quote(fill_macros(value))
        return (
            f'fs.mounts = [{{ type = "encrypted", path = {path}, uri = {uri}, '
            f'key_name = "{key_name}" }}]'
        )

    return today


def _feature(name: str, value: str, _others: Others) -> str:
    absent = "disabled" if name in {"mpx", "pkru"} else "unspecified"
    state = "required" if value in {"1", "true"} else absent
    return f'sgx.cpu_features.{name} = "{state}"'


def _disabled(name: str, value: str, _others: Others) -> str:
    return f'sgx.cpu_features.{name} = "disabled"' if value in {"1", "true"} else ""


def _flag(key: str) -> Translate:
    def today(_name: str, value: str, _others: Others) -> str:
        return f"{key} = {'true' if value in {'1', 'true'} else 'false'}"

    return today


_CHILDREN = (
    "removed 2021-01: one central manifest covers every process, and a child is another enclave "
    "with the same MRENCLAVE; list the child's program in sgx.trusted_files"
)
_NETWORK = (
    "removed 2020: the network is the host's, and such rules never bound it; what binds is TLS "
    "that ends in the enclave, and a firewall outside"
)
_EPID = "removed 2024-12 with EPID, which Intel ended: DCAP needs no account"
_PROTECTED = "protected files became encrypted mounts in 2022-05, removed 2023-04"
_PROTECTED_KEY = (
    "a key in the manifest is known to everybody who reads it: provision it to the attested enclave"
)
_IOCTL = "moved from sgx to sys, where every kind of host honours it"
_SIGNED = "the signing tool wrote it; since 2022-02 the digest is part of the entry of the file"

_TABLE: Mapping[str, tuple[str | Translate, str]] = {
    "loader.exec": (_entrypoint, "renamed 2020-10; a path inside since 2022-02, no longer a URI"),
    "loader.execname": ("loader.argv = [<value>]", "argv[0] is part of loader.argv since 2022-08"),
    "loader.argv0_override": (
        "loader.argv = [<value>]",
        "argv[0] is part of loader.argv since 2022-08",
    ),
    "loader.preload": ("", "replaced 2022-02: the tools fill in loader.entrypoint, the LibOS"),
    "loader.entrypoint": ("", "a table since 2024-07, no longer a text; the tools fill it in"),
    "loader.debug_type": (
        'loader.log_level = "error"',
        'replaced 2021, removed 2023-05; "inline" would be "debug", which may print secrets',
    ),
    "loader.debug_file": ("loader.log_file = <value>", "renamed 2021"),
    "loader.pal_internal_mem_size": ("", "removed 2023-05: Gramine accounts for its own memory"),
    "loader.syscall_symbol": ("", "removed: system calls are caught without it"),
    "libos.entrypoint": (_entrypoint, "a path inside since 2022-02, no longer a URI"),
    "fs.mount.(*).type": (_mount, "fs.mounts is a list since 2022-02, the old form went with 1.5"),
    "fs.mount.(*).path": (_mount, "fs.mounts is a list since 2022-02, the old form went with 1.5"),
    "fs.mount.(*).uri": (_mount, "fs.mounts is a list since 2022-02, the old form went with 1.5"),
    "fs.root.*.type": ("fs.root.type = <value>", "there is one root, and it has no name"),
    "fs.root.*.uri": ("fs.root.uri = <value>", "there is one root, and it has no name"),
    "fs.root.*.path": ("", "the root is at / always"),
    "fs.root.path": ("", "the root is at / always"),
    "fs.experimental__enable_sysfs_topology": ("", "removed 2023-05: it is always on"),
    "sys.brk.size": ("sys.brk.max_size = <value>", "renamed by 2020"),
    "sys.allow_insecure_eventfd": (
        "",
        "renamed sys.insecure__allow_eventfd; since 2024-04 eventfd works without the host",
    ),
    "sys.ask_for_checkpoint": ("", "removed with checkpoints"),
    "sgx.trusted_files.*": (
        "sgx.trusted_files = [<value>]",
        "one entry of a list since 2022-02; a directory ends in / (and is refused here)",
    ),
    "sgx.allowed_files.*": (
        'sgx.allowed_files = [<value>] with "# reason: …" above the entry',
        "one entry of a list since 2022-02; the host may change such a file at any time",
    ),
    "sgx.trusted_checksum.*": ("", _SIGNED),
    "sgx.trusted_mrenclave.*": ("", _CHILDREN),
    "sgx.trusted_children": ("", _CHILDREN),
    "sgx.trusted_children.*": ("", _CHILDREN),
    "sgx.static_address": ("", "removed 2020-10: where the enclave lies is no longer chosen"),
    "sgx.sigfile": ("", "removed 2020-10: the signature is found beside the manifest, NAME.sig"),
    "sgx.thread_num": ("sgx.max_threads = <n>", "renamed 2022-10, removed 2023-05"),
    "sgx.rpc_thread_num": (
        "",
        "renamed sgx.insecure__rpc_thread_num 2022-09: it reads untrusted memory (CVE-2022-21233)",
    ),
    "sgx.protected_files": (_protected("default"), _PROTECTED),
    "sgx.protected_files.*": (_protected("default"), _PROTECTED),
    "sgx.protected_mrenclave_files": (_protected("_sgx_mrenclave"), _PROTECTED),
    "sgx.protected_mrenclave_files.*": (_protected("_sgx_mrenclave"), _PROTECTED),
    "sgx.protected_mrsigner_files": (_protected("_sgx_mrsigner"), _PROTECTED),
    "sgx.protected_mrsigner_files.*": (_protected("_sgx_mrsigner"), _PROTECTED),
    "sgx.protected_files_key": ("", _PROTECTED_KEY),
    "sgx.insecure__protected_files_key": ("", _PROTECTED_KEY),
    "sgx.remote_attestation": (
        'sgx.remote_attestation = "dcap"',
        "a text since 2023-05; EPID, which true or 1 may have meant, ended 2024-12",
    ),
    "sgx.ra_client_spid": ("", _EPID),
    "sgx.ra_client_linkable": ("", _EPID),
    "sgx.require_(avx|avx512|amx|mpx|pkru)": (_feature, "renamed 2023-09, removed 2024-05"),
    "sgx.disable_(avx|avx512|amx|mpx|pkru)": (_disabled, "renamed 2023-09, removed 2024-05"),
    "sgx.require_exinfo": (_flag("sgx.use_exinfo"), "renamed 2023"),
    "sgx.nonpie_binary": ("", "removed 2024-04: such programs run without it"),
    "sgx.allow_file_creation": (
        "",
        'removed 2020: write to a mount of type "tmpfs" or "encrypted", or to an allowed file',
    ),
    "sgx.zero_heap_on_demand": ("", "removed 2020: Gramine does what it asked for"),
    "sgx.isnsvn": ("sgx.isvsvn = <n>", "the documentation of 2020 misspelled it"),
    "sgx.print_stats": ("", "renamed sgx.enable_stats, which needs a debug enclave"),
    "sgx.ioctl_structs.**": ("sys.ioctl_structs, the same layout", _IOCTL),
    "sgx.allowed_ioctls.**": ("sys.allowed_ioctls = [{ request_code = …, struct = … }]", _IOCTL),
    "net.rules": ("", _NETWORK),
    "net.rules.**": ("", _NETWORK),
    "net.allow_bind.**": ("", _NETWORK),
    "net.allow_peer.**": ("", _NETWORK),
}


def _compile(pattern: str) -> str:
    plain = pattern.replace(".", r"\.").replace("**", "\0").replace("*", r"[^.]+")
    return plain.replace("\0", ".+")


_ROWS: Mapping[str, tuple[re.Pattern[str], str | Translate, str]] = MappingProxyType(
    {
        f"row{number}": (re.compile(_compile(pattern)), today, why)
        for number, (pattern, (today, why)) in enumerate(_TABLE.items())
    }
)
_ANY_ROW = re.compile(
    "|".join(
        f"(?P<{name}>{pattern.pattern.replace('(', '(?:')})"
        for name, (pattern, _, _) in _ROWS.items()
    )
)
"""One pass over all rows: a file may have a hundred thousand keys."""
