"""Where Flink is, and what it may take: all that a `FlinkEngine` is told."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wardian.errors import ConfigError

INTERNAL_KEYSTORE: Final = "internal.p12"
INTERNAL_TRUSTSTORE: Final = "internal-trust.p12"
REST_KEYSTORE: Final = "rest.p12"
REST_TRUSTSTORE: Final = "rest-trust.p12"
CLIENT_KEYSTORE: Final = "client.p12"
CLIENT_TRUSTSTORE: Final = "client-trust.p12"
CLIENT_CERTIFICATE: Final = "client.pem"
CLIENT_KEY: Final = "client.key"
SERVER_CERTIFICATE: Final = "server.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlinkTls:
    """The files by which Flink's processes, and we, know each other.

    A cluster of our own needs all of them. To submit to one that is there it takes those of the
    client: `CLIENT_KEYSTORE`, `CLIENT_TRUSTSTORE`, `CLIENT_CERTIFICATE`, `CLIENT_KEY` and
    `SERVER_CERTIFICATE`, which holds the certificates (PEM) of whom its REST server may be.

    Attributes:
        directory: where they are, by the names above; absolute.
        password: of every keystore and truststore among them.
    """

    directory: Path
    password: str = field(repr=False)

    def path(self, name: str) -> Path:
        """Return where the file `name` is."""
        return self.directory / name


@dataclass(frozen=True, slots=True, kw_only=True)
class FlinkPorts:
    """Ports of a cluster of our own.

    Attributes:
        rpc: of the JobManager.
        rest: of the JobManager.
        blobs: of the JobManager: what jobs consist of.
        taskmanagers: of their RPC, one each: a number, a range or both, as Flink writes it
            (`50100-50200`); `0`: free ones.
        data: the same, of what they send each other.
        metrics: the same, of what JobManager and TaskManagers are asked for metrics at.
    """

    rpc: int
    rest: int
    blobs: int
    taskmanagers: str = "0"
    data: str = "0"
    metrics: str = "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlinkMemory:
    """What the JVMs may take, MiB. Workers, and Flink's Python, come on top of it.

    Attributes:
        jobmanager_heap: of the JobManager; 256 hold a hundred jobs with ease.
        taskmanager_heap: of each TaskManager.
        metaspace: of each of them.
    """

    jobmanager_heap: int = 256
    taskmanager_heap: int = 192
    metaspace: int = 192

    def __post_init__(self) -> None:
        """Refuse what no JVM starts with.

        Raises:
            ConfigError: less than 128 MiB of something.
        """
        least = min(self.jobmanager_heap, self.taskmanager_heap, self.metaspace)
        if least < 128:
            raise ConfigError(f"flink: {least} MiB of memory is too little; 128 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlinkPlace:
    """Where Flink is.

    Attributes:
        python: of the environment in which `wardian[flink]` is installed; on a cluster that is
            there it has to be at this path on every machine.
        directory: ours alone (mode 0700), absolute: settings, logs, checkpoints and savepoints.
        tls: see `FlinkTls`.
        mesh: what tells our jobs from those of another mesh on one cluster; `[a-z0-9._-]*`.
        address: by which the processes of a cluster of our own listen and are reached.
        ports: of a cluster of our own; None where `rest` is given.
        rest: host and port of the REST server of a cluster that is there.
        memory: of a cluster of our own.
    """

    python: Path
    directory: Path
    tls: FlinkTls
    mesh: str = ""
    address: str = "127.0.0.1"
    ports: FlinkPorts | None = None
    rest: tuple[str, int] | None = None
    memory: FlinkMemory = field(default_factory=FlinkMemory)

    def __post_init__(self) -> None:
        """Refuse a place that is two, or none.

        Raises:
            ConfigError: neither or both of `ports` and `rest`.
        """
        if (self.ports is None) == (self.rest is None):
            raise ConfigError("flink: name either the ports of a cluster of our own or one's REST")

    @property
    def rest_address(self) -> tuple[str, int]:
        """Host and port of the REST server, whoever's cluster it is."""
        if self.ports is not None:
            return self.address, self.ports.rest
        if self.rest is None:
            raise ConfigError("flink: there is no REST server")
        return self.rest
