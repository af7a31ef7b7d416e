"""Many workers start at once: all of them get their keys, none of them twice."""

import asyncio
import os
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))

from toy_mesh import MASTER_KEY, NOW, ToyMesh
from toy_mesh import Counter as StateCounter

from wardian.broker.limits import ServiceLimits
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.owners.client import provision
from wardian.broker.owners.goods import goods_of
from wardian.broker.owners.session import Demands
from wardian.broker.release.admission import Admission
from wardian.broker.release.client import obtain
from wardian.broker.service import BrokerService
from wardian.broker.state.audit import decode_line
from wardian.broker.state.store import Store
from wardian.errors import TransportError

WORKERS = int(os.environ.get("WARDIAN_CROWD", "250"))
"""A thousand take half a minute of processor time; `WARDIAN_CROWD=1000` asks for them."""


@pytest.mark.timeout(180)
async def test_many_workers_start_at_once(tmp_path: Path) -> None:
    """From one address, under default limits, but that all may stand in line and quotes are cheap."""
    mesh = ToyMesh()
    service = BrokerService(
        store=Store(tmp_path / "b.db", master_key=MASTER_KEY, counter=StateCounter().seam),
        attest=mesh.attest("broker"),
        agreed_toml=mesh.agreed_toml,
        clock=lambda: NOW,
        limits=ServiceLimits(
            quotes_per_s=1e6, quote_burst=10**6, waiting=WORKERS, waiting_per_peer=WORKERS
        ),
    )
    async with service:
        address = await service.start("127.0.0.1", 0)
        await provision(
            address,
            owner=mesh.owners[0],
            demands=Demands(
                agreed_toml=mesh.agreed_toml, policy=appraisal_policy(mesh.manifest(), "broker")
            ),
            manifest=mesh.signed(),
            goods=goods_of(tuple(mesh.keys.values())),
            now=lambda: NOW,
        )
        admissions = await asyncio.gather(*(_admitted(mesh, address) for _ in range(WORKERS)))
        lines = []
        while page := service.authority.store.audit_lines(after=len(lines), limit=1000):
            lines += [decode_line(raw) for raw in page]
    key = mesh.keys["digits"].key
    assert all(each.model_key("digits", 1) == key for each in admissions)
    given = {each.certificate_digest.hex() for each in admissions}
    assert len(given) == WORKERS
    released = [line.entry for line in lines if line.entry.event == "release"]
    written = Counter(entry.certificate for entry in released if entry.kind == "model")
    assert given == set(written)
    assert set(written.values()) == {1}
    uses = sorted(entry.use for entry in released if entry.kind == "model")
    assert uses == list(range(1, WORKERS + 1))


async def _admitted(mesh: ToyMesh, address: tuple[str, int]) -> Admission:
    """Ask as a role does: again and again where the broker says so, each time a little later."""
    while True:
        try:
            return await obtain(
                address,
                role="worker",
                models=("digits",),
                agreed=mesh.agreed,
                attest=mesh.attest("worker"),
                tee="simulated",
                now=lambda: NOW,
            )
        except TransportError as err:
            if not err.retryable:
                raise
            await asyncio.sleep(random.uniform(0.1, 1.0))
