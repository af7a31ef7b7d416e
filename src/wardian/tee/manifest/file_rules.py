"""What the lint refuses in the files and mounts of a manifest: what comes from the host unverified.

An entry names one file. A directory lets in whatever lies in it on the day of signing (trusted) or
at any time (allowed), and nobody reads such a list.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from wardian.tee.manifest.source import Finding, Manifest, Path


def _entries(found: Manifest, name: str) -> list[Any]:
    listed = found.get("sgx", name)
    return listed if isinstance(listed, list) else []


def trusted_files(found: Manifest) -> Iterator[tuple[Path, str]]:
    """Yield place and URI of every entry of `sgx.trusted_files`."""
    for index, entry in enumerate(_entries(found, "trusted_files")):
        uri = entry.get("uri") if isinstance(entry, dict) else entry
        if isinstance(uri, str):
            yield ("sgx", "trusted_files", index), uri


_SYSTEM_DIRECTORY = re.compile(
    r"""/ ( bin | boot | dev(/shm)? | etc | home | lib(32|64)? | media | mnt | opt | proc | root
          | run | sbin | srv | sys | tmp | usr(/(bin|lib(32|64)?|local|sbin|share))?
          | var(/(lib|run|tmp))? )""",
    re.VERBOSE,
)
"""An entry covers what is beneath it also without the slash; these are known to be directories."""

_GLOB = re.compile(r"[*?]|\[[^\[\]]+\]")
_ALL_THE_WAY_UP = re.compile(r"/|(\.\./)*\.\.")


def _path_of(uri: str) -> str:
    path = uri.partition(":")[2]
    return re.sub("^/+", "/", posixpath.normpath(path)) if path else "."


def _wide(uri: str) -> str:
    """Return what `uri` names where that is more than one file, or an empty text."""
    path = _path_of(uri)
    if path == "/":
        return "the whole machine"
    is_directory = path in {".", ".."} or uri.endswith(("/", "/.", "/.."))
    if is_directory or _SYSTEM_DIRECTORY.fullmatch(path):
        return "a directory, with all that lies in it"
    return "a pattern" if _GLOB.search(path) else ""


def _wildcards(found: Manifest) -> Iterator[Finding]:
    allowed: list[tuple[Path, str]] = [
        (("sgx", "allowed_files", index), uri)
        for index, uri in enumerate(_entries(found, "allowed_files"))
        if isinstance(uri, str)
    ]
    for path, uri in (*trusted_files(found), *allowed):
        wide = _wide(uri)
        if wide:
            yield found.refusal(path, "wildcard", f"{uri} is {wide}", "one entry for each file")
        schemes = ("file:",) if path[1] == "trusted_files" else ("file:", "dev:")
        if not uri.startswith(schemes):
            yield found.refusal(path, "wrong-type", f"{uri} is no URI", f'"{schemes[0]}PATH"')


def _allowed_files(found: Manifest) -> Iterator[Finding]:
    trusted = {_path_of(uri) for _, uri in trusted_files(found)}
    for index, uri in enumerate(_entries(found, "allowed_files")):
        path: Path = ("sgx", "allowed_files", index)
        if not found.has_reason(path):
            yield found.refusal(
                path,
                "allowed-without-reason",
                f"{uri} comes from the host unverified, and nothing says why it may",
                '"# reason: …" of its own above it or behind it, or the file in sgx.trusted_files',
            )
        if isinstance(uri, str) and _path_of(uri) in trusted:
            yield found.refusal(
                path,
                "allowed-and-trusted",
                f"{uri} is also trusted, and only one can be meant",
                "one of the two entries",
            )


def _digests(found: Manifest) -> Iterator[Finding]:
    for path, uri in trusted_files(found):
        entry = _entries(found, "trusted_files")[int(path[2])]
        if not (isinstance(entry, dict) and "sha256" in entry) and not uri.endswith("/"):
            yield found.warning(
                path,
                "no-digest",
                f"{uri} has no sha256 yet",
                'nothing if the signing tool shall fill it in, else { uri = …, sha256 = "…" }',
            )


_SEALING_KEYS: Final = ("_sgx_mrenclave", "_sgx_mrsigner")
_ROOT_PATHS: Final = ("/", "//")
_HOST_TREES: Final = ("/proc", "/sys", "/dev")


def _mounts(found: Manifest) -> Iterator[Finding]:
    root, listed = found.get("fs", "root"), found.get("fs", "mounts")
    if isinstance(root, dict) and not any(isinstance(value, dict) for value in root.values()):
        yield from _mount(found, ("fs", "root"), root)
    for index, mount in enumerate(listed if isinstance(listed, list) else ()):
        path: Path = ("fs", "mounts", index)
        if isinstance(mount, dict):
            yield from _mount(found, path, mount)
            if mount.get("path") in _ROOT_PATHS:
                yield found.refusal(
                    path, "root-mount", "the root is mounted already", "fs.root for it"
                )


def _mount(found: Manifest, path: Path, mount: Mapping[str, Any]) -> Iterator[Finding]:
    kind, uri = mount.get("type", "chroot"), mount.get("uri")
    if uri is None and kind in {"chroot", "encrypted", "untrusted_shm"}:
        yield found.refusal(path, "missing-key", "no uri", 'uri = "file:PATH"')
    host = _path_of(uri) if isinstance(uri, str) and uri.startswith("file:") else ""
    if kind != "tmpfs" and _ALL_THE_WAY_UP.fullmatch(host):
        yield found.refusal(
            path, "root-mount", "all of the host's files", "a mount for what is needed"
        )
    if kind == "chroot" and f"{host}/".startswith(tuple(f"{tree}/" for tree in _HOST_TREES)):
        yield found.refusal(
            path, "root-mount", f"{host} is the host's", "nothing: Gramine has its own"
        )
    if kind == "untrusted_shm":
        yield found.refusal(
            path,
            "shared-memory",
            "memory that the host reads, and changes while it is used",
            "a stream of ciphertext; shared memory is copied before anything in it is checked",
        )
    if kind == "encrypted":
        yield from _mount_key(found, path, mount)
    else:
        for name in ("key_name", "enable_recovery"):
            if name in mount:
                yield found.refusal(
                    (*path, name),
                    "unknown-key",
                    "belongs to an encrypted mount",
                    'type = "encrypted", or leave it out',
                )


def _mount_key(found: Manifest, path: Path, mount: Mapping[str, Any]) -> Iterator[Finding]:
    """Refuse an encrypted mount whose key is neither a sealing key nor known to be provisioned."""
    name = mount.get("key_name", "default")
    place: Path = (*path, "key_name") if "key_name" in mount else path
    env = found.get("loader", "env", "SECRET_PROVISION_SET_KEY")
    provisioned = env.get("value") if isinstance(env, dict) else env
    if name in _SEALING_KEYS:
        return
    if isinstance(name, str) and name.startswith("_"):  # reserved: nobody can provision one
        yield found.refusal(
            place, "mount-key", f"Gramine has no key {name}", " or ".join(_SEALING_KEYS)
        )
    elif (name != provisioned or name == "default") and not (
        found.has_reason(place) or found.has_reason(path)
    ):
        yield found.refusal(
            place,
            "mount-key",
            f"nothing says who provisions the key {name}",
            '"_sgx_mrenclave", or "# reason: …" that names who provisions it after attestation',
        )


FILE_RULES: tuple[Callable[[Manifest], Iterator[Finding]], ...] = (
    _wildcards,
    _allowed_files,
    _digests,
    _mounts,
)
