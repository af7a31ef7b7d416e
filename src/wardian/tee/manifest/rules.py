"""What the lint refuses in a manifest that Gramine itself would accept.

Each rule is a generator over a parsed manifest. It tolerates values of a wrong type, which the
schema reports: whatever is not plainly the safe value is refused. No comment and no switch turns a
rule off; a reason is asked for where something may be right and only a person can say so.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from wardian.tee.manifest.file_rules import FILE_RULES, trusted_files
from wardian.tee.manifest.schema import KEYS, quote
from wardian.tee.manifest.source import Finding, Manifest, Path


@dataclass(frozen=True, slots=True)
class Refused:
    """A key that holds a refused value: the rule, why, and what to write instead."""

    rule: str
    why: str
    instead: str
    safe: tuple[object, ...] = ()
    """The values that are not refused."""


_LEAVE_OUT: Final = "nothing: leave the key out"
_OFF: Final = (False,)
_DEBUG_ONLY: Final = "needs a debug enclave, and its host reads the memory of one"


def _insecure(why: str, instead: str = _LEAVE_OUT) -> Refused:
    return Refused("insecure-key", why, instead)


_PREFIXES: Mapping[str, Refused] = MappingProxyType(
    {
        "insecure__": _insecure("Gramine itself calls it insecure"),
        "experimental__": Refused(
            "experimental-key",
            "by Gramine's own documentation it may contain vulnerabilities",
            _LEAVE_OUT,
        ),
        "debug__": Refused("debug", "a system call that is mocked, not made", _LEAVE_OUT),
    }
)
REFUSED: Mapping[str, Refused] = MappingProxyType(
    {
        "loader.insecure__use_cmdline_argv": _insecure(
            "the host chooses the arguments", 'loader.argv = ["NAME", "ARGUMENT"], measured'
        ),
        "loader.insecure__use_host_env": _insecure(
            "the host chooses the environment, LD_PRELOAD for one",
            'loader.env.NAME = "VALUE" for each variable that is needed',
        ),
        "loader.insecure__disable_aslr": _insecure("addresses become predictable"),
        "sys.insecure__allow_eventfd": _insecure(
            "events come from the host", "nothing: since 2024-04 eventfd works inside without it"
        ),
        "fs.insecure__keys": _insecure(
            "the key stands in a file that everybody may read",
            "nothing: provision the key to the attested enclave",
        ),
        "sgx.insecure__rpc_thread_num": _insecure(
            "exitless calls read untrusted memory (CVE-2022-21233, CVE-2022-21166)"
        ),
        "sgx.insecure__allow_memfaults_without_exinfo": _insecure(
            "the host invents memory faults, and the program's handler runs (Sigy)",
            "sgx.use_exinfo = true: the processor vouches for the address",
        ),
        "sgx.debug": Refused(
            "debug", "the host reads the memory of a debug enclave", "sgx.debug = false", _OFF
        ),
        "sgx.enable_stats": Refused("debug", _DEBUG_ONLY, "sgx.enable_stats = false", _OFF),
        "sgx.vtune_profile": Refused("debug", _DEBUG_ONLY, "sgx.vtune_profile = false", _OFF),
        "sgx.profile.enable": Refused(
            "debug", _DEBUG_ONLY, 'sgx.profile.enable = "none"', ("none",)
        ),
        "sgx.file_check_policy": Refused(
            "file-policy",
            "every file that is not listed is let in from the host, unverified",
            'sgx.file_check_policy = "strict", and list what is needed',
            ("strict",),
        ),
        "loader.log_level": Refused(
            "log-level",
            "messages above errors go to the host, and may tell secrets",
            'loader.log_level = "error"',
            ("error", "none"),
        ),
        "sys.enable_sigterm_injection": Refused(
            "host-signal",
            "the host sends SIGTERM at a moment of its choice, and the handler runs (Sigy)",
            "sys.enable_sigterm_injection = false, and stop the program by a request",
            _OFF,
        ),
        "libos.check_invalid_pointers": Refused(
            "pointer-check",
            "system calls take pointers unseen",
            "libos.check_invalid_pointers = true",
            (True,),
        ),
    }
)


def refused(key: str, value: object) -> Refused | None:
    """Return why `key` with `value` is refused, or None.

    A key with a prefix is refused whatever its value: `false` is the default anyway, and a manifest
    without the word `insecure` is read at one glance.
    """
    parts = key.split(".")
    for index, part in enumerate(parts):
        for prefix, why in _PREFIXES.items():
            if part.startswith(prefix):
                return REFUSED.get(".".join(parts[: index + 1]), why)
    known = REFUSED.get(key)
    return None if known is None or value in known.safe else known


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield what stands in tables of tables; a list is one leaf."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*path, name))
    else:
        yield path, value


def _refused_keys(found: Manifest) -> Iterator[Finding]:
    for path, value in _leaves(found.tree):
        if path[:2] == ("loader", "env"):
            continue  # a variable may be called anything
        key = ".".join(str(part) for part in path)
        why = refused(key, value)
        if why is not None:
            yield found.refusal(path, why.rule, why.why, why.instead)


def _environment(found: Manifest) -> Iterator[Finding]:
    table = found.get("loader", "env")
    for name, value in table.items() if isinstance(table, dict) else ():
        if isinstance(value, dict) and ("passthrough" in value or "value" not in value):
            yield found.refusal(
                ("loader", "env", name),
                "host-environment",
                "the host chooses the value",
                f'loader.env.{name} = "VALUE"',
            )


def _arguments(found: Manifest) -> Iterator[Finding]:
    loader = found.get("loader")
    loader = loader if isinstance(loader, dict) else {}
    sources = [name for name in ("argv", "argv_src_file") if name in loader]
    if loader.get("insecure__use_cmdline_argv", False) is not False:
        sources.append("insecure__use_cmdline_argv")
    program = posixpath.basename(str(found.get("libos", "entrypoint") or "NAME"))
    write = f'loader.argv = [{quote(program)}, "ARGUMENT"]'
    if not sources or loader.get("argv") == []:
        yield found.refusal(
            ("loader", "argv"), "argv", "no arguments: not even argv[0] is given", write
        )
    for extra in sources[1:]:
        yield found.refusal(("loader", extra), "argv", "a second source of arguments", write)
    trusted = [uri for _, uri in trusted_files(found)]  # whatever is looked for may have no hash
    for name in ("argv_src_file", "env_src_file"):
        if name in loader and loader[name] not in trusted:
            yield found.refusal(
                ("loader", name),
                "untrusted-source",
                "the host chooses what stands in a file that is not trusted",
                "the same URI in sgx.trusted_files too",
            )


def _attestation(found: Manifest) -> Iterator[Finding]:
    kind = found.get("sgx", "remote_attestation")
    if kind is None or kind == "none":
        yield found.refusal(
            ("sgx", "remote_attestation"),
            "attestation",
            "an enclave that cannot attest gets no key",
            'sgx.remote_attestation = "dcap"',
        )


_UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}


def _enclave(found: Manifest) -> Iterator[Finding]:
    size = found.get("sgx", "enclave_size")
    parts = re.fullmatch(r"([0-9]{1,15})([KMG]?)", size) if isinstance(size, str) else None
    size_bytes = int(parts[1]) * _UNITS.get(parts[2], 1) if parts else None
    if size_bytes is not None and size_bytes.bit_count() != 1:
        above = 1 << size_bytes.bit_length()
        unit = "G" if above >= 1024**3 else "M"
        yield found.refusal(
            ("sgx", "enclave_size"),
            "enclave-size",
            f"{size} is no power of two, as SGX wants",
            f'sgx.enclave_size = "{max(1, above // _UNITS[unit])}{unit}"',
        )
    edmm = found.get("sgx", "edmm_enable") is True
    threads, least = found.get("sgx", "max_threads"), 1 if edmm else 4
    if type(threads) is int and threads < least:
        yield found.refusal(
            ("sgx", "max_threads"),
            "threads",
            f"{threads} leaves no room for Gramine's helpers (IPC, timers, TLS)",
            f"sgx.max_threads = {least}, or more",
        )
    if edmm and found.get("sgx", "preheat_enclave") is True:
        yield found.refusal(
            ("sgx", "preheat_enclave"),
            "enclave-size",
            "with EDMM there are no heap pages to touch, and Gramine refuses",
            "sgx.preheat_enclave = false",
        )


def _seal_key(found: Manifest) -> Iterator[Finding]:
    """Refuse masks that let an enclave in another mode or on another processor derive the key."""
    table = found.get("sgx", "seal_key")
    for name, mask in table.items() if isinstance(table, dict) else ():
        key = KEYS.get(f"sgx.seal_key.{name}")
        if key is not None and key.accepts(mask) and int(mask, 16) != int(key.default, 16):
            yield found.refusal(
                ("sgx", "seal_key", name),
                "seal-key",
                "an enclave in another mode, a debug enclave for one, may get the same sealing key",
                _LEAVE_OUT,
            )


def _ioctls(found: Manifest) -> Iterator[Finding]:
    listed = found.get("sys", "allowed_ioctls")
    for index in range(len(listed) if isinstance(listed, list) else 0):
        path: Path = ("sys", "allowed_ioctls", index)
        if not found.has_reason(path):
            yield found.refusal(
                path,
                "ioctl-without-reason",
                "the host answers it, with whatever it likes, and nothing says why it may",
                '"# reason: …" of its own above it or behind it, or leave the entry out',
            )


def _identity(found: Manifest) -> Iterator[Finding]:
    if found.get("sgx", "isvprodid") is None:
        yield found.warning(
            ("sgx", "isvprodid"),
            "product-id",
            "without one every enclave of a signer has the same sealing key",
            "sgx.isvprodid = NUMBER, another for each role",
        )
    if found.get("sgx", "use_exinfo") is not True:
        yield found.warning(
            ("sgx", "use_exinfo"),
            "exinfo",
            "no memory fault is vouched for by the processor, so Gramine ends the "
            "program at the first one instead of believing the host (Sigy)",
            "sgx.use_exinfo = true, unless a crash of the program would print secrets",
        )


RULES: tuple[Callable[[Manifest], Iterator[Finding]], ...] = (
    _refused_keys,
    _environment,
    _arguments,
    _attestation,
    _enclave,
    _seal_key,
    _ioctls,
    _identity,
    *FILE_RULES,
)
