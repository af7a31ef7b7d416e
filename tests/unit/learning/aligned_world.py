"""Parties with columns of the same people, whose run goes over sockets."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from simulators.consortium import COORDINATOR, Consort, killed_at

from wardian._internal.consortium import Consortium
from wardian.crypto.secret import Secret
from wardian.errors import PolicyDenied
from wardian.learning.app import Context, Handler
from wardian.learning.arrays import ArrayRecord
from wardian.learning.chain import first_head
from wardian.learning.coordinator.courses import course_of
from wardian.learning.coordinator.keeping import Standing
from wardian.learning.party.memory import MemoryFile
from wardian.learning.party.resident import Party
from wardian.learning.records import ConfigRecord, RecordDict
from wardian.learning.vertical.app import ColumnsApp, ColumnsParty, Table

Tables = Mapping[str, Table]


class AlignedConsort(Consort):
    """A consortium whose plan has `psi` or `vertical`; its parties bring `tables`."""

    def __init__(
        self,
        place: Path,
        tables: Tables,
        *,
        psi: Mapping[str, Any] | None = None,
        vertical: Mapping[str, Any] | None = None,
        hidden: tuple[int, ...] = (),
        **terms: Any,
    ) -> None:
        super().__init__(place, *tables, rounds=1)
        run = {"quorum": len(tables), "gather_s": 30.0, "answer_s": 30.0, **terms}
        keys = {name: {"key": key.public.hex()} for name, key in self.keys.items()}
        plan: dict[str, Any] = {"name": "aligned", "run": run, "parties": keys}
        if psi is not None:
            caps = {name: len(t.identifiers) + 50 for name, t in tables.items()}
            plan["psi"] = {"protocol": "tags", "caps": caps, "runs": 2} | dict(psi)
        if vertical is not None:
            plan["vertical"] = dict(vertical)
        self.plan = msgspec.convert(plan, Consortium)
        self.tables, self.hidden = dict(tables), hidden
        self.course_of = course_of

    def begin(self) -> None:
        """Keep a standing before the first step, the same each time: so is the noise."""
        run = self.run()
        first = Standing(
            run=b"r" * 32, secret=Secret(b"s" * 32), round=0, head=first_head(b"r" * 32),
            model=ArrayRecord(), strategy=RecordDict(), history=(),
        )  # fmt: skip
        asyncio.run(run.keep(first))

    def app(self, name: str) -> ColumnsParty:
        return ColumnsApp(lambda _: self.tables[name], hidden=self.hidden).party(
            self.plan, name=name, signer=self.keys[name]
        )

    def state(self, name: str) -> dict[str, Any]:
        """What the party keeps."""
        return dict(MemoryFile(self.place / f"party-{name}").load().state)

    def resident(self, name: str, app: Handler | None = None) -> Party:
        """Return the party, whose outcome is what it kept, whatever answers in its name."""
        mine = self.app(name)
        return self.party(name, app or mine, outcome=mine.outcome)

    async def coming_again(self, name: str, app: Handler) -> ArrayRecord | None:
        """Return what the party has; one that is cut off for what it sent comes again."""
        while True:
            with contextlib.suppress(PolicyDenied):
                return await self.resident(name, app).attend()

    async def have(self, apps: Mapping[str, Handler] | None = None) -> dict[str, ArrayRecord]:
        """Return what each party has of a run that nothing disturbs; {} of one that failed."""
        made: dict[str, Handler] = {name: self.app(name) for name in self.keys}
        made |= dict(apps or {})
        parties = {
            name: asyncio.create_task(self.coming_again(name, app)) for name, app in made.items()
        }
        async with asyncio.timeout(60):
            with contextlib.suppress(Exception):
                await self.coordinate()
            found = {name: await each for name, each in parties.items()}
        return {name: each for name, each in found.items() if each is not None}


async def disturbed(consort: AlignedConsort, at: int, victim: str) -> dict[str, ArrayRecord]:
    """Return what each has of a run in which `victim` is killed at step `at`, and comes again."""
    found = await killed_at(consort, at, victim, consort.resident)
    del found[COORDINATOR]  # nobody has what is common
    assert all(isinstance(each, ArrayRecord) for each in found.values())
    return found


def steps_of(make: Callable[[Path], AlignedConsort], place: Path) -> list[dict[str, object]]:
    """Return every step of an undisturbed run, as the coordinator tells them."""
    consort = make(place)
    asyncio.run(consort.have())
    return consort.said


def context(name: str) -> Context:
    return Context(party=name, run_config=ConfigRecord(), node_config=ConfigRecord())


def people(*numbers: range) -> list[str]:
    return [f"person {n}" for each in numbers for n in each]


def shuffled(table: Table, seed: int) -> Table:
    """Return the table in another order: no party's rows stand as another's do."""
    order = np.random.default_rng(seed).permutation(len(table.identifiers))
    return Table(
        identifiers=[table.identifiers[at] for at in order],  # type: ignore[misc]
        features=table.features[order] if len(table.features) else table.features,
        labels=None if table.labels is None else table.labels[order],
        predict=table.predict,
    )
