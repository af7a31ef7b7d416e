"""`python -m wardian.engines.leash`: a server of an engine that ends with whoever started it.

A JobManager, or a node of Ray, knows no lifeline, and starts processes of its own. Here it is the
child of a process that knows one, and that leaves nothing behind: the kernel hands it what its
child leaves behind (PR_SET_CHILD_SUBREAPER), and kills the child if it is killed itself.
"""

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from wardian.engines.engine import LIFELINE
from wardian.engines.tending import program_of

GRACE_S: Final = 10.0
"""How long the server may take to end by itself."""
_POLL_S: Final = 0.2
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def leashed(argv: tuple[str, ...], *, vital: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the command line that runs `argv` on a leash, for a `ProcessSpec`.

    Args:
        argv: the server.
        vital: names of programs (15 characters at most) that it starts: when one of them ends, the
            server is of no use, whatever it says itself.
    """
    named = ",".join(vital) or "-"
    return (sys.executable, "-P", "-m", "wardian.engines.leash", LIFELINE, named, *argv)


def run(lifeline: int, argv: list[str], *, vital: tuple[str, ...] = ()) -> int:
    """Run `argv` until it, or what of it is vital, ends, the lifeline closes, or a signal comes.

    Nothing that it started is left. Returns its exit status; a signal N is 128 + N.
    """
    if _PRCTL is not None:
        _PRCTL(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_parent,  # noqa: PLW1509 (one system call)
    )
    try:
        _wait(process, lifeline, told, set(vital))
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
    finally:
        _kill_all(process)
    code = process.wait()
    return code if code >= 0 else 128 - code


def _wait(
    process: "subprocess.Popen[bytes]", lifeline: int, told: threading.Event, unseen: set[str]
) -> None:
    """Return when the server has ended, or has to. What is `unseen` is watched once it runs."""
    with selectors.DefaultSelector() as selector, ExitStack() as stack:
        selector.register(lifeline, selectors.EVENT_READ)
        while process.poll() is None and not told.is_set():
            for name, pid in _running(unseen):
                descriptor = os.pidfd_open(pid)
                stack.callback(os.close, descriptor)
                selector.register(descriptor, selectors.EVENT_READ)
                unseen.discard(name)
            ready = [key.fd for key, _ in selector.select(_POLL_S)]
            if any(each != lifeline or not os.read(lifeline, 4096) for each in ready):
                return
            _reap(process.pid)


def _running(names: set[str]) -> list[tuple[str, int]]:
    """Return which programs of these names run below this process, each once."""
    found: dict[str, int] = {}
    level = [os.getpid()] if names else []
    while level:
        level = [child for pid in level for child in _children(pid)]
        for pid in level:
            if (name := program_of(pid)) in names:
                found.setdefault(name, pid)
    return list(found.items())


def _reap(but: int) -> None:
    """Take note of the end of what the server left to us, so that it does not stay as a zombie."""
    for pid in _children(os.getpid()):
        if pid != but:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _kill_all(process: "subprocess.Popen[bytes]") -> None:
    """Kill the server and all that it started; what is orphaned by that becomes ours, and next."""
    while children := _children(os.getpid()):
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in children:
            if pid == process.pid:
                process.wait()
            else:
                with suppress(ChildProcessError):
                    os.waitpid(pid, 0)


def _children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def _die_with_parent() -> None:
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


if __name__ == "__main__":
    names = tuple(name for name in sys.argv[2].split(",") if name != "-")
    sys.exit(run(int(sys.argv[1]), sys.argv[3:], vital=names))
