"""What the host tells a role: addresses and paths. All of it may be a lie.

The launcher hands it over unmeasured. A role uses it to find things; whether what it finds there is
genuine, evidence, signatures and seals decide.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian._internal.operator import MAX_SHARES, CollateralPlace, Version, Weight
from wardian._internal.settings import Name

Address = tuple[str, Annotated[int, msgspec.Meta(ge=0, le=65535)]]
"""Host and port; port 0 where the role may choose and announces what it chose."""
_OWN: Final = ("/dev/attestation", "/dev/fd", "/proc", "/sys")
"""Where a process is shown what is its own: the keys that it seals with, memory, descriptors."""


class ZooRedisPlace(wire.Message, frozen=True, kw_only=True):
    """Where the Redis of Cluster Serving's clients is, as the operator says."""

    address: Address
    tls_name: str | None = None
    """The name in its certificate; None: without TLS."""
    ca_pem: str = ""
    username: str = ""
    password_file: str | None = None
    consumer: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._-]{1,128}\Z")] = "wardian"
    """The name of this process among those of its role; it keeps it when it is started anew."""


class ZooHttpsPlace(wire.Message, frozen=True, kw_only=True):
    """How Cluster Serving's clients are served over HTTPS, as the operator says."""

    keystore: str
    """The PKCS #12 file with the operator's certificate and key."""
    password_file: str
    tokens_per_second: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    token_wait_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 100


class JobPlace(wire.Message, frozen=True, kw_only=True):
    """Where one job of shared learning finds what it works on, as the operator says."""

    plan: str
    """The file of its plan, `job.toml`: whose owners agree to it, its evidence decides."""
    tables: Annotated[dict[str, str], msgspec.Meta(max_length=64)]
    """Where sealed tables lie, by `OWNER/TABLE` of the plan."""
    store: str
    """The directory of its sealed state."""
    out: str
    """The directory for its report and its sealed outputs."""
    approvals: str
    """The directory where approvals come."""


class HostSettings(wire.Message, frozen=True, kw_only=True):
    """Untrusted. A role refuses to start when one that it needs is missing."""

    log_level: str = "info"
    listen: tuple[Address, ...] = ()
    """Broker, keeper, front end and zoo: where to listen, IP addresses; the first two have one."""
    names: tuple[str, ...] = ()
    """Broker and front end: DNS names and IP addresses for the certificate that strangers see."""
    kbs_listen: Address | None = None
    """Broker: where to listen for clients of the KBS protocol, an IP address; None: nowhere."""
    brokers: tuple[Address, ...] = ()
    """Front end and worker: where the mesh's brokers listen, IP addresses. One of them answers."""
    queues: tuple[str, ...] = ()
    """A path, or `tcp:HOST:PORT`: a front end listens on the first, a worker dials all."""
    redis: tuple[Address, ...] = ()
    """Front end and worker: the Redis that carries the queue, or Sentinels, IP addresses; then
    there is none of `queues`."""
    redis_name: str = ""
    """The DNS name or IP address in the certificates of those servers."""
    sentinel: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")] | None = None
    """The name of the master that Sentinels are asked for; None: `redis` are the servers."""
    store: str | None = None
    """Broker: the file that holds its encrypted state. Keeper: the directory that holds its own."""
    peer: Address | None = None
    """Broker: where the mesh's other broker listens, an IP address; None where there is none."""
    standby: bool = False
    """Broker: whether it leaves the other one time to be the active one, when both start."""
    takeover_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 5.0
    """Broker: how long the active one may be away before this one takes over."""
    keepers: dict[str, Address] = msgspec.field(default_factory=dict)
    """Broker: where the keepers of its counter listen, IP addresses, by their names."""
    traffic: Annotated[
        dict[Name, Annotated[dict[Version, Weight], msgspec.Meta(max_length=MAX_SHARES)]],
        msgspec.Meta(max_length=256),
    ] = msgspec.field(default_factory=dict)
    """Front end: by model, the weights of its versions for the requests that name none."""
    traffic_file: str | None = None
    """Front end: the file with the weights that hold now; it may come, and change, at any time."""
    tenants: str | None = None
    """Front end: the file with the tenants list; it may come, and change, at any time."""
    backup: str | None = None
    """Broker: a backup to put in place where there is no state yet."""
    take_over: Address | None = None
    """Broker: where older code listens from which this one takes the mesh over, for good."""
    recover: bool = False
    """Broker: whether to wait for the owners where the state does not open as the newest."""
    collateral: CollateralPlace = CollateralPlace()
    """Broker: where it gets collateral that an attester did not send."""
    collateral_hosts: dict[str, str] = msgspec.field(default_factory=dict)
    """Broker: the IP addresses of the hosts that it asks for collateral, by name."""
    zoo: ZooRedisPlace | None = None
    """Zoo: the Redis in which records lie in the clear."""
    zoo_https: ZooHttpsPlace | None = None
    """Zoo: the keystore under which it serves at `listen`."""
    job: JobPlace | None = None
    """Job: what it works on."""
    model: Name | None = None
    """Worker: the model to serve."""
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    """Worker: the version to serve; None: the newest whose key it is given."""
    sealed_models: dict[str, str] = msgspec.field(default_factory=dict)
    """Worker: where sealed files lie, by `NAME:VERSION`."""
    self_test: bool = False
    """Try what the role needs, report, and end. No key is asked for."""

    def __post_init__(self) -> None:
        """Refuse paths to what no host has: what is read there would be told as a host's is.

        A password goes to the host's Redis, and what is wrong with a file to the log.
        """
        for path in filter(None, self._paths()):
            # Two slashes in front stay two, and lead where one does.
            place = Path("/" + os.path.abspath(path).lstrip("/"))  # noqa: PTH100  links or not
            if any(place.is_relative_to(own) for own in _OWN):
                raise ValueError(f"a path of the host's leads into {' or '.join(_OWN)}")

    def _paths(self) -> Iterator[str | None]:
        """Yield every path that a role opens because it stands here."""
        yield from (self.store, self.traffic_file, self.tenants, self.backup)
        yield self.collateral.cache
        yield from self.sealed_models.values()
        if self.zoo is not None:
            yield self.zoo.password_file
        if self.zoo_https is not None:
            yield from (self.zoo_https.keystore, self.zoo_https.password_file)
        if self.job is not None:
            yield from (self.job.plan, self.job.store, self.job.out, self.job.approvals)
            yield from self.job.tables.values()
