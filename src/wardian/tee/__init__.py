"""RATS Attester: what a process sees of the TEE that it runs in, and how it is started there.

`backend` is the seam: `simulated` and `gramine` are behind it. `role_table` and `measurement` say
what a role consists of, `launcher` starts one on the simulated platform, `sealing` keeps its state.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wardian.tee.backend import Enclave, enter
    from wardian.tee.launch.launcher import launch_simulated
    from wardian.tee.launch.simulation import SimulatedPlatform, generate_platform, open_platform
    from wardian.tee.role_table import ROLES, RoleSpec
    from wardian.tee.sealing import seal_state, unseal_state

__all__ = [
    "ROLES",
    "Enclave",
    "RoleSpec",
    "SimulatedPlatform",
    "enter",
    "generate_platform",
    "launch_simulated",
    "open_platform",
    "seal_state",
    "unseal_state",
]

_HOME = {
    "ROLES": "role_table",
    "Enclave": "backend",
    "RoleSpec": "role_table",
    "SimulatedPlatform": "launch.simulation",
    "enter": "backend",
    "generate_platform": "launch.simulation",
    "launch_simulated": "launch.launcher",
    "open_platform": "launch.simulation",
    "seal_state": "sealing",
    "unseal_state": "sealing",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
