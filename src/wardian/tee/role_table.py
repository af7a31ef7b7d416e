"""Which code each role consists of. What is not named here, a role's process cannot import.

The table is the trusted computing base of each process, to be read by an auditor and tightened
over time. `measurement` hashes what it names, `bootstrap` imports nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_ENVIRONMENT = MappingProxyType(
    {
        "HOME": "/nonexistent",  # no library finds a place for caches or telemetry ids
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OPENSSL_CONF": "/dev/null",  # the system's file is not measured, and can load code
        "TZ": "UTC",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSpec:
    """What one role is made of.

    Attributes:
        entry: the module whose `main(enclave: Enclave) -> int` is the process; its result is the
            exit status.
        modules: modules and whole packages of Wardian that the role may import. The `__init__` of
            every package above one is included.
        distributions: installed distributions that it may import, by their PyPI names.
        product_id: ISVPRODID; each role has its own, so that one never unseals another's state.
        svn: ISVSVN; raised when a flaw in this role is fixed that reference values shall exclude.
        environment: the whole environment of the process.
    """

    entry: str
    modules: tuple[str, ...]
    distributions: tuple[str, ...]
    product_id: int
    svn: int = 1
    environment: Mapping[str, str] = field(default_factory=lambda: _ENVIRONMENT)


def _within(room: str, *modules: str) -> tuple[str, ...]:
    return tuple(f"wardian.{room}.{module}" for module in modules)


_EVERY_ROLE = (
    "wardian.errors",
    *_within("_internal", "clock", "log", "settings", "wire"),
    *_within("attestation", "claims", "collateral", "dcap", "evidence", "intel_root", "policy"),
    *_within("attestation", "quote_sgx", "refusal", "result", "verifier"),
    *_within("broker", "certificates", "frames", "manifest", "protocol", "refusal", "turns"),
    *_within("crypto", "aead_stream", "hpke", "kdf", "recipients", "sealed_header", "secret"),
    *_within("crypto", "signing", "tls_keys"),
    *_within("roles", "host", "start"),
    *_within("tee", "backend", "bootstrap", "gramine", "simulated"),
)
_ADMITTED = (
    *_EVERY_ROLE,
    *_within("broker", "admission", "client", "workload_session"),
    *_within("crypto", "message", "message_header", "message_keys"),
    *_within("inference", "dtypes", "spec"),  # the shape of tensors, no engine
    "wardian.roles.admission",
    *_within("serving", "catalog", "codec", "rules", "tensors"),
    *_within("serving.queue", "frames", "lease", "seam"),
)
"""What the broker admits: front ends and workers."""
_BASE_DISTRIBUTIONS = ("cffi", "cryptography", "dcap-qvl", "msgspec", "typing_extensions")

ROLES: Mapping[str, RoleSpec] = MappingProxyType(
    {
        "broker": RoleSpec(
            entry="wardian.roles.broker",
            modules=(
                *_EVERY_ROLE,
                *_within(
                    "broker", "audit", "authority", "broker_session", "ca", "limits", "provisioning"
                ),
                *_within("broker", "release", "service", "status", "store"),
                "wardian.roles.broker",
                "wardian.tee.sealing",
            ),
            distributions=_BASE_DISTRIBUTIONS,
            product_id=1,
        ),
        "frontend": RoleSpec(
            entry="wardian.roles.frontend",
            modules=(
                *_ADMITTED,
                "wardian._internal.metrics",
                "wardian.roles.frontend",
                *_within("serving", "dispatch", "frontend", "frontend_evidence", "packing"),
                *_within("serving.api", "describe", "error_answers", "evidence_desk"),
                *_within("serving.api", "fair_line", "json_tensors", "oip", "predict", "routes"),
                *_within("serving.http", "connection", "messages", "reader", "server", "tls"),
                "wardian.serving.queue.front",
            ),
            distributions=(
                *_BASE_DISTRIBUTIONS,
                "httptools",
                "numpy",
                "prometheus-client",
                "uvloop",
            ),
            product_id=2,
        ),
        "worker": RoleSpec(
            entry="wardian.roles.worker",
            modules=(
                *_ADMITTED,
                *_within("crypto", "sealed_file", "sealed_stream"),
                *_within("inference", "model", "openvino", "probe"),
                "wardian.roles.worker",
                *_within("serving", "batcher", "worker"),
                "wardian.serving.queue.worker",
            ),
            distributions=(*_BASE_DISTRIBUTIONS, "numpy", "openvino"),
            product_id=3,
        ),
    }
)
"""By name. The name is part of the measurement, as is everything that the entry says."""
