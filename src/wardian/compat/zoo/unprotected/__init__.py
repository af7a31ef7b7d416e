"""UNPROTECTED: `InputQueue` and `OutputQueue` over the Redis of Cluster Serving's clients.

Where this name is written, records in the clear were asked for; no setting leads here.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wardian.compat.zoo.unprotected.queues import InputQueue, OutputQueue

__all__ = ["InputQueue", "OutputQueue"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wardian.compat.zoo.unprotected import queues  # noqa: PLC0415  numpy is heavy

    return getattr(queues, name)
