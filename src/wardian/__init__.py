"""Serve and train machine-learning models on machines that nobody has to trust.

`connect` returns a client that verifies evidence before it sends anything:

    with wardian.connect("https://host:8443", policy="client-policy.toml") as model:
        answer = model.infer("digits", {"image": image})
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wardian.serving.client.aio import AsyncClient, connect_async
    from wardian.serving.client.credentials import ClientCertificate
    from wardian.serving.client.policy import ClientPolicy
    from wardian.serving.client.sync import Client, connect

__version__ = "0.1.0"

__all__ = ["AsyncClient", "Client", "ClientCertificate", "ClientPolicy", "connect", "connect_async"]

_HOME = {
    "AsyncClient": "wardian.serving.client.aio",
    "Client": "wardian.serving.client.sync",
    "ClientCertificate": "wardian.serving.client.credentials",
    "ClientPolicy": "wardian.serving.client.policy",
    "connect": "wardian.serving.client.sync",
    "connect_async": "wardian.serving.client.aio",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - the package itself loads nothing

    return getattr(import_module(_HOME[name]), name)
