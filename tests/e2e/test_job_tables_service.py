"""Owners give tables to a broker on loopback, and jobs get them: over TLS, at once, after a restart."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))

import toy_jobs
from toy_jobs import job
from toy_mesh import MASTER_KEY, NOW, Counter
from toy_tables import PLACES, TABLE_KEYS, A, B, hospitals, signed_policy

from wardian._internal import wire
from wardian.broker.frames import (
    ATTESTATION_FRAME_BYTES,
    FIRST_FRAME_BYTES,
    FRAME_BYTES,
    connect,
)
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.owners.client import consent, provision
from wardian.broker.owners.goods import Goods, goods_of
from wardian.broker.owners.session import Demands, Provisioned
from wardian.broker.refusal import Refusal
from wardian.broker.service import BrokerService
from wardian.broker.state.audit import verify_chain
from wardian.broker.state.store import Store
from wardian.broker.tables.client import obtain_tables
from wardian.broker.tables.granted import GrantedTables
from wardian.broker.tables.job_session import JobSession
from wardian.broker.tables.kept import Tables
from wardian.errors import AdmissionRefused, ConnectionLost, PolicyDenied

Address = tuple[str, int]


class Hospitals:
    """A mesh of two owners, and where its broker's state lies."""

    def __init__(self, path: Path) -> None:
        self.mesh, self.path, self.counter = hospitals(), path, Counter()
        self.service: BrokerService
        self.address: Address

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run a broker on the state that there is."""
        service = BrokerService(
            store=Store(self.path, master_key=MASTER_KEY, counter=self.counter.seam),
            attest=self.mesh.attest("broker"),
            agreed_toml=self.mesh.agreed_toml,
            clock=lambda: NOW,
        )
        async with service:
            self.service, self.address = service, await service.start("127.0.0.1", 0)
            yield

    @property
    def demands(self) -> Demands:
        policy = appraisal_policy(self.mesh.manifest(), "broker")
        return Demands(agreed_toml=self.mesh.agreed_toml, policy=policy)

    async def begin(self) -> None:
        """Put the manifest and both owners' policies in force."""
        await provision(
            self.address,
            owner=self.mesh.owners[0],
            demands=self.demands,
            manifest=self.mesh.signed(),
            goods=goods_of(tuple(self.mesh.keys.values())),
            now=lambda: NOW,
        )
        for owner in (A, B):
            await self.consent(owner, key=goods_of((TABLE_KEYS[owner],)))

    async def consent(self, owner: str, *, key: Goods | None = None, **changes: Any) -> Provisioned:
        return await consent(
            self.address,
            owner=toy_jobs.KEYS[owner],
            demands=self.demands,
            policy=signed_policy(owner, **changes),
            key=key or Goods(),
            now=lambda: NOW,
        )

    async def ask(self, **more: Any) -> GrantedTables:
        arguments: dict[str, Any] = {
            "agreed": self.mesh.agreed,
            "attest": self.mesh.attest("job"),
            "tee": "simulated",
            "now": lambda: NOW,
            "salt": secrets.token_bytes(16),
        }
        return await obtain_tables(self.address, job(), **(arguments | more))

    def uses(self, owner: str) -> int:
        authority = self.service.authority
        record = Tables(
            authority.store, authority.clock, mesh=authority.mesh, policies=authority.policies
        ).record(PLACES[owner])
        assert record is not None
        return record.uses

    def rules(self) -> list[str]:
        store = self.service.authority.store
        lines = verify_chain(store.audit_lines(limit=1000), head=store.audit_head)
        return [each.entry.rule for each in lines if each.entry.event == "refusal"]


@pytest.fixture
def world(tmp_path: Path) -> Hospitals:
    return Hospitals(tmp_path / "broker.db")


async def test_tables_outlive_the_broker(world: Hospitals) -> None:
    async with world.running():
        await world.begin()
        granted = await world.ask()
        assert {each.table: each.key for each in granted.tables} == {
            "records": TABLE_KEYS[A].key,
            "claims": TABLE_KEYS[B].key,
        }
    async with world.running():
        assert world.uses(A) == world.uses(B) == 1
        again = await world.ask(again=granted.job_id, seen=granted.witnessed.head.audit)
        assert (again.job_id, again.noise_seed) == (granted.job_id, granted.noise_seed)
        withdrawn = await world.consent(B, serial=2, revoked=True)
        assert withdrawn.receipt.policy is not None
        assert withdrawn.receipt.policy.uses == 2
    async with world.running():
        with pytest.raises(AdmissionRefused, match=r"hospital-b refuses .*policy-revoked"):
            await world.ask()
        with pytest.raises(PolicyDenied) as caught:
            await world.consent(B, key=goods_of((TABLE_KEYS[B],)))
        assert caught.value.rule == "policy-serial"
        assert world.rules() == ["policy-revoked", "policy-serial"]


async def test_jobs_at_once_get_as_many_uses_as_there_are(world: Hospitals) -> None:
    async with world.running():
        await world.begin()
        await world.consent(B, serial=2, uses=3)
        found = await asyncio.gather(*(world.ask() for _ in range(8)), return_exceptions=True)
        got = [each for each in found if isinstance(each, GrantedTables)]
        refused = [each for each in found if isinstance(each, AdmissionRefused)]
        assert (len(got), len(refused)) == (3, 5)
        assert len({each.job_id for each in got}) == 3
        assert (world.uses(A), world.uses(B)) == (3, 3)
        assert {each.rule for each in refused} == {"uses-exhausted"}


async def test_a_job_that_is_killed_before_the_answer_has_spent_a_use(world: Hospitals) -> None:
    async with world.running():
        await world.begin()
        await world.consent(B, serial=2, uses=1)
        session = JobSession(
            job(), agreed=world.mesh.agreed, nonce=secrets.token_bytes(32), salt=bytes(16)
        )
        stream = await connect(world.address)
        await stream.send(session.request(tee="simulated"))
        report_data = session.receive_challenge(await stream.receive(most=FRAME_BYTES), now=NOW)
        await stream.send(session.attestation(world.mesh.attest("job")(report_data)))
        await stream.close()
        async with asyncio.timeout(10):
            while world.uses(B) == 0:
                await asyncio.sleep(0.01)
        with pytest.raises(AdmissionRefused, match="uses-exhausted"):
            await world.ask()


async def test_oversized_messages_end_the_connection_and_debit_nobody(world: Hospitals) -> None:
    async with world.running():
        await world.begin()
        stream = await connect(world.address)
        with pytest.raises(ConnectionLost):
            await _until_lost(stream, b" " * (FIRST_FRAME_BYTES + 1))
        session = JobSession(
            job(), agreed=world.mesh.agreed, nonce=secrets.token_bytes(32), salt=bytes(16)
        )
        stream = await connect(world.address)
        await stream.send(session.request(tee="simulated"))
        session.receive_challenge(await stream.receive(most=FRAME_BYTES), now=NOW)
        with pytest.raises(ConnectionLost):
            await _until_lost(stream, b" " * (ATTESTATION_FRAME_BYTES + 1))
        assert world.uses(A) == world.uses(B) == 0


async def _until_lost(stream: Any, content: bytes) -> None:
    """Send `content`; take a refusal if there is one, and wait for the end."""
    try:
        await stream.send(content)
        refusal = wire.decode(await stream.receive(most=FRAME_BYTES), Refusal, what="refusal")
        assert refusal.code == "malformed"
        await stream.receive(most=FRAME_BYTES)
    finally:
        await stream.close()
