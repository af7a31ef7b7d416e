"""What the lint refuses in the files and mounts of a manifest: what comes from the host unverified.

An entry names one file. A directory lets in whatever lies in it on the day of signing (trusted) or
at any time (allowed), and nobody reads such a list.
"""

import bisect
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
    r"""/ ( bin | boot | dev(/shm)? | home | media | mnt | opt | proc | root | run | sbin | srv
          | sys | tmp | usr | usr/local | (usr/(local/)?)?(bin|sbin|share|include|libexec)
          | var(/(lib|run|tmp))? | etc(/( pki | ssl(/(certs|private))? | [^/]+\.d ))?
          | (usr/(local/)?)?lib(32|64|x32)?
            (/[a-z0-9_]+-linux-(gnu|musl)[a-z0-9_]*)?
            (/( jvm | python[0-9.]*(/(dist-packages|site-packages|lib-dynload))? ))? )""",
    re.VERBOSE,
)
"""An entry covers what is beneath it also without the slash; these are known to be directories."""

_GLOB = re.compile(r"[*?]|\[[^\[\]]+\]")
_ALL_THE_WAY_UP = re.compile(r"/|(\.\./)*\.\.")
_UPWARDS = re.compile(r"(\.\./)+")
_CODE = re.compile(r"wardian\.toml|.*\.(so(\.[0-9.]+)?|pyc?|pth|zip|whl|jar)", re.DOTALL)
"""Names of what runs, and of the settings that Wardian's measurement stands for."""


def _path_of(uri: str) -> str:
    path = uri.partition(":")[2]
    return re.sub("^/+", "/", posixpath.normpath(path)) if path else "."


def _wide(uri: str) -> str:
    """Return what `uri` names where that is more than one file, or an empty text."""
    path = _path_of(uri)
    if path == "/":
        return "the whole machine"
    is_directory = path in {".", ".."} or uri.endswith(("/", "/.", "/.."))
    if is_directory or _SYSTEM_DIRECTORY.fullmatch(_UPWARDS.sub("/", path, count=1)):
        return "a directory, with all that lies in it"
    return "a pattern" if _GLOB.search(path) else ""


_OWN_FOLDER: Final = re.compile(r"file:[a-z][a-z0-9_-]{0,63}/")
"""A folder in the role's own directory, for files whose names nobody knows when it is built. It may
be allowed, with a reason, if nothing else lies in it: no code is looked for there."""


def _allowed(found: Manifest) -> Iterator[tuple[Path, str]]:
    """Yield place and URI of every entry of `sgx.allowed_files` that is text."""
    for index, uri in enumerate(_entries(found, "allowed_files")):
        if isinstance(uri, str):
            yield ("sgx", "allowed_files", index), uri


def _trusted_paths(found: Manifest) -> set[str]:
    return {_path_of(uri) for _, uri in trusted_files(found) if uri.startswith("file:")}


def _wildcards(found: Manifest) -> Iterator[Finding]:
    for path, uri in (*trusted_files(found), *_allowed(found)):
        wide = "" if path[1] == "allowed_files" and _OWN_FOLDER.fullmatch(uri) else _wide(uri)
        if wide:
            yield found.refusal(path, "wildcard", f"{uri} is {wide}", "one entry for each file")
        schemes = ("file:",) if path[1] == "trusted_files" else ("file:", "dev:")
        if not uri.startswith(schemes):
            yield found.refusal(path, "wrong-type", f"{uri} is no URI", f'"{schemes[0]}PATH"')


def _directories(found: Manifest) -> Iterator[Finding]:
    """Refuse an allowed entry beneath which another entry or a mount lies: it lets all of it in."""
    allowed = [(path, uri, _path_of(uri)) for path, uri in _allowed(found)]
    uris = [uri for _, uri in trusted_files(found)]
    uris += [mount["uri"] for _, mount in _mount_tables(found) if _is_text(mount.get("uri"))]
    listed = set(map(_path_of, uris))
    known = sorted({*listed, *(host for _, _, host in allowed)})
    for path, uri, host in allowed:
        own = _OWN_FOLDER.fullmatch(uri)
        at = bisect.bisect_left(known, f"{host}/")
        beneath = at < len(known) and known[at].startswith(f"{host}/")
        if (own and host in listed) or (beneath and (own or not _wide(uri))):
            inside = known[at] if beneath else host
            yield found.refusal(
                path,
                "wildcard",
                f"{uri} is a directory: {inside} lies in it, and all that the host puts there",
                "one entry for each file",
            )


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
        elif isinstance(uri, str) and _CODE.fullmatch(posixpath.basename(_path_of(uri))):
            yield found.refusal(
                path,
                "allowed-code",
                f"{uri} decides what runs, and the host may change it at any time",
                "the file in sgx.trusted_files",
            )


