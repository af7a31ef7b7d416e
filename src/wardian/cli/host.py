"""What the operator's files tell a role, and what they let it reach.

Names are resolved here: a role resolves none, so it needs no name service, and the kernel refuses
it UDP. Whatever stands here may be a lie; a role finds things by it and trusts none of them.
"""

import contextlib
import logging
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from wardian._internal.log import event
from wardian._internal.operator import CollateralPlace, Operator
from wardian.attestation.collateral.pccs import parse_pccs
from wardian.cli.queue_place import find_queue
from wardian.cli.resolving import free_port, resolve
from wardian.cli.state import StateDir
from wardian.cli.traffic import find_traffic, traffic_file
from wardian.errors import ConfigError
from wardian.roles.host import Address, HostSettings, JobPlace
from wardian.tee.launch.reach import Reach

log = logging.getLogger(__name__)


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


def place_broker(
    state: StateDir, *, second: bool = False, recover: bool = False, take_over: str | None = None
) -> Placement:
    """Return the broker's settings.

    Args:
        state: the state directory.
        second: whether it is the second one of the directory, or waits for one elsewhere.
        recover: whether it waits for the owners where its state does not open.
        take_over: HOST:PORT of older code from which it takes the mesh over.

    Raises:
        ConfigError: operator.toml knows of no second one, or an address is none.
    """
    operator = state.load_operator()
    place, addresses = operator.broker, broker_places(state, operator)
    if second and len(addresses) == 1:
        raise ConfigError(
            "operator.toml: [broker] names no second broker: say `standby = true`, or give a `peer`"
        )
    here = 1 if second and place.standby else 0
    peer = addresses[1 - here] if len(addresses) > 1 else None
    older = None if take_over is None else _resolved(take_over)
    store = state.second_store if here else state.store
    kbs_port = place.standby_kbs_port if here else place.kbs_port
    kbs_listen = None if kbs_port is None else (addresses[here][0], kbs_port)
    keepers = _keepers(place.keepers)
    collateral = _collateral(operator)
    asked = _collateral_hosts(collateral)
    cache = () if collateral.cache is None else (Path(collateral.cache),)
    files = {"state": store.parent}
    restores = operator.tee != "simulated" and state.to_restore.exists() and not here
    if restores:
        files["backup"] = state.to_restore
    return Placement(
        settings=HostSettings(
            log_level=operator.log_level,
            listen=(addresses[here],),
            names=place.names,
            kbs_listen=kbs_listen,
            store=str(store),
            peer=peer,
            standby=second,
            takeover_s=place.takeover_s,
            keepers=keepers,
            backup=str(state.to_restore) if restores else None,
            take_over=older,
            recover=recover,
            collateral=collateral,
            collateral_hosts={name: host for name, (host, _) in asked.items()},
        ),
        reach=Reach(
            read=() if asked else cache,
            write=(store.parent, *(cache if asked else ())),
            bind=(addresses[here][1], *(() if kbs_port is None else (kbs_port,))),
            connect=tuple(
                port for _, port in filter(None, (peer, older, *keepers.values(), *asked.values()))
            ),
        ),
        files=files,
    )


def _keepers(named: Mapping[str, str]) -> dict[str, Address]:
    """Return where the keepers listen; without one that does not resolve a broker can go on."""
    found = {}
    for name, text in named.items():
        try:
            found[name] = _resolved(text)
        except ConfigError as err:
            event(log, "keeper.unresolved", level=logging.WARNING, keeper=name, reason=str(err))
    return found


def place_keeper(state: StateDir) -> Placement:
    """Return the settings of a keeper of counters, which reaches nobody."""
    operator = state.load_operator()
    listen = resolve(operator.keeper.address, operator.keeper.port)[:1]
    return Placement(
        settings=HostSettings(log_level=operator.log_level, listen=listen, store=str(state.keeper)),
        reach=Reach(write=(state.keeper,), bind=(listen[0][1],)),
        files={"state": state.keeper},
    )


