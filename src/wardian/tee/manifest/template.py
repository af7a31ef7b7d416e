"""The one template of every role's manifest, in the syntax of Gramine 1.9.

Source: Gramine's documentation, "Manifest syntax". What is not said here is Gramine's default: no
host environment, no host arguments, strict checking of files, no `insecure__` key.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wardian.errors import ConfigError
from wardian.tee.role_table import HostFile

DIRECTORY = "/wardian"
"""Where the role's own directory lies inside the enclave: what is relative is relative to it."""

STATE = "state"
"""Below it: the encrypted mount of a role that keeps state."""

RUNTIME = "/gramine-runtime"
"""Where Gramine's own C library lies inside the enclave, if the builder found one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedFile:
    """A file by its URI (`file:` and a path) and the SHA-256 of its content, in hex."""

    uri: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """All that a role's manifest says.

    Attributes:
        role: its name.
        entrypoint: the interpreter's path.
        argv: the whole command line.
        environment: the whole environment.
        libos: URI and SHA-256 of Gramine's library OS; the hash is empty where it is not
            installed: then the signing tool fills it in.
        mounts: host directories that appear under their own paths.
        runtime: the host's directory of Gramine's C library, or empty.
        trusted: in any order.
        allowed: what is read without being trusted.
        keeps_state: whether there is an encrypted mount, sealed to the measurement.
        enclave_bytes: a power of two.
        max_threads: at once, Gramine's own included.
        edmm: whether memory and threads are added while the enclave runs (SGX 2).
        product_id: ISVPRODID.
        svn: ISVSVN.
    """

    role: str
    entrypoint: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    libos: TrustedFile
    mounts: tuple[str, ...]
    runtime: str
    trusted: tuple[TrustedFile, ...]
    allowed: tuple[HostFile, ...]
    keeps_state: bool
    enclave_bytes: int
    max_threads: int
    edmm: bool
    product_id: int
    svn: int


def render(contents: Contents) -> str:
    """Return the manifest as TOML: the same text for the same contents."""
    return "".join(f"{line}\n" for line in _lines(contents))


def _lines(contents: Contents) -> Iterable[str]:
    yield f"# Role {contents.role} of Wardian: one manifest for gramine-sgx, gramine-direct and the"
    yield "# simulation. Written by `wardian enclave build`; every change is another measurement."
    yield "[libos]"
    yield f"entrypoint = {quote(contents.entrypoint)}"
    yield ""
    yield "[loader]"
    libos_hash = f", sha256 = {quote(contents.libos.sha256)}" if contents.libos.sha256 else ""
    yield f"entrypoint = {{ uri = {quote(contents.libos.uri)}{libos_hash} }}"
    yield 'log_level = "error"'
    yield f"argv = [{', '.join(quote(argument) for argument in contents.argv)}]"
    yield ""
    yield "[loader.env]"
    for name, value in sorted(contents.environment.items()):
        yield f"{name} = {quote(value)}"
    yield ""
    yield "[fs]"
    yield 'root = { type = "tmpfs" }'
    yield f"start_dir = {quote(DIRECTORY)}"
    yield from _array("mounts", _mounts(contents))
    yield ""
    yield "[sys]"
    yield 'stack.size = "2M"'
    yield "fds.limit = 4096"
    yield "disallow_subprocesses = true"
    yield ""
    yield "[sgx]"
    yield "debug = false"
    yield 'remote_attestation = "dcap"'
    yield 'file_check_policy = "strict"'
    yield "use_exinfo = true"
    yield f"enclave_size = {quote(_size(contents.enclave_bytes))}"
    yield f"max_threads = {contents.max_threads}"
    yield f"edmm_enable = {'true' if contents.edmm else 'false'}"
    yield f"isvprodid = {contents.product_id}"
    yield f"isvsvn = {contents.svn}"
    yield from _array("trusted_files", _trusted(contents.trusted))
    yield from _array("allowed_files", _allowed(contents.allowed))


def _mounts(contents: Contents) -> Iterable[str]:
    for path in contents.mounts:
        yield f"{{ path = {quote(path)}, uri = {quote('file:' + path)} }},"
    if contents.runtime:
        yield f"{{ path = {quote(RUNTIME)}, uri = {quote('file:' + contents.runtime)} }},"
    yield f'{{ path = {quote(DIRECTORY)}, uri = "file:." }},'
    if contents.keeps_state:
        path, uri = quote(f"{DIRECTORY}/{STATE}"), quote(f"file:{STATE}")
        yield (
            f'{{ type = "encrypted", path = {path}, uri = {uri}, key_name = "_sgx_mrenclave" }},'
        )


def _trusted(files: Iterable[TrustedFile]) -> Iterable[str]:
    for file in sorted(files, key=lambda file: file.uri):
        yield f"{{ uri = {quote(file.uri)}, sha256 = {quote(file.sha256)} }},"


def _allowed(files: Iterable[HostFile]) -> Iterable[str]:
    for file in files:
        yield f"# reason: {file.reason}"
        yield f"{quote('file:' + file.path)},"


def _array(name: str, items: Iterable[str]) -> Iterable[str]:
    yield f"{name} = ["
    for item in items:
        yield f"  {item}"
    yield "]"


def _size(count: int) -> str:
    """Return `count` bytes, a multiple of a mebibyte, as Gramine writes sizes."""
    mebibytes = count // 1024**2
    return f"{mebibytes // 1024}G" if mebibytes % 1024 == 0 else f"{mebibytes}M"


def quote(text: str) -> str:
    """Return `text` as a TOML basic string.

    Raises:
        ConfigError: it holds a character that no path or setting needs.
    """
    if not text.isprintable():
        raise ConfigError(f"{text!r}: a manifest holds printable characters only")
    return json.dumps(text, ensure_ascii=False)
