"""`python -m wardian.engines.ray.driver ADDRESS NODE CPUS NODES`: an engine in its environment.

It takes orders on its standard input, and answers on its standard output; it ends when the first
closes, and takes its actors with it, since Ray ends those of a driver that is gone.
"""

import contextlib
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from wardian._internal.clock import monotonic
from wardian.engines.ray.actor import WorkerActor
from wardian.engines.ray.fleet import Fleet
from wardian.engines.ray.messages import LINE_BYTES, Answer, Ask, Keep, line_of, parse_order
from wardian.engines.tending import die_with, program_of
from wardian.errors import FormatError

_TURN_S: Final = 0.1
NODES_S: Final = 10.0
"""So long workers wait for nodes that are still starting; who is later gets the next worker."""
_LAST_S: Final = 5.0
"""After its input has closed it ends within this, whatever Ray waits for."""


class Driver:
    """Answers orders about one fleet."""

    def __init__(self, fleet: Fleet, sink: BinaryIO) -> None:
        """Answer to `sink`."""
        self._fleet, self._sink = fleet, sink
        self._unsettled: list[int] = []

    def run(self, orders: "queue.Queue[Keep | Ask | None]") -> None:
        """Do what `orders` say until one is None."""
        while True:
            try:
                order = orders.get_nowait()
            except queue.Empty:
                self.turn()
                continue
            if order is None:
                return
            self.take(order)

    def take(self, order: Keep | Ask) -> None:
        """Do `order`."""
        if isinstance(order, Keep):
            self._fleet.keep(order.spec.workers(), order.replicas)
            self._unsettled.append(order.id)
        else:
            self.answer(order.id)

    def turn(self) -> None:
        """Tend the fleet for a moment."""
        self._fleet.turn(_TURN_S)
        if self._fleet.settled:
            for id_ in self._unsettled:
                self.answer(id_)
            self._unsettled.clear()

    def answer(self, id_: int) -> None:
        """Say how the workers are."""
        self._sink.write(line_of(Answer.of(id_, self._fleet.workers())))
        self._sink.flush()


def listen(source: BinaryIO, orders: "queue.Queue[Keep | Ask | None]") -> None:
    """Put what comes from `source` into `orders`; None when it closes, or is nothing of them."""
    try:
        while line := source.readline(LINE_BYTES + 1):
            orders.put(parse_order(line))
    except FormatError as err:
        print(f"error: {err}", file=sys.stderr, flush=True)  # noqa: T201 - into the driver's log
    orders.put(None)
    threading.Event().wait(_LAST_S)
    os._exit(1)


def _connect(address: str, node: str) -> Any:
    import ray  # noqa: PLC0415 - stands in this environment alone

    ray.init(
        address=address,
        _node_ip_address=node,
        log_to_driver=False,
        logging_level=logging.WARNING,
        configure_logging=False,
    )
    return ray


def await_nodes(ray: Any, count: int, *, now: Callable[[], float] = monotonic) -> None:
    """Return when `count` nodes are there, or it has been `NODES_S`.

    Ray spreads actors over the nodes that it knows: all would be on the first one, and end with it.
    """
    until = now() + NODES_S
    while now() < until and sum(bool(each["Alive"]) for each in ray.nodes()) < count:
        threading.Event().wait(_TURN_S)


def _raylet(ray: Any) -> Iterator[int]:
    """Yield the process that is this driver's node: each driver has one beside it.

    A head that is quickly started again is another cluster, to which Ray would have a driver of the
    one before talk without end. So a driver ends with its node.
    """
    here = ray.get_runtime_context().get_node_id()
    (socket,) = (each["RayletSocketName"] for each in ray.nodes() if each["NodeID"] == here)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        pid = int(path.parent.name)
        with contextlib.suppress(OSError):
            if program_of(pid) == "raylet" and socket.encode() in path.read_bytes():
                yield pid


def main() -> None:
    """Run one driver."""
    address, node, cpus, nodes = sys.argv[1:]
    # Whatever Ray prints goes to the log; this end of the pipe is for answers alone.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    orders: queue.Queue[Keep | Ask | None] = queue.Queue()
    threading.Thread(target=listen, args=(sys.stdin.buffer, orders), daemon=True).start()
    ray = _connect(address, node)
    die_with(_raylet(ray))
    await_nodes(ray, int(nodes))
    driver = Driver(Fleet(ray, WorkerActor, cpus=float(cpus)), sink)
    driver.answer(0)
    driver.run(orders)
    ray.shutdown()


if __name__ == "__main__":
    main()
