"""The filter of system calls: every call interpreted for both machines, attacks tried on this kernel.

Each attack runs in two fresh processes: a free one, where it has to work, and one behind the filter.
"""

import errno
import platform
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import wardian
from wardian.tee import seccomp
from wardian.tee.launch import landlock

REPOSITORY = Path(__file__).parents[3]
MACHINES = ("x86_64", "aarch64")
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
PID = 4711

KILL, ALLOW = "kill", "allow"


def words(text: str) -> list[str]:
    return text.split()


# All that is refused whatever its arguments.
REFUSED = words("""
fork vfork execve execveat
ptrace process_vm_readv process_vm_writev process_madvise process_mrelease pidfd_open pidfd_getfd
pidfd_send_signal kcmp tkill rt_sigqueueinfo rt_tgsigqueueinfo migrate_pages move_pages perf_event_open
mount umount2 pivot_root chroot open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick
mount_setattr statmount listmount unshare setns name_to_handle_at open_by_handle_at
truncate mknod mknodat chown lchown fchown fchownat utime utimes futimesat utimensat setxattr
lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat file_setattr chmod fchmodat fchmodat2
inotify_init inotify_init1 fanotify_init fanotify_mark
shmget shmat shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl mq_open mq_unlink
io_uring_setup io_uring_enter io_uring_register io_setup io_submit userfaultfd bpf add_key
request_key keyctl modify_ldt
setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid capset personality
setrlimit setpriority sched_setparam sched_setscheduler sched_setattr ioprio_set lsm_set_self_attr
init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct
quotactl quotactl_fd syslog iopl ioperm sethostname setdomainname settimeofday clock_settime
clock_adjtime adjtimex vhangup sysfs uselib ustat lookup_dcookie nfsservctl
""")
ABSENT = ["clone3", "openat2"]
BY_ARGUMENT = words("""
sendto sendmsg sendmmsg open openat fcntl ioctl prctl kill tgkill fchmod clone prlimit64
socketpair socket
""")
X86_ALONE = words("""
fork vfork mknod chown lchown utime utimes futimesat inotify_init modify_ldt iopl ioperm sysfs uselib
ustat open chmod
""")


def verdict(
    code: bytes, number: int, *arguments: int, arch: int | None = None, machine: str = "x86_64"
) -> str:
    """Return what the classic BPF program `code` says to a system call."""
    arch = AUDIT_ARCH[machine] if arch is None else arch
    registers = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *(r % 2**64 for r in registers))
    accumulator, at = 0, 0
    while True:
        operation, yes, no, k = struct.unpack_from("=HBBI", code, 8 * at)
        at += 1
        if operation == 0x20:  # load a word
            accumulator = struct.unpack_from("<I", data, k)[0]
        elif operation == 0x54:
            accumulator &= k
        elif operation == 0x15:
            at += yes if accumulator == k else no
        elif operation == 0x25:
            at += yes if accumulator > k else no
        elif operation == 0x06:
            return named(k)
        else:
            raise AssertionError(f"unknown operation {operation:#x}")


def named(action: int) -> str:
    if action == 0x80000000:
        return KILL
    if action == 0x7FFF0000:
        return ALLOW
    assert action >> 16 == 0x5
    return errno.errorcode[action & 0xFFFF]


@pytest.fixture(params=MACHINES)
def machine(request) -> str:
    return request.param


class Filter:
    """The program of one machine, asked by name."""

    def __init__(self, machine: str, *, names: bool = False) -> None:
        self.code = seccomp.program(machine, names=names, pid=PID)
        self.machine = machine
        self.numbers = seccomp.numbers(machine)

    def says(self, name: str, *arguments: int) -> str:
        return verdict(self.code, self.numbers[name], *arguments, machine=self.machine)

    def has(self, name: str) -> bool:
        return name in self.numbers


@pytest.fixture
def filtered(machine) -> Filter:
    return Filter(machine)


# The table.


def test_names(machine):
    expected = {*REFUSED, *ABSENT, *BY_ARGUMENT}
    if machine == "aarch64":
        expected -= set(X86_ALONE)
    assert set(seccomp.numbers(machine)) == expected
    assert len(set(seccomp.numbers(machine).values())) == len(expected)


def test_every_name_is_in_the_reference():
    text = (REPOSITORY / "docs" / "reference" / "confinement.md").read_text()
    known = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", text))))
    assert {*REFUSED, *ABSENT, *BY_ARGUMENT} <= known


