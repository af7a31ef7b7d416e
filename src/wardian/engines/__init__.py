"""Where processes run. An engine starts, watches and stops; it knows neither models nor keys."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wardian.engines.engine import Cluster, Engine, WorkersSpec, WorkerStatus
    from wardian.engines.flink.cluster import ExistingCluster, OwnCluster
    from wardian.engines.flink.engine import FlinkEngine
    from wardian.engines.local import LocalCluster, LocalEngine
    from wardian.engines.supervisor import ProcessSpec, ProcessStatus, Supervisor

__all__ = [
    "Cluster",
    "Engine",
    "ExistingCluster",
    "FlinkEngine",
    "LocalCluster",
    "LocalEngine",
    "OwnCluster",
    "ProcessSpec",
    "ProcessStatus",
    "Supervisor",
    "WorkerStatus",
    "WorkersSpec",
]

_HOMES = {
    "Cluster": "engine",
    "Engine": "engine",
    "ExistingCluster": "flink.cluster",
    "FlinkEngine": "flink.engine",
    "LocalCluster": "local",
    "LocalEngine": "local",
    "OwnCluster": "flink.cluster",
    "ProcessSpec": "supervisor",
    "ProcessStatus": "supervisor",
    "Supervisor": "supervisor",
    "WorkerStatus": "engine",
    "WorkersSpec": "engine",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for when it is first asked for (PEP 562)."""
    if name in _HOMES:
        from importlib import import_module  # noqa: PLC0415 - lazy by design

        return getattr(import_module(f"wardian.engines.{_HOMES[name]}"), name)
    raise AttributeError(name)
