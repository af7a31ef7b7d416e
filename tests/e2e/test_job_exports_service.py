"""A job's model goes from a broker on loopback to the workers that every owner named, and no other."""

import io
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))

import toy_jobs
from toy_exports import (
    APPROVER,
    MODEL,
    MODEL_KEY,
    OTHER_WORKER,
    WORKER,
    masked,
    plan,
    policy_changes,
    serving_hospitals,
    statement,
)
from toy_mesh import MASTER_KEY, NOW, Counter, digest
from toy_tables import TABLE_KEYS, A, B, signed_policy

from wardian.broker.exports.client import tell_export
from wardian.broker.exports.exported import Exported
from wardian.broker.exports.statement import ExportStatement
from wardian.broker.jobs.plan import SERVING
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.lines import sign_model_line
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.mesh.trust import RoleReference
from wardian.broker.owners.client import consent, order, provision
from wardian.broker.owners.goods import Goods, goods_of
from wardian.broker.owners.session import Demands
from wardian.broker.release.client import obtain
from wardian.broker.service import BrokerService
from wardian.broker.session.shown import KnownBroker
from wardian.broker.state.audit import verify_chain
from wardian.broker.state.store import Store
from wardian.broker.tables.client import obtain_tables
from wardian.broker.tables.granted import GrantedTables
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import open_bytes
from wardian.crypto.sealed_header import Pin
from wardian.crypto.secret import Secret
from wardian.errors import AdmissionRefused
from wardian.learning.shared.outputs import seal_outputs
from wardian.learning.shared.telling import describe_served


class Hospitals:
    """A mesh of two owners and a job, and where its broker's state lies."""

    def __init__(self, path: Path) -> None:
        self.mesh, self.path, self.counter = serving_hospitals(), path, Counter()
        self.now, self.version = NOW, 1
        self.service: BrokerService
        self.address: tuple[str, int]
        self.known: KnownBroker

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run a broker on the state that there is."""
        service = BrokerService(
            store=Store(self.path, master_key=MASTER_KEY, counter=self.counter.seam),
            attest=self.mesh.attest("broker"),
            agreed_toml=self.mesh.agreed_toml,
            clock=lambda: self.now,
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
        await self.provide(self.mesh.signed(), goods_of(tuple(self.mesh.keys.values())))
        for owner in (A, B):
            await self.consent(owner, key=goods_of((TABLE_KEYS[owner],)))

    async def provide(self, signed: SignedManifest, goods: Goods | None = None) -> None:
        await provision(
            self.address,
            owner=self.mesh.owners[0],
            demands=self.demands,
            manifest=signed,
            goods=goods or Goods(),
            now=lambda: self.now,
        )
        self.mesh.in_force(signed)

    async def consent(self, owner: str, *, key: Goods | None = None, **changes: Any) -> None:
        await consent(
            self.address,
            owner=toy_jobs.KEYS[owner],
            demands=self.demands,
            policy=signed_policy(owner, **(policy_changes(owner) | changes)),
            key=key or Goods(),
            now=lambda: self.now,
        )

    async def beacon(self, owner: str) -> None:
        await order(
            self.address,
            owner=toy_jobs.KEYS[owner],
            demands=self.demands,
            kind="beacon",
            time=self.now,
            now=lambda: self.now,
        )

    async def obtain_tables(self) -> GrantedTables:
        granted = await obtain_tables(
            self.address, plan(), salt=secrets.token_bytes(16), **self._means("job")
        )
        self.known = granted.broker
        return granted

    async def tell(self, told: ExportStatement, key: Secret = MODEL_KEY.key) -> Exported:
        means = self._means("job")
        return await tell_export(
            self.address, plan(), told, key=masked(key, told), known=self.known, **means
        )

    async def serve(self, exported: Exported, *workers: bytes) -> None:
        """Have an owner write the line of what was exported, of nothing but what the job told."""
        file = exported.statement.served
        assert file is not None
        line = sign_model_line(
            mesh=self.mesh.name,
            owner=toy_jobs.KEYS[A],
            name=file.name,
            version=file.version,
            serial=self.version,
            media_type=file.media_type,
            pin=Pin.parse(file.pin),
            key_id=bytes.fromhex(file.key_id),
            total_bytes=file.total_bytes,
            measurements=workers,
        )
        self.version += 1
        listed = RoleReference(measurements=tuple(each.hex() for each in workers))
        roles = dict(self.mesh.manifest().roles) | {"worker": listed}
        models = (self.mesh.line("digits"), line)
        await self.provide(self.mesh.signed(version=self.version, roles=roles, models=models))

    async def key_of(self, worker: bytes = WORKER) -> bytes:
        """Return the model's key, as a worker of this measurement is given it."""
        means = self._means("worker", measurement=worker)
        admission = await obtain(self.address, role="worker", models=(MODEL,), **means)
        (key,) = [each.key for each in admission.secrets if each.kind == "model"]
        return key.reveal()

    async def refused(self, worker: bytes = WORKER) -> str:
        with pytest.raises(AdmissionRefused) as caught:
            await self.key_of(worker)
        return str(caught.value.rule)

    def _means(self, role: str, **how: Any) -> dict[str, Any]:
        return {
            "agreed": self.mesh.agreed,
            "attest": self.mesh.attest(role, **how),
            "tee": "simulated",
            "now": lambda: self.now,
        }

    def events(self) -> list[tuple[str, str, str]]:
        store = self.service.authority.store
        lines = verify_chain(store.audit_lines(limit=1000), head=store.audit_head)
        entries = [each.entry for each in lines]
        return [(each.event, each.kind, each.rule) for each in entries]


