"""A server of an engine ends with whoever started it, and leaves nothing of it behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wardian.engines.leash import leashed

SERVER = """
import os, subprocess, sys, time
# A child that leaves its session, and a grandchild whose parent is gone.
subprocess.Popen(["/bin/sleep", "71"], start_new_session=True)
subprocess.Popen(["/bin/sh", "-c", "/bin/sleep 72 & exit 0"]).wait()
print("up", flush=True)
if sys.argv[1] == "stay":
    time.sleep(60)
sys.exit(7)
"""


def sleepers(seconds: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == f"/bin/sleep\0{seconds}\0".encode():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


class Leash:
    def __init__(self, how: str, vital: tuple[str, ...] = ()) -> None:
        read_end, self.lifeline = os.pipe()
        argv = leashed((sys.executable, "-I", "-c", SERVER, how), vital=vital)
        self.process = subprocess.Popen(
            [part.replace("{lifeline}", str(read_end)) for part in argv],
            stdout=subprocess.PIPE,
            pass_fds=(read_end,),
        )
        os.close(read_end)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"up\n"
        until = time.monotonic() + 10  # the shell's child has not become `sleep` at once
        while how == "stay" and not (sleepers("71") and sleepers("72")):
            assert time.monotonic() < until
            time.sleep(0.01)

    def close(self) -> None:
        os.close(self.lifeline)
        self.lifeline = -1

    def end(self) -> int:
        status = self.process.wait(30)
        self.process.stdout.close()
        if self.lifeline >= 0:
            self.close()
        return status


@pytest.mark.parametrize("how", ["lifeline", "signal"])
def test_all_of_it_ends(how: str) -> None:
    leash = Leash("stay")
    if how == "lifeline":
        leash.close()
    else:
        leash.process.send_signal(signal.SIGTERM)
    assert leash.end() == 128 + signal.SIGTERM
    assert not sleepers("71")
    assert not sleepers("72")


def test_it_ends_as_its_server_ends() -> None:
    leash = Leash("end")
    assert leash.end() == 7
    assert not sleepers("71")
    assert not sleepers("72")


def test_a_server_without_what_is_vital_is_ended() -> None:
    leash = Leash("stay", vital=("sleep",))
    time.sleep(1.0)  # seen
    os.kill(sleepers("71")[0], signal.SIGKILL)
    os.kill(sleepers("72")[0], signal.SIGKILL)
    assert leash.end() == 128 + signal.SIGTERM


def test_what_is_vital_may_come_late_or_never() -> None:
    leash = Leash("stay", vital=("no-such-program", "sleep"))
    time.sleep(0.5)
    assert leash.process.poll() is None
    leash.close()
    assert leash.end() == 128 + signal.SIGTERM


def test_a_killed_leash_takes_the_server_along() -> None:
    leash = Leash("stay")
    (server,) = [
        int(pid)
        for pid in Path(f"/proc/{leash.process.pid}/task/{leash.process.pid}/children")
        .read_text()
        .split()
        if b"stay" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    leash.process.kill()
    leash.end()
    late = time.monotonic() + 20
    while Path(f"/proc/{server}").exists():
        assert time.monotonic() < late
        time.sleep(0.05)
    for pid in sleepers("71") + sleepers("72"):  # what only a living leash can end
        os.kill(pid, signal.SIGKILL)
