"""The keys of a Gramine 1.9 manifest, and a walk that finds what is none of them.

Gramine refuses unknown keys since 1.8. Source: gramineproject/gramine, Documentation/
manifest-syntax.rst for names, defaults and meaning, python/graminelibos/manifest_check.py for
types, python/graminelibos/sgx_sign.py (`parse_size`) for sizes.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from wardian.tee.manifest.source import Path


class Kind(Enum):
    """The type of a value, in the words that a finding uses."""

    TEXT = "a text in quotes"
    FLAG = "true or false"
    COUNT = "a whole number from 0"
    WHOLE = "a whole number"
    ID16 = "a whole number, 0 to 65535"
    SIZE = 'a size in quotes, a number and K, M or G: "256M"'
    MASK = 'a mask in quotes, hexadecimal: "0xffffffff"'
    DIGEST = "a SHA-256 in quotes, 64 hex digits"
    CHOICE = "one of"
    ANY = "anything"


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its type, what holds where it is absent, and what it does."""

    kind: Kind
    default: str = ""
    note: str = ""
    choices: tuple[str, ...] = ()

    def accepts(self, value: object) -> bool:
        """Return whether `value`, as TOML gives it, is of this key's type."""
        if self.kind in _PATTERNS:
            return isinstance(value, str) and _PATTERNS[self.kind].fullmatch(value) is not None
        if self.kind in _RANGES:
            low, high = _RANGES[self.kind]
            return type(value) is int and low <= value <= high
        if self.kind is Kind.CHOICE:
            return value in self.choices
        return self.kind is Kind.ANY or type(value) is _TYPES[self.kind]

    def expectation(self) -> str:
        """Return what a value has to be, for a finding."""
        return " ".join((self.kind.value, *self.choices))

    def spell(self, text: str) -> str:
        """Return `text`, the value in an old file, as a TOML value of this key's type."""
        flag = {"1": "true", "0": "false"}.get(text, text)
        if self.kind is Kind.FLAG and flag in {"true", "false"}:
            return flag
        if self.kind in _RANGES and re.fullmatch(r"[+-]?\d+", text):
            return text
        return quote(text)

    def parse(self, text: str) -> object:
        """Return the value that `spell` writes for `text`; a number stays text."""
        return {"true": True, "false": False}.get(self.spell(text), text)


_PATTERNS: Mapping[Kind, re.Pattern[str]] = MappingProxyType(
    {
        Kind.SIZE: re.compile(r"[0-9]{1,15}[KMG]?"),
        Kind.MASK: re.compile(r"(0x)?[0-9a-fA-F]{1,16}"),
        Kind.DIGEST: re.compile(r"[0-9a-fA-F]{64}"),
    }
)
_RANGES: Mapping[Kind, tuple[int, int]] = MappingProxyType(
    {
        Kind.COUNT: (0, 2**63 - 1),
        Kind.WHOLE: (-(2**63), 2**63 - 1),
        Kind.ID16: (0, 2**16 - 1),
    }
)
_TYPES: Mapping[Kind, type] = MappingProxyType({Kind.TEXT: str, Kind.FLAG: bool})

_FEATURE = Key(
    Kind.CHOICE, "unspecified", "of the processor", ("unspecified", "disabled", "required")
)
_HARDENING = Key(Kind.CHOICE, "disabled", "of the processor", ("disabled", "required"))
_LEVELS = ("none", "error", "warning", "debug", "trace", "all")
_MOUNTS = ("chroot", "encrypted", "tmpfs", "untrusted_shm")


def _mount(where: str) -> dict[str, Key]:
    return {
        f"{where}.type": Key(Kind.CHOICE, "chroot", "", _MOUNTS),
        f"{where}.uri": Key(Kind.TEXT, "", "on the host; none for a tmpfs"),
        f"{where}.key_name": Key(Kind.TEXT, "default", "of an encrypted mount"),
        f"{where}.enable_recovery": Key(Kind.FLAG, "false", "of an encrypted mount"),
    }