HEADERS = {
    "x86_64": (
        "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
        "/usr/include/asm/unistd_64.h",
        "/usr/x86_64-linux-gnu/include/asm/unistd_64.h",
    ),
    # The table that aarch64 takes as it is. Where it is the machine's own, its unistd.h includes it.
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}


def test_numbers_are_those_of_the_kernels_headers(machine):
    header = next((Path(path) for path in HEADERS[machine] if Path(path).exists()), None)
    if header is None:
        pytest.skip(f"the kernel's headers for {machine} are not installed")
    found = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", header.read_text(), re.MULTILINE)
    theirs = {name: int(number) for name, number in found}
    newest = max(number for name, number in theirs.items() if name != "syscalls")
    ours = seccomp.numbers(machine)
    assert {name: number for name, number in ours.items() if number <= newest} == {
        name: theirs.get(name) for name, number in ours.items() if number <= newest
    }
    assert len(set(ours) & set(theirs)) > 100
    if machine == "aarch64":
        assert not set(X86_ALONE) & set(theirs)


# Every number, for both machines.


@pytest.mark.parametrize("names", [False, True])
def test_every_system_call(machine, names):
    filtered = Filter(machine, names=names)
    by_number = {number: name for name, number in filtered.numbers.items()}
    for number in range(601):
        name = by_number.get(number, "")
        if name in BY_ARGUMENT:
            continue
        expected = "EPERM" if name in REFUSED else ALLOW
        if name in ABSENT or number > 470:
            expected = "ENOSYS"
        for arguments in ((), (2**64 - 1,) * 6):
            said = verdict(filtered.code, number, *arguments, machine=machine)
            assert said == expected, (name, number)


@pytest.mark.parametrize("number", [601, 2**16, 2**30, 2**30 + 1, 2**30 + 59, 2**31, 2**32 - 1])
def test_unknown_system_call(filtered, number):
    """Bit 30 is x32: the kernel would take 2**30 + 59 for another execve."""
    assert verdict(filtered.code, number, machine=filtered.machine) == "ENOSYS"


@pytest.mark.parametrize("arch", [0, 0x40000003, 0x40000028, 0x4000003E, 0xC0000016, 2**32 - 1])
def test_system_calls_of_another_architecture_kill(filtered, arch):
    """Such as those of 32-bit programs, whose number 11 is execve."""
    for number in (0, 1, 11, 221, 59, 2**30):
        assert verdict(filtered.code, number, arch=arch) == KILL
    (other,) = set(MACHINES) - {filtered.machine}
    assert verdict(filtered.code, 0, arch=AUDIT_ARCH[other]) == KILL


def test_program_is_one_that_the_kernel_takes(machine):
    code = Filter(machine, names=True).code
    assert len(code) % 8 == 0
    assert len(code) // 8 <= 4096  # BPF_MAXINSNS
    assert struct.unpack_from("=HBBI", code, len(code) - 8) == (0x06, 0, 0, 0x7FFF0000)


@pytest.mark.parametrize(
    "other", ["", "i686", "arm64", "aarch64_be", "armv8l", "riscv64", "ppc64le"]
)
def test_other_machines(other):
    for ask in (lambda: seccomp.program(other, names=False, pid=1), lambda: seccomp.numbers(other)):
        with pytest.raises(OSError, match="machine"):
            ask()


# What arguments decide, for both machines. The kernel reads the lower half of a register.

HIGH = 2**32


def test_clone_makes_threads_alone(filtered):
    glibc_thread = 0x3D0F00  # what pthread_create passes
    assert filtered.says("clone", glibc_thread) == ALLOW
    assert filtered.says("clone", glibc_thread | HIGH) == ALLOW
    for flags in (0, 17, 0x1200011, 0x4111, HIGH | 17, 0x10000 * HIGH, glibc_thread & ~0x10000):
        assert filtered.says("clone", flags) == "EPERM"
    for namespace in (1 << 17, *(1 << bit for bit in range(25, 31))):
        assert filtered.says("clone", glibc_thread | namespace) == "EPERM"


