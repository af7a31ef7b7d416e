"""Landlock: the kernel refuses a process whatever is not on its list (Linux 5.13 and newer).

The launcher makes a `Ruleset` of an `Access`, and the child restricts itself with it between fork
and exec. From then on neither it nor what it starts can touch anything else, whoever its user is,
and nothing takes the restriction back. What each version of the kernel's interface (its ABI)
enforces is in docs/reference/confinement.md; `unenforced` says what the one at hand does not.

A rule holds for the file that its path leads to when the ruleset is made: through symbolic links,
under each of the file's names (hard links) and wherever its directory is mounted again. A rule for
a directory holds for all that lies below it, at any depth; Landlock has no other. So a file that is
listed for reading can be written if a directory that is listed for writing holds it as well, be
it under another name, and `/proc/self` means the process that made the ruleset (but see `own`).

Source: Linux, Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h.
"""

import ctypes
import functools
import os
import stat
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from wardian.errors import ConfigError

NEWEST_ABI: Final = 7
"""The newest version whose rights this module asks for (Linux 6.15). Newer kernels offer it too."""

# The same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_PATH_BENEATH, _NET_PORT = 1, 2
_PR_SET_NO_NEW_PRIVS = 38
_RULE = struct.Struct("=Qi")  # landlock_path_beneath_attr: allowed access, descriptor; packed

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_REG, _MAKE_SOCK = 1 << 5, 1 << 8, 1 << 9
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1 << 0, 1 << 1

# Since which ABI, and what: of files, of TCP, and of what stays among the confined processes.
_FILE_RIGHTS = ((1, (1 << 13) - 1), (2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV))
_TCP_RIGHTS = ((4, _BIND_TCP | _CONNECT_TCP),)
_SCOPES = ((6, _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS),)

# Without REFER, so that a file never leaves its directory, on any kernel. With READ_DIR: SQLite
# opens the directory to bring a rename to the disk.
_KEEP = _READ_DIR | _READ_FILE | _WRITE_FILE | _TRUNCATE | _MAKE_REG | _REMOVE_FILE

