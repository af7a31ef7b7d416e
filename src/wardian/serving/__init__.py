"""Front end, queue, worker and client: from a request over HTTPS to an answer and back."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wardian.serving.client import Client, connect
    from wardian.serving.client_async import AsyncClient, connect_async
    from wardian.serving.client_policy import ClientPolicy
    from wardian.serving.dispatch import Dispatcher
    from wardian.serving.frames import Address
    from wardian.serving.frontend import Frontend
    from wardian.serving.lease import Lane
    from wardian.serving.queue_socket import SocketFrontQueue
    from wardian.serving.queue_socket_worker import SocketWorkerQueue
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
    "Address": "frames",
    "AsyncClient": "client_async",
    "Client": "client",
    "ClientPolicy": "client_policy",
    "Dispatcher": "dispatch",
    "Frontend": "frontend",
    "Lane": "lease",
    "SocketFrontQueue": "queue_socket",
    "SocketWorkerQueue": "queue_socket_worker",
    "Worker": "worker",
    "connect": "client",
    "connect_async": "client_async",
}


def __getattr__(name: str) -> Any:
    """Import the module that defines `name`: a client never loads the servers."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
