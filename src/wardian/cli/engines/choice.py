"""The engine that the operator chose, by its name."""

import shutil
from typing import Protocol

from wardian._internal.operator import Operator
from wardian.cli.state import StateDir
from wardian.engines import Cluster, Supervisor
from wardian.engines.environment import find_python
from wardian.errors import ConfigError


class Host(Protocol):
    """What supervises processes on this machine."""

    @property
    def supervisor(self) -> Supervisor:
        """Keeps servers of an engine running."""

    def cluster(self) -> Cluster:
        """Return this machine as what workers run on."""


def demand_engine(operator: Operator) -> None:
    """Return if the engine that `operator` names can run here; asked before anything is made.

    Raises:
        ConfigError: it is not installed; says what to do.
    """
    if operator.engine == "flink":
        find_python("flink", operator.flink.python)
        if shutil.which("java") is None:
            raise ConfigError(
                "engine 'flink': no Java: on Debian and Ubuntu run "
                "`apt install openjdk-17-jre-headless`"
            )
    if operator.engine == "ray":
        find_python("ray", operator.ray.python)


def open_cluster(state: StateDir, operator: Operator, host: Host) -> Cluster:
    """Return what the workers of a state directory run on, not started yet."""
    if operator.engine == "flink":
        from wardian.cli.engines.flink import FlinkCluster  # noqa: PLC0415 - loaded where chosen

        return FlinkCluster(state, operator, host.supervisor)
    if operator.engine == "ray":
        from wardian.cli.engines.ray import RayCluster  # noqa: PLC0415 - loaded where it is chosen

        return RayCluster(state, operator, host.supervisor)
    return host.cluster()
