"""The front end's machine loses its power: nothing ends the connection, and the worker comes back."""

import subprocess
import sys

import pytest

SCRIPT = """
import fcntl, socket, struct, threading
from wardian.serving.queue.frames import Address
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.worker import SocketWorkerQueue

def loopback(up):
    with socket.socket() as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sh", b"lo", up))  # SIOCSIFFLAGS, IFF_UP

loopback(1)
listener = socket.create_server(("127.0.0.1", 0))
listener.settimeout(30)
address = Address(host="127.0.0.1", port=listener.getsockname()[1])
queue = SocketWorkerQueue(address, lane=Lane("m", 1))
threading.Thread(target=queue.take, daemon=True).start()
first, _ = listener.accept()
assert first.recv(9)
loopback(0)
first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
first.close()  # its reset is lost, as is everything of a machine without power
loopback(1)
again, _ = listener.accept()
assert again.recv(9)
"""


@pytest.mark.slow
def test_a_worker_notices_that_its_front_ends_machine_is_gone(need_program) -> None:
    inside = [need_program("unshare"), "--user", "--map-root-user", "--net"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace of one's own")
    argv = [*inside, sys.executable, "-c", SCRIPT]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
