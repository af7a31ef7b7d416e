"""`operator.toml`: the operator's, not measured.

Whatever it says may be a lie; it can cost service, never secrecy or integrity. No security decision
reads it.
"""

from typing import Annotated, Final, Literal

import msgspec

from wardian._internal.settings import Name, Port, Settings

Version = Annotated[str, msgspec.Meta(pattern=r"\A[1-9][0-9]{0,8}\Z")]
"""Of a model, as a key."""
Weight = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
MAX_SHARES: Final = 8
"""Most versions among which the requests for one model are divided."""
HostPort = Annotated[str, msgspec.Meta(pattern=r"\A[^\s/]+:[0-9]{1,5}\Z")]


EngineName = Literal["local", "flink", "ray"]
"""What places the workers."""


class KeeperPlace(Settings, frozen=True, kw_only=True):
    """`[keeper]`: where a keeper listens."""

    address: str = "127.0.0.1"
    port: Port = 0


class AggregatorPlace(Settings, frozen=True, kw_only=True):
    """`[aggregator]`: where the coordinator of federated learning listens."""

    address: str = "127.0.0.1"
    port: Port = 0


class FrontendPlace(Settings, frozen=True, kw_only=True):
    """`[frontend]`: where it listens and under which names it is reached."""

    address: str = "localhost"
    port: Port = 8443
    names: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    """DNS names and IP addresses for the server certificate."""
    tenants: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """The file with the tenants list that `[tenants]` of wardian.toml demands. It lies in a
    directory of its own, which the front end may read; a path that is not absolute begins at the
    state directory."""


class WorkerPlace(Settings, frozen=True, kw_only=True):
    """`[worker]`: how many processes serve each model."""

    replicas: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1


class BrokerPlace(Settings, frozen=True, kw_only=True):
    """`[broker]`: where it listens; port 0 takes a free one, noted in the state directory.

    A second broker stands by on this machine (`standby`), or on another one (`peer`).
    """

    address: str = "127.0.0.1"
    port: Port = 0
    standby: bool = False
    """Whether a second broker of this state directory stands by: `wardian broker --standby`."""
    standby_port: Port = 0
    """Where that one listens, at the same address; 0 takes a free port."""
    peer: HostPort | None = None
    """`HOST:PORT` of the other broker, where it runs from another state directory."""
    takeover_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 5.0
    """How long the active broker may be away before the standby takes over."""
    keepers: dict[Name, HostPort] = msgspec.field(default_factory=dict)
    """`HOST:PORT` of each keeper of `[counter]` in wardian.toml, by its name there."""
    kbs_port: Port | None = None
    """Where clients of the KBS protocol are served, at the same address; None: nowhere."""
    standby_kbs_port: Port | None = None
    """Likewise by the second broker of this state directory, once it is the active one."""
    names: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=16)] = (
        "localhost",
        "127.0.0.1",
        "::1",
    )
    """DNS names and IP addresses by which those clients know the broker, for its certificate."""

    def __post_init__(self) -> None:
        """Refuse two standbys, and a broker that its peer cannot find."""
        if self.peer is not None and (self.standby or not self.port):
            raise ValueError("with `peer` there is no `standby`, and `port` is given")


class QueuePlace(Settings, frozen=True, kw_only=True):
    """`[queue]`: a TCP address, or by default a Unix socket in the state directory; or a Redis.

    Under Gramine it has to be TCP: Gramine's Unix sockets do not leave the enclave.
    """

    address: str = "127.0.0.1"
    port: Port = 0
    """0: the Unix socket."""
    redis: Annotated[str, msgspec.Meta(pattern=r"\Arediss(\+sentinel)?://\S+\Z")] | None = None
    """Where the Redis is that carries the queue, `rediss://HOST:PORT`; None: there is none."""
    redis_name: Annotated[str, msgspec.Meta(min_length=1, max_length=253)] | None = None
    """The name that its certificate has to have; None: the first host."""
    redis_ports: Annotated[tuple[Port, ...], msgspec.Meta(max_length=16)] = ()
    """Further ports that roles may reach: those of the servers that Sentinels name."""


class ZooPlace(Settings, frozen=True, kw_only=True):
    """`[zoo]`: the Redis of Cluster Serving's clients, and where they are served over HTTPS.

    Whoever runs that Redis, or holds the key of that certificate, reads all that these clients ask
    and are answered, whatever stands here: UNPROTECTED.
    """

    redis: Annotated[str, msgspec.Meta(pattern=r"\Arediss?://[^\s/?#@]+\Z")] = (
        "redis://127.0.0.1:6379"
    )
    """`redis://HOST:PORT`, on loopback or with a password alone, or `rediss://HOST:PORT`."""
    redis_name: Annotated[str, msgspec.Meta(min_length=1, max_length=253)] | None = None
    """The name that its certificate has to have; None: the host."""
    ca_file: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """PEM, for rediss://: no other CA is accepted. Not absolute: from the state directory."""
    username: Annotated[str, msgspec.Meta(max_length=128)] = ""
    password_file: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """In a directory of its own, which the role may read; not absolute: from the state
    directory."""
    consumer: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._-]{1,128}\Z")] | None = None
    """The name of this process; None: made from the machine's and the state directory's."""
    queue_port: Port = 0
    """Of the embedded queue, at [queue]'s address, where that is TCP; 0: a Unix socket."""
    listen: HostPort | None = None
    """`HOST:PORT` for HTTPS, where `dialects.zoo.keystore` is agreed; port 0: a free one."""
    keystore: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """PKCS #12, with one private key and its certificate. It lies as `password_file` does."""
    keystore_password_file: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """Its first line is the password of `keystore`. It lies as `password_file` does."""
    tokens_per_second: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    """Predictions over HTTPS in a second, all clients together; None: as many as are answered."""
    token_wait_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 100
    """For how long a prediction waits for its token; then it is refused."""


