"""The desks of a toy broker, with streams in memory in the place of sockets."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from toy_mesh import NOW, ToyBroker

from wardian._internal import wire
from wardian.broker.desk import Office
from wardian.broker.limits import Place, ServiceLimits
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.owners import client, manifest_log
from wardian.broker.owners.client import order, provision
from wardian.broker.owners.desk import OwnerDesk
from wardian.broker.owners.goods import goods_of
from wardian.broker.owners.log_desk import ManifestLogDesk
from wardian.broker.owners.manifest_log import ManifestLogRequest
from wardian.broker.owners.protocol import OwnerHello
from wardian.broker.owners.session import Demands
from wardian.broker.refusal import refusal_for
from wardian.broker.state.audit import AuditEntry, verify_chain
from wardian.errors import ConnectionLost, WardianError

ADDRESS = ("nowhere", 0)


class Stream:
    """One end of a connection in memory; `other` is the far one."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.other: Stream

    async def send(self, content: bytes) -> None:
        self.other.incoming.put_nowait(content)

    async def receive(self, *, most: int) -> bytes:
        content = await self.incoming.get()
        if content is None:
            raise ConnectionLost("the peer closed the connection before a whole message")
        assert 1 <= len(content) <= most
        return content

    async def close(self) -> None:
        self.other.incoming.put_nowait(None)


def connection() -> tuple[Stream, Stream]:
    near, far = Stream(), Stream()
    near.other, far.other = far, near
    return near, far


class Desks:
    """A broker whose desks serve connections in memory; refusals are told as `service` tells them."""

    def __init__(self, broker: ToyBroker, limits: ServiceLimits) -> None:
        self.broker = broker
        self.office = Office(
            authority=broker.authority, attest=broker.attest, ticks=lambda: 0.0, limits=limits
        )
        self.owners, self.log = OwnerDesk(self.office), ManifestLogDesk(self.office)
        self.places: list[Place] = []
        self.peer = "peer"
        self.change: Callable[[int, bytes], bytes] = lambda _, raw: raw
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self, _: object) -> Stream:
        near, far = connection()
        task = asyncio.get_running_loop().create_task(self._serve(far))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return near

    async def _serve(self, stream: Stream) -> None:
        raw = await stream.receive(most=2**26)
        first: Any = wire.decode(raw, OwnerHello | ManifestLogRequest, what="first")
        desk: Any = self.owners if isinstance(first, OwnerHello) else self.log
        place = Place(peer=self.peer)
        self.places.append(place)
        try:
            await desk.serve(stream, place, raw, first)
        except WardianError as err:
            await stream.send(wire.encode(refusal_for(err)))
        finally:
            await stream.close()

    @property
    def demands(self) -> Demands:
        mesh = self.broker.mesh
        return Demands(
            agreed_toml=mesh.agreed_toml, policy=appraisal_policy(mesh.manifest(), "broker")
        )

    async def give(self, signed: SignedManifest | None = None, **more: Any) -> Any:
        mesh = self.broker.mesh
        arguments: dict[str, Any] = {
            "owner": mesh.owners[0],
            "demands": self.demands,
            "manifest": signed or mesh.signed(),
            "goods": goods_of(tuple(mesh.keys.values())),
            "now": lambda: NOW,
        }
        return await provision(ADDRESS, **(arguments | more))

    async def order(self, kind: Any = "turn-epoch", **more: Any) -> Any:
        arguments: dict[str, Any] = {"owner": self.broker.mesh.owners[0], "demands": self.demands}
        return await order(ADDRESS, kind=kind, now=lambda: NOW, **(arguments | more))

    def entries(self) -> list[AuditEntry]:
        store = self.broker.store
        lines = verify_chain(store.audit_lines(limit=1000), head=store.audit_head)
        return [line.entry for line in lines]


def open_desks(broker: ToyBroker, monkeypatch: pytest.MonkeyPatch, **limits: Any) -> Desks:
    desks = Desks(broker, ServiceLimits(**limits))
    for module in (client, manifest_log):
        monkeypatch.setattr(module, "connect", desks.connect)
    return desks
