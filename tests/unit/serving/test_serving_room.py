import subprocess
import sys

import pytest

import wardian.serving as room


def test_the_room_exports_what_it_lists_and_no_more():
    assert list(room.__all__) == sorted(room.__all__)
    assert len(room.__all__) <= 12
    assert all(getattr(room, name) is not None for name in room.__all__)
    with pytest.raises(AttributeError):
        _ = room.nothing


def test_a_worker_loads_neither_front_end_nor_client_nor_engine():
    script = """
import sys
import wardian.serving.worker, wardian.serving.queue.worker, wardian.inference
print(*sorted(name for name in sys.modules if name.startswith(("wardian.", "openvino", "uvloop",
    "httptools", "asyncio", "prometheus"))))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert not {name for name in loaded if not name.startswith("wardian.")}
    forbidden = ("dispatch", "packing", "queue_socket", "frontend", "client", "http1", "api")
    assert not loaded & {f"wardian.serving.{name}" for name in forbidden}
    assert not {name for name in loaded if name.startswith(("wardian.broker", "wardian.tee"))}
