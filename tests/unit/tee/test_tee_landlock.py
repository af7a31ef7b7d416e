"""What a confined process can still touch, tried on this machine's kernel.

Each attack runs in two fresh processes: a free one, where it has to work, and one that confined itself.
"""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import wardian
from wardian.errors import ConfigError
from wardian.tee.launch import landlock
from wardian.tee.launch.landlock import Access, Ruleset, unenforced

KERNEL = landlock.abi()
pytestmark = pytest.mark.skipif(KERNEL < 1, reason="this kernel has no Landlock")

LOCKED, CROSSED = "EACCES", "EXDEV"
PRELUDE = f"""
import sys
sys.path.insert(0, {str(Path(wardian.__file__).parents[1])!r})
import ctypes, errno, fcntl, json, os, signal, socket, subprocess, threading
from pathlib import Path
from wardian.tee.launch.landlock import Access, Ruleset, abi
libc = ctypes.CDLL(None, use_errno=True)

def outcome(action):
    try:
        action()
    except OSError as err:
        return errno.errorcode[err.errno]
    return "done"

def confine(access, kernel=None):
    with Ruleset(access, abi=kernel or abi()) as ruleset:
        ruleset.restrict()
"""


def run(source: str) -> str:
    """Run `source` after the prelude in a process of its own; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", PRELUDE + source],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def need_abi(version: int) -> None:
    if version > KERNEL:
        pytest.skip(f"Landlock ABI {version} is not in this kernel ({KERNEL})")


class Case:
    """A directory of files, made anew for every process that attacks them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def lay(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        for folder in ("folder/below", "state/below", "other", "sockets"):
            (self.root / folder).mkdir(parents=True)
        for name in ("listed", "unlisted", "folder/inner", "folder/below/inner", "state/db"):
            (self.root / name).write_text("content")
        (self.root / "state/below/db").write_text("content")
        shutil.copy(shutil.which("true"), self.root / "program")

    def attack(
        self, action: str, access: str = "", *, kernel: int | None = None
    ) -> tuple[str, str]:
        """Return the outcome of `action` in a free process and in a confined one."""
        free, confined = "", f"confine(Access({access}), {kernel})"
        return tuple(self.outcome(action, before) for before in (free, confined))

    def outcome(self, action: str, before: str) -> str:
        self.lay()
        return run(
            f"root = Path({str(self.root)!r})\n{before}\nprint(outcome(lambda: ({action})), end='')"
        )


@pytest.fixture
def case(tmp_path) -> Case:
    return Case(tmp_path / "case")


READ = "read=(root / 'listed',)"
STATE = "write=(root / 'state',)"


@pytest.mark.parametrize(
    ("action", "access"),
    [
        ("(root / 'unlisted').read_bytes()", READ),
        ("(root / 'unlisted').read_bytes()", "list=(root,)"),
        ("(root / 'folder/inner').read_bytes()", "list=(root / 'folder',)"),
        ("os.listdir(root)", READ),
        ("os.listdir(root / 'state')", "list=(root / 'folder',)"),
        ("os.open(root / 'listed', os.O_WRONLY)", READ),
        ("os.open(root / 'listed', os.O_RDWR)", READ),
        ("os.open(root / 'listed', os.O_WRONLY | os.O_APPEND)", READ),
        ("os.unlink(root / 'listed')", READ),
        ("os.rename(root / 'listed', root / 'gone')", READ),
        ("os.link(root / 'listed', root / 'twin')", READ),
        ("(root / 'other/new').write_bytes(b'')", STATE),
        ("(root / 'new').write_bytes(b'')", STATE),
        ("os.open(root / 'other', os.O_WRONLY | os.O_TMPFILE)", STATE),
        ("os.mkdir(root / 'state/folder')", STATE),
        ("os.rmdir(root / 'other')", STATE),
        ("os.symlink('db', root / 'state/link')", STATE),
        ("os.mkfifo(root / 'state/fifo')", STATE),
        ("socket.socket(socket.AF_UNIX).bind(str(root / 'state/s'))", STATE),
        (
            "socket.socket(socket.AF_UNIX).bind(str(root / 'other/s'))",
            "sockets=(root / 'sockets',)",
        ),
        ("(root / 'sockets/file').write_bytes(b'')", "sockets=(root / 'sockets',)"),
        ("os.unlink(root / 'listed')", "read_write=(root / 'listed',)"),
        ("Path('/proc/self/environ').read_bytes()", READ),
        ("(root / 'folder/inner').write_bytes(b'')", "tree=(root / 'folder',)"),
        ("(root / 'unlisted').read_bytes()", "tree=(root / 'folder',)"),
        ("Path('/proc/self/environ').read_bytes()", "own=('status', 'task')"),
        ("Path(f'/proc/{os.getppid()}/status').read_bytes()", "own=('status', 'task')"),
        ("os.listdir('/proc/self')", "own=('status',)"),
        ("Path('/proc/self/comm').write_bytes(b'x')", "own=('comm',)"),
        ("Path(f'/proc/self/task/{os.getpid()}/comm').write_bytes(b'x')", "own=('task',)"),
    ],
)
def test_refused(case, action, access):
    outcomes = case.attack(action, access)
    if outcomes[0] == "EOPNOTSUPP":
        pytest.skip("this file system has no O_TMPFILE")
    assert outcomes == ("done", LOCKED)


@pytest.mark.parametrize(
    ("action", "access"),
    [
        ("(root / 'listed').read_bytes()", READ),
        ("(root / 'listed').read_bytes()", "read=(root / 'listed',) * 3"),
        ("(root / 'listed').stat()", ""),
        ("os.listdir(root / 'folder')", "list=(root / 'folder',)"),
        ("os.listdir(root / 'folder/below')", "list=(root / 'folder',)"),
        ("(root / 'state/new').write_bytes(b'1')", STATE),
        ("(root / 'state/db').write_bytes(b'1')", STATE),
        ("(root / 'state/below/new').write_bytes(b'1')", STATE),
        ("(root / 'state/db').read_bytes()", STATE),
        ("os.truncate(root / 'state/db', 0)", STATE),
        ("os.unlink(root / 'state/db')", STATE),
        ("os.rename(root / 'state/db', root / 'state/db2')", STATE),
        ("os.link(root / 'state/db', root / 'state/twin')", STATE),
        ("os.fsync(os.open(root / 'state', os.O_RDONLY))", STATE),
        (
            "socket.socket(socket.AF_UNIX).bind(str(root / 'sockets/s'))",
            "sockets=(root / 'sockets',)",
        ),
        ("os.open(root / 'listed', os.O_RDWR)", "read_write=(root / 'listed',)"),
        ("Path('/dev/null').write_bytes(b'x')", "read_write=(Path('/dev/null'),)"),
        ("(root / 'folder/below/inner').read_bytes()", "tree=(root / 'folder',)"),
        ("os.listdir(root / 'folder/below')", "tree=(root / 'folder',)"),
        ("Path('/proc/self/status').read_bytes()", "own=('status',)"),
        ("Path('/proc/self/status').read_bytes()", "own=('no such name', 'status')"),
        ("Path(f'/proc/self/task/{os.getpid()}/comm').read_bytes()", "own=('task',)"),
        ("os.kill(os.getpid(), 0)", ""),
        ("socket.socketpair()", ""),
    ],
)
def test_allowed(case, action, access):
    assert case.attack(action, access) == ("done", "done")


@pytest.mark.parametrize(
    "action",
    [
        "os.rename(root / 'state/db', root / 'other/db')",
        "os.rename(root / 'state/db', root / 'state/below/db')",
        "os.link(root / 'state/db', root / 'other/db')",
        "os.link(root / 'listed', root / 'state/twin')",
        "os.rename(root / 'listed', root / 'state/mine')",
    ],
)
@pytest.mark.parametrize("kernel", [1, 2, KERNEL])
def test_no_file_moves_to_another_directory(case, action, kernel):
    """Whoever links a measured file into the state could write it there."""
    need_abi(kernel)
    access = f"{READ}, write=(root / 'state', root / 'other')"
    free, confined = case.attack(action, access, kernel=kernel)
    assert free == "done"
    assert confined in {LOCKED, CROSSED}


@pytest.mark.parametrize("kernel", range(1, KERNEL + 1))
def test_files_are_confined_under_every_abi(case, kernel):
    assert case.attack("(root / 'unlisted').read_bytes()", READ, kernel=kernel)[1] == LOCKED
    assert case.attack("(root / 'other/new').write_bytes(b'')", STATE, kernel=kernel)[1] == LOCKED
    assert case.attack("(root / 'state/db').write_bytes(b'')", STATE, kernel=kernel)[1] == "done"


def mapped() -> tuple[str, ...]:
    """Return the files that a process of this interpreter has mapped: it and its shared objects."""
    maps = run("print(Path('/proc/self/maps').read_text())")
    return tuple(
        {line.split()[5] for line in maps.splitlines() if line.split()[5:6] and "/" in line}
    )


@pytest.mark.parametrize(
    ("execute", "confined"),
    [
        ("root / 'program', *loader", ""),  # it ran, in place of the process that tried
        ("*loader,", LOCKED),
        ("root / 'program',", LOCKED),  # it runs only through the loader
        ("root / 'listed', *loader", LOCKED),
    ],
)
def test_exec(case, execute, confined):
    """A program runs if it and its ELF interpreter are listed as such, not if it can be read."""
    files = mapped()
    loader = tuple(file for file in files if "/ld-" in file)
    access = (
        f"read=(root / 'program', *{files!r}), execute=({execute.replace('loader', repr(loader))})"
    )
    action = "os.execv(root / 'program', ['true'])"
    assert case.attack(action, access) == ("", confined)


def test_holds_after_exec_and_for_what_is_started_then(case):
    """As the launcher does it: a fresh interpreter, with every file of its library listed."""
    case.lay()
    library = Path(os.__file__).parent
    skipped = ("site-packages", "test", "__pycache__")
    files = [
        str(path)
        for path in library.rglob("*")
        if path.is_file() and not any(part in skipped for part in path.parts)
    ]
    interpreter = os.path.realpath(sys.executable)
    probe = f"""
import ctypes, json, os, sys
seen = {{}}
for name in ("listed", "unlisted"):
    try:
        seen[name] = open(os.path.join({str(case.root)!r}, name)).read()
    except OSError as err:
        seen[name] = err.strerror
for whose in ("self", str(os.getppid())):
    try:
        seen[whose == "self"] = open(f"/proc/{{whose}}/comm").read().strip()
    except OSError as err:
        seen[whose == "self"] = err.strerror
seen["no_new_privs"] = ctypes.CDLL(None).prctl(39, 0, 0, 0, 0)
if os.fork() == 0:
    try:
        os.open({str(case.root / "unlisted")!r}, os.O_RDONLY)
    except PermissionError:
        os._exit(7)
seen["child"] = os.waitstatus_to_exitcode(os.wait()[1])
print(json.dumps(seen))
"""
    printed = run(f"""
files = {json.dumps(files)}
mapped = {mapped()!r}
access = Access(
    read=tuple(Path(path) for path in (*files, *mapped, {str(case.root / "listed")!r})),
    execute=({interpreter!r}, *(path for path in mapped if '/ld-' in path)),
    list=({str(library)!r}, {str(library / "lib-dynload")!r}),
    own=("comm",),
)
with Ruleset(access, abi=abi()) as ruleset:
    print(subprocess.run(
        [{interpreter!r}, '-I', '-S', '-B', '-c', {probe!r}],
        preexec_fn=ruleset.restrict, check=True, stdout=subprocess.PIPE, text=True,
    ).stdout)
assert Path({str(case.root / "unlisted")!r}).read_text() == 'content'  # we are free ourselves
""")
    assert len(files) > 500
    assert json.loads(printed) == {
        "listed": "content",
        "unlisted": "Permission denied",
        "true": Path(interpreter).name[:15],
        "false": "Permission denied",
        "no_new_privs": 1,
        "child": 7,
    }


# What unenforced() says, tried: the sentence's ABI, and what a process may do below it.


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def fits(sentence: str, kernel: int) -> bool:
    return any(sentence in line for line in unenforced(kernel))


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize(
    "action",
    ["os.truncate(root / 'listed', 0)", "os.open(root / 'listed', os.O_RDONLY | os.O_TRUNC)"],
)
@pytest.mark.parametrize("access", [READ, "read_write=(root / 'listed',)"])
def test_truncation_since_abi_3(case, kernel, action, access):
    need_abi(kernel)
    expected = "done" if fits("truncate", kernel) else LOCKED
    assert case.attack(action, access, kernel=kernel) == ("done", expected)
    assert fits("truncate", kernel) == (kernel < 3)


@pytest.mark.parametrize("kernel", [3, 4])
def test_tcp_ports_since_abi_4(case, listener, kernel):
    need_abi(kernel)
    expected = "done" if fits("any TCP port", kernel) else LOCKED
    other = "bind=(1,), connect=(1,)"
    connect = f"socket.socket().connect(('127.0.0.1', {listener}))"
    bind = "socket.socket().bind(('127.0.0.1', 0))"
    bind_6 = "socket.socket(socket.AF_INET6).bind(('::', 0))"
    for action in (connect, bind, bind_6):
        assert case.attack(action, other, kernel=kernel) == ("done", expected)
    assert case.attack(connect, f"connect=({listener},)", kernel=kernel)[1] == "done"
    assert case.attack(connect, f"bind=({listener},)", kernel=kernel)[1] == expected
    assert case.attack(bind, "bind=(0,)", kernel=kernel)[1] == "done"
    assert case.attack(bind, "connect=(0,)", kernel=kernel)[1] == expected
    assert fits("any TCP port", kernel) == (kernel < 4)


@pytest.mark.parametrize("kernel", [4, 5])
def test_ioctl_on_devices_since_abi_5(case, kernel):
    need_abi(kernel)
    null = os.open("/dev/null", os.O_RDONLY)
    with pytest.raises(OSError, match="Inappropriate"):  # it reached the device, which knows it not
        fcntl.ioctl(null, 0x5401, bytes(64))
    os.close(null)
    action = "fcntl.ioctl(os.open('/dev/null', os.O_RDONLY), 0x5401, bytes(64))"
    expected = "ENOTTY" if fits("ioctl", kernel) else LOCKED
    access = "read_write=(Path('/dev/null'),)"
    assert case.attack(action, access, kernel=kernel) == ("ENOTTY", expected)
    assert fits("ioctl", kernel) == (kernel < 5)


@pytest.mark.parametrize("kernel", [5, 6])
def test_abstract_sockets_since_abi_6(case, kernel):
    need_abi(kernel)
    name = f"wardian-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        server.listen()
        action = f"socket.socket(socket.AF_UNIX).connect(chr(0) + {name!r})"
        expected = "done" if fits("abstract", kernel) else "EPERM"
        assert case.attack(action, kernel=kernel) == ("done", expected)
    assert fits("abstract", kernel) == (kernel < 6)


@pytest.mark.parametrize("kernel", [5, 6])
@pytest.mark.parametrize(
    "action",
    [
        "os.kill(os.getppid(), 0)",
        "signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 0)",
    ],
)
def test_signals_to_others_since_abi_6(case, kernel, action):
    need_abi(kernel)
    expected = "done" if fits("signals", kernel) else "EPERM"
    assert case.attack(action, kernel=kernel) == ("done", expected)
    assert fits("signals", kernel) == (kernel < 6)


def test_what_no_abi_refuses(case):
    """So the sentences that are always told are true, and the filter of system calls has work."""
    with socket.socket(socket.AF_UNIX) as server:
        case.lay()
        path = case.root.parent / "socket"
        server.bind(str(path))
        server.listen()
        action = f"socket.socket(socket.AF_UNIX).connect({str(path)!r})"
        assert case.attack(action) == ("done", "done")
    assert case.attack("socket.socket().listen()") == ("done", "done")
    assert case.attack("os.chmod(root / 'listed', 0o777)", READ) == ("done", "done")
    assert fits("any Unix socket", 7)
    assert fits("the kernel chooses", 7)


@pytest.mark.parametrize(
    ("kernel", "sentences"),
    [(0, 8), (1, 7), (2, 7), (3, 6), (4, 5), (5, 4), (6, 2), (7, 2), (99, 2)],
)
def test_unenforced(kernel, sentences):
    told = unenforced(kernel)
    assert len(told) == len(set(told)) == sentences
    assert set(told) <= set(unenforced(0))
    assert all(line.startswith("The process may ") for line in told)
    assert all(line.endswith(".") for line in told)
    assert fits("every file", kernel) == (kernel < 1)


# What a rule holds for.


def test_symbolic_link_means_what_it_led_to(case):
    access = "read=(root / 'link',)"
    link = "os.symlink('listed', root / 'link')"
    free, confined = "", f"confine(Access({access}))"
    for path, expected in (("link", "done"), ("listed", "done"), ("unlisted", LOCKED)):
        action = f"(root / {path!r}).read_bytes()"
        assert case.outcome(action, f"{link}\n{free}") == "done"
        assert case.outcome(action, f"{link}\n{confined}") == expected
    turned = f"""
{link}
ruleset = Ruleset(Access({access}), abi=abi())
os.unlink(root / 'link')
os.symlink('unlisted', root / 'link')
ruleset.restrict()
"""
    assert case.outcome("(root / 'link').read_bytes()", turned) == LOCKED
    assert case.outcome("(root / 'listed').read_bytes()", turned) == "done"


def test_replaced_file_is_another_file(case):
    replaced = f"""
ruleset = Ruleset(Access({READ}), abi=abi())
os.rename(root / 'unlisted', root / 'listed')
ruleset.restrict()
"""
    assert case.outcome("(root / 'listed').read_bytes()", replaced) == LOCKED


def test_hard_link(case):
    """A rule for a file holds under all its names, one for a directory under those within it."""
    before = f"""
os.link(root / 'listed', root / 'twin')
os.link(root / 'listed', root / 'state/twin')
confine(Access({READ}, {STATE}))
"""
    assert case.outcome("(root / 'twin').read_bytes()", before) == "done"
    assert case.outcome("(root / 'listed').write_bytes(b'')", before) == LOCKED
    assert case.outcome("(root / 'twin').write_bytes(b'')", before) == LOCKED
    assert case.outcome("(root / 'state/twin').write_bytes(b'')", before) == "done"


# The ruleset itself.


def test_is_never_taken_back(case):
    wider = f"confine(Access({READ}))\nconfine(Access({READ}, list=(root,), write=(root,)))"
    assert case.outcome("(root / 'other/new').write_bytes(b'')", wider) == LOCKED
    assert case.outcome("(root / 'listed').read_bytes()", wider) == "done"
    assert case.outcome("(root / 'listed').write_bytes(b'')", wider) == LOCKED


def test_confines_the_thread_that_asks_and_its_children_alone(case):
    before = f"""
go = threading.Event()
seen = []
def running():
    go.wait()
    seen.append(outcome(lambda: (root / 'unlisted').read_bytes()))
first = threading.Thread(target=running)
first.start()
confine(Access({READ}))
second = threading.Thread(target=running)
second.start()
go.set()
second.join()
first.join()
assert sorted(seen) == ['EACCES', 'done'], seen
"""
    assert case.outcome("(root / 'unlisted').read_bytes()", before) == LOCKED


@pytest.mark.parametrize(
    "name", ["read", "execute", "read_write", "list", "tree", "write", "sockets"]
)
def test_missing_path(tmp_path, name):
    missing = tmp_path / "missing"
    with pytest.raises(ConfigError, match=f"{missing}.*No such file"):
        Ruleset(Access(**{name: (missing,)}), abi=KERNEL)


@pytest.mark.parametrize("name", ["read", "execute", "read_write"])
def test_directory_among_files(tmp_path, name):
    """The kernel would take it, and open everything below."""
    with pytest.raises(ConfigError, match=f"{tmp_path}: is a directory"):
        Ruleset(Access(**{name: (tmp_path,)}), abi=KERNEL)


@pytest.mark.parametrize("name", ["list", "tree", "write", "sockets"])
def test_file_among_directories(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file: is not a directory"):
        Ruleset(Access(**{name: (tmp_path / "file",)}), abi=KERNEL)


@pytest.mark.parametrize("path", ["/a\0b", "/" + "x" * 300])
def test_impossible_path(path):
    with pytest.raises(ConfigError, match="cannot be opened to a process"):
        Ruleset(Access(read=(Path(path),)), abi=KERNEL)


def test_pipe_has_no_rule():
    reader, writer = os.pipe()
    try:
        with pytest.raises(ConfigError, match="cannot be opened to a process"):
            Ruleset(Access(read=(Path(f"/proc/self/fd/{reader}"),)), abi=KERNEL)
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("name", ["bind", "connect"])
@pytest.mark.parametrize("port", [-1, 65536])
def test_port_out_of_range(name, port):
    need_abi(4)
    with pytest.raises(ConfigError, match=f"{port} is not a TCP port"):
        Ruleset(Access(**{name: (port,)}), abi=KERNEL)


@pytest.mark.parametrize("kernel", [0, -1])
def test_kernel_without_landlock(kernel):
    with pytest.raises(ConfigError, match="no Landlock"):
        Ruleset(Access(), abi=kernel)


def test_rights_that_the_kernel_does_not_know():
    if landlock.NEWEST_ABI <= KERNEL:
        with Ruleset(Access(), abi=landlock.NEWEST_ABI + 1):
            pass  # a later kernel is asked for the rights that we know
    else:
        with pytest.raises(ConfigError, match="cannot be used here"):
            Ruleset(Access(), abi=landlock.NEWEST_ABI)


def test_closed_ruleset_confines_nobody_and_says_so():
    ruleset = Ruleset(Access(), abi=KERNEL)
    assert not os.get_inheritable(ruleset._fd)
    ruleset.close()
    ruleset.close()
    printed = run("""
ruleset = Ruleset(Access(), abi=abi())
ruleset.close()
print(outcome(ruleset.restrict), outcome(lambda: Path('/etc/passwd').read_bytes()))
""")
    assert printed == "EBADF done"


def test_no_descriptor_stays_open(tmp_path):
    def open_now() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_now()
    for bad in ({"read": (tmp_path,)}, {"bind": (-1,)}, {"read": (tmp_path / "missing",)}):
        with pytest.raises(ConfigError):
            Ruleset(Access(**bad), abi=KERNEL)
    with Ruleset(Access(list=(tmp_path,)), abi=KERNEL):
        assert open_now() == before + 1
    assert open_now() == before


def test_where_the_kernel_refuses_to_say():
    """As under a container's filter, or in a kernel without Landlock: no ABI, and an error."""
    printed = run("""
import struct
from wardian.errors import ConfigError
# Classic BPF: system call 444 fails with ENOSYS, all others go through.
rules = ((0x20, 0, 0, 0), (0x15, 0, 1, 444), (6, 0, 0, 0x50026), (6, 0, 0, 0x7fff0000))
code = ctypes.create_string_buffer(b''.join(struct.pack('=HBBI', *rule) for rule in rules))
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, struct.pack('@HP', len(rules), ctypes.addressof(code)), 0, 0) == 0
try:
    Ruleset(Access(), abi=1)
except ConfigError as err:
    print(abi(), err)
""")
    assert printed == "0 Landlock cannot be used here: Function not implemented"


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_loads_on_other_systems(system):
    printed = run(f"""
for name in [name for name in sys.modules if name.startswith('wardian')]:
    del sys.modules[name]
sys.platform = {system!r}
from wardian.errors import ConfigError
from wardian.tee.launch.landlock import Access, Ruleset, abi, unenforced
try:
    Ruleset(Access(), abi=7)
except ConfigError as err:
    print(abi(), len(unenforced(abi())), err)
""")
    assert printed.startswith("0 8 this kernel has no Landlock")
