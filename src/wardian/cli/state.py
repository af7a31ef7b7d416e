"""The state directory: where a mesh on this machine keeps its files.

Nothing in it is a secret in the clear but what says so: `owner.key` (on a laptop `wardian up`
plays the owner) and `simulation/` (the keys of the simulated platform). Both are for their user
alone.
"""

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wardian._internal.operator import Operator
from wardian._internal.settings import load
from wardian.errors import ConfigError

LONGEST_SOCKET_PATH = 100
"""Unix socket addresses hold 108 bytes on Linux, 104 on macOS."""


@dataclass(frozen=True, slots=True)
class StateDir:
    """Paths under one state directory."""

    root: Path

    @classmethod
    def open(cls, path: Path) -> "StateDir":
        """Return the state directory at `path`, made if it is not there, closed to other users."""
        root = path.resolve()
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            demand_private(root)  # before anything is made in somebody else's directory
            for name in (
                "models",
                "run",
                "run/queue",
                "logs",
                "broker",
                "broker-2",
                "keeper",
                "enclave",
                "redis",
            ):
                (root / name).mkdir(mode=0o700, exist_ok=True)
        except FileExistsError as err:
            raise ConfigError(f"--state {path}: is a file; name a directory") from err
        except OSError as err:
            raise ConfigError(f"--state {path}: {err.strerror}") from err
        return cls(root)

    @classmethod
    def existing(cls, path: Path) -> "StateDir":
        """Return the state directory at `path` to read in it: nothing is made there.

        Raises:
            ConfigError: there is none, or others can write to it or read it.
        """
        root = path.resolve()
        try:
            demand_private(root)
        except OSError as err:
            raise ConfigError(f"--state {path}: {err.strerror}") from err
        return cls(root)

    @property
    def agreed(self) -> Path:
        """The rendered `wardian.toml`, measured."""
        return self.root / "wardian.toml"

    @property
    def operator(self) -> Path:
        """The operator's settings."""
        return self.root / "operator.toml"

    @property
    def owner_key(self) -> Path:
        """The owner's signing key, where `wardian up` plays the owner."""
        return self.root / "owner.key"

    @property
    def manifest(self) -> Path:
        """The newest signed mesh manifest."""
        return self.root / "manifest.json"

    @property
    def client_policy(self) -> Path:
        """What `wardian.connect` must find."""
        return self.root / "client-policy.toml"

    @property
    def mesh_ca(self) -> Path:
        """The mesh CA's certificate, for clients that only know TLS."""
        return self.root / "mesh-ca.pem"

    @property
    def machine(self) -> Path:
        """Where the simulated machine's keys and counters lie: here, or as operator.toml says.

        Raises:
            ConfigError: there is no such directory, or others can write to it or read it.
        """
        place = self.load_operator().simulation.machine
        if place is None:
            return self.root
        machine = (self.root / place).resolve()
        try:
            demand_private(machine)
        except OSError as err:
            raise ConfigError(
                f"{self.operator}: [simulation] machine {machine}: {err.strerror}"
            ) from err
        return machine

    @property
    def simulation(self) -> Path:
        """The simulated platform's keys."""
        return self.machine / "simulation"

    @property
    def store(self) -> Path:
        """The broker's encrypted state, in a directory that holds nothing else."""
        return self.root / "broker" / "broker.db"

    @property
    def second_store(self) -> Path:
        """The state of the second broker, where one of this directory stands by."""
        return self.root / "broker-2" / "broker.db"

    @property
    def keeper(self) -> Path:
        """Where a keeper of counters keeps them, sealed; nothing else is there."""
        return self.root / "keeper"

    @property
    def keeper_toml(self) -> Path:
        """What is agreed of a keeper, measured."""
        return self.root / "keeper.toml"

    @property
    def aggregator(self) -> Path:
        """Where a coordinator of federated learning keeps its run, sealed."""
        return self.root / "aggregator"

    @property
    def consortium_toml(self) -> Path:
        """What the parties of a consortium agreed to, measured."""
        return self.root / "consortium.toml"

    @property
    def redis(self) -> Path:
        """The files of a Redis that runs here: settings, users, certificate and key."""
        return self.root / "redis"

    @property
    def to_restore(self) -> Path:
        """A backup that the broker puts in place itself: under Gramine its files are its own."""
        return self.root / "restore.backup"

    @property
    def enclave(self) -> Path:
        """The roles' manifests, with the bytecode and the `wardian.toml` that they measure."""
        return self.root / "enclave"

    def enclave_of(self, role: str) -> Path:
        """The directory of `role`: those that are of no mesh have one of their own."""
        of_none = role in {"keeper", "aggregator"}
        return self.root / f"{role}-enclave" if of_none else self.enclave

    @property
    def broker_address(self) -> Path:
        """Where the active broker listens, written when it does."""
        return self.root / "run" / "broker.address"

    @property
    def broker_pair(self) -> Path:
        """Where two brokers of this directory listen, the first one first; written before."""
        return self.root / "run" / "brokers"

    @property
    def status(self) -> Path:
        """What `wardian up` last knew of its processes."""
        return self.root / "run" / "status.json"

    def sealed_model(self, name: str, version: int) -> Path:
        """Where the sealed file of a model's version lies."""
        return self.root / "models" / f"{name}-{version}.sealed"

    def log(self, process: str) -> Path:
        """Where a process's output goes, as JSON lines."""
        return self.root / "logs" / f"{process}.jsonl"

    @property
    def queue(self) -> str:
        """The queue's address: a socket here, or elsewhere when this path is too long for one.

        Its directory holds nothing else.
        """
        path = self.root / "run" / "queue" / "queue.sock"
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
            directory = Path(tempfile.gettempdir()) / f"wardian-{os.getuid()}-{digest}"
            with contextlib.suppress(FileExistsError):
                directory.mkdir(mode=0o700)
            demand_private(directory)
            path = directory / "queue.sock"
        return str(path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this state directory for one `wardian up`, or one `wardian keeper`, alone.

        Raises:
            ConfigError: another one holds it.
        """
        with (self.root / "run" / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as err:
                raise ConfigError(
                    f"--state {self.root}: another Wardian runs there; stop it or name another"
                ) from err
            yield

    def load_operator(self) -> Operator:
        """Return the operator's settings, or the defaults where there is no file."""
        return load(self.operator, Operator) if self.operator.exists() else Operator()


def demand_private(directory: Path) -> None:
    """Return if `directory` is a directory of this user that nobody else can write to or read.

    Somebody else's files in it would be taken for ours: a planted owner key, a link to follow.

    Raises:
        ConfigError: it is not; says what to do.
    """
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"{directory}: is no directory, or a link to one; name another")
    if status.st_uid != os.getuid():
        raise ConfigError(f"{directory}: belongs to another user; name a directory of yours")
    if status.st_mode & 0o077:
        raise ConfigError(f"{directory}: open to other users; run chmod 700 on it")
