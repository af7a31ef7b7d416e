"""What `wardian reseal` decrypts is written nowhere; and what is typed is not shown."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from simulators.data_plane import onnx_digits
from simulators.zoo_models import SALT, SECRET, encrypted, openvino_digits, write_keys

from wardian.crypto.zoo_formats import ZooForm

CALLS = (
    "open,openat,openat2,creat,memfd_create,connect,sendto,sendmsg,mkdir,mkdirat,rename,"
    "renameat,renameat2,link,linkat,symlink,symlinkat,truncate"
)
WRITES = re.compile(r"\b(?:O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND|O_TMPFILE)\b")
HARMLESS = re.compile(r'"/dev/(?:null|tty)"')
AS_CBC = ("--form", "cbc", "--bits", "128")
COMMAND = (sys.executable, "-B", "-m", "wardian.cli", "reseal")


@pytest.mark.strace
@pytest.mark.parametrize("case", ["pair", "pair, not loaded", "file", "wrong secret"])
def test_nothing_decrypted_is_written(tmp_path, need_program, case):
    home, out = tmp_path / "home", tmp_path / "out"
    source, clear = made(tmp_path, pair=case.startswith("pair"))
    keys = write_keys(tmp_path)
    if case == "wrong secret":
        (tmp_path / "secret.txt").write_bytes(b"another\n")
    home.mkdir()
    out.mkdir()
    (out / "key").write_text("ab" * 32 + "\n")
    (out / "key").chmod(0o600)
    trace = tmp_path / "trace"
    done = subprocess.run(
        [
            need_program("strace"), "-f", "-qq", "-s", "300", "-o", str(trace),
            "-e", f"trace={CALLS}", *COMMAND, str(source), *AS_CBC, *keys,
            "--key", str(out / "key"), "-o", str(out / "m"),
            *(() if case in ("pair", "file") else ("--no-load",)),
        ],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == (1 if case == "wrong secret" else 0), done.stderr
    assert ("does not open" in done.stderr) == (case == "wrong secret")
    lines = trace.read_text().splitlines()
    written = [line for line in lines if is_trace(line) and not HARMLESS.search(line)]
    part = rf'"{out}/\.wardian-\w+\.part"'
    sealed = [
        rf"open\w*\(.*{part}, .*O_EXCL",  # its content is sealed before it is written
        rf'rename\w*\({part}, "{out}/m"\)|rename\w*\(.*{part}, .*"{out}/m"',
        rf'open\w*\(.*"{out}/m\.pin", ',
    ]
    others = [line for line in written if not any(re.search(each, line) for each in sealed)]
    assert others == []
    assert len(written) == (0 if case == "wrong secret" else 3)
    assert list(home.iterdir()) == []
    for path in out.iterdir():
        content = path.read_bytes()
        for canary in clear:
            assert canary not in content
    assert b"canary" not in done.stdout.encode() + done.stderr.encode()


def made(directory: Path, *, pair: bool) -> tuple[Path, list[bytes]]:
    """Write an encrypted model; return it, and pieces of its plaintext."""
    form = ZooForm.UNAUTHENTICATED_CBC_128
    if not pair:
        path, model = directory / "net.onnx", onnx_digits()
        path.write_bytes(encrypted(model, form))
        return path, [model[500:532], model[3000:3032]]
    elsewhere, path = directory / "elsewhere", directory / "net"
    elsewhere.mkdir()
    path.mkdir()
    graph, weights = openvino_digits(elsewhere)
    (path / "n.xml").write_bytes(encrypted(graph, form))
    (path / "n.bin").write_bytes(encrypted(weights, form))
    return path, [graph[100:140], weights[500:532]]


def is_trace(line: str) -> bool:
    call = re.search(r"\b([a-z0-9_]+)\(", line)
    if call is None:  # the second half of an interrupted call, or an exit
        return False
    return not call.group(1).startswith("open") or WRITES.search(line) is not None


def test_what_is_typed_at_a_terminal_opens_and_is_not_shown(tmp_path):
    path = tmp_path / "net.bin"
    path.write_bytes(encrypted(b"some weights", ZooForm.UNAUTHENTICATED_CBC_128))
    (tmp_path / "key").write_text("ab" * 32 + "\n")
    (tmp_path / "key").chmod(0o600)
    master, slave = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, str(path), *AS_CBC, "--key", str(tmp_path / "key"), "--media-type", "a/b"],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    ) as running:  # fmt: skip
        os.close(slave)
        shown = b""
        for what, typed in ((b"secret", SECRET), (b"salt", SALT)):
            shown += until(master, what + b" of Analytics Zoo: ")  # the space: the echo is off
            os.write(master, typed + b"\n")
        shown += until(master, b"")
        assert running.wait(30) == 0, shown
    os.close(master)
    assert b"canary" not in shown
    assert (tmp_path / "net.bin.sealed").exists()


def until(master: int, wanted: bytes) -> bytes:
    """Return what the terminal shows until `wanted`; empty: to its end."""
    shown = b""
    while not wanted or wanted not in shown:
        try:
            piece = os.read(master, 1000)
        except OSError:  # nobody has the other side any more
            piece = b""
        if not piece:
            assert not wanted, shown
            return shown
        shown += piece
    return shown