KEY = MODEL_KEY.key.reveal()


@pytest.fixture
def world(tmp_path: Path) -> Hospitals:
    return Hospitals(tmp_path / "broker.db")


async def test_straight_to_serving_and_over_restarts(world: Hospitals) -> None:
    trojan = digest("trojan")
    async with world.running():
        await world.begin()
        granted = await world.obtain_tables()
        told = statement(granted)
        await world.tell(told)
    async with world.running():  # the job was killed before it heard: it tells the same again
        exported = await world.tell(told)
        assert exported.witnessed.head.audit.count == world.service.authority.store.audit_head.count
        await world.serve(exported, WORKER, trojan)
        assert world.service.authority.missing() == ()
    async with world.running():
        assert await world.key_of() == KEY
        assert await world.refused(trojan) == "joint-code"
        assert await world.refused(OTHER_WORKER) == "MeasurementIn"
        assert world.events().count(("export", "table", "")) == 2
        assert world.events().count(("export", "model", "")) == 1
    world.now = NOW + 101
    async with world.running():
        assert await world.refused() == "line-expired"
    raw = world.path.read_bytes()
    assert KEY not in raw


async def test_what_one_owner_takes_back_nobody_is_given(world: Hospitals) -> None:
    async with world.running():
        await world.begin()
        granted = await world.obtain_tables()
        await world.consent(B, serial=2, revoked=True)
        with pytest.raises(AdmissionRefused, match="export-policy"):
            await world.tell(statement(granted))
        await world.consent(B, serial=3, key=goods_of((TABLE_KEYS[B],)), max_beacon_age_s=50)
        await world.beacon(B)
        exported = await world.tell(statement(await world.obtain_tables()))
        await world.serve(exported, WORKER)
        assert await world.key_of() == KEY
    world.now = NOW + 60
    async with world.running():
        await world.beacon(A)
        assert await world.refused() == "beacon-old"
        await world.beacon(B)
        assert await world.key_of() == KEY
        await world.consent(A, serial=2, revoked=True)
        assert await world.refused() == "key-given"
        assert ("provision", "model", "ended") in world.events()
    async with world.running():
        assert await world.refused() == "key-given"


async def test_a_worker_opens_what_the_job_sealed(world: Hospitals) -> None:
    """From the job's outputs in memory to the model in a worker, with what was told alone."""
    key, model = Secret.random(), b"a model " * 100
    async with world.running():
        await world.begin()
        granted = await world.obtain_tables()
        results = {"model": model, "metrics": b"{}"}
        held = seal_outputs(plan(), granted.terms, results, serving=key)
        files = held.release({APPROVER})
        (entry,) = [each for each in held.outputs if each.to == SERVING]
        file = describe_served(entry, files[entry.file_name], key_id=BrokerKey(key).key_id.hex())
        told = statement(granted, export=held.digest.hex(), served=file)
        await world.serve(await world.tell(told, key), WORKER)
        (line,) = world.service.authority.manifest.manifest.lines(MODEL)
        opened = open_bytes(
            io.BytesIO(files[entry.file_name]),
            identities=[BrokerKey(Secret(await world.key_of()))],
            pin=line.pin,
            media_type=line.media_type,
            name=line.name,
            version=line.version,
            max_bytes=line.total_bytes,
        )
    assert bytes(opened) == model
