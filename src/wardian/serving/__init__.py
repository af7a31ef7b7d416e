"""Front end, queue, worker and client: from a request over HTTPS to an answer and back."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wardian.serving.client.aio import AsyncClient, connect_async
    from wardian.serving.client.policy import ClientPolicy
    from wardian.serving.client.sync import Client, connect
    from wardian.serving.dispatch import Dispatcher
    from wardian.serving.frontend import Frontend
    from wardian.serving.queue.frames import Address
    from wardian.serving.queue.front import SocketFrontQueue
    from wardian.serving.queue.lease import Lane
    from wardian.serving.queue.worker import SocketWorkerQueue
    from wardian.serving.worker import Worker

__all__ = [
    "Address",
    "AsyncClient",
    "Client",
    "ClientPolicy",
    "Dispatcher",
    "Frontend",
    "Lane",
    "SocketFrontQueue",
    "SocketWorkerQueue",
    "Worker",
    "connect",
    "connect_async",
]

_MODULE_OF = {
    "Address": "queue.frames",
    "AsyncClient": "client.aio",
    "Client": "client.sync",
    "ClientPolicy": "client.policy",
    "Dispatcher": "dispatch",
    "Frontend": "frontend",
    "Lane": "queue.lease",
    "SocketFrontQueue": "queue.front",
    "SocketWorkerQueue": "queue.worker",
    "Worker": "worker",
    "connect": "client.sync",
    "connect_async": "client.aio",
}


def __getattr__(name: str) -> Any:
    """Import the module that defines `name`: a client never loads the servers."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
