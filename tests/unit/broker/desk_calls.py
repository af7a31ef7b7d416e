"""A broker's desks without a socket: what `connect` returns is served in the same event loop."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from toy_mesh import ToyBroker

from wardian._internal import wire
from wardian.broker.desk import Office
from wardian.broker.limits import Place, ServiceLimits
from wardian.broker.refusal import refusal_for
from wardian.broker.service import DESKS
from wardian.broker.tables import desk as tables_desk
from wardian.broker.tables.asked import read_asked
from wardian.errors import ConnectionLost


class Pipe:
    """One end of a connection that carries whole frames."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.other: Pipe
        self.closed = False
        self.certificate: Callable[[], bytes]

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        one, other = cls(), cls()
        one.other, other.other = other, one
        return one, other

    async def send(self, content: bytes, **_: object) -> None:
        if self.other.closed:
            raise ConnectionLost("the peer went away")
        self.other.inbox.put_nowait(content)

    async def receive(self, *, most: int, **_: object) -> bytes:
        raw = await self.inbox.get()
        if raw is None:
            raise ConnectionLost("the peer went away")
        assert len(raw) <= most
        return raw

    def peer_certificate(self) -> bytes:
        return self.certificate()

    async def close(self) -> None:
        self.closed = True
        self.other.inbox.put_nowait(None)


class Desks:
    """Serves a toy broker's desks. `carry` may replace any answer on its way.

    `certificate` is what the handshake shows: the broker's own, unless somebody stands in between.
    """

    def __init__(self, broker: ToyBroker, *, limits: ServiceLimits | None = None) -> None:
        self.ticks = 0.0
        self.office = Office(
            authority=broker.authority,
            attest=broker.attest,
            ticks=lambda: self.ticks,
            limits=limits or ServiceLimits(),
        )
        self.desks: dict[type, Any] = {kind: desk(self.office) for kind, desk in DESKS.items()}
        self.carry: Callable[[bytes], bytes] = lambda raw: raw
        self.certificate: Callable[[], bytes] = self._own_certificate
        self.served = 0
        self.peer = "x"
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self, _: tuple[str, int], **__: object) -> Pipe:
        here, there = Pipe.pair()
        here.certificate = self.certificate
        self._tasks.append(asyncio.ensure_future(self._serve(there)))
        return here

    def instead_of_sockets(self, patch: pytest.MonkeyPatch, *modules: str) -> None:
        for module in modules:
            patch.setattr(f"{module}.connect", self.connect)

    async def close(self) -> None:
        await asyncio.gather(*self._tasks)
        self.office.close()

    def _own_certificate(self) -> bytes:
        _, chain = self.office.authority.own_identity()
        return x509.load_pem_x509_certificates(chain)[0].public_bytes(Encoding.DER)

    async def _serve(self, stream: Pipe) -> None:
        self.served += 1
        send = stream.send

        async def carried(content: bytes, **_: object) -> None:
            await send(self.carry(content))

        stream.send = carried  # type: ignore[method-assign]
        try:
            raw = await stream.receive(most=2**16)
            kinds = tuple(DESKS)
            first: Any = wire.decode(raw, _union(kinds), what="first message")
            await self.desks[type(first)].serve(stream, Place(peer=self.peer), raw, first)
        except ConnectionLost:
            return
        except Exception as err:  # noqa: BLE001 (as in the service)
            await send(wire.encode(refusal_for(err)))
        finally:
            await stream.close()


FEW_PLANS = ServiceLimits(plan_burst=2, plans_per_s=0.0)


def plans_read(patch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the list to which each plan is added that a desk reads."""
    read: list[bytes] = []

    def counted(raw: bytes, authority: Any) -> Any:
        read.append(raw)
        return read_asked(raw, authority)

    patch.setattr(tables_desk, "read_asked", counted)
    return read


def _union(kinds: tuple[type, ...]) -> Any:
    from functools import reduce
    from operator import or_

    return reduce(or_, kinds)