KEYS: Mapping[str, Key] = MappingProxyType(
    {
        "fs.start_dir": Key(Kind.TEXT, "/", "inside"),
        "fs.insecure__keys.*": Key(Kind.TEXT, "", "a key of encrypted files, in the open"),
        **_mount("fs.root"),
        "fs.mounts[].path": Key(Kind.TEXT, "", "inside, absolute"),
        **_mount("fs.mounts[]"),
        "libos.entrypoint": Key(Kind.TEXT, "", "the program, a path inside"),
        "libos.check_invalid_pointers": Key(Kind.FLAG, "true"),
        "loader.entrypoint.uri": Key(Kind.TEXT, "the LibOS", "filled in by the tools"),
        "loader.entrypoint.sha256": Key(Kind.DIGEST, "", "filled in by the tools"),
        "loader.argv[]": Key(Kind.TEXT, "", "argv[0] is the program's name"),
        "loader.argv_src_file": Key(Kind.TEXT, "", "URI of a trusted file"),
        "loader.env.*": Key(Kind.TEXT),
        "loader.env.*.value": Key(Kind.TEXT),
        "loader.env.*.passthrough": Key(Kind.FLAG, "", "true: the host chooses the value"),
        "loader.env_src_file": Key(Kind.TEXT, "", "URI of a trusted file"),
        "loader.uid": Key(Kind.COUNT, "0"),
        "loader.gid": Key(Kind.COUNT, "0"),
        "loader.log_level": Key(Kind.CHOICE, "error", "", _LEVELS),
        "loader.log_file": Key(Kind.TEXT),
        "loader.insecure__use_cmdline_argv": Key(Kind.FLAG, "false"),
        "loader.insecure__use_host_env": Key(Kind.FLAG, "false"),
        "loader.insecure__disable_aslr": Key(Kind.FLAG, "false"),
        "sgx.debug": Key(Kind.FLAG, "false"),
        "sgx.edmm_enable": Key(Kind.FLAG, "false", "memory is added when it is used"),
        "sgx.enclave_size": Key(Kind.SIZE, "256M; 1024G with EDMM", "a power of two"),
        "sgx.max_threads": Key(Kind.COUNT, "4", "with Gramine's own helpers"),
        "sgx.remote_attestation": Key(Kind.CHOICE, "none", "", ("none", "dcap")),
        "sgx.trusted_files[]": Key(Kind.TEXT, "", "URI; a directory ends in /"),
        "sgx.trusted_files[].uri": Key(Kind.TEXT),
        "sgx.trusted_files[].sha256": Key(Kind.DIGEST, "", "the signing tool computes it"),
        "sgx.allowed_files[]": Key(Kind.TEXT, "", "URI, file: or dev:"),
        "sgx.file_check_policy": Key(Kind.CHOICE, "strict", "", ("strict", "allow_all_but_log")),
        "sgx.isvprodid": Key(Kind.ID16, "0"),
        "sgx.isvsvn": Key(Kind.ID16, "0"),
        "sgx.seal_key.flags_mask": Key(Kind.MASK, "0xffffffffffffffff"),
        "sgx.seal_key.xfrm_mask": Key(Kind.MASK, "0xfffffffffff9ff1b"),
        "sgx.seal_key.misc_mask": Key(Kind.MASK, "0xffffffff"),
        "sgx.cpu_features.avx": _FEATURE,
        "sgx.cpu_features.avx512": _FEATURE,
        "sgx.cpu_features.amx": _FEATURE,
        "sgx.cpu_features.mpx": _HARDENING,
        "sgx.cpu_features.pkru": _HARDENING,
        "sgx.use_exinfo": Key(Kind.FLAG, "false", "the processor reports faulting addresses"),
        "sgx.insecure__allow_memfaults_without_exinfo": Key(Kind.FLAG, "false"),
        "sgx.insecure__rpc_thread_num": Key(Kind.COUNT, "0"),
        "sgx.preheat_enclave": Key(Kind.FLAG, "false", "not with EDMM"),
        "sgx.enable_stats": Key(Kind.FLAG, "false"),
        "sgx.profile.enable": Key(Kind.CHOICE, "none", "", ("none", "main", "all")),
        "sgx.profile.mode": Key(Kind.CHOICE, "aex", "", ("aex", "ocall_inner", "ocall_outer")),
        "sgx.profile.with_stack": Key(Kind.FLAG, "false"),
        "sgx.profile.frequency": Key(Kind.COUNT, "50", "samples per second"),
        "sgx.vtune_profile": Key(Kind.FLAG, "false"),
        "sys.stack.size": Key(Kind.SIZE, "256K", "of each thread"),
        "sys.brk.max_size": Key(Kind.SIZE, "256K"),
        "sys.fds.limit": Key(Kind.COUNT, "900"),
        "sys.enable_extra_runtime_domain_names_conf": Key(Kind.FLAG, "false"),
        "sys.enable_sigterm_injection": Key(Kind.FLAG, "false"),
        "sys.disallow_subprocesses": Key(Kind.FLAG, "false"),
        "sys.insecure__allow_eventfd": Key(Kind.FLAG, "false"),
        "sys.experimental__enable_flock": Key(Kind.FLAG, "false"),
        "sys.debug__mock_syscalls[].name": Key(Kind.TEXT),
        "sys.debug__mock_syscalls[].return": Key(Kind.WHOLE, "0"),
        "sys.allowed_ioctls[].request_code": Key(Kind.COUNT),
        "sys.allowed_ioctls[].struct": Key(Kind.TEXT),
        "sys.ioctl_structs.*": Key(Kind.ANY, "", "the layout of an argument"),
    }
)
"""By pattern: `*` is any name, `[]` any entry of a list."""

