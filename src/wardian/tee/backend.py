"""The seam to the TEE that a process runs in, and the table of what is behind it."""

import enum
from collections.abc import Callable
from importlib import import_module
from typing import Protocol

from wardian._internal.log import Field
from wardian.attestation.evidence import Evidence
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError


class SealTo(enum.StrEnum):
    """Whom sealed state belongs to."""

    MEASUREMENT = "measurement"
    """This very code and configuration, on this platform."""
    SIGNER = "signer"
    """Any code of this signer and product id, on this platform: it survives an update, and a
    malicious enclave of the same signer opens it."""


class Enclave(Protocol):
    """What a role's process sees of its TEE. Safe to use from several threads.

    Attributes:
        name: the backend's name in `BACKENDS`.
        simulated: whether no hardware protects anything here; every status and log says so.
    """

    @property
    def name(self) -> str:
        """The backend's name in `BACKENDS`."""

    @property
    def simulated(self) -> bool:
        """Whether no hardware protects anything here; every status and log says so."""

    def evidence(self, report_data: bytes) -> Evidence:
        """Return evidence of this process, bound to `report_data` (64 bytes)."""

    def sealing_key(self, to: SealTo = SealTo.MEASUREMENT) -> Secret:
        """Return 32 bytes that only this measurement gets on this platform.

        With `SealTo.SIGNER`: that every enclave of this signer and product id gets there.

        Raises:
            SealError: this TEE has no such key.
        """

    def agreed_config(self) -> bytes:
        """Return `wardian.toml` as it was measured."""

    def host_settings(self) -> bytes:
        """Return what the host wants to set: JSON, UNTRUSTED. No security decision reads it."""

    def announce(self, event: str, **fields: Field) -> None:
        """Tell the host that something happened, for example at which address this listens."""

    def read_counter(self, name: str) -> int:
        """Return the value of a monotonic counter, 0 if it was never advanced."""

    def advance_counter(self, name: str, to: int) -> None:
        """Set a monotonic counter to `to`, which is greater than its value.

        Raises:
            SealError: it is not greater, or this TEE has no counters.
        """


def _backend(module: str, name: str) -> Callable[[], Enclave]:
    """Return what enters the backend `name`, importing its module only then."""

    def enter_backend() -> Enclave:
        enclave: Enclave = getattr(import_module(module), name)()
        return enclave

    return enter_backend


BACKENDS: dict[str, Callable[[], Enclave]] = {
    "gramine": _backend("wardian.tee.gramine", "GramineEnclave"),
    "gramine-direct": _backend("wardian.tee.gramine_direct", "GramineDirectEnclave"),
    "simulated": _backend("wardian.tee.simulated", "SimulatedEnclave"),
    "tsm": _backend("wardian.tee.tsm", "TsmEnclave"),
}
"""By name; a process is told by its measured arguments which one it is in."""


def enter(name: str) -> Enclave:
    """Return the TEE that this process runs in.

    Raises:
        ConfigError: no such backend, or this process was not started in one.
    """
    if name not in BACKENDS:
        raise ConfigError(f"no TEE backend is called {name!r}; there are {', '.join(BACKENDS)}")
    return BACKENDS[name]()
