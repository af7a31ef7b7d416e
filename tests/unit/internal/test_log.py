"""Logs are JSON lines with closed fields; an exception's text, which may quote content, stays out."""

import asyncio
import gc
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hpack
import pytest

from wardian._internal import log as wlog

SECRET = "the content"
UNCAUGHT = {
    "at the end": f"raise ValueError({SECRET!r})",
    "in a thread": f"""
import threading
def fail(): raise ValueError({SECRET!r})
thread = threading.Thread(target=fail); thread.start(); thread.join()
""",
    "where nobody can": f"""
class Gone:
    def __del__(self): raise ValueError({SECRET!r})
Gone()
""",
    "in an event that cannot be written": f"""
class Odd:
    def __str__(self): raise ValueError({SECRET!r})
logging.getLogger("wardian.x").error(Odd())
raise ValueError({SECRET!r})
""",
}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a process whose host asks for all there is writes."""
    out, ours = io.StringIO(), logging.getLogger("wardian")
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    before = (root.level, ours.level)
    wlog.configure(role="worker", level="debug", stream=out)
    yield out
    root.setLevel(before[0])
    ours.setLevel(before[1])


def test_an_event_is_one_json_line(written: io.StringIO) -> None:
    out = written
    log = logging.getLogger("wardian.test")
    wlog.event(log, "model.opened", model="digits", seconds=1.5)
    try:
        raise ValueError("the content")
    except ValueError:
        log.exception("request.failed")
    first, second = map(json.loads, out.getvalue().splitlines())
    assert first["event"] == "model.opened"
    assert first["model"] == "digits"
    assert first["role"] == "worker"
    assert second["error"] == "ValueError"
    assert "the content" not in out.getvalue()


def test_no_level_has_a_library_say_what_it_read(written: io.StringIO) -> None:
    """A host sets the level; `hpack` writes every header that it decodes at `debug`."""
    block = hpack.Encoder().encode([(b"authorization", SECRET.encode())])
    assert hpack.Decoder().decode(block, raw=True) == [(b"authorization", SECRET.encode())]
    logging.getLogger("hpack.hpack").warning("Decoded %s", SECRET)
    wlog.event(logging.getLogger("wardian.test"), "fine", level=logging.DEBUG)
    first, second = map(json.loads, written.getvalue().splitlines())
    assert (first["event"], first["library"]) == ("library.warned", "hpack.hpack")
    assert first["where"].startswith("test_log.py:")
    assert second["event"] == "fine"
    assert SECRET not in written.getvalue()


def test_nor_asyncio_what_a_task_failed_of(written: io.StringIO) -> None:
    async def fail() -> None:
        raise ValueError(SECRET)

    async def forgotten() -> None:
        task = asyncio.ensure_future(fail())
        await asyncio.sleep(0)
        del task
        gc.collect()

    asyncio.run(forgotten())
    (line,) = map(json.loads, written.getvalue().splitlines())
    assert (line["library"], line["error"]) == ("asyncio", "ValueError")
    assert SECRET not in written.getvalue()


PRINTED = {
    "print": f"print({SECRET!r})",
    "standard error": f"sys.stderr.write({SECRET!r})",
    "a descriptor": f"import os; os.write(1, b{SECRET!r}); os.write(2, b{SECRET!r})",
    "a library in C": f"""
import ctypes
libc = ctypes.CDLL(None); libc.puts(b{SECRET!r}); libc.perror(b{SECRET!r}); libc.fflush(None)
""",
    "the end": f"sys.exit({SECRET!r})",
    "a handler of a library's own": f"""
other = logging.getLogger("other")
other.addHandler(logging.StreamHandler()); other.setLevel("DEBUG"); other.debug({SECRET!r})
""",
    "a logger with no handler above it": f"""
other = logging.getLogger("other"); other.propagate = False; other.warning({SECRET!r})
""",
    "an exception, and the hook fails as well": f"""
def full(*_): raise MemoryError
log.traceback.walk_tb = full
raise ValueError({SECRET!r})
""",
    "an exception, and the hook is interrupted": f"""
import signal
def interrupt(frame, *_):
    if frame.f_code.co_name == "_uncaught":
        sys.setprofile(None)
        signal.raise_signal(signal.SIGINT)
sys.setprofile(interrupt)
raise ValueError({SECRET!r})
""",
}


def said(code: str) -> str:
    """Return what a process says that runs `code`, whose output is read by a host."""
    start = "from wardian._internal import log; import logging, sys\n"
    begin = "log.configure(role='x', stream=log.silence_others())\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{start}{begin}{code}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("case", UNCAUGHT)
def test_of_what_nobody_caught_class_and_places_are_left(case: str) -> None:
    *_, last = said(UNCAUGHT[case]).splitlines()
    line = json.loads(last)
    assert (line["event"], line["kind"]) == ("process.uncaught", "ValueError")
    assert line["where"].startswith(("<string>:", "threading.py:"))
    assert SECRET not in said(UNCAUGHT[case])


def test_a_warning_says_nothing_not_even_that_there_is_one() -> None:
    quoting = f"import warnings; warnings.simplefilter('always'); warnings.warn({SECRET!r})"
    assert said(quoting) == ""
    assert said("import numpy; numpy.sqrt(numpy.full(2, -1.0))") == ""


@pytest.mark.parametrize("case", PRINTED)
def test_nothing_that_prints_by_itself_is_heard(case: str) -> None:
    assert SECRET not in said(PRINTED[case])


def test_events_are_heard_whatever_else_is_printed() -> None:
    code = f"print({SECRET!r})\nlog.event(logging.getLogger('wardian.x'), 'one', at=1)\nprint(2)"
    (line,) = map(json.loads, said(code).splitlines())
    assert (line["event"], line["at"]) == ("one", 1)


def test_a_process_that_has_no_output_says_nothing_and_goes_on(tmp_path: Path) -> None:
    """A host that closes the outputs gets no file of the process in their place."""
    kept = tmp_path / "kept"
    code = f"""
import os
os.close(1); os.close(2)
from wardian._internal import log
import logging
log.configure(role="x", stream=log.silence_others())
with open({str(kept)!r}, "w") as file:
    assert file.fileno() > 2
    os.write(1, b"a"); os.write(2, b"b")
    log.event(logging.getLogger("wardian.x"), "one")
    file.write("whole")
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
    assert kept.read_text() == "whole"


@pytest.mark.parametrize("closed", [(1,), (0,), (0, 1)])
def test_a_process_without_some_descriptor_is_heard_all_the_same(closed: tuple[int, ...]) -> None:
    """A copy of standard error that came to be where standard output is led to nothing."""
    closing = "".join(f"os.close({number}); " for number in closed)
    code = f"""
import os; {closing}
from wardian._internal import log
import logging
log.configure(role="x", stream=log.silence_others())
os.write(1, b"a"); os.write(2, b"b")
log.event(logging.getLogger("wardian.x"), "one")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert [json.loads(each)["event"] for each in done.stderr.splitlines()] == ["one"]
    assert done.stdout == ""
