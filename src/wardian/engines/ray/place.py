"""Where Ray runs, and what is told to each of its processes: command lines, environments, ports."""

import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wardian.engines.leash import leashed
from wardian.engines.supervisor import ProcessSpec
from wardian.errors import ConfigError

PORTS_OF_A_NODE: Final = 100
"""Each node has so many ports: those below, and from `_WORKER_PORTS` on one for each process."""
_OF_GCS: Final = 0
_AGENT_HTTP, _AGENT_GRPC, _RUNTIME_ENV, _METRICS, _NODE, _OBJECTS, _DASHBOARD = range(1, 8)
_WORKER_PORTS: Final = 20
LONGEST_DIRECTORY: Final = 38
"""Bytes: Ray puts sockets 68 bytes deeper, and the name of a Unix socket has 107."""
TEMP: Final = "t"
"""Below the directory, which stays closed: Ray opens this one to everybody (mode 0777)."""
_BOOTSTRAP: Final = "ray_bootstrap_config.yaml"
OBJECT_STORE_BYTES: Final = 80_000_000
"""Nothing of Wardian is in Ray's object store; a node refuses to start with less than 75 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayTls:
    """PEM files for mutual TLS on every gRPC connection of the cluster.

    Attributes:
        certificate: for servers and clients, with all addresses of the cluster's nodes.
        key: its key, PKCS #8, mode 0600.
        trusted: whoever shows a certificate of these, or below them, is let in as far as the
            token. Of a cluster of one's own: `certificate` itself, so that the CA's other
            certificates, which its broker gives to whoever asks, open nothing.
    """

    certificate: Path
    key: Path
    trusted: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RayPlace:
    """A cluster of one's own, or one that exists, in which this machine becomes a node.

    Attributes:
        python: the interpreter of the environment that Ray is installed in.
        directory: for Ray's files; absolute, 0700, at most `LONGEST_DIRECTORY` bytes long.
        tls: as all of the cluster has it.
        token: the file with its token, mode 0600.
        node_address: by which other nodes reach this machine; 127.0.0.1 where there are none.
        first_port: `PORTS_OF_A_NODE` from here on are for each node that is started here.
        address: HOST:PORT of a cluster that exists; None: one of one's own.
        nodes: of a cluster of one's own, all on this machine; at least 1.
        cpus: what each node has to give to workers; in a cluster that exists none of this machine.
        worker_cpus: what each worker takes.
        object_store_bytes: of each node.
    """

    python: Path
    directory: Path
    tls: RayTls
    token: Path
    node_address: str = "127.0.0.1"
    first_port: int = 24000
    address: str | None = None
    nodes: int = 1
    cpus: int = 2
    worker_cpus: float = 1.0
    object_store_bytes: int = OBJECT_STORE_BYTES

    def __post_init__(self) -> None:
        """Refuse what Ray would fail over later.

        Raises:
            ConfigError: says what, and what it may be.
        """
        if not self.directory.is_absolute() or len(os.fsencode(self.directory)) > LONGEST_DIRECTORY:
            raise ConfigError(
                f"engine 'ray': its directory has to be absolute and at most {LONGEST_DIRECTORY} "
                f"bytes long, since its sockets lie deep in it: {self.directory}"
            )
        last = self.first_port + PORTS_OF_A_NODE * self.nodes
        if self.nodes < 1 or self.first_port < 1024 or last > 65536:
            raise ConfigError(
                f"engine 'ray': {self.nodes} nodes from port {self.first_port} on: each takes "
                f"{PORTS_OF_A_NODE} ports from 1024 to 65535"
            )
        if self.address is None and self.cpus >= PORTS_OF_A_NODE - _WORKER_PORTS:
            raise ConfigError(f"engine 'ray': {self.cpus} CPUs: a node has ports for 79 at most")

    @property
    def own_nodes(self) -> int:
        """How many nodes are started here: of a cluster of others, the one that joins it."""
        return self.nodes if self.address is None else 1

    def cluster_address(self) -> str:
        """Return HOST:PORT of the cluster's head."""
        return self.address or f"{self.node_address}:{self.first_port}"


