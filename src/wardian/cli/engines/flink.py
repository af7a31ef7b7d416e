"""Flink, as a mesh uses it: a cluster of its own on this machine, or one that is there."""

import hashlib
from pathlib import Path
from typing import Final

from wardian._internal.operator import Operator
from wardian.cli.engines.flink_files import write_flink_files
from wardian.cli.engines.infrastructure import demand_files, fetch_pair
from wardian.cli.resolving import free_port
from wardian.cli.state import StateDir
from wardian.engines import Engine, Supervisor
from wardian.engines.environment import find_python
from wardian.engines.flink import place as names
from wardian.engines.flink.cluster import ExistingCluster, OwnCluster
from wardian.engines.flink.engine import FlinkEngine
from wardian.engines.flink.place import FlinkMemory, FlinkPlace, FlinkPorts, FlinkTls
from wardian.errors import ConfigError

PASSWORD: Final = "password"  # noqa: S105 (a name of a file)
STOP_RANK: Final = 2
_OF_CLIENT: Final = (
    names.CLIENT_KEYSTORE,
    names.CLIENT_TRUSTSTORE,
    names.CLIENT_CERTIFICATE,
    names.CLIENT_KEY,
    names.SERVER_CERTIFICATE,
    PASSWORD,
)
_SECRET: Final = frozenset({names.CLIENT_KEYSTORE, names.CLIENT_KEY, PASSWORD})


class FlinkCluster:
    """A `Cluster`. JobManager and TaskManagers of its own are processes of a supervisor."""

    def __init__(self, state: StateDir, operator: Operator, supervisor: Supervisor) -> None:
        """Start nothing yet."""
        self._state, self._operator, self._supervisor = state, operator, supervisor
        self._cluster: OwnCluster | ExistingCluster | None = None

    async def start(self) -> None:
        """Return when its JobManager answers; see `Cluster.start`."""
        place = await self._find_place()
        if place.ports is None:
            self._cluster = ExistingCluster(place)
        else:
            self._cluster = OwnCluster(place, self._supervisor, stop_rank=STOP_RANK)
        await self._cluster.start()

    def engine(self) -> Engine:
        """Return a new engine on it.

        Raises:
            ConfigError: it was not started.
        """
        if self._cluster is None:
            raise ConfigError("engine 'flink': its cluster was not started")
        return FlinkEngine(self._cluster)

    async def stop(self) -> None:
        """Close the connection; processes of its own end with the supervisor."""
        if self._cluster is not None:
            self._cluster.rest.close()

    async def _find_place(self) -> FlinkPlace:
        table, here = self._operator.flink, self._state.root / "engines" / "flink"
        here.mkdir(mode=0o700, parents=True, exist_ok=True)
        ports: FlinkPorts | None = None
        rest: tuple[str, int] | None = None
        if table.rest is None:
            tls = await self._fetch_files(here / "tls")
            free = [free_port([table.address]) for _ in range(3)]
            ports = FlinkPorts(rpc=free[0], rest=free[1], blobs=free[2])
        else:
            tls = self._given_files()
            host, _, port = table.rest.rpartition(":")
            rest = host.strip("[]"), int(port)
        return FlinkPlace(
            python=find_python("flink", table.python),
            directory=here,
            tls=tls,
            mesh=hashlib.sha256(str(self._state.root).encode()).hexdigest()[:12],
            address=table.address,
            ports=ports,
            rest=rest,
            memory=FlinkMemory(
                jobmanager_heap=table.jobmanager_heap_mib,
                taskmanager_heap=table.taskmanager_heap_mib,
            ),
        )

    async def _fetch_files(self, directory: Path) -> FlinkTls:
        """Have the broker certify the cluster and its client; each trusts the other alone."""
        table = self._operator.flink
        known = tuple(dict.fromkeys((table.address, "localhost", "127.0.0.1")))
        cluster = await fetch_pair(self._state, self._operator, names=known)
        client = await fetch_pair(self._state, self._operator, names=("flink-client",))
        return write_flink_files(directory, cluster=cluster, client=client)

    def _given_files(self) -> FlinkTls:
        table = self._operator.flink
        if table.files is None:
            raise ConfigError(
                "operator.toml: [flink] files: say where the files are by which the cluster at "
                f"{table.rest} is known and entered"
            )
        directory = (self._state.root / table.files).resolve()
        demand_files(directory, _OF_CLIENT, secret=_SECRET, table="flink")
        password = (directory / PASSWORD).read_text().partition("\n")[0]
        return FlinkTls(directory=directory, password=password)
