"""Where processes run. An engine starts, watches and stops; it knows neither models nor keys."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wardian.engines.local import LocalEngine, ProcessSpec, ProcessStatus

__all__ = ["LocalEngine", "ProcessSpec", "ProcessStatus"]


def __getattr__(name: str) -> Any:
    """Load the engine when it is first asked for (PEP 562)."""
    if name in __all__:
        from wardian.engines import local  # noqa: PLC0415 - lazy by design

        return getattr(local, name)
    raise AttributeError(name)
