"""The two files that a process reads: `wardian.toml` and `operator.toml`.

`wardian.toml` (`Agreed`) is agreed between the owners and measured: its digest is part of every
role's measurement, so what it says can be trusted by whoever accepts the measurement. It names
models, limits and the owners' public keys, and nothing that scaling changes.

`operator.toml` (`Operator`) is the operator's and not measured. Whatever it says may be a lie; it
can cost service, never secrecy or integrity. No security decision reads it.

Unknown keys are refused in both, with the line on which they stand.
"""

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from wardian.errors import ConfigError

Name = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9._-]{0,63}\Z")]
"""A model's or a mesh's name: it stands in URLs, metrics and file names."""

PublicKey = Annotated[str, msgspec.Meta(pattern=r"\A(?:0[23])?[0-9a-f]{64}\Z")]
"""An owner's public key in lower-case hex: 32 bytes of Ed25519, or a compressed point of P-256."""

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
PositiveInt = Annotated[int, msgspec.Meta(ge=1, le=2**40)]
MAX_BYTES = 1024**2
"""Of a settings file."""
S = TypeVar("S", bound="Settings")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table of a settings file."""


class Mesh(Settings, frozen=True, kw_only=True):
    """`[mesh]`: who owns it. `owners` are their public keys in hex, `threshold` of them sign."""

    name: Name
    owners: Annotated[tuple[PublicKey, ...], msgspec.Meta(min_length=1, max_length=64)]
    threshold: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    lease_s: Annotated[int, msgspec.Meta(ge=60, le=86_400)] = 3600
    """How long a certificate is valid, and how long a process serves that no broker renewed. It
    renews at half of it."""
    epoch_s: Annotated[int, msgspec.Meta(ge=60, le=2_592_000)] = 86_400
    """After which time the broker replaces the queue keys. A new manifest, and an owner's order,
    do so at once."""
    witnesses: Annotated[tuple[PublicKey, ...], msgspec.Meta(max_length=16)] = ()
    """Who countersigns heads of the audit log; owners may be among them."""
    head_threshold: Annotated[int, msgspec.Meta(ge=0, le=16)] = 0
    """How many witnesses have to have seen the log before a process takes keys from its broker; 0:
    none, and then one broker that runs twice can show each process a log of its own (TRUST T22)."""
    head_max_lines: PositiveInt = 10_000
    """By how many lines the log may have gone on since they saw it."""
    head_max_age_s: Annotated[int, msgspec.Meta(ge=60, le=2_592_000)] = 86_400
    """How long ago that may be, by the witnesses' clocks."""

    def __post_init__(self) -> None:
        """Refuse a mesh whose owners, or witnesses, could never be enough, or are fewer than said.

        Whoever has a P-256 key has the one of the other sign, too: 02 and 03 before one number.
        """
        for who, keys in (("owners", self.owners), ("witnesses", self.witnesses)):
            if len({key[-64:] for key in keys}) < len(keys):
                raise ValueError(f"`{who}` names one key twice")
        if self.threshold > len(self.owners):
            raise ValueError("`threshold` is above the number of owners")
        if self.head_threshold > len(self.witnesses):
            raise ValueError("`head_threshold` is above the number of witnesses")


class ModelTerms(Settings, frozen=True, kw_only=True):
    """`[models.NAME]`: how a model is run, whatever its version."""

    media_type: Literal["application/onnx"] = "application/onnx"
    engine: Literal["openvino"] = "openvino"
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    max_batch: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 64
    """Most rows that one inference takes; 1 runs each request by itself, whole."""
    batch_across_tenants: bool = False
    """Whether the owner says that a row's answer never depends on its neighbours, so that rows of
    strangers may share an inference (TRUST T19)."""
    max_model_bytes: PositiveInt = 2 * 1024**3


class Limits(Settings, frozen=True, kw_only=True):
    """`[limits]`: what one front end accepts."""

    max_body_bytes: PositiveInt = 16 * 1024**2
    max_waiting: PositiveInt = 4096
    """Requests accepted and not yet answered, over all connections; then 429."""
    deadline_ms: Annotated[int, msgspec.Meta(ge=10, le=600_000)] = 10_000
    """Within this time an accepted request has its answer or a typed error."""
    header_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 10.0
    body_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 30.0
    idle_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 75.0
    max_connections: PositiveInt = 1024


class Agreed(Settings, frozen=True, kw_only=True):
    """`wardian.toml`."""

    mesh: Mesh
    models: Annotated[dict[Name, ModelTerms], msgspec.Meta(min_length=1, max_length=256)]
    limits: Limits = Limits()


