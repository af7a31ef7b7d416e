"""What the operator's files tell a role, and what they let it reach.

Names are resolved here: a role resolves none, so it needs no name service, and the kernel refuses
it UDP. Whatever stands here may be a lie; a role finds things by it and trusts none of them.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from wardian._internal.log import event
from wardian._internal.operator import Operator
from wardian.cli.broker_addresses import broker_addresses, broker_places
from wardian.cli.collateral_place import collateral_hosts, find_collateral
from wardian.cli.placement import Placement
from wardian.cli.queue_place import find_queue
from wardian.cli.resolving import free_port, resolve, resolve_text
from wardian.cli.state import StateDir
from wardian.cli.traffic import find_traffic, traffic_file
from wardian.errors import ConfigError
from wardian.roles.host import Address, HostSettings
from wardian.tee.launch.reach import Reach

log = logging.getLogger(__name__)


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
    older = None if take_over is None else resolve_text(take_over)
    store = state.second_store if here else state.store
    kbs_port = place.standby_kbs_port if here else place.kbs_port
    kbs_listen = None if kbs_port is None else (addresses[here][0], kbs_port)
    keepers = _keepers(place.keepers)
    collateral = find_collateral(operator)
    asked = collateral_hosts(collateral)
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
            found[name] = resolve_text(text)
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