_NEVER = sys.maxsize
_LIMITS = (
    (1, "The process may read, write, make, remove and execute every file that its user may."),
    (3, "The process may truncate a listed file, even one for reading, if its user may write it."),
    (4, "The process may listen on any TCP port and connect to any."),
    (5, "The process may do every ioctl on a device that it may open."),
    (6, "The process may connect to any abstract Unix socket."),
    (6, "The process may send signals to every process of its user."),
    (_NEVER, "The process may connect to any Unix socket with a path that its user may write to."),
    (_NEVER, "The process may listen on a TCP port that the kernel chooses, if it binds none."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a process may touch. The kernel refuses everything else (`EACCES`).

    Not refused, since Landlock knows no right for it: to look at what is known about a file
    without opening it (`stat`), and to change its mode, owner and times. The latter is left to
    the filter of system calls (`wardian.tee.seccomp`).

    Attributes:
        read: files that may be read, and thus mapped: shared objects need no more.
        execute: files that may be read and executed. A program needs its ELF interpreter listed
            beside it (`ld-linux-x86-64.so.2`), a script its interpreter.
        list: directories that may be listed, with every directory below; no file in them may be
            read because of it.
        write: directories in which files may be made, read, written, truncated, renamed and
            removed, also below directories that are there already. No directory, link, device or
            socket may be made, and no file moved from one directory to another.
        sockets: directories in which Unix sockets may be made, and any file removed: give them
            away for that alone. To connect to a socket needs no right.
        tree: directories that may be listed and in which every file may be read, at any depth.
        own: names below `/proc/self` of the confined process itself: files that may be read, or
            directories as in `tree`. One that is not there is left out.
        read_write: files that may be read and written, but neither made nor truncated nor given
            an ioctl: `/dev/null`.
        bind: TCP ports on which it may listen; 0 is a port that the kernel chooses. Enforced
            since ABI 4, as the next.
        connect: TCP ports that it may connect to, on every host.
    """

    read: tuple[Path, ...] = ()
    execute: tuple[Path, ...] = ()
    list: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    sockets: tuple[Path, ...] = ()
    tree: tuple[Path, ...] = ()
    own: tuple[str, ...] = ()
    read_write: tuple[Path, ...] = ()
    bind: tuple[int, ...] = ()
    connect: tuple[int, ...] = ()


def abi() -> int:
    """Return the version of Landlock's interface in this kernel; 0 if it cannot be used here."""
    if sys.platform != "linux":
        return 0
    try:
        return _system_call(_CREATE_RULESET, 0, 0, _CREATE_RULESET_VERSION)
    except OSError:  # not built in, off since boot, or kept from us by a filter
        return 0


def unenforced(abi: int) -> tuple[str, ...]:
    """Return a sentence for each thing that a confined process may still do on such a kernel.

    Never empty: of two things no kernel up to `NEWEST_ABI` keeps a process. This is Landlock
    alone; the filter of system calls closes some of it (docs/reference/confinement.md).

    Args:
        abi: as `abi()` returns it; 0 is a kernel without Landlock.
    """
    return tuple(sentence for since, sentence in _LIMITS if abi < since)


class Ruleset:
    """An `Access` that the kernel holds. Made in the parent, applied in the child."""

    def __init__(self, access: Access, *, abi: int) -> None:
        """Hand `access` to the kernel. Takes less than 10 microseconds a file.

        Args:
            access: what stays allowed.
            abi: the kernel's, from `abi()`, at least 1. Rights that it does not know stay
                unenforced; so tell the user what `unenforced` says about the same number.

        Raises:
            ConfigError: this kernel cannot confine a process, or a path is missing, cannot be
                opened or is of the wrong kind, or a port is out of range; names it.
        """
        if abi < 1 or sys.platform != "linux":
            raise ConfigError("this kernel has no Landlock: processes cannot be confined to files")
        self._fd = -1
        self._own = [f"/proc/self/{name}" for name in access.own]
        self._file_rights = _known(_FILE_RIGHTS, abi)
        self._tcp_rights = _known(_TCP_RIGHTS, abi)
        # Resolved here: after a fork no library may be loaded.
        self._syscall, self._prctl = _libc()
        self._rule = ctypes.create_string_buffer(_RULE.size)  # one for all: there are thousands
        try:
            self._fd = self._create(_known(_SCOPES, abi))
            self._add_files(access)
            if self._tcp_rights:
                self._add_ports(access.bind, _BIND_TCP)
                self._add_ports(access.connect, _CONNECT_TCP)
        except BaseException:
            self.close()
            raise

    def restrict(self) -> None:
        """Confine the calling thread, and all that it starts, for good.

        To be called in a child between fork and exec: there is one thread then. Threads that run
        already are not confined. The process can gain no privilege by an exec from then on
        (`no_new_privs`). Opens what was named in `own`, whose meaning the fork has changed, and
        makes two system calls beside that. A ruleset with `own` is for one child: the next one
        would get the first one's entries as well.

        Raises:
            OSError: the kernel refused, or the ruleset is closed. The thread is not confined and
                must not go on.
        """
        for path in self._own:
            if os.path.exists(path):  # noqa: PTH110 (between fork and exec: as little as can be)
                directory = os.path.isdir(path)  # noqa: PTH112
                self._add_path(path, _READ_FILE | (_READ_DIR if directory else 0))
        if (
            self._prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            or self._syscall(_RESTRICT_SELF, self._fd, 0, 0, 0) != 0
        ):
            raise OSError(ctypes.get_errno(), "Landlock does not confine this process")

    def close(self) -> None:
        """Give the ruleset back. What is confined by it stays so."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _create(self, scopes: int) -> int:
        """Return a ruleset that forbids all that this ABI knows. It is closed on exec."""
        attributes = (ctypes.c_uint64 * 3)(self._file_rights, self._tcp_rights, scopes)
        # Older kernels know fewer fields, and refuse longer records unless the rest is zero.
        fields = 3 if scopes else 2 if self._tcp_rights else 1
        try:
            return _system_call(_CREATE_RULESET, ctypes.addressof(attributes), 8 * fields, 0)
        except OSError as err:
            raise ConfigError(f"Landlock cannot be used here: {err.strerror}") from err

    def _add_files(self, access: Access) -> None:
        self._add_paths(access.read, _READ_FILE, directories=False)
        self._add_paths(access.execute, _READ_FILE | _EXECUTE, directories=False)
        self._add_paths(access.read_write, _READ_FILE | _WRITE_FILE, directories=False)
        self._add_paths(access.list, _READ_DIR, directories=True)
        self._add_paths(access.tree, _READ_DIR | _READ_FILE, directories=True)
        self._add_paths(access.write, _KEEP, directories=True)
        self._add_paths(access.sockets, _MAKE_SOCK | _REMOVE_FILE, directories=True)

    def _add_paths(self, paths: Iterable[Path], rights: int, *, directories: bool) -> None:
        for path in paths:
            try:
                self._add_path(path, rights, directory=directories)
            except (OSError, ValueError) as err:  # ValueError: a zero byte in the path
                reason = getattr(err, "strerror", None) or err
                raise ConfigError(f"{path}: cannot be opened to a process: {reason}") from err

    def _add_path(self, path: Path | str, rights: int, *, directory: bool | None = None) -> None:
        """Open `path` with `rights`; refuse it if it is a directory and should not be, or is not.

        A directory among the files would open all that lies in it.
        """
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            found = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            if directory is not None and found != directory:
                kind = "not a directory" if directory else "a directory, not a file"
                raise ConfigError(f"{path}: is {kind}")
            _RULE.pack_into(self._rule, 0, rights & self._file_rights, descriptor)
            address = ctypes.addressof(self._rule)
            if self._syscall(_ADD_RULE, self._fd, _PATH_BENEATH, address, 0) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
        finally:
            os.close(descriptor)

    def _add_ports(self, ports: Iterable[int], right: int) -> None:
        for port in ports:
            if not 0 <= port <= 65535:
                raise ConfigError(f"{port} is not a TCP port")
            rule = (ctypes.c_uint64 * 2)(right, port)
            try:
                _system_call(_ADD_RULE, self._fd, _NET_PORT, ctypes.addressof(rule), 0)
            except OSError as err:
                raise ConfigError(f"TCP port {port} cannot be confined: {err.strerror}") from err


def _known(rights: Iterable[tuple[int, int]], abi: int) -> int:
    return functools.reduce(int.__or__, (right for since, right in rights if abi >= since), 0)


@functools.cache
def _libc() -> tuple[Callable[..., int], Callable[..., int]]:
    """Return the C library's `syscall` (number and four arguments) and `prctl`."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.argtypes = [ctypes.c_long] * 5
    libc.syscall.restype = ctypes.c_long
    libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    return libc.syscall, libc.prctl


def _system_call(number: int, *arguments: int) -> int:
    syscall, _ = _libc()
    result = syscall(number, *arguments, *[0] * (4 - len(arguments)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