def place_aggregator(state: StateDir) -> Placement:
    """Return the settings of a coordinator of federated learning, which reaches nobody."""
    operator = state.load_operator()
    listen = resolve(operator.aggregator.address, operator.aggregator.port)[:1]
    return Placement(
        settings=HostSettings(
            log_level=operator.log_level, listen=listen, store=str(state.aggregator)
        ),
        reach=Reach(write=(state.aggregator,), bind=(listen[0][1],)),
        files={"state": state.aggregator},
    )


def place_frontend(
    state: StateDir, *, port: int | None = None, queue: str | None = None
) -> Placement:
    """Return a front end's settings; what is given here comes before what the operator says.

    Args:
        state: the state directory.
        port: where it listens; 0 is a free one.
        queue: where its queue is; see `find_queue`.
    """
    operator = state.load_operator()
    wanted = operator.frontend.port if port is None else port
    listen = resolve(operator.frontend.address, wanted)
    if wanted == 0:
        free = free_port([host for host, _ in listen])
        listen = tuple((host, free) for host, _ in listen)
    brokers = broker_addresses(state, operator)
    way = find_queue(state, operator, queue)
    tenants = _tenants(state, operator)
    return Placement(
        settings=HostSettings(
            log_level=operator.log_level,
            listen=listen,
            names=operator.frontend.names,
            brokers=brokers,
            tenants=None if tenants is None else str(tenants),
            traffic=find_traffic(state, operator),
            traffic_file=str(traffic_file(state)),
            **way.settings,
        ),
        reach=Reach(
            read=(  # files in them are replaced, never changed
                traffic_file(state).parent,
                *(() if tenants is None else (tenants.parent,)),
            ),
            sockets=way.sockets,
            bind=(listen[0][1], *way.tcp),
            connect=(*(port for _, port in brokers), *way.redis),
        ),
        files={
            "traffic.json": traffic_file(state),
            **({} if tenants is None else {"tenants.json": tenants}),
        },
    )


def _tenants(state: StateDir, operator: Operator) -> Path | None:
    """Return where the tenants list lies, in a directory that the front end may read.

    Raises:
        ConfigError: there is no such directory, or others' files would be open with it.
    """
    if operator.frontend.tenants is None:
        return None
    path = (state.root / operator.frontend.tenants).resolve()
    if state.root.resolve().is_relative_to(path.parent):
        raise ConfigError(
            f"{state.operator}: [frontend] tenants: the list lies in a directory of its own, "
            "which the front end may read whole"
        )
    if not path.parent.is_dir():
        raise ConfigError(f"{state.operator}: [frontend] tenants: no directory {path.parent}")
    return path


def place_worker(state: StateDir, *, model: str, queue: str | None = None) -> Placement:
    """Return the settings of a worker for `model`: NAME, in its newest version, or NAME:VERSION.

    Args:
        state: the state directory.
        model: what it serves.
        queue: where its queue is, before what the operator says; see `find_queue`.

    Raises:
        ConfigError: the version is no number.
    """
    name, version = _model_and_version(model)
    operator = state.load_operator()
    brokers = broker_addresses(state, operator)
    way = find_queue(state, operator, queue)
    sealed: dict[int, Path] = {}
    for path in (state.root / "models").glob("*.sealed"):
        of, _, number = path.name.removesuffix(".sealed").rpartition("-")
        if of == name and number.isdecimal() and version in (None, int(number)):
            sealed[int(number)] = path
    return Placement(
        settings=HostSettings(
            log_level=operator.log_level,
            brokers=brokers,
            **way.settings,
            model=name,
            version=version,
            sealed_models={f"{name}:{number}": str(path) for number, path in sealed.items()},
        ),
        reach=Reach(
            read=(state.root / "models",),
            connect=(*(port for _, port in brokers), *way.tcp, *way.redis),
        ),
        files={"model.sealed": sealed[max(sealed)]} if sealed else {},
    )


