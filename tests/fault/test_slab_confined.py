"""Slabs behind the confinement of a role: both filters of the kernel leave them what they need."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

import wardian
from wardian.tee import seccomp
from wardian.tee.launch import landlock

pytestmark = [
    pytest.mark.skipif(landlock.abi() < 1, reason="this kernel has no Landlock"),
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "aarch64"), reason="no filter for this machine"
    ),
]

SOURCE = """
import os, socket, sys, threading
from pathlib import Path
sys.path.insert(0, {source!r})
sys.path += {site!r}
from wardian.serving.queue.frames import FrameKind, frame
from wardian.serving.queue.slab import Place
from wardian.serving.queue.slab_front import SlabDepot
from wardian.serving.queue.slab_handover import fetch_slabs, parse_offer
from wardian.tee import seccomp
from wardian.tee.launch.landlock import Access, Ruleset, abi

path = Path({path!r})
with Ruleset(Access(sockets=(path.parent,)), abi=abi()) as ruleset:
    ruleset.restrict()
seccomp.install()
try:
    Path("/etc/passwd").read_bytes()
except PermissionError:
    print("confined")

depot = SlabDepot(from_bytes=1)
pair = depot.make()
offer = parse_offer(1, pair.offer()[13:])

def hand_over(listener):
    connection, _ = listener.accept()
    with connection:
        assert connection.recv(100) == frame(FrameKind.FETCH, offer.token)
        depot.hand_over(offer.token, connection.fileno())

with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(str(path))
    listener.listen()
    thread = threading.Thread(target=hand_over, args=(listener,))
    thread.start()
    requests, answers = fetch_slabs(path, offer)
    thread.join()
assert pair.taken(1)
assert pair.write(7, b"to the worker")
assert requests.read(Place(1, 0, 13)) == b"to the worker"
assert answers.write(4096, b"and back")
assert pair.read(Place(1, 4096, 8).build()) == b"and back"
pair.close()
print("carried")
"""


def test_a_role_behind_landlock_and_seccomp_makes_passes_and_maps_slabs(tmp_path):
    assert seccomp.numbers(platform.machine())
    source = SOURCE.format(
        source=str(Path(wardian.__file__).parents[1]),
        site=[each for each in sys.path if "site-packages" in each],
        path=str(tmp_path / "q"),
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", source],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["confined", "carried"]
