"""Refuses the system calls that a role has no use for: a filter over all threads of the process.

Runs inside the measured process, and imports little and nothing of Wardian, so that it can be read
as a whole. What a role needs is to compute, to keep files that it may touch, and to talk over Unix
sockets and TCP. It never starts a program or a process; it does not look into others, change who it
is, or administer the machine. Much of what is refused also closes what Landlock leaves open: it
sees neither UDP nor MPTCP, nor a connection by TCP Fast Open, nor who owns a file.

The program is classic BPF over `struct seccomp_data` (Linux, Documentation/userspace-api/
seccomp_filter.rst): a system call number and six arguments, no memory behind pointers. It compares
one number after the other. That is slow only where arguments decide: the kernel (5.11 and newer)
works out once which calls are allowed whatever their arguments, and does not run it for those.
docs/reference/confinement.md has every call with its reason.
"""

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterable
from typing import NamedTuple

# name=number on x86-64/number on aarch64; "-" where there is no such call.
# Sources: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
_REFUSED = """
# One process, one program.
fork=57/- vfork=58/- execve=59/221 execveat=322/281
# Other processes: their memory, descriptors, signals, traces.
ptrace=101/117 process_vm_readv=310/270 process_vm_writev=311/271 process_madvise=440/440
process_mrelease=448/448 pidfd_open=434/434 pidfd_getfd=438/438 pidfd_send_signal=424/424
kcmp=312/272 tkill=200/130 rt_sigqueueinfo=129/138 rt_tgsigqueueinfo=297/240
migrate_pages=256/238 move_pages=279/239 perf_event_open=298/241
# Another view of the files, and files without paths.
mount=165/40 umount2=166/39 pivot_root=155/41 chroot=161/51 open_tree=428/428 move_mount=429/429
fsopen=430/430 fsconfig=431/431 fsmount=432/432 fspick=433/433 mount_setattr=442/442
statmount=457/457 listmount=458/458 open_tree_attr=467/467 unshare=272/97 setns=308/268
name_to_handle_at=303/264 open_by_handle_at=304/265
# What Landlock does not see of files, in some or all versions; watching them.
truncate=76/45 mknod=133/- mknodat=259/33 chown=92/- lchown=94/- fchown=93/55 fchownat=260/54
utime=132/- utimes=235/- futimesat=261/- utimensat=280/88 setxattr=188/5 lsetxattr=189/6
fsetxattr=190/7 setxattrat=463/463 removexattr=197/14 lremovexattr=198/15 fremovexattr=199/16
removexattrat=466/466 file_setattr=469/469 chmod=90/- fchmodat=268/53 fchmodat2=452/452
inotify_init=253/- inotify_init1=294/26
fanotify_init=300/262 fanotify_mark=301/263
# Memory and queues that others reach by name.
shmget=29/194 shmat=30/196 shmctl=31/195 semget=64/190 semop=65/193 semtimedop=220/192
semctl=66/191 msgget=68/186 msgsnd=69/189 msgrcv=70/188 msgctl=71/187 mq_open=240/180
mq_unlink=241/181
# Much kernel for no use here; io_uring would also do unseen what is refused.
io_uring_setup=425/425 io_uring_enter=426/426 io_uring_register=427/427 io_setup=206/0
io_submit=209/2 userfaultfd=323/282 bpf=321/280 add_key=248/217 request_key=249/218
keyctl=250/219 modify_ldt=154/-
# Who the process is, and its share of the machine.
setuid=105/146 setgid=106/144 setreuid=113/145 setregid=114/143 setresuid=117/147
setresgid=119/149 setgroups=116/159 setfsuid=122/151 setfsgid=123/152 capset=126/91
personality=135/92 setrlimit=160/164 setpriority=141/140 sched_setparam=142/118
sched_setscheduler=144/119 sched_setattr=314/274 ioprio_set=251/30 lsm_set_self_attr=460/460
# The machine.
init_module=175/105 finit_module=313/273 delete_module=176/106 kexec_load=246/104
kexec_file_load=320/294 reboot=169/142 swapon=167/224 swapoff=168/225 acct=163/89 quotactl=179/60
quotactl_fd=443/443 syslog=103/116 iopl=172/- ioperm=173/- sethostname=170/161
setdomainname=171/162 settimeofday=164/170 clock_settime=227/112 clock_adjtime=305/266
adjtimex=159/171 vhangup=153/58 sysfs=139/- uselib=134/- ustat=136/- lookup_dcookie=212/18
nfsservctl=180/42
"""

# "There is no such call": the caller falls back to one whose arguments a filter can see.
_ABSENT = "clone3=435/435 openat2=437/437"