def _model_and_version(model: str) -> tuple[str, int | None]:
    """Return the parts of NAME or NAME:VERSION."""
    name, colon, version = model.partition(":")
    if not colon:
        return name, None
    if not re.fullmatch(r"[1-9][0-9]{0,9}", version) or int(version) >= 2**31:
        raise ConfigError(f"--model {model}: NAME or NAME:VERSION was expected")
    return name, int(version)


def broker_places(state: StateDir, operator: Operator) -> tuple[Address, ...]:
    """Return where the broker of this directory is to listen, and the other one if there is one.

    Two brokers of one directory have to find each other before either listens, so free ports are
    chosen here for both, once, and written down.
    """
    place = operator.broker
    (first,) = resolve(place.address, place.port)[:1]
    if place.peer is not None:
        return first, _resolved(place.peer)
    if not place.standby:
        return (first if first[1] else _as_before(state, first[0]),)
    if not state.broker_pair.exists():
        ports = [place.port or free_port([first[0]]), place.standby_port or free_port([first[0]])]
        lines = "".join(f"{first[0]}:{port}\n" for port in ports)
        with contextlib.suppress(FileExistsError), state.broker_pair.open("x") as file:
            file.write(lines)
    first, second = _read_addresses(state.broker_pair)
    return first, second


def _as_before(state: StateDir, host: str) -> Address:
    """Return where the broker of this directory listened last, if it can again, else port 0.

    Processes that it admitted know that address, and renew there: a broker that is started anew
    elsewhere would be lost to them.
    """
    with contextlib.suppress(OSError, ValueError):
        before, _, written = state.broker_address.read_text().strip().rpartition(":")
        port = int(written)
        if before == host and 0 < port < 2**16:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            socket.create_server((host, port), family=family).close()
            return host, port
    return host, 0


def broker_addresses(state: StateDir, operator: Operator) -> tuple[Address, ...]:
    """Return where workloads find a broker: the active one is one of them."""
    if operator.broker.standby or operator.broker.peer:
        return broker_places(state, operator)
    return (broker_address(state, operator),)


def _resolved(text: str) -> Address:
    """Return the IP address and port of HOST:PORT.

    Raises:
        ConfigError: it is none, or does not resolve.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ConfigError(f"{text!r}: HOST:PORT was expected")
    return resolve(host.strip("[]"), int(port))[0]


def _read_addresses(path: Path) -> list[Address]:
    """Return the addresses that stand in `path`, one a line."""
    try:
        parts = [line.rpartition(":") for line in path.read_text().splitlines()]
        return [(host, int(port)) for host, _, port in parts]
    except (OSError, ValueError) as err:
        raise ConfigError(f"{path}: is damaged; remove it, then start the brokers") from err


def broker_address(state: StateDir, operator: Operator) -> Address:
    """Return where the one broker listens: as the operator says, or as the broker wrote."""
    if operator.broker.port:
        return resolve(operator.broker.address, operator.broker.port)[0]
    try:
        host, _, port = state.broker_address.read_text().strip().rpartition(":")
        return host, int(port)
    except (OSError, ValueError) as err:
        raise ConfigError(
            f"{state.broker_address}: no broker wrote its address here; start `wardian broker`, or "
            "give [broker] a port in operator.toml"
        ) from err


def _collateral(operator: Operator) -> CollateralPlace:
    """Return the operator's choice with an absolute directory, which is made if it is not there.

    Raises:
        ConfigError: it cannot be made.
    """
    place = operator.collateral
    if place.cache is None:
        return place
    cache = Path(place.cache).resolve()
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as err:
        raise ConfigError(f"operator.toml: [collateral] cache {cache}: {err.strerror}") from err
    return msgspec.structs.replace(place, cache=str(cache))


def _collateral_hosts(place: CollateralPlace) -> dict[str, Address]:
    """Return where the hosts are that are asked for collateral, by name; empty if nobody is."""
    if place.pccs is None:
        return {}
    hosts = parse_pccs(place.pccs, update=place.update).hosts()
    return {name: resolve(name, port)[0] for name, port in hosts}