def short_directory(wanted: Path) -> Path:
    """Return `wanted`, made with mode 0700, or a temporary one if its name is too long for Ray.

    Its dashboard asks metadata services, over the network, which cloud it is in, even where reports
    of usage are off; not where a file says how the cluster was launched. So there is that file.
    """
    if len(os.fsencode(wanted)) > LONGEST_DIRECTORY:
        found = Path(tempfile.mkdtemp(prefix="wardian-ray-"))
    else:
        found = wanted
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
        found.chmod(0o700)
    (found / _BOOTSTRAP).write_text("provider:\n  type: none\n")
    return found


def write_token(path: Path) -> None:
    """Write a fresh token of 256 bits to `path`, mode 0600; Ray wants it as text."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as sink:
        sink.write(secrets.token_hex(32))


def environment(place: RayPlace) -> Mapping[str, str]:
    """Return all that each process of Ray has of an environment: paths, and no secret."""
    return {
        "PATH": f"{place.python.parent}:/usr/bin:/bin",
        "HOME": str(place.directory),
        "LANG": "C.UTF-8",
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": str(place.tls.certificate),
        "RAY_TLS_SERVER_KEY": str(place.tls.key),
        "RAY_TLS_CA_CERT": str(place.tls.trusted),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(place.token),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Where reports are off Ray reports that they are: to a port of ours where nobody listens.
        "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
        # A node that lost its head ends, and is started again: a new head knows nothing of it.
        "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
        # A head notes within about seven seconds that a node is gone, and not within twenty.
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "2000",
        "RAY_health_check_failure_threshold": "5",
        **_loopback(place),
    }


def _loopback(place: RayPlace) -> Mapping[str, str]:
    """Keep 127.0.0.1 as it is: Ray makes an address of the network of it else, and binds to all.

    The name says Windows or OSX; what it switches is that rewriting, on every system, and that
    more nodes join.
    """
    alone = place.nodes == 1 and place.address is None and place.node_address == "127.0.0.1"
    return {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"} if alone else {}


def cluster_processes(
    place: RayPlace, *, logs: Path, stop_rank: int = 0
) -> tuple[ProcessSpec, ...]:
    """Return what to supervise so that `place` is there: the head and further nodes, or one node.

    Args:
        place: where.
        logs: the directory for `ray-1.log` and so on.
        stop_rank: of all of them; above that of what uses them.
    """
    return tuple(
        ProcessSpec(
            name=f"ray-{number}",
            argv=leashed(_node(place, number), vital=_vital(place, number)),
            env=environment(place),
            log_path=logs / f"ray-{number}.log",
            stop_rank=stop_rank,
        )
        for number in range(1, place.own_nodes + 1)
    )


def _vital(place: RayPlace, number: int) -> tuple[str, ...]:
    """Return what a node is nothing without: `ray start` stays when its raylet ends by itself."""
    head = place.address is None and number == 1
    return ("raylet", "gcs_server") if head else ("raylet",)


def _node(place: RayPlace, number: int) -> tuple[str, ...]:
    first = place.first_port + PORTS_OF_A_NODE * (number - 1)
    ports = {
        "dashboard-agent-listen-port": first + _AGENT_HTTP,
        "dashboard-agent-grpc-port": first + _AGENT_GRPC,
        "runtime-env-agent-port": first + _RUNTIME_ENV,
        "metrics-export-port": first + _METRICS,
        "node-manager-port": first + _NODE,
        "object-manager-port": first + _OBJECTS,
        "min-worker-port": first + _WORKER_PORTS,
        "max-worker-port": first + PORTS_OF_A_NODE - 1,
    }
    if place.address is None and number == 1:
        role: tuple[str, ...] = (
            "--head",
            f"--port={first + _OF_GCS}",
            "--include-dashboard=false",
            "--no-monitor",
        )
        role += (f"--dashboard-port={first + _DASHBOARD}", "--dashboard-host=127.0.0.1")
    else:
        role = (f"--address={place.cluster_address()}",)
    return (
        *(str(place.python), "-P", "-m", "ray.scripts.scripts", "start", "--block", *role),
        f"--node-ip-address={place.node_address}",
        f"--num-cpus={place.cpus if place.address is None else 0}",
        "--num-gpus=0",
        f"--object-store-memory={place.object_store_bytes}",
        f"--temp-dir={place.directory / TEMP}",
        *("--disable-usage-stats", "--include-log-monitor=false", "--log-style=record"),
        *(f"--{name}={port}" for name, port in ports.items()),
    )
