"""The socket on which a front end listens for its workers."""

import contextlib
import os
import socket
import stat
from asyncio import BaseTransport
from pathlib import Path

from wardian.errors import ConfigError
from wardian.serving.queue.frames import ask_if_there


def private_socket(path: Path) -> socket.socket:
    """Return a socket at `path` that this user alone can connect to, from its first moment on."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    listener.setblocking(False)  # noqa: FBT003 (the signature is Python's)
    return listener


def remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on any more.

    Raises:
        ConfigError: somebody listens, or `path` is something else.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"queue address {path}: exists and is not a socket; remove it")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise ConfigError(f"queue address {path}: another front end listens here; stop it first")


def without_delay(transport: BaseTransport) -> None:
    """Send small frames at once where the transport is TCP, and notice an end that is no more."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ask_if_there(sock)
