"""Certificates of the mesh's infrastructure CA for the servers of an engine."""

from dataclasses import dataclass

from wardian._internal.operator import Operator
from wardian.broker.infrastructure.client import fetch_queue_files
from wardian.cli.host import broker_addresses
from wardian.cli.state import StateDir
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import TransportError


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
