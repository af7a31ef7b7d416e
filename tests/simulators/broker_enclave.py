"""A TEE for the broker's role in this process: evidence of a toy mesh, counters of its measurement."""

import asyncio
from typing import Any

from toy_mesh import PLATFORM, ToyMesh
from typing_extensions import override

from wardian.attestation.evidence import Evidence
from wardian.crypto.kdf import hkdf
from wardian.crypto.secret import Secret
from wardian.errors import CounterUnavailable, SealError
from wardian.tee.backend import Enclave, SealTo
from wardian.tee.launch.simulation import SimulatedPlatform


class Machine:
    """A platform, and the counters of every measurement on it."""

    def __init__(
        self, platform: SimulatedPlatform = PLATFORM, *, secret: bytes = b"x" * 32
    ) -> None:
        self.platform, self.secret = platform, Secret(secret)
        self.counters: dict[tuple[bytes, str], int] = {}


class BrokerEnclave(Enclave):
    """One process on a machine."""

    def __init__(
        self, mesh: ToyMesh, machine: Machine, *, measurement: bytes | None = None
    ) -> None:
        self.mesh, self.machine = mesh, machine
        self.measurement = measurement or mesh.measurements["broker"]
        self.announced: list[tuple[str, dict[str, Any]]] = []
        self.counter_away = False

    @property
    @override
    def name(self) -> str:
        return "simulated"

    @property
    @override
    def simulated(self) -> bool:
        return True

    @override
    def evidence(self, report_data: bytes) -> Evidence:
        return self.machine.platform.evidence(mr_enclave=self.measurement, report_data=report_data)

    @override
    def sealing_key(self, to: SealTo = SealTo.MEASUREMENT) -> Secret:
        return hkdf(self.machine.secret, salt=b"", info=self.measurement)

    @override
    def agreed_config(self) -> bytes:
        return self.mesh.agreed_toml

    @override
    def host_settings(self) -> bytes:
        raise NotImplementedError

    @override
    def announce(self, event: str, **fields: Any) -> None:
        self.announced.append((event, fields))

    @override
    def read_counter(self, name: str) -> int:
        if self.counter_away:
            raise CounterUnavailable("nobody answers")
        return self.machine.counters.get((self.measurement, name), 0)

    @override
    def advance_counter(self, name: str, to: int) -> None:
        if to <= self.read_counter(name):
            raise SealError("a counter only goes up")
        self.machine.counters[self.measurement, name] = to

    async def said(self, event: str) -> dict[str, Any]:
        """Return what was announced as `event`, once it was."""
        async with asyncio.timeout(15):
            while True:
                for name, fields in self.announced:
                    if name == event:
                        return fields
                await asyncio.sleep(0.01)