# Decided by their arguments: see `_cases`.
_BY_ARGUMENT = """
sendto=44/206 sendmsg=46/211 sendmmsg=307/269 open=2/- openat=257/56 fcntl=72/25 ioctl=16/29
prctl=157/167 kill=62/129 tgkill=234/131 fchmod=91/52
clone=56/220 prlimit64=302/261 socketpair=53/199 socket=41/198
"""

_NEWEST = 470  # listns, Linux 6.19, on both. Who allows a later call has read what it does.

_MACHINES = ("x86_64", "aarch64")  # the columns above, in this order
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER, _TSYNC = 1, 1
_PR_SET_NO_NEW_PRIVS = 38

# Offsets in struct seccomp_data, and operations of BPF.
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_LOAD, _AND, _EQUAL, _GREATER, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_REFUSE = _ERRNO | errno.EPERM

_WHOLE = 0xFFFFFFFF
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_STREAM, _DATAGRAM, _TYPE_MASK = 1, 2, 0xF  # above it: SOCK_NONBLOCK, SOCK_CLOEXEC
_TCP, _UDP = 6, 17  # and 0, which means the same for these types
_FAST_OPEN = 0x20000000  # MSG_FASTOPEN: connects without connect(2), so unseen by Landlock
_OPEN_MASK, _TRUNCATES = 0x203, (0x200, 0x203)  # O_ACCMODE | O_TRUNC; O_TRUNC without writing
_SIGNALLING = (8, 10, 15, 1024, 1026)  # fcntl: F_SETOWN, _SETSIG, _SETOWN_EX, _SETLEASE, _NOTIFY
_TERMINAL = (0x5412, 0x541C, 0x8901, 0x8902, 0x40086602)
# ioctl: TIOCSTI, TIOCLINUX, FIOSETOWN, SIOCSPGRP, FS_IOC_SETFLAGS
_SETTLED = (1, 4, 35, 0x59616D61)  # prctl: PR_SET_PDEATHSIG, _DUMPABLE, _MM, _PTRACER
_OPENS_TO_OTHERS = 0o7077  # every bit of a file's mode but its owner's
_THREAD, _NEW_NAMESPACE = 0x10000, 0x7E020000  # clone: CLONE_THREAD; all of CLONE_NEW*


class _Field(NamedTuple):
    """Says yes if the 32 bits at `offset` of struct seccomp_data, under `mask`, are `value`."""

    offset: int
    mask: int
    value: int


class _Case(NamedTuple):
    """System calls that are decided by their arguments.

    If all fields of one of the `rules` say yes, the call is allowed or refused as `allow` says,
    otherwise the other way round.
    """

    names: str
    rules: tuple[tuple[_Field, ...], ...]
    allow: bool


def numbers(machine: str) -> dict[str, int]:
    """Return the number of each system call that the filter names, as `machine` has it.

    Args:
        machine: as `os.uname().machine`.

    Raises:
        OSError: there is no filter for that machine.
    """
    return {
        name: number
        for text in (_REFUSED, _ABSENT, _BY_ARGUMENT)
        for name, number in _parse(text, machine).items()
    }


def program(machine: str, *, names: bool, pid: int) -> bytes:
    """Return the filter: 8 bytes an instruction, as `struct sock_filter` has them.

    Args:
        machine: "x86_64" or "aarch64", as `os.uname().machine`.
        names: whether the process resolves names, so that it needs UDP.
        pid: the process, which may send signals to itself.

    Raises:
        OSError: there is no filter for that machine.
    """
    named = numbers(machine)
    code = [
        _instruction(_LOAD, _ARCH),
        _instruction(_EQUAL, _AUDIT_ARCH[machine], yes=1),
        _instruction(_RETURN, _KILL_PROCESS),  # 32-bit calls: other numbers, other arguments
        _instruction(_LOAD, _NUMBER),
        # Also the calls of x32, which set bit 30, and their own numbers from 512, without it.
        _instruction(_GREATER, _NEWEST, no=1),
        _instruction(_RETURN, _ERRNO | errno.ENOSYS),
    ]
    for case in _cases(names=names, pid=pid):
        for name in case.names.split():
            if name in named:
                code += _only(named[name], _decide(case))
    for text, verdict in ((_REFUSED, _REFUSE), (_ABSENT, _ERRNO | errno.ENOSYS)):
        for number in _parse(text, machine).values():
            code += _only(number, [_instruction(_RETURN, verdict)])
    return b"".join([*code, _instruction(_RETURN, _ALLOW)])


