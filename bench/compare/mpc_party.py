"""One party of a computation among several: a process of its own, with links of its own.

It has shares alone. The client speaks to it over a pipe, the other parties over loopback TCP.
"""

import os
import pickle
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import spu.api
from spu import libspu

Shared = tuple[bytes, list[bytes]]
"""A share as bytes: what it is, and its pieces."""
FRACTION_BITS = 18
"""Of fixed-point numbers, of 64 bits in all (SPU's own choice for this ring)."""
LENGTH_BYTES = 4
"""Before each message on a pipe of `multiprocessing`."""


def config_of(protocol: str) -> Any:
    """Return how SPU runs `protocol`: a ring of 64 bits."""
    return libspu.RuntimeConfig(
        protocol=getattr(libspu.ProtocolKind, protocol),
        field=libspu.FieldType.FM64,
        fxp_fraction_bits=FRACTION_BITS,
    )


def to_share(shared: Shared) -> Any:
    """Return SPU's form of `shared`."""
    share = libspu.Share()
    share.meta, share.share_chunks = shared
    return share


def from_share(share: Any) -> Shared:
    """Return what can be sent of `share`."""
    return share.meta, list(share.share_chunks)


def silence() -> None:
    """Keep SPU from logging: it would leave a file here, and what a party writes is counted."""
    options = libspu.logging.LogOptions()
    options.system_log_path = os.devnull
    options.enable_console_logger = False
    options.log_level = libspu.logging.LogLevel.ERROR
    libspu.logging.setup_logging(options)


class Pipe:
    """The way to the client; knows how many bytes it wrote."""

    def __init__(self, connection: Connection) -> None:
        """Speak on `connection`."""
        self._connection = connection
        self._own = 0

    def send(self, what: Any) -> None:
        """Send `what`."""
        raw = pickle.dumps(what)
        self._own += len(raw) + LENGTH_BYTES
        self._connection.send_bytes(raw)

    def receive(self) -> Any:
        """Return the next message."""
        return pickle.loads(self._connection.recv_bytes())

    def written_elsewhere(self) -> int:
        """Return how many bytes this process wrote to whatever is not this pipe: to its links.

        The kernel's own count. Compared with relays between all parties it was the same to a byte.
        """
        counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(counts["wchar"]) - self._own


def party(rank: int, ports: list[int], protocol: str, connection: Connection) -> None:
    """Be party `rank` of those at `ports` until the client is gone."""
    silence()
    described = libspu.link.Desc()
    described.recv_timeout_ms = 60_000
    for number, port in enumerate(ports):
        described.add_party(f"party{number}", f"127.0.0.1:{port}")
    link = libspu.link.create_brpc(described, rank)
    runtime = spu.api.Runtime(link, config_of(protocol))
    pipe, programs = Pipe(connection), {}
    while True:
        try:
            what, name, content = pipe.receive()
        except EOFError:
            link.stop_link()
            return
        if what == "program":
            programs[name] = libspu.Executable()
            programs[name].ParseFromString(content)
        elif what == "share":
            for variable, shared in content.items():
                runtime.set_var(variable, to_share(shared))
        elif what == "run":
            cpu = time.process_time()
            runtime.set_var("x", to_share(content))
            runtime.run(programs[name])
            share = from_share(runtime.get_var("scores"))
            pipe.send((share, time.process_time() - cpu))
            continue
        pipe.send(pipe.written_elsewhere())