REQUIRED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "fs": ("mounts",),
        "libos": ("entrypoint",),
        "fs.mounts[]": ("path",),
        "sgx.trusted_files[]": ("uri",),
        "sys.allowed_ioctls[]": ("request_code",),
        "sys.debug__mock_syscalls[]": ("name",),
    }
)
"""What a table must have. `fs` and `libos` must be there themselves."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A place where a manifest leaves the schema. `expected` is None for an unknown key."""

    path: Path
    value: Any
    expected: str | None
    missing: bool = False


def quote(text: str) -> str:
    """Return `text` as a basic string of TOML."""
    return json.dumps(text, ensure_ascii=False)


def find_key(dotted: str) -> Key | None:
    """Return the key that is written `dotted`, if it exists and stands in no list."""
    parent, _, _ = dotted.rpartition(".")
    return KEYS.get(dotted) or KEYS.get(f"{parent}.*")


def walk(tree: Mapping[str, Any]) -> Iterator[Mismatch]:
    """Yield every place of `tree` that Gramine 1.9 would not accept, in the order of the file."""
    for name in ("fs", "libos"):
        if name not in tree:
            yield Mismatch((name, *REQUIRED[name]), None, None, missing=True)
    for name, value in tree.items():
        yield from _walk(value, (name,), name if name in _ROOTS else None)


def _walk(value: Any, path: Path, pattern: str | None) -> Iterator[Mismatch]:
    if pattern is None:
        yield Mismatch(path, value, None)
    elif isinstance(value, dict) and pattern in _TABLES:
        for name in REQUIRED.get(pattern, ()):
            if name not in value:
                yield Mismatch((*path, name), None, None, missing=True)
        for name, inner in value.items():
            yield from _walk(inner, (*path, name), _child(pattern, name))
    elif isinstance(value, list) and f"{pattern}[]" in _NODES:
        for index, inner in enumerate(value):
            yield from _walk(inner, (*path, index), f"{pattern}[]")
    elif pattern not in KEYS:
        yield Mismatch(path, value, "a list" if f"{pattern}[]" in _NODES else "a table")
    elif not KEYS[pattern].accepts(value):
        yield Mismatch(path, value, KEYS[pattern].expectation())


def _child(pattern: str, name: str) -> str | None:
    exact, any_name = f"{pattern}.{name}", f"{pattern}.*"
    is_plain = not set(name) & set(".[*")  # a name in quotes is one name, whatever is in it
    if is_plain and exact in _NODES:
        return exact
    return any_name if any_name in _NODES else None


def _ancestors(pattern: str) -> Iterator[str]:
    """Yield `pattern` and every table and list around it."""
    while pattern:
        yield pattern
        pattern = pattern[:-2] if pattern.endswith("[]") else pattern.rpartition(".")[0]


_NODES: Final = frozenset(node for pattern in KEYS for node in _ancestors(pattern))
_TABLES: Final = frozenset(pattern.rpartition(".")[0] for pattern in _NODES) - {""}
_ROOTS: Final = frozenset(pattern.partition(".")[0] for pattern in KEYS)
