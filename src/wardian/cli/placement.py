"""What a role's process is told and let reach: the same for a simulated one and under Gramine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from wardian.errors import ConfigError
from wardian.roles.host import HostSettings, JobPlace
from wardian.tee.launch.reach import Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where one role's process finds what it needs.

    Attributes:
        settings: told to the role, unmeasured.
        reach: opened to it where the launcher confines it.
        files: by their names in the role's directory under Gramine, where they really lie.
    """

    settings: HostSettings
    reach: Reach
    files: dict[str, Path]

    def inside(self) -> HostSettings:
        """Return the settings as a process under Gramine reads them: paths in its directory.

        A self-test keeps nothing: its store lies in the enclave's own memory, at the root.

        Raises:
            ConfigError: something of it cannot leave an enclave: a Unix socket, a port that only
                the broker itself knows.
        """
        if any(not queue.startswith("tcp:") for queue in self.settings.queues):
            raise ConfigError(
                "operator.toml: under Gramine the queue has to be TCP: give [queue] a port (the "
                "role zoo: give [zoo] a queue_port)"
            )
        if any(port == 0 for _, port in self.settings.listen):
            raise ConfigError("operator.toml: under Gramine give [broker] or [keeper] a port")
        if self.settings.kbs_listen is not None and self.settings.kbs_listen[1] == 0:
            raise ConfigError("operator.toml: under Gramine give [broker] a kbs_port above 0")
        places = {str(place): name for name, place in self.files.items()}
        tenants, store = self.settings.tenants, self.settings.store
        sealed = self.settings.sealed_models
        backup, collateral = self.settings.backup, self.settings.collateral
        if collateral.cache is not None and collateral.pccs is None:
            raise ConfigError(
                "operator.toml: under Gramine the broker reads no directory of the host: give "
                "[collateral] a pccs, whose answers it keeps beside its state"
            )
        if store in places:  # a keeper's store is the mount itself
            return msgspec.structs.replace(self.settings, store=places[store])
        kept = places.get(str(Path(store).parent), "") if store else ""
        zoo = self.settings.zoo
        if zoo is not None and zoo.password_file is not None:
            zoo = msgspec.structs.replace(zoo, password_file=places[zoo.password_file])
        https = self.settings.zoo_https
        if https is not None:
            https = msgspec.structs.replace(
                https, keystore=places[https.keystore], password_file=places[https.password_file]
            )
        cache = None if collateral.cache is None else f"{kept}/collateral"
        job = self.settings.job
        return msgspec.structs.replace(
            self.settings,
            store=store and f"{kept}/{Path(store).name}",
            backup=None if backup is None else places[backup],
            tenants=None if tenants is None else places[tenants],
            zoo=zoo,
            zoo_https=https,
            job=None if job is None else _inside_job(job, self.files),
            traffic_file=places.get(self.settings.traffic_file or ""),
            sealed_models={key: places[path] for key, path in sealed.items() if path in places},
            collateral=msgspec.structs.replace(collateral, cache=cache),
        )


def _inside_job(job: JobPlace, files: Mapping[str, Path]) -> JobPlace:
    """Return where a job under Gramine finds what lies in `files`."""

    def inside(place: str) -> str:
        path = Path(place)
        return next(
            str(Path(name) / path.relative_to(root))
            for name, root in files.items()
            if path.is_relative_to(root)
        )

    return JobPlace(
        plan=inside(job.plan),
        tables={name: inside(place) for name, place in job.tables.items()},
        store=inside(job.store),
        out=inside(job.out),
        approvals=inside(job.approvals),
    )
