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


_BASE = (
    "wardian.errors",
    "wardian._internal",
    "wardian.crypto",
    "wardian.attestation",
    "wardian.tee.backend",
    "wardian.tee.bootstrap",
    "wardian.tee.gramine",
    "wardian.tee.sealing",
    "wardian.tee.simulated",
    "wardian.roles",
)
_BASE_DISTRIBUTIONS = ("cffi", "cryptography", "dcap-qvl", "msgspec", "typing_extensions")

ROLES: Mapping[str, RoleSpec] = MappingProxyType(
    {
        "broker": RoleSpec(
            entry="wardian.roles.broker",
            modules=(*_BASE, "wardian.broker"),
            distributions=_BASE_DISTRIBUTIONS,
            product_id=1,
        ),
        "frontend": RoleSpec(
            entry="wardian.roles.frontend",
            modules=(
                *_BASE,
                "wardian.broker",
                "wardian.inference.dtypes",
                "wardian.inference.spec",  # the shape of tensors, no engine
                "wardian.serving",
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
            modules=(*_BASE, "wardian.broker", "wardian.inference", "wardian.serving"),
            distributions=(
                *_BASE_DISTRIBUTIONS,
                "numpy",
                "openvino",
                "prometheus-client",
                "uvloop",
            ),
            product_id=3,
        ),
    }
)
"""By name. The name is part of the measurement, as is everything that the entry says."""