def _trusted_twice(found: Manifest) -> Iterator[Finding]:
    seen: set[str] = set()
    for path, uri in trusted_files(found):
        if _path_of(uri) in seen:
            yield found.refusal(
                path,
                "trusted-twice",
                f"{uri} is trusted already, and only one digest can be meant",
                "one entry for each file",
            )
        seen.add(_path_of(uri))


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
_HOST_TREES: Final = ("/proc", "/sys", "/dev")
_MAX_PRELOADED: Final = 64  # each is looked for in every mount
_DEFAULT_ROOT: Final[Mapping[str, Any]] = {"uri": "file:."}
"""What Gramine mounts at the root where `fs.root` is absent."""


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _inside(path: str) -> str:
    """Return a path inside, absolute and in one form only."""
    return posixpath.normpath("/" + path.lstrip("/"))


def _lies_in(path: str, *directories: str) -> bool:
    """Return whether `path` is one of these directories, or beneath one."""
    return f"{path}/".startswith(tuple(f"{each.rstrip('/')}/" for each in directories))


def _mount_tables(found: Manifest) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield place and content of every mount but the root, in the order in which they are made."""
    listed = found.get("fs", "mounts")
    for index, mount in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(mount, dict):
            yield ("fs", "mounts", index), mount


def _host_path(found: Manifest, path: str) -> str | None:
    """Return what `path` inside is on the host, or None where the host has no such file.

    A later mount covers an earlier one. A relative path begins at `fs.start_dir`.
    """
    start, root = found.get("fs", "start_dir"), found.get("fs", "root")
    place = _inside(posixpath.join(start if isinstance(start, str) else "/", path))
    holder, rest = root if isinstance(root, dict) else _DEFAULT_ROOT, place
    for _, mount in _mount_tables(found):
        at = mount.get("path")
        if isinstance(at, str) and _lies_in(place, _inside(at)):
            holder, rest = mount, place[len(_inside(at)) :]
    uri = holder.get("uri")
    if holder.get("type", "chroot") != "chroot" or not isinstance(uri, str):
        return None
    return _path_of(f"file:{_path_of(uri)}/{rest}") if uri.startswith("file:") else None


def _program(found: Manifest) -> Iterator[Finding]:
    """Refuse a program, or a library that is loaded before it, that no measurement stands for."""
    measured = _trusted_paths(found) - {_path_of(uri) for _, uri in _allowed(found)}
    program = found.get("libos", "entrypoint")
    if isinstance(program, str) and not program.startswith("file:"):  # that is a removed key
        host = _host_path(found, program)
        if host not in measured:
            yield found.refusal(
                ("libos", "entrypoint"),
                "entrypoint",
                f"the mounts lead to {host or 'no file of the host'}, which is not trusted, or "
                "allowed too: the host chooses the program",
                f'{{ uri = "file:{host or "PATH"}", sha256 = … }} in sgx.trusted_files alone',
            )
    for name in ("LD_PRELOAD", "LD_AUDIT"):
        variable = found.get("loader", "env", name)
        value = variable.get("value") if isinstance(variable, dict) else variable
        libraries = set(re.split(r"[:\s]+", value)) - {""} if isinstance(value, str) else set()
        if len(libraries) > _MAX_PRELOADED or not all(
            "/" in each and _host_path(found, each) in measured for each in libraries
        ):
            yield found.refusal(
                ("loader", "env", name),
                "preload",
                "a library that is loaded before the program, and is not trusted",
                "the path of each, and each in sgx.trusted_files alone",
            )


def _mounts(found: Manifest) -> Iterator[Finding]:
    root = found.get("fs", "root")
    if isinstance(root, dict) and not any(isinstance(value, dict) for value in root.values()):
        yield from _mount(found, ("fs", "root"), root)
    for path, mount in _mount_tables(found):
        yield from _mount(found, path, mount)
        at = mount.get("path")
        if isinstance(at, str) and _inside(at) == "/":
            yield found.refusal(path, "root-mount", "the root is mounted already", "fs.root for it")
        elif isinstance(at, str) and _lies_in(_inside(at), *_HOST_TREES):
            yield found.refusal(
                path,
                "system-mount",
                f"{_inside(at)} is made by Gramine, and this would cover it: sealing keys, "
                "attestation, random numbers",
                "another path inside",
            )


def _mount(found: Manifest, path: Path, mount: Mapping[str, Any]) -> Iterator[Finding]:
    kind, uri = mount.get("type", "chroot"), mount.get("uri")
    if uri is None and kind in ("chroot", "encrypted", "untrusted_shm"):
        yield found.refusal(path, "missing-key", "no uri", 'uri = "file:PATH"')
    host = _path_of(uri) if isinstance(uri, str) and uri.startswith("file:") else ""
    if kind != "tmpfs" and _ALL_THE_WAY_UP.fullmatch(host):
        yield found.refusal(
            path, "root-mount", "all of the host's files", "a mount for what is needed"
        )
    if kind == "chroot" and _lies_in(_UPWARDS.sub("/", host, count=1), *_HOST_TREES):
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
    _directories,
    _allowed_files,
    _trusted_twice,
    _digests,
    _mounts,
    _program,
)