class CollateralPlace(Settings, frozen=True, kw_only=True):
    """`[collateral]`: where the vendor's statements about platforms come from. Default: nowhere.

    It may be the operator's because no decision reads it. Each statement is signed by the vendor
    and verified under the root that a policy names, whoever brought it. A lie here withholds
    statements, or brings old ones: the host can do both by pulling a cable, and how old a statement
    may be is for its own end, the policy's `max_collateral_age_s` and its
    `min_tcb_evaluation_number` to say.
    """

    pccs: str | None = None
    """The address of a PCCS or of Intel's own service; None: nobody is ever asked."""
    update: Literal["standard", "early"] = "standard"
    """Which TCB info is asked for: weeks to months after a TCB recovery, or at once."""
    cache: str | None = None
    """A directory that keeps what was fetched; None: in memory alone."""
    warn_before_s: Annotated[int, msgspec.Meta(ge=3600, le=30 * 24 * 3600)] | None = None
    """How long before its end collateral is warned of; None: a week, or a quarter of its life."""


class ModelPlace(Settings, frozen=True, kw_only=True):
    """`[models.NAME]`: which of its versions take the requests that name none (ADR 0026).

    It may be the operator's because the model's owner signed and released every version that can
    stand here, because the operator decides as much by the workers that it starts, and because an
    answer names its version. A client that cares which one it meets names it.
    """

    traffic: Annotated[dict[Version, Weight], msgspec.Meta(max_length=MAX_SHARES)] = msgspec.field(
        default_factory=dict
    )
    """The weight of each version; one that is not named gets nothing. Empty: the newest that has a
    worker gets all."""

    def __post_init__(self) -> None:
        """Refuse weights by which nobody would be served."""
        if self.traffic and not any(self.traffic.values()):
            raise ValueError("`traffic` gives no version a share: one weight is above 0")


class SimulationPlace(Settings, frozen=True, kw_only=True):
    """`[simulation]`: on which simulated machine the processes of this state directory run."""

    machine: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """Another state directory, by default this one; a path that is not absolute begins here. It
    holds the simulated platform's keys and its counters, as a real machine's processor does, and a
    mesh names one simulated platform."""


class RayTable(Settings, frozen=True, kw_only=True):
    """`[ray]`: the cluster of the engine of that name; by default one of its own, on this machine.

    Paths that are not absolute begin at the state directory.
    """

    python: Annotated[str, msgspec.Meta(pattern=r"\A/")] | None = None
    """Of the environment in which `wardian[ray]` is installed, the same path on every machine;
    None: `engines/ray/bin/python` in Wardian's own environment, where `make ray` puts it."""
    address: HostPort | None = None
    """`HOST:PORT` of a cluster that is there; this machine joins it, with no room for workers."""
    files: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """With `address`: a directory with `server.pem`, `server.key`, `trusted.pem` and `token`."""
    node_address: str = "127.0.0.1"
    """The IP address by which other nodes reach this machine."""
    first_port: Annotated[int, msgspec.Meta(ge=1024, le=65000)] | None = None
    """Each node here has 100 ports from this one on; None: free ones."""
    nodes: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    """Of a cluster of one's own, all on this machine."""
    cpus: Annotated[int, msgspec.Meta(ge=1, le=79)] | None = None
    """What each of these nodes has to give; None: what the machine has."""
    worker_cpus: Annotated[float, msgspec.Meta(gt=0, le=64)] | None = None
    """What a worker takes; None: 1 in a cluster that is there, next to nothing in one's own."""


class FlinkTable(Settings, frozen=True, kw_only=True):
    """`[flink]`: the cluster of the engine of that name; by default one of its own, here.

    Paths that are not absolute begin at the state directory.
    """

    python: Annotated[str, msgspec.Meta(pattern=r"\A/")] | None = None
    """Of the environment in which `wardian[flink]` is installed, the same path on every machine;
    None: `engines/flink/bin/python` in Wardian's own environment, where `make flink` puts it."""
    rest: HostPort | None = None
    """`HOST:PORT` of the REST server of a cluster that is there; TLS with client certificates."""
    files: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """With `rest`: a directory with `client.p12`, `client-trust.p12`, `client.pem`, `client.key`,
    `server.pem` and `password`."""
    address: str = "127.0.0.1"
    """Where the processes of a cluster of one's own listen."""
    jobmanager_heap_mib: Annotated[int, msgspec.Meta(ge=128, le=65536)] = 256
    taskmanager_heap_mib: Annotated[int, msgspec.Meta(ge=128, le=65536)] = 192


class Operator(Settings, frozen=True, kw_only=True):
    """`operator.toml`; every table may be left out: the defaults are one machine."""

    tee: Literal["simulated", "gramine"] = "simulated"
    engine: EngineName = "local"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    frontend: FrontendPlace = FrontendPlace()
    worker: WorkerPlace = WorkerPlace()
    broker: BrokerPlace = BrokerPlace()
    queue: QueuePlace = QueuePlace()
    collateral: CollateralPlace = CollateralPlace()
    keeper: KeeperPlace = KeeperPlace()
    aggregator: AggregatorPlace = AggregatorPlace()
    zoo: ZooPlace = ZooPlace()
    flink: FlinkTable = FlinkTable()
    ray: RayTable = RayTable()
    simulation: SimulationPlace = SimulationPlace()
    models: Annotated[dict[Name, ModelPlace], msgspec.Meta(max_length=256)] = msgspec.field(
        default_factory=dict
    )
