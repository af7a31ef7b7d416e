"""RATS Relying Party: secrets are released on evidence, and on nothing else.

    mesh        what the owners agreed on and signed
    session     what all sessions of four messages share: turns, transcript, both ends
    release     one release: the four messages, their two ends, the policy, the desk
    jobs        shared learning: owners' policies over tables, plans of jobs, the decision
    tables      sealed tables at the broker: what it keeps of them, and their release to jobs
    exports     what jobs tell before they give anything out
    joint       models that jobs made of several owners' tables, which go to be served
    owners      an owner's visit: messages, the owner's end, what is accepted, the desk
    counting    counters for workloads, and quorums of brokers that keep them
    state       the store (encrypted, whole, newest) and the audit log
    transparency  the audit log before strangers: signed heads, proofs, witnesses
    audit_log   its desks, and reading it as an auditor does
    overview    a mesh at a glance, for screens
    here        authority (what is in force), over agreement, recording (audit lines) and mesh_keys;
                ca and certificates, service, desk, limits and frames (on sockets), status, refusal
                (why not)

Decisions and messages are free of sockets, threads and clocks; `desk`s, `service` and the `client`s
are not. The room never imports `tee`: whoever composes a process hands it the means to attest, to
seal and to count.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wardian.broker.certificates import read_identity, verify_peer_certificate
    from wardian.broker.mesh.appraisal import appraisal_policy
    from wardian.broker.mesh.manifest import MeshManifest, SignedManifest
    from wardian.broker.mesh.verify import verify_manifest
    from wardian.broker.owners.client import provision
    from wardian.broker.release.admission import Admission
    from wardian.broker.release.client import obtain
    from wardian.broker.service import BrokerService
    from wardian.broker.state.store import Store
    from wardian.broker.status import read_status

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
    "Admission": "release.admission",
    "BrokerService": "service",
    "MeshManifest": "mesh.manifest",
    "SignedManifest": "mesh.manifest",
    "Store": "state.store",
    "appraisal_policy": "mesh.appraisal",
    "obtain": "release.client",
    "provision": "owners.client",
    "read_identity": "certificates",
    "read_status": "status",
    "verify_manifest": "mesh.verify",
    "verify_peer_certificate": "certificates",
}


def __getattr__(name: str) -> object:
    """Import the module that defines `name` at its first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