@pytest.mark.parametrize("names", [False, True])
def test_every_socket(machine, names):
    filtered = Filter(machine, names=names)
    allowed = {(1, 1, 0), *((family, 1, protocol) for family in (2, 10) for protocol in (0, 6))}
    if names:
        allowed |= {(family, 2, protocol) for family in (2, 10) for protocol in (0, 17)}
    flags = (0, 0o4000, 0o2000000, 0o2004000)  # SOCK_NONBLOCK, SOCK_CLOEXEC
    for family in range(48):
        for kind in range(1, 12):
            for protocol in (0, 1, 6, 17, 132, 255, 256, 262):  # ICMP, SCTP, raw, SMC, MPTCP
                expected = ALLOW if (family, kind, protocol) in allowed else "EPERM"
                for flag in flags if expected == ALLOW or protocol == 0 else (0,):
                    assert filtered.says("socket", family, kind | flag, protocol) == expected
    assert filtered.says("socket", HIGH | 17, HIGH | 3, HIGH | 768) == "EPERM"


def test_socketpair(filtered):
    for family in range(48):
        assert filtered.says("socketpair", family, 1, 0) == (ALLOW if family == 1 else "EPERM")


@pytest.mark.parametrize(("name", "index"), [("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)])
def test_sending_does_not_connect(filtered, name, index):
    def send(flags: int) -> str:
        return filtered.says(name, *[2**64 - 1] * index, flags)

    for flags in (0, 0x40, 0x4000, 0x4040, ~0x20000000, 0x20000000 * HIGH):
        assert send(flags) == ALLOW
    for flags in (0x20000000, 0x20004040, 2**64 - 1, HIGH | 0x20000000):
        assert send(flags) == "EPERM"


@pytest.mark.parametrize(("name", "index"), [("open", 1), ("openat", 2)])
def test_reading_does_not_truncate(filtered, name, index):
    if not filtered.has(name):
        return  # there is no open(2) on aarch64
    for flags in (0, 1, 2, 0x201, 0x202, 0o2000000, 0o2000301, 3):
        assert filtered.says(name, *[0] * index, flags) == ALLOW
    for flags in (0x200, 0x203, 0o2001000, HIGH | 0x200):
        assert filtered.says(name, *[0] * index, flags) == "EPERM"


@pytest.mark.parametrize(
    ("name", "index", "refused"),
    [
        ("fcntl", 1, {8, 10, 15, 1024, 1026}),
        ("ioctl", 1, {0x5412, 0x541C, 0x8901, 0x8902, 0x40086602}),
        ("prctl", 0, {1, 4, 35, 0x59616D61}),
    ],
)
def test_commands(filtered, name, index, refused):
    for command in {*range(80), 1024, 1026, 1030, 0x5401, 0x541B, 0x8901, 0x8903, *refused}:
        expected = "EPERM" if command in refused else ALLOW
        assert filtered.says(name, *[0] * index, command) == expected
        assert filtered.says(name, *[0] * index, HIGH | command) == expected


@pytest.mark.parametrize("name", ["kill", "tgkill"])
def test_signals_go_to_itself_alone(filtered, name):
    assert filtered.says(name, PID, 9) == ALLOW
    for other in (0, 1, PID + 1, -1, -PID, PID * HIGH):
        assert filtered.says(name, other, PID) == "EPERM"


def test_modes_close_and_never_open(filtered):
    """By a descriptor alone: by a path, every file of the user could be closed."""
    for mode in (0, 0o400, 0o600, 0o700, 0o100600):
        assert filtered.says("fchmod", 0, mode) == ALLOW
    for mode in (0o644, 0o604, 0o640, 0o4700, 0o2700, 0o1700, 0o777, HIGH | 0o666):
        assert filtered.says("fchmod", 0, mode) == "EPERM"


def test_limits_are_read_and_not_set(filtered):
    assert filtered.says("prlimit64", 0, 7, 0, 0x7F0000000000) == ALLOW
    for pointer in (1, 0x7F0000000000, 0x7F0012345678, HIGH):
        assert filtered.says("prlimit64", 0, 7, pointer, 0) == "EPERM"


# This machine's kernel.

here = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in MACHINES,
    reason="the filter is for Linux on x86-64 and aarch64",
)
REFUSED_HERE, UNKNOWN_HERE = "EPERM", "ENOSYS"

# The module is loaded by its file: it needs nothing else of the package.
PRELUDE = f"""
import sys
import importlib.util
spec = importlib.util.spec_from_file_location("seccomp", {seccomp.__file__!r})
seccomp = importlib.util.module_from_spec(spec)
spec.loader.exec_module(seccomp)
import ctypes, errno, fcntl, os, platform, signal, socket, struct, threading
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
numbers = seccomp.numbers(platform.machine())

def outcome(action):
    try:
        action()
    except OSError as err:
        return errno.errorcode[err.errno]
    return "done"

def call(name, *arguments):
    words = [a if isinstance(a, (bytes, type(None))) else ctypes.c_long(a) for a in arguments]
    if libc.syscall(ctypes.c_long(numbers[name]), *words) < 0:
        raise OSError(ctypes.get_errno(), name)

def make(file):
    os.close(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
    return file
"""


def run(source: str, *, site: bool = False) -> subprocess.CompletedProcess[str]:
    """Run `source` after the prelude in a process of its own."""
    path = f"sys.path.append({str(Path(pytest.__file__).parents[1])!r})\n" if site else ""
    return subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-W", "error", "-c", PRELUDE + path + source],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def printed(source: str, *, site: bool = False) -> str:
    done = run(source, site=site)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def tried(action: str, *, names: bool = False, before: str = "") -> tuple[str, str]:
    """Return the outcome of `action` in a free process and in one behind the filter."""
    attack = f"print(outcome(lambda: ({action})))"
    install = f"seccomp.install(names={names})"
    return printed(f"{before}\n{attack}"), printed(f"{before}\n{install}\n{attack}")


@here
@pytest.mark.parametrize(
    "action",
    [
        "os.fork() or os._exit(0)",
        "os.forkpty()[0] or os._exit(0)",
        "subprocess.run([sys.executable, '-c', ''], check=True)",
        "os.waitpid(os.posix_spawn(sys.executable, ['python', '-c', ''], {}), 0)",
        "multiprocessing.get_context('fork').Process(target=int).start()",
        "multiprocessing.get_context('spawn').Process(target=int).start()",
        "call('ptrace', 0, 0, 0, 0)",  # PTRACE_TRACEME
        "call('process_vm_readv', os.getpid(), None, 0, None, 0, 0)",
        "call('kcmp', os.getpid(), os.getpid(), 1, 0, 0)",
        "os.pidfd_open(os.getppid())",
        "os.kill(os.getppid(), 0)",
        "os.killpg(os.getpgid(0), 0)",
        "call('rt_sigqueueinfo', os.getpid(), 0, bytes([0] * 8 + [255] * 4 + [0] * 116))",
        "fcntl.fcntl(socket.socketpair()[0], fcntl.F_SETOWN, os.getppid())",
        "fcntl.fcntl(socket.socketpair()[0], fcntl.F_SETSIG, signal.SIGKILL)",
        "call('unshare', 0)",
        "call('personality', 0xFFFFFFFF)",
        "call('inotify_init1', 0)",
        "os.chmod(make(file), 0o600)",
        "os.fchmod(os.open(make(file), os.O_RDWR), 0o644)",
        "os.fchmod(os.open(make(file), os.O_RDWR), 0o4700)",
        "os.chown(make(file), -1, -1)",
        "os.utime(make(file))",
        "os.truncate(make(file), 0)",
        "os.open(make(file), os.O_RDONLY | os.O_TRUNC)",
        "call('msgget', 0, 0o1600)",
        "call('shmget', 0, 4096, 0o1600)",
        "call('mq_open', b'wardian-test', 0o102, 0o600, None)",
        "call('io_uring_setup', 1, bytes(120))",
        "call('io_setup', 1, bytes(8))",
        "call('add_key', b'user', b'wardian', b'x', 1, -1)",
        "call('setuid', os.getuid())",
        "call('setgid', os.getgid())",
        "call('setpriority', 0, 0, os.getpriority(0, 0))",
        "call('prlimit64', 0, 7, struct.pack('QQ', *resource.getrlimit(7)), None)",
        "call('prctl', 4, 1, 0, 0, 0)",  # PR_SET_DUMPABLE
        "call('prctl', 1, 0, 0, 0, 0)",  # PR_SET_PDEATHSIG
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)",  # MPTCP
    ],
)
def test_refused(action, tmp_path):
    before = f"import multiprocessing, resource, subprocess\nfile = {str(tmp_path / 'file')!r}"
    free, behind = tried(action, before=before)
    assert behind == REFUSED_HERE
    if free != "done":
        pytest.skip(f"this machine refuses it to everybody: {free}")


@here
@pytest.mark.parametrize(
    "action",
    [
        "os.kill(os.getpid(), 0)",
        "signal.raise_signal(signal.SIGURG)",
        "signal.pthread_kill(threading.get_ident(), 0)",
        "socket.socketpair()",
        "socket.socket(socket.AF_UNIX)",
        "socket.socket(socket.AF_INET6)",
        "os.close(os.memfd_create('x'))",
        "os.fchmod(os.open(make(file), os.O_RDWR), 0o600)",
        "os.open(make(file), os.O_WRONLY | os.O_TRUNC)",
        "os.truncate(os.open(make(file), os.O_RDWR), 0)",
        "resource.getrlimit(resource.RLIMIT_NOFILE)",
        "call('prctl', 15, b'name', 0, 0, 0)",  # PR_SET_NAME
        "os.sched_setaffinity(0, os.sched_getaffinity(0))",
        "ssl.create_default_context()",
        "ctypes.CFUNCTYPE(None)(int)()",  # libffi maps executable memory
    ],
)
def test_allowed(action, tmp_path):
    before = f"import resource, ssl\nfile = {str(tmp_path / 'file')!r}"
    assert tried(action, before=before) == ("done", "done")


@here
@pytest.mark.parametrize(
    ("action", "name"),
    [
        ("call('clone3', bytes(88), 88)", "clone3"),
        ("call('openat2', -100, b'/', bytes(24), 24)", "openat2"),
        ("call('unknown')", "unknown"),
        ("call('x32')", "x32"),
    ],
)
def test_absent(action, name):
    before = "numbers.update(unknown=471, x32=2**30 + 39)"
    assert tried(action, before=before)[1] == UNKNOWN_HERE


@here
def test_udp_where_names_are_resolved():
    send = "socket.socket(socket.{}, socket.SOCK_DGRAM).connect(('{}', 53))"
    assert tried(send.format("AF_INET", "127.0.0.1"), names=True) == ("done", "done")
    assert tried(send.format("AF_INET", "127.0.0.1"), names=False) == ("done", REFUSED_HERE)
    assert printed("seccomp.install()\nprint(outcome(lambda: socket.socket(2, 2)))") == REFUSED_HERE
    ping = "socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1)"
    assert tried(ping, names=True)[1] == REFUSED_HERE


@here
def test_exec_is_refused():
    program = shutil.which("true")
    assert tried(f"os.execv({program!r}, ['true'])") == ("", REFUSED_HERE)
    # A file without a name, of which Landlock knows nothing.
    memory = f"""
file = os.memfd_create("program")
os.write(file, open({program!r}, "rb").read())
"""
    assert tried("os.execve(file, ['true'], {})", before=memory) == ("", REFUSED_HERE)


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@here
@pytest.mark.skipif(landlock.abi() < 4, reason="this kernel's Landlock knows no TCP ports")
@pytest.mark.parametrize(
    "action",
    [
        "socket.socket().sendto(b'x', socket.MSG_FASTOPEN, server)",
        "socket.socket().sendmsg([b'x'], [], socket.MSG_FASTOPEN, server)",
        "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).connect(server)",  # MPTCP
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', server)",
    ],
)
def test_ways_out_that_landlock_leaves_open(action, listener):
    """No port is listed, so connect(2) is refused; these reach the port all the same."""
    confine = f"""
sys.path.insert(0, {str(Path(wardian.__file__).parents[1])!r})
from wardian.tee.launch.landlock import Access, Ruleset, abi
with Ruleset(Access(), abi=abi()) as ruleset:
    ruleset.restrict()
server = ("127.0.0.1", {listener})
assert outcome(lambda: socket.socket().connect(server)) == "EACCES"
"""
    landlock_alone, both = tried(action, before=confine)
    assert both == REFUSED_HERE
    if landlock_alone != "done":
        pytest.skip(f"this kernel closes it: {landlock_alone}")


@here
@pytest.mark.skipif(platform.machine() != "x86_64", reason="32-bit calls of x86")
def test_32_bit_system_calls_kill():
    """By its number the filter would take a 32-bit fork, 2, for open."""
    source = """
import mmap
# mov eax, 20 (getpid of i386); int 0x80; ret
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex("b814000000" "cd80" "c3"))
entry = ctypes.addressof(ctypes.c_char.from_buffer(code))
{install}
print(ctypes.CFUNCTYPE(ctypes.c_int)(entry)() == os.getpid())
"""
    free = run(source.replace("{install}", ""))
    behind = run(source.replace("{install}", "seccomp.install()"))
    assert behind.returncode < 0
    if free.stdout.strip() != "True":
        pytest.skip("this kernel has no 32-bit system calls")
    assert behind.returncode == -signal.SIGSYS


@here
def test_is_never_taken_back():
    allow_all = "struct.pack('=HBBI', 6, 0, 0, 0x7fff0000)"
    source = f"""
assert libc.prctl(21, 0, 0, 0, 0) == 0  # PR_GET_SECCOMP: none
assert libc.prctl(39, 0, 0, 0, 0) == 0
seccomp.install()
assert libc.prctl(21, 0, 0, 0, 0) == 2  # a filter
assert libc.prctl(39, 0, 0, 0, 0) == 1  # no_new_privs
assert libc.prctl(38, 0, 0, 0, 0) == -1
assert libc.prctl(22, 0, 0, 0, 0) == -1  # PR_SET_SECCOMP, to none
code = ctypes.create_string_buffer({allow_all}, 8)
header = struct.pack('@HP', 1, ctypes.addressof(code))
assert libc.prctl(22, 2, header, 0, 0) == 0  # another one, that allows all
seccomp.install(names=True)  # and a wider one of ours
print(outcome(os.fork), outcome(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
"""
    assert printed(source) == "EPERM EPERM"


@here
def test_holds_for_threads_that_run_already_and_for_new_ones():
    source = """
go, seen = threading.Event(), []
def attack():
    go.wait()
    seen.append((outcome(os.fork), libc.prctl(39, 0, 0, 0, 0)))
running = threading.Thread(target=attack)
running.start()
seccomp.install()
new = threading.Thread(target=attack)
new.start()
go.set()
running.join()
new.join()
print(seen)
"""
    assert printed(source) == "[('EPERM', 1), ('EPERM', 1)]"


@here
def test_thread_that_cannot_be_confined_stops_it():
    """A thread with a filter of its own cannot take ours: nobody may believe that it did."""
    source = """
go, ready = threading.Event(), threading.Event()
def own():
    code = ctypes.create_string_buffer(struct.pack('=HBBI', 6, 0, 0, 0x7fff0000), 8)
    libc.prctl(38, 1, 0, 0, 0)
    assert libc.prctl(22, 2, struct.pack('@HP', 1, ctypes.addressof(code)), 0, 0) == 0
    ready.set()
    go.wait()
thread = threading.Thread(target=own)
thread.start()
ready.wait()
print(outcome(seccomp.install), libc.prctl(21, 0, 0, 0, 0))
go.set()
thread.join()
"""
    assert printed(source) == "EBUSY 0"


@here
def test_kernel_that_takes_no_filter():
    """As in a sandbox that refuses seccomp(2): an error, not an unfiltered process."""
    source = """
number = seccomp._SECCOMP[platform.machine()]
rules = ((0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, 0x50026), (6, 0, 0, 0x7fff0000))
code = ctypes.create_string_buffer(b''.join(struct.pack('=HBBI', *rule) for rule in rules))
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, struct.pack('@HP', len(rules), ctypes.addressof(code)), 0, 0) == 0
print(outcome(seccomp.install))
"""
    assert printed(source) == "ENOSYS"


@here
@pytest.mark.parametrize("change", ["sys.platform = 'darwin'", "sys.maxsize = 2**31 - 1"])
def test_other_systems(change):
    assert printed(f"{change}\nprint(outcome(seccomp.install))") == "ENOSYS"


# What has to work behind the filter.

ECHO = """
import asyncio

async def echo(reader, writer):
    writer.write(await reader.readexactly(5))
    await writer.drain()
    writer.close()
    await writer.wait_closed()

async def main(host="localhost"):
    server = await asyncio.start_server(echo, host, 0)
    async with server:
        reader, writer = await asyncio.open_connection(host, server.sockets[0].getsockname()[1])
        writer.write(b"hello")
        answer = await reader.readexactly(5)
        writer.close()
        await writer.wait_closed()
    threaded = await asyncio.to_thread(threading.current_thread)
    print(answer.decode(), threaded is not threading.main_thread())
"""


@here
@pytest.mark.parametrize("names", [False, True])
def test_asyncio(names):
    assert printed(f"{ECHO}\nseccomp.install(names={names})\nasyncio.run(main())") == "hello True"


@here
@pytest.mark.parametrize("host", ["'localhost'", "'127.0.0.1'", "None"])
def test_addresses_are_found_without_udp_and_netlink(host):
    source = f"""
seccomp.install()
found = socket.getaddrinfo({host}, 443, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
print(socket.AF_INET in [family for family, *_ in found])
"""
    assert printed(source) == "True"


@here
def test_uvloop():
    pytest.importorskip("uvloop")
    source = f"{ECHO}\nimport uvloop\nseccomp.install()\nuvloop.run(main())"
    assert printed(source, site=True) == "hello True"


@here
def test_unix_sockets(tmp_path):
    source = f"""
{ECHO}
path = {str(tmp_path / "socket")!r}

async def unix():
    async with await asyncio.start_unix_server(echo, path):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"hello")
        print(await reader.readexactly(5))
        writer.close()
        await writer.wait_closed()

seccomp.install()
asyncio.run(unix())
"""
    assert printed(source) == "b'hello'"


@here
def test_tls():
    """A suite without certificates will do: what matters is what OpenSSL asks of the kernel."""
    source = """
import ssl

def context(protocol):
    made = ssl.SSLContext(protocol)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers("AECDH:@SECLEVEL=0")
    return made

seccomp.install()
server = socket.create_server(("127.0.0.1", 0))
def serve():
    with context(ssl.PROTOCOL_TLS_SERVER).wrap_socket(server.accept()[0], server_side=True) as peer:
        peer.sendall(peer.recv(5))
thread = threading.Thread(target=serve)
thread.start()
with socket.create_connection(server.getsockname()) as plain:
    with context(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(plain) as peer:
        peer.sendall(b"hello")
        print(peer.recv(5))
thread.join()
server.close()
"""
    assert printed(source) == "b'hello'"


@here
@pytest.mark.parametrize("journal", ["delete", "truncate", "persist", "wal"])
def test_sqlite(tmp_path, journal):
    """Also as root, where SQLite gives its journal to the owner of the database."""
    source = f"""
import sqlite3
seccomp.install()
for turn in range(2):
    store = sqlite3.connect({str(tmp_path / "store")!r}, isolation_level=None)
    print(*store.execute("PRAGMA journal_mode={journal}").fetchone(), end=" ")
    store.execute("PRAGMA synchronous=FULL")
    store.execute("CREATE TABLE IF NOT EXISTS t (x)")
    store.execute("BEGIN IMMEDIATE")
    store.execute("INSERT INTO t VALUES (?)", (turn,))
    store.execute("COMMIT")
    store.execute("VACUUM")
    print(store.execute("SELECT count(*) FROM t").fetchone()[0], end=" ")
    store.close()
"""
    assert printed(source) == f"{journal} 1 {journal} 2"


@here
def test_openvino():
    """Loaded behind the filter, as a worker does: its thread pool, its compiler, its memory."""
    pytest.importorskip("openvino")
    assert printed(
        """
seccomp.install()
import numpy as np
import openvino as ov
from openvino import opset13 as ops
row = ops.parameter([-1, 64], np.float32, name="row")
weights = ops.constant(np.ones((64, 32), np.float32))
model = ov.Model([ops.relu(ops.matmul(row, weights, False, False))], [row], "tiny")
config = {"INFERENCE_NUM_THREADS": 2, "NUM_STREAMS": 2, "ENABLE_CPU_PINNING": True}
compiled = ov.Core().compile_model(model, "CPU", config)
jobs = [compiled.create_infer_request() for _ in range(2)]
for job in jobs:
    job.start_async({0: np.ones((8, 64), np.float32)})
for job in jobs:
    job.wait()
print([float(job.get_output_tensor(0).data[0, 0]) for job in jobs])
""",
        site=True,
    ).endswith("[64.0, 64.0]")


@here
def test_threads():
    source = """
seccomp.install()
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(16) as pool:
    print(sum(pool.map(lambda number: number * number, range(100))))
"""
    assert printed(source) == "328350"


@here
def test_needs_nothing_but_the_standard_library():
    source = """
names = {name.partition(".")[0] for name in sys.modules}
print(sorted(names - sys.stdlib_module_names), [name for name in names if "wardian" in name])
"""
    assert printed(source) == "['__main__'] []"
