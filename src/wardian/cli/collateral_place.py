"""Where the broker finds vendors' statements about platforms, as the operator says."""

from pathlib import Path

import msgspec

from wardian._internal.operator import CollateralPlace, Operator
from wardian.attestation.collateral.pccs import parse_pccs
from wardian.cli.resolving import resolve
from wardian.errors import ConfigError
from wardian.roles.host import Address


def find_collateral(operator: Operator) -> CollateralPlace:
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


def collateral_hosts(place: CollateralPlace) -> dict[str, Address]:
    """Return where the hosts are that are asked for collateral, by name; empty if nobody is."""
    if place.pccs is None:
        return {}
    hosts = parse_pccs(place.pccs, update=place.update).hosts()
    return {name: resolve(name, port)[0] for name, port in hosts}
