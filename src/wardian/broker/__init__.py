"""RATS Relying Party: secrets are released on evidence, and on nothing else.

    what is agreed      manifest
    one release         protocol (the four messages), broker_session and workload_session (its two
                        ends), turns (what is due), admission (the outcome)
    one owner's visit   provisioning (messages, broker's end), owner (owner's end)
    what is decided     release (policy), authority (with memory), refusal (why not)
    what is remembered  store (encrypted, whole, newest), audit (chained lines)
    certificates        ca (issues), certificates (what peers demand)
    what strangers cost limits
    counting            counter_protocol, counters (the broker's end), counter_client, quorum
    on sockets          frames, service, client, status

All but the last line is free of sockets, threads and clocks. The room never imports `tee`: whoever
composes a process hands it the means to attest, to seal and to count.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wardian.broker.admission import Admission
    from wardian.broker.certificates import read_identity, verify_peer_certificate
    from wardian.broker.client import obtain
    from wardian.broker.manifest import (
        MeshManifest,
        SignedManifest,
        appraisal_policy,
        verify_manifest,
    )
    from wardian.broker.owner import provision
    from wardian.broker.service import BrokerService
    from wardian.broker.status import read_status
    from wardian.broker.store import Store

__all__ = [
    "Admission",
    "BrokerService",
    "MeshManifest",
    "SignedManifest",
    "Store",
    "appraisal_policy",
    "obtain",
    "provision",
    "read_identity",
    "read_status",
    "verify_manifest",
    "verify_peer_certificate",
]

_HOME = {
    "Admission": "admission",
    "BrokerService": "service",
    "MeshManifest": "manifest",
    "SignedManifest": "manifest",
    "Store": "store",
    "appraisal_policy": "manifest",
    "obtain": "client",
    "provision": "owner",
    "read_identity": "certificates",
    "read_status": "status",
    "verify_manifest": "manifest",
    "verify_peer_certificate": "certificates",
}


def __getattr__(name: str) -> object:
    """Import the module that defines `name` at its first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
