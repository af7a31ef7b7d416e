"""The files of an engine's servers: certificates of the mesh's infrastructure CA, or given ones."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from wardian._internal.operator import Operator
from wardian.broker.infrastructure.client import fetch_queue_files
from wardian.cli.broker_addresses import broker_addresses
from wardian.cli.state import StateDir
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import ConfigError, TransportError


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A key and its certificate (DER)."""

    key: TlsKey
    certificate: bytes


async def fetch_pair(state: StateDir, operator: Operator, *, names: tuple[str, ...]) -> Pair:
    """Return a fresh key with a certificate for `names`, from the active broker.

    A broker gives one to whoever asks, so its CA proves nothing: what trusts this certificate has
    to trust it alone.

    Raises:
        TransportError: no broker gives one now.
        PolicyDenied: the broker refuses.
    """
    key = TlsKey.generate()
    lost: TransportError | None = None
    for address in broker_addresses(state, operator):
        try:
            files = await fetch_queue_files(address, key=key, names=names)
        except TransportError as err:
            lost = err
        else:
            return Pair(key=key, certificate=files.certificate)
    raise lost or TransportError("no broker is known")


def demand_files(
    directory: Path, names: Iterable[str], *, secret: AbstractSet[str], table: str
) -> None:
    """Return if what opens a cluster that is there lies in `directory`, the `secret` ones closed.

    Raises:
        ConfigError: a file is missing, or a secret one is open to others; names [`table`].
    """
    for name in names:
        path = directory / name
        if not path.is_file():
            raise ConfigError(f"operator.toml: [{table}] files: {path} is not there")
        if name in secret and path.stat().st_mode & 0o077:
            raise ConfigError(f"{path}: open to other users; run chmod 600 on it")
