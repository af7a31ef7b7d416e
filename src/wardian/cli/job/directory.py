"""The directory of one job at its operator: plan, tables, state, what comes out, approvals.

job.toml            the plan
mesh                the state directory whose mesh it is of, for `wardian job run` alone
tables/OWNER/TABLE.sealed   links to the sealed tables
approvals/          what parties signed; see `wardian job approve`
state/              the job's own, sealed
out/                its report, and what leaves
ended.json          how its process ended last, if it did not do its work
job.jsonl           what it logs
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wardian._internal.files import replace_file
from wardian._internal.settings import read
from wardian.broker.jobs.plan import JobPlan, load_plan
from wardian.cli.broker_addresses import broker_addresses
from wardian.cli.placement import Placement
from wardian.cli.state import StateDir, demand_private
from wardian.errors import ConfigError
from wardian.roles.host import HostSettings, JobPlace
from wardian.tee.launch.reach import Reach

LOCK_TRIES, LOCK_PAUSE_S = 20, 0.05
_NAME_YOURS: Final = (
    "name your own state directory of the mesh with --state, or your own wardian.toml and manifest "
    "with --agreed and --manifest"
)
_MADE: Final = ("tables", "approvals", "state", "out")


@dataclass(frozen=True, slots=True)
class JobDir:
    """Paths under one job's directory."""

    root: Path

    @classmethod
    def make(cls, root: Path, *, plan: bytes, tables: Mapping[str, Path], mesh: Path) -> "JobDir":
        """Make the directory of a new job.

        Args:
            root: is not there yet.
            plan: of the job, TOML.
            tables: sealed files by `OWNER/TABLE`: those of the plan.
            mesh: the state directory.

        Raises:
            ConfigError: the plan is none, a table is missing, too much or not there, or the
                directory is there already.
        """
        wanted = {f"{each.owner}/{each.table}" for each in load_plan(plan, name="job.toml").inputs}
        if wanted != tables.keys():
            missing, foreign = sorted(wanted - tables.keys()), sorted(tables.keys() - wanted)
            raise ConfigError(
                f"--table: {foreign[0]} is not in the plan"
                if foreign
                else f"where does the sealed table {missing[0]} lie? --table {missing[0]}=FILE"
            )
        for name, path in tables.items():
            if not path.is_file():
                raise ConfigError(f"--table {name}: {path} is no file")
        try:
            root.mkdir(mode=0o700, parents=True)
            for name in _MADE:
                (root / name).mkdir(mode=0o700)
            for name, path in tables.items():
                link = root / "tables" / f"{name}.sealed"
                link.parent.mkdir(mode=0o700, exist_ok=True)
                link.symlink_to(path.resolve())
            replace_file(root / "mesh", f"{mesh.resolve()}\n".encode())
            replace_file(root / "job.toml", plan)
        except FileExistsError as err:
            raise ConfigError(f"{root}: is there already; every job has a directory") from err
        except OSError as err:
            raise ConfigError(f"{root}: cannot be made: {err.strerror}") from err
        return cls(root.resolve())

    @classmethod
    def open(cls, root: Path) -> "JobDir":
        """Return the directory `root` of a job.

        Raises:
            ConfigError: it is none, or open to other users.
        """
        if not (root / "job.toml").is_file():
            raise ConfigError(f"{root}: no job was submitted there")
        demand_private(root)
        return cls(root.resolve())

    @property
    def plan(self) -> JobPlan:
        """The plan; see `load_plan`."""
        return load_plan(read(self.root / "job.toml"), name=str(self.root / "job.toml"))

    @property
    def mesh(self) -> StateDir:
        """The state directory that it runs from, on this machine: as it was submitted.

        What lies in a copy of a job's directory is its host's word, and no owner's: by this file
        nothing is verified; see `trusted`.

        Raises:
            ConfigError: there is none, or only one that came along with the job.
        """
        place = Path(os.fsdecode(read(self.root / "mesh").strip()))
        try:
            known = place.is_absolute() and StateDir(place).agreed.is_file()
            own = place.resolve().is_relative_to(self.root)
        except (OSError, ValueError, RuntimeError):
            known, own = False, False
        if not known or own:
            raise ConfigError(f"{self.root}: its mesh's state directory is not on this machine")
        return StateDir.open(place)

    def trusted(
        self, state: Path | None, agreed: Path | None, manifest: Path | None
    ) -> tuple[Path, Path]:
        """Return the `wardian.toml` and the manifest that the user named, and no others.

        A default would be the host's word wherever an archive of the host's is unpacked: what it
        brings may lie beside the job, around it, or in the directory that one works in.

        Args:
            state: the user's state directory of the mesh.
            agreed: in place of the one in there.
            manifest: likewise.

        Raises:
            ConfigError: one of both was not named, or `state` came along in this directory.
        """
        if state is not None:
            held = StateDir.existing(state)
            if held.root.is_relative_to(self.root):
                raise ConfigError(f"--state {state}: came along with the job; {_NAME_YOURS}")
            agreed, manifest = agreed or held.agreed, manifest or held.manifest
        if agreed is None or manifest is None:
            raise ConfigError(f"{self.root}: by whose word is it verified? {_NAME_YOURS}")
        return agreed, manifest

    @property
    def out(self) -> Path:
        """Where its report and what leaves are."""
        return self.root / "out"

    @property
    def approvals(self) -> Path:
        """Where approvals are."""
        return self.root / "approvals"

    @property
    def ended(self) -> Path:
        """How its process ended last."""
        return self.root / "ended.json"

    @property
    def log(self) -> Path:
        """What it logs, as JSON lines."""
        return self.root / "job.jsonl"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this job for one process. Who only looks whether it runs is waited for.

        Raises:
            ConfigError: it runs already.
        """
        with (self.root / "lock").open("w") as lock:
            for _ in range(LOCK_TRIES):
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(LOCK_PAUSE_S)
            else:
                raise ConfigError(f"{self.root}: this job runs already")
            yield

    @property
    def running(self) -> bool:
        """Whether a process runs it now."""
        with (self.root / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def placement(self) -> Placement:
        """Return where its process finds what it needs."""
        state = self.mesh
        operator = state.load_operator()
        brokers = broker_addresses(state, operator)
        links = {
            f"{each.owner}/{each.table}": self.root / "tables" / each.owner / f"{each.table}.sealed"
            for each in self.plan.inputs
        }
        files = {
            "job.toml": self.root / "job.toml",
            "state": self.root / "state",
            **{name: self.root / name for name in ("tables", "approvals", "out")},
        }
        return Placement(
            settings=HostSettings(
                log_level=operator.log_level,
                brokers=brokers,
                job=JobPlace(
                    plan=str(files["job.toml"]),
                    tables={name: str(link) for name, link in links.items()},
                    store=str(files["state"]),
                    out=str(self.out),
                    approvals=str(self.approvals),
                ),
            ),
            reach=Reach(
                read=(self.approvals,),
                files=(files["job.toml"], *map(_behind, links.values())),
                write=(files["state"], self.out),
                connect=tuple(port for _, port in brokers),
            ),
            files=files,
        )


def _behind(link: Path) -> Path:
    """Return where the sealed table really lies.

    Raises:
        ConfigError: links lead in a circle.
    """
    try:
        return link.resolve()
    except (OSError, RuntimeError) as err:
        raise ConfigError(f"{link}: links lead in a circle") from err