class FrontendPlace(Settings, frozen=True, kw_only=True):
    """`[frontend]`: where it listens and under which names it is reached."""

    address: str = "localhost"
    port: Port = 8443
    names: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    """DNS names and IP addresses for the server certificate."""


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
    peer: Annotated[str, msgspec.Meta(pattern=r"\A\S+:[0-9]{1,5}\Z")] | None = None
    """`HOST:PORT` of the other broker, where it runs from another state directory."""
    takeover_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 5.0
    """How long the active broker may be away before the standby takes over."""
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
    """`[queue]`: a TCP address, or by default a Unix socket in the state directory.

    Under Gramine it has to be TCP: Gramine's Unix sockets do not leave the enclave.
    """

    address: str = "127.0.0.1"
    port: Port = 0
    """0: the Unix socket."""


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


class SimulationPlace(Settings, frozen=True, kw_only=True):
    """`[simulation]`: on which simulated machine the processes of this state directory run."""

    machine: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """Another state directory, by default this one; a path that is not absolute begins here. It
    holds the simulated platform's keys and its counters, as a real machine's processor does, and a
    mesh names one simulated platform."""


class Operator(Settings, frozen=True, kw_only=True):
    """`operator.toml`; every table may be left out: the defaults are one machine."""

    tee: Literal["simulated", "gramine"] = "simulated"
    engine: Literal["local"] = "local"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    frontend: FrontendPlace = FrontendPlace()
    worker: WorkerPlace = WorkerPlace()
    broker: BrokerPlace = BrokerPlace()
    queue: QueuePlace = QueuePlace()
    collateral: CollateralPlace = CollateralPlace()
    simulation: SimulationPlace = SimulationPlace()


def parse(raw: bytes, kind: type[S], *, name: str) -> S:
    """Return the settings in `raw`.

    Args:
        raw: TOML in UTF-8, at most 1 MiB.
        kind: `Agreed`, `Operator` or another `Settings` table.
        name: the file's name for messages.

    Raises:
        ConfigError: not TOML, a wrong value, or an unknown key; says which line.
    """
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{name}: larger than 1 MiB")
    try:
        text = raw.decode()
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as err:  # TOMLDecodeError and UnicodeDecodeError are values
        raise ConfigError(f"{name}: not valid TOML: {err}") from err
    try:
        return msgspec.convert(table, kind, strict=True)
    except msgspec.ValidationError as err:
        raise ConfigError(_explain(str(err), table, text, name)) from err


def load(path: Path, kind: type[S]) -> S:
    """Return the settings in the file `path`; see `parse`."""
    return parse(read(path), kind, name=str(path))


def read(path: Path, *, limit_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes of the file `path`, of which no more than the limit is read.

    Args:
        path: a regular file. A pipe or a device would be waited for, or never end.
        limit_bytes: the most that it may hold; by default what `parse` takes.

    Raises:
        ConfigError: it cannot be read, is no regular file, or holds more.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{path}: is no regular file")
            raw = file.read(limit_bytes + 1)
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read: {err.strerror}") from err
    if len(raw) > limit_bytes:
        raise ConfigError(f"{path}: larger than {limit_bytes:,} bytes")
    return raw


def _explain(reason: str, table: dict[str, Any], text: str, name: str) -> str:
    """Return msgspec's reason with the line of the key that it is about, where one is named."""
    where = re.search(r"`\$\.?([^`]*)`$", reason)
    path = re.findall(r"[^.\[\]]+", where.group(1)) if where else []
    unknown = re.search(r"unknown field `([^`]*)`", reason)
    if unknown:
        path.append(unknown.group(1))
    line = _line_of(path, table, text)
    return f"{name}{f', line {line}' if line else ''}: {reason}"


def _line_of(path: list[str], table: dict[str, Any], text: str) -> int | None:
    """Return the line on which the last key of `path` is set, as far as a text search tells."""
    names = [part for part in path if part != "..."]
    if not names:
        return None
    leaf = re.compile(
        rf"""^\s*(\[+.*\b{re.escape(names[-1])}\b.*\]+|["']?{re.escape(names[-1])}["']?\s*=)"""
    )
    header = re.compile(r"^\s*\[+([^\]]+)\]+")
    section, best = "", None
    for number, row in enumerate(text.splitlines(), start=1):
        if found := header.match(row):
            section = found.group(1)
        if leaf.match(row):
            if all(part in section or part == names[-1] for part in names):
                return number
            best = best or number
    return best if _has_key(table, names[-1]) else None


def _has_key(table: dict[str, Any], name: str) -> bool:
    """Return whether `name` is a key anywhere in `table`, however deep a stranger made it."""
    tables: list[Any] = [table]
    while tables:
        each = tables.pop()
        if isinstance(each, dict):
            if name in each:
                return True
            tables += each.values()
        elif isinstance(each, list):
            tables += each
    return False
