"""Ray, as a mesh uses it: a cluster of its own on this machine, or one that is there."""

import contextlib
import os
import shutil
import socket
from pathlib import Path
from typing import Final

from wardian._internal.files import replace_file
from wardian._internal.operator import Operator
from wardian.broker.certificates import chain_pem
from wardian.cli.engines.infrastructure import Pair, demand_files, fetch_pair
from wardian.cli.state import StateDir
from wardian.engines import Engine, Supervisor
from wardian.engines.environment import find_python
from wardian.engines.ray.engine import RayEngine
from wardian.engines.ray.place import (
    PORTS_OF_A_NODE,
    RayPlace,
    RayTls,
    cluster_processes,
    short_directory,
    write_token,
)
from wardian.errors import ConfigError

CERTIFICATE: Final = "server.pem"
KEY: Final = "server.key"
TRUSTED: Final = "trusted.pem"
TOKEN: Final = "token"  # noqa: S105 (a name of a file)
FIRST_PORT: Final = 24000
OWN_WORKER_CPUS: Final = 0.05
"""Of a cluster of our own: how many workers a machine runs is the operator's to say, not Ray's."""
STOP_RANK: Final = 2


class RayCluster:
    """A `Cluster`. Its nodes here are processes of a supervisor."""

    def __init__(self, state: StateDir, operator: Operator, supervisor: Supervisor) -> None:
        """Start nothing yet."""
        self._state, self._operator, self._supervisor = state, operator, supervisor
        self._place: RayPlace | None = None
        self._started: tuple[str, ...] = ()

    async def start(self) -> None:
        """Start its processes; whether they are up is seen by the engine. See `Cluster.start`."""
        self._place = place = await self._find_place()
        processes = cluster_processes(place, logs=self._state.root / "logs", stop_rank=STOP_RANK)
        for process in processes:
            self._supervisor.start(process)
        self._started = tuple(process.name for process in processes)

    def engine(self) -> Engine:
        """Return a new engine on it.

        Raises:
            ConfigError: it was not started.
        """
        if self._place is None:
            raise ConfigError("engine 'ray': its cluster was not started")
        return RayEngine(self._place)

    async def stop(self) -> None:
        """End its processes; see `Cluster.stop`."""
        await self._supervisor.end(*self._started)
        self._started = ()
        if self._place is not None and not self._place.directory.is_relative_to(self._state.root):
            shutil.rmtree(self._place.directory, ignore_errors=True)

    async def _find_place(self) -> RayPlace:
        table, here = self._operator.ray, self._state.root / "engines" / "ray"
        here.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(here / "temp", ignore_errors=True)  # what the last cluster left
        files = here / "files"
        if table.address is None:
            names = tuple(dict.fromkeys((table.node_address, "localhost", "127.0.0.1")))
            write_files(files, await fetch_pair(self._state, self._operator, names=names))
        elif table.files is not None:
            files = (self._state.root / table.files).resolve()
            demand_files(
                files, (CERTIFICATE, KEY, TRUSTED, TOKEN), secret={KEY, TOKEN}, table="ray"
            )
        else:
            raise ConfigError(
                "operator.toml: [ray] files: say where the TLS files and the token are of the "
                f"cluster at {table.address}"
            )
        return RayPlace(
            python=find_python("ray", table.python),
            directory=short_directory(here / "temp"),
            tls=RayTls(certificate=files / CERTIFICATE, key=files / KEY, trusted=files / TRUSTED),
            token=files / TOKEN,
            node_address=table.node_address,
            first_port=table.first_port or _free_range(table.node_address, nodes=table.nodes),
            address=table.address,
            nodes=table.nodes,
            cpus=table.cpus or os.cpu_count() or 1,
            worker_cpus=table.worker_cpus or (OWN_WORKER_CPUS if table.address is None else 1.0),
        )


def write_files(directory: Path, pair: Pair) -> None:
    """Write the TLS files of a cluster, and a fresh token, for this user alone.

    Only the cluster's own certificate is trusted, not who issued it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    certificate = chain_pem((pair.certificate,))
    replace_file(directory / CERTIFICATE, certificate)
    replace_file(directory / TRUSTED, certificate)
    replace_file(directory / KEY, pair.key.private_pem().reveal())
    (directory / TOKEN).unlink(missing_ok=True)
    write_token(directory / TOKEN)


def _free_range(address: str, *, nodes: int) -> int:
    """Return the first of the ports of `nodes` nodes that nobody uses now."""
    width = PORTS_OF_A_NODE * nodes
    for first in range(FIRST_PORT, 60000, width):
        if all(
            _free(address, first + PORTS_OF_A_NODE * node + port)
            for node in range(nodes)
            for port in range(8)
        ):
            return first
    raise ConfigError("operator.toml: [ray] first_port: no free ports were found; name some")


def _free(address: str, port: int) -> bool:
    with contextlib.suppress(OSError):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        socket.create_server((address, port), family=family).close()
        return True
    return False
