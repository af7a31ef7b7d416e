"""A file system without a free byte, a real one: what has to be written waits, nothing ends."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import soak_disk

FILL = """
import asyncio, errno, json, sys, threading
from pathlib import Path
sys.path.insert(0, {bench!r})
from soak_disk import fill
root = Path(sys.argv[1])
stop = threading.Event()
def full():
    try:
        for size in (4096, 1):
            (root / "probe").write_bytes(bytes(size))
            (root / "probe").unlink()
    except OSError as err:
        (root / "probe").unlink(missing_ok=True)
        return err.errno == errno.ENOSPC
    return False
def fills():
    filling.start()
    while not full():
        pass
filling = threading.Thread(target=fill, args=(root, stop.is_set), daemon=True)
"""
STATUS = """
from wardian.cli.state import StateDir
from wardian.cli.up.status_file import write_status
place = StateDir.open(root / "state")
write_status(place, "serving", url="1")
fills()
write_status(place, "serving", url="2")
assert json.loads(place.status.read_text())["url"] == "1"
assert [path.name for path in place.status.parent.glob(".status*")] == []
stop.set()
filling.join()
write_status(place, "serving", url="3")
assert json.loads(place.status.read_text())["url"] == "3"
"""
LINES = """
from wardian.engines import ProcessSpec, Supervisor
lines = []
async def main():
    done = asyncio.Event()
    def heard(_, line):
        lines.append(line)
        if line == "last":
            done.set()
    engine = Supervisor(on_line=heard, on_ended=lambda _: None, on_failed=lambda _: None)
    say = "import time; [print(each, flush=True) for each in ('first', 'x' * 9000, 'last')]"
    argv = (sys.executable, "-c", say + "; time.sleep(60)")
    engine.start(ProcessSpec(name="one", argv=argv, env={}, log_path=root / "log"))
    await done.wait()
    assert engine.status()[0].state == "running", engine.status()
    await engine.stop()
fills()
asyncio.run(main())
assert lines == ["first", "x" * 9000, "last"]
assert (root / "log").stat().st_size < 9000
stop.set()
filling.join()
"""


@pytest.fixture
def on_small_disk(need_program, tmp_path):
    """A function that runs a script in a file system of 4 MB, which it gets as its argument."""
    need_program("unshare")
    if why := soak_disk.why_not():  # the kernel's word: nothing that could be installed
        pytest.skip(why)
    mount = 'mount -t tmpfs -o size=4m,mode=0700 wardian "$1" && exec "$2" -c "$3" "$1"'

    def run(script: str) -> subprocess.CompletedProcess[str]:
        script = FILL.replace("{bench!r}", repr(str(Path(soak_disk.__file__).parent))) + script
        argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
        argv += [str(tmp_path), sys.executable, script]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.mark.parametrize("script", [STATUS, LINES], ids=["the status file", "a process's log"])
def test_nothing_ends_because_a_disk_is_full(on_small_disk, script) -> None:
    done = on_small_disk(script)
    assert (done.returncode, done.stderr) == (0, "")