def install(*, names: bool = False) -> None:
    """Confine this process, all threads that it has and will have, for good.

    To be called last of what hardens a process: afterwards it can no longer say when it dies with
    its parent, whether it can be dumped, or what its limits are.

    Args:
        names: whether the process resolves names, so that it needs UDP, to any host and port.

    Raises:
        OSError: there is no filter for this machine, or the kernel did not take it: nothing is
            confined, and the process must not go on.
    """
    if sys.platform != "linux" or sys.maxsize < 2**32:
        raise OSError(errno.ENOSYS, "system calls are filtered on 64-bit Linux alone")
    machine = os.uname().machine
    code = program(machine, names=names, pid=os.getpid())
    instructions = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: how many, and where.
    header = struct.pack("@HP", len(code) // 8, ctypes.addressof(instructions))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    libc.syscall.argtypes = [ctypes.c_long, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_char_p]
    libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "privileges could not be given up")
    thread = libc.syscall(_SECCOMP[machine], _SET_MODE_FILTER, _TSYNC, header)
    if thread < 0:
        raise OSError(ctypes.get_errno(), "the kernel did not take the filter of system calls")
    if thread > 0:
        raise OSError(errno.EBUSY, f"thread {thread} has a filter of its own: nothing is filtered")


def _cases(*, names: bool, pid: int) -> tuple[_Case, ...]:
    """Return the calls that arguments decide, the frequent ones first."""
    to_itself = _one_of(0, pid)
    return (
        _Case("sendto sendmmsg", _one_of(3, _FAST_OPEN, mask=_FAST_OPEN), allow=False),
        _Case("sendmsg", _one_of(2, _FAST_OPEN, mask=_FAST_OPEN), allow=False),
        _Case("openat", _one_of(2, *_TRUNCATES, mask=_OPEN_MASK), allow=False),
        _Case("open", _one_of(1, *_TRUNCATES, mask=_OPEN_MASK), allow=False),
        _Case("fcntl", _one_of(1, *_SIGNALLING), allow=False),
        _Case("ioctl", _one_of(1, *_TERMINAL), allow=False),
        _Case("prctl", _one_of(0, *_SETTLED), allow=False),
        _Case("kill tgkill", to_itself, allow=True),
        # By a descriptor alone: that one came through Landlock, a path need not have.
        _Case("fchmod", _one_of(1, 0, mask=_OPENS_TO_OTHERS), allow=True),
        _Case("clone", _one_of(0, _THREAD, mask=_THREAD | _NEW_NAMESPACE), allow=True),
        _Case("prlimit64", ((_low(2, 0), _high(2, 0)),), allow=True),  # no new limit: a question
        _Case("socketpair", _one_of(0, _AF_UNIX), allow=True),
        _Case("socket", tuple(_sockets(names=names)), allow=True),
    )


def _sockets(*, names: bool) -> Iterable[tuple[_Field, ...]]:
    """Yield the sockets that may be made: family, type and protocol."""
    allowed = [(_AF_UNIX, _STREAM, 0)]
    for family in (_AF_INET, _AF_INET6):
        allowed += [(family, _STREAM, 0), (family, _STREAM, _TCP)]
        if names:
            allowed += [(family, _DATAGRAM, 0), (family, _DATAGRAM, _UDP)]
    for family, kind, protocol in allowed:
        yield _low(0, family), _low(1, kind, mask=_TYPE_MASK), _low(2, protocol)


def _one_of(index: int, *values: int, mask: int = _WHOLE) -> tuple[tuple[_Field, ...], ...]:
    return tuple((_low(index, value, mask=mask),) for value in values)


def _low(index: int, value: int, *, mask: int = _WHOLE) -> _Field:
    """The kernel takes `int` arguments from the lower half of a register; so does the filter."""
    return _Field(_ARGUMENTS + 8 * index, mask, value)


def _high(index: int, value: int) -> _Field:
    return _Field(_ARGUMENTS + 8 * index + 4, _WHOLE, value)


def _only(number: int, block: list[bytes]) -> list[bytes]:
    """Return code that runs `block`, which always returns, for that system call alone."""
    return [_instruction(_EQUAL, number, no=len(block)), *block]


def _decide(case: _Case) -> list[bytes]:
    listed, other = (_ALLOW, _REFUSE) if case.allow else (_REFUSE, _ALLOW)
    block: list[bytes] = []
    for rule in case.rules:
        code = [_instruction(_RETURN, listed)]
        for offset, mask, value in reversed(rule):
            code = [
                _instruction(_LOAD, offset),
                *([_instruction(_AND, mask)] if mask != _WHOLE else []),
                _instruction(_EQUAL, value, no=len(code)),  # to the next rule
                *code,
            ]
        block += code
    return [*block, _instruction(_RETURN, other)]


def _instruction(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _parse(text: str, machine: str) -> dict[str, int]:
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"no filter of system calls for the machine {machine!r}")
    calls = {}
    for line in text.splitlines():
        for entry in [] if line.startswith("#") else line.split():
            name, _, columns = entry.partition("=")
            number = columns.split("/")[_MACHINES.index(machine)]
            if number != "-":
                calls[name] = int(number)
    return calls
