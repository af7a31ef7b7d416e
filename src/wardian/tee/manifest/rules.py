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

from wardian.tee.manifest.schema import quote
from wardian.tee.manifest.source import Finding, Manifest, Path


@dataclass(frozen=True, slots=True)
class Refused:
    """A key that holds a refused value: the rule, why, and what to write instead."""

    rule: str
    why: str
    instead: str
    safe: tuple[object, ...] = ()
    """The values that are not refused."""


_OFF: Final = (False,)
_DEBUG_ONLY = "needs a debug enclave, and its host reads the memory of one"

REFUSED: Mapping[str, Refused] = MappingProxyType(
    {
        "loader.insecure__use_cmdline_argv": Refused(
            "insecure-key",
            "the host chooses the arguments",
            'loader.argv = ["NAME", "ARGUMENT"]: the arguments are measured',
        ),
        "loader.insecure__use_host_env": Refused(
            "insecure-key",
            "the host chooses the environment, LD_PRELOAD for one",
            'loader.env.NAME = "VALUE" for each variable that is needed',
        ),
        "loader.insecure__disable_aslr": Refused(
            "insecure-key", "addresses become predictable", "nothing: leave the key out"
        ),
        "sys.insecure__allow_eventfd": Refused(
            "insecure-key",
            "events come from the host",
            "nothing: since 2024-04 eventfd works inside without it",
        ),
        "fs.insecure__keys": Refused(
            "insecure-key",
            "the key stands in a file that everybody may read",
            "nothing: provision the key to the attested enclave",
        ),
        "sgx.insecure__rpc_thread_num": Refused(
            "insecure-key",
            "exitless calls read untrusted memory (CVE-2022-21233, CVE-2022-21166)",
            "nothing: leave the key out",
        ),
        "sgx.insecure__allow_memfaults_without_exinfo": Refused(
            "insecure-key",
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

_PREFIXES: Mapping[str, Refused] = MappingProxyType(
    {
        "insecure__": Refused(
            "insecure-key", "Gramine itself calls it insecure", "nothing: leave the key out"
        ),
        "experimental__": Refused(
            "experimental-key",
            "by Gramine's own documentation it may contain vulnerabilities",
            "nothing: leave the key out",
        ),
        "debug__": Refused(
            "debug", "a system call that is not made but mocked", "nothing: leave the key out"
        ),
    }
)


def refused(key: str, value: object) -> Refused | None:
    """Return why `key` with `value` is refused, or None. Prefixes are refused whatever the value.

    That an insecure key is set to `false` makes no difference: the default is the same, and a
    manifest without the word is read in one glance.
    """
    for part in key.split("."):
        for prefix, why in _PREFIXES.items():
            if part.startswith(prefix):
                named = key.partition(part)[0] + part
                return REFUSED.get(named, why)
    known = REFUSED.get(key)
    if known is None or any(value is safe or value == safe != 1 for safe in known.safe):
        return None
    return known


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
            yield found.refusal(path, why.rule, f"{key}: {why.why}", why.instead)


def _environment(found: Manifest) -> Iterator[Finding]:
    table = found.get("loader", "env")
    for name, value in table.items() if isinstance(table, dict) else ():
        if isinstance(value, dict) and ("passthrough" in value or "value" not in value):
            yield found.refusal(
                ("loader", "env", name),
                "host-environment",
                f"loader.env.{name}: the host chooses the value",
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
        yield found.refusal(
            ("loader", extra), "argv", f"loader.{extra}: a second source of arguments", write
        )
    trusted = {uri for _, uri in _trusted(found)}
    for name in ("argv_src_file", "env_src_file"):
        if name in loader and loader[name] not in trusted:
            yield found.refusal(
                ("loader", name),
                "untrusted-source",
                f"loader.{name}: the host chooses what stands in a file that is not trusted",
                "add the same URI to sgx.trusted_files",
            )


def _entries(found: Manifest, name: str) -> list[Any]:
    listed = found.get("sgx", name)
    return listed if isinstance(listed, list) else []


def _trusted(found: Manifest) -> Iterator[tuple[Path, str]]:
    for index, entry in enumerate(_entries(found, "trusted_files")):
        uri = entry.get("uri") if isinstance(entry, dict) else entry
        if isinstance(uri, str):
            yield ("sgx", "trusted_files", index), uri


_SYSTEM_DIRECTORIES: Final = frozenset(
    "/bin /boot /dev /dev/shm /etc /home /lib /lib32 /lib64 /media /mnt /opt /proc /root /run /sbin "  # noqa: S108
    "/srv /sys /tmp /usr /usr/bin /usr/lib /usr/lib64 /usr/local /usr/share /var /var/tmp".split()
)
_GLOB = re.compile(r"[*?]|\[[^\]]+\]")


def _path_of(uri: str) -> str:
    path = uri.partition(":")[2]
    return re.sub("^/+", "/", posixpath.normpath(path)) if path else "."


def _wide(uri: str) -> str:
    """Return what `uri` names where that is more than one file, or an empty text."""
    path = _path_of(uri)
    if path == "/":
        return "the whole machine"
    if uri.endswith(("/", "/.", "/..")) or path in {".", ".."} or path in _SYSTEM_DIRECTORIES:
        return "a directory, and whatever the host puts into it"
    return "a pattern" if _GLOB.search(path) else ""


def _wildcards(found: Manifest) -> Iterator[Finding]:
    allowed: list[tuple[Path, str]] = [
        (("sgx", "allowed_files", index), uri)
        for index, uri in enumerate(_entries(found, "allowed_files"))
        if isinstance(uri, str)
    ]
    for path, uri in (*_trusted(found), *allowed):
        wide = _wide(uri)
        if wide:
            yield found.refusal(
                path, "wildcard", f"{path[1]}: {uri} is {wide}", "one entry for each file"
            )
        schemes = ("file:",) if path[1] == "trusted_files" else ("file:", "dev:")
        if not uri.startswith(schemes):
            yield found.refusal(
                path, "wrong-type", f"{path[1]}: {uri} is no URI", f'"{schemes[0]}PATH"'
            )


def _allowed_files(found: Manifest) -> Iterator[Finding]:
    trusted = {_path_of(uri) for _, uri in _trusted(found)}
    for index, uri in enumerate(_entries(found, "allowed_files")):
        path: Path = ("sgx", "allowed_files", index)
        if not found.has_reason(path):
            yield found.refusal(
                path,
                "allowed-without-reason",
                f"allowed_files: {uri} comes from the host unverified, and nothing says why it may",
                '"# reason: …" of its own above the entry or behind it, or sgx.trusted_files',
            )
        if isinstance(uri, str) and _path_of(uri) in trusted:
            yield found.refusal(
                path,
                "allowed-and-trusted",
                f"allowed_files: {uri} is also trusted, and only one can be meant",
                "one of the two entries",
            )


def _digests(found: Manifest) -> Iterator[Finding]:
    for path, uri in _trusted(found):
        entry = _entries(found, "trusted_files")[int(path[2])]
        if not (isinstance(entry, dict) and "sha256" in entry) and not uri.endswith("/"):
            yield found.warning(
                path,
                "no-digest",
                f"trusted_files: {uri} has no sha256 yet",
                'nothing if the signing tool shall fill it in, else { uri = …, sha256 = "…" }',
            )


def _attestation(found: Manifest) -> Iterator[Finding]:
    kind = found.get("sgx", "remote_attestation")
    if kind is None or kind == "none":
        yield found.refusal(
            ("sgx", "remote_attestation"),
            "attestation",
            "sgx.remote_attestation: an enclave that cannot attest gets no key",
            'sgx.remote_attestation = "dcap"',
        )


_UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}


def _enclave(found: Manifest) -> Iterator[Finding]:
    size = found.get("sgx", "enclave_size")
    parts = re.fullmatch(r"([0-9]{1,15})([KMG]?)", size) if isinstance(size, str) else None
    pages = int(parts[1]) * _UNITS.get(parts[2], 1) if parts else None
    if pages is not None and pages.bit_count() != 1:
        above = 1 << pages.bit_length()
        unit = "G" if above >= 1024**3 else "M"
        yield found.refusal(
            ("sgx", "enclave_size"),
            "enclave-size",
            f"sgx.enclave_size: {size} is no power of two, as SGX wants",
            f'sgx.enclave_size = "{max(1, above // _UNITS[unit])}{unit}"',
        )
    edmm = found.get("sgx", "edmm_enable") is True
    threads, least = found.get("sgx", "max_threads"), 1 if edmm else 4
    if type(threads) is int and threads < least:
        yield found.refusal(
            ("sgx", "max_threads"),
            "threads",
            f"sgx.max_threads: {threads} leaves no room for Gramine's helpers (IPC, timers, TLS)",
            f"sgx.max_threads = {least}, or more",
        )
    if edmm and found.get("sgx", "preheat_enclave") is True:
        yield found.refusal(
            ("sgx", "preheat_enclave"),
            "enclave-size",
            "sgx.preheat_enclave: with EDMM there are no heap pages to touch, and Gramine refuses",
            "sgx.preheat_enclave = false",
        )


def _identity(found: Manifest) -> Iterator[Finding]:
    if found.get("sgx", "isvprodid") is None:
        yield found.warning(
            ("sgx", "isvprodid"),
            "product-id",
            "sgx.isvprodid: without one every enclave of a signer has the same sealing key",
            "sgx.isvprodid = NUMBER, another for each role",
        )
    if found.get("sgx", "use_exinfo") is not True:
        yield found.warning(
            ("sgx", "use_exinfo"),
            "exinfo",
            "sgx.use_exinfo: no memory fault is vouched for by the processor, so Gramine ends the "
            "program at the first one instead of believing the host (Sigy)",
            "sgx.use_exinfo = true, unless a crash of the program would print secrets",
        )


_SEALING_KEYS: Final = ("_sgx_mrenclave", "_sgx_mrsigner")
_ROOT_PATHS: Final = ("/", "//")
_HOST_TREES: Final = ("/proc", "/sys", "/dev")


def _mounts(found: Manifest) -> Iterator[Finding]:
    root, listed = found.get("fs", "root"), found.get("fs", "mounts")
    if isinstance(root, dict):
        yield from _mount(found, ("fs", "root"), root)
    for index, mount in enumerate(listed if isinstance(listed, list) else ()):
        path: Path = ("fs", "mounts", index)
        if isinstance(mount, dict):
            yield from _mount(found, path, mount)
            if mount.get("path") in _ROOT_PATHS:
                yield found.refusal(
                    path, "root-mount", "fs.mounts: the root is mounted already", "fs.root"
                )


def _mount(found: Manifest, path: Path, mount: Mapping[str, Any]) -> Iterator[Finding]:
    kind, uri = mount.get("type", "chroot"), mount.get("uri")
    if uri is None and kind != "tmpfs":
        yield found.refusal(path, "missing-key", f"{path[1]}: no uri", 'uri = "file:PATH"')
    host = _path_of(uri) if isinstance(uri, str) and uri.startswith("file:") else ""
    if kind != "tmpfs" and host == "/":
        yield found.refusal(
            path, "root-mount", f"{path[1]}: all of the host's files", "a mount for what is needed"
        )
    if kind == "chroot" and f"{host}/".startswith(tuple(f"{tree}/" for tree in _HOST_TREES)):
        yield found.refusal(
            path, "root-mount", f"{path[1]}: {host} is the host's", "nothing: Gramine has its own"
        )
    if kind == "untrusted_shm":
        yield found.refusal(
            path,
            "shared-memory",
            f"{path[1]}: memory that the host reads, and changes while it is used",
            "a stream, encrypted, with what is received copied before it is checked",
        )
    if kind == "encrypted":
        yield from _mount_key(found, path, mount)
    else:
        for name in ("key_name", "enable_recovery"):
            if name in mount:
                yield found.refusal(
                    (*path, name),
                    "unknown-key",
                    f"{path[1]}: {name} belongs to an encrypted mount",
                    'type = "encrypted", or leave it out',
                )


def _mount_key(found: Manifest, path: Path, mount: Mapping[str, Any]) -> Iterator[Finding]:
    """Refuse an encrypted mount whose key is neither a sealing key nor known to be provisioned."""
    name = mount.get("key_name", "default")
    place: Path = (*path, "key_name") if "key_name" in mount else path
    env = found.get("loader", "env", "SECRET_PROVISION_SET_KEY")
    provisioned = env.get("value") if isinstance(env, dict) else env
    if name in _SEALING_KEYS or (name == provisioned and name != "default"):
        return
    if isinstance(name, str) and name.startswith("_"):
        yield found.refusal(
            place, "mount-key", f"key_name: Gramine has no key {name}", " or ".join(_SEALING_KEYS)
        )
    elif not (found.has_reason(place) or found.has_reason(path)):
        yield found.refusal(
            place,
            "mount-key",
            f"key_name: nothing says who provisions the key {name}",
            '"_sgx_mrenclave", or "# reason: …" that names who provisions it after attestation',
        )


RULES: tuple[Callable[[Manifest], Iterator[Finding]], ...] = (
    _refused_keys,
    _environment,
    _arguments,
    _wildcards,
    _allowed_files,
    _digests,
    _attestation,
    _enclave,
    _identity,
    _mounts,
)
