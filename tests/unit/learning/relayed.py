"""A run one of whose parties reaches the coordinator through a relay that spoils its connection."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from simulators.consortium import Consort, counting_app
from simulators.relay import Direction, Relay, Treat, Wire, carry

from wardian.learning.app import ClientApp
from wardian.learning.arrays import ArrayRecord

COORDINATOR = "wardian.learning.coordinator"
PARTY = "wardian.learning.party"


def hasten(patch: pytest.MonkeyPatch, *, silent_s: float = 60.0, still_s: float = 10.0) -> None:
    """Let a party come back soon, and a coordinator not wait long for who knows already."""
    patch.setattr(f"{PARTY}.resident.FIRST_PAUSE_S", 0.02)
    patch.setattr(f"{COORDINATOR}.attending.LINGER_S", 3.0)
    for place in (f"{COORDINATOR}.attendant", f"{PARTY}.link"):
        patch.setattr(f"{place}.SILENT_S", silent_s)
    for place in (f"{COORDINATOR}.attendant", f"{PARTY}.resident"):
        patch.setattr(f"{place}.STILL_S", still_s)


class Relayed:
    """A run of a, b and c, of whom `victim` is behind a relay."""

    def __init__(
        self,
        place: Path,
        victim: str = "a",
        *,
        treat: Treat = carry,
        app: Callable[[], ClientApp] = counting_app,
        **terms: Any,
    ) -> None:
        self.world = Consort(place, "a", "b", "c", **{"rounds": 2, **terms})
        self.victim, self.app = victim, app
        self.relay = Relay(self.world.port, treat=treat)

    async def model(self) -> ArrayRecord:
        """Return what the coordinator and all parties have at the end."""
        self.world.ways[self.victim] = await self.relay.start()
        coordinating = asyncio.create_task(self.world.coordinate())
        parties = [
            asyncio.create_task(self.world.party(name, self.app()).attend())
            for name in self.world.keys
        ]
        tasks = [coordinating, *parties]
        try:
            async with asyncio.timeout(30):
                found = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.relay.aclose()
        model, *others = found
        assert isinstance(model, ArrayRecord)
        assert all(each == model for each in others)
        return model

    def counts(self) -> dict[Direction, int]:
        """Return how many records went through the first connection, each way."""
        return {way: len(records) for way, records in self.relay.wires[0].records.items()}


def at(way: Direction, number: int, spoil: Treat) -> Treat:
    """Return what carries everything, and spoils record `number` of the first connection."""

    async def treat(wire: Wire, direction: Direction, record: bytes) -> Sequence[bytes]:
        there = wire.number == 0 and direction == way
        if there and len(wire.records[way]) == number + 1:
            return await spoil(wire, direction, record)
        return (record,)

    return treat
