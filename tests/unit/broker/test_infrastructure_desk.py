"""Who runs Redis asks a broker for its files: what it gets, what that costs, and who lies."""

from collections.abc import AsyncIterator

import msgspec
import pytest
from desk_calls import Desks
from toy_mesh import NOW, ToyBroker

from wardian._internal import wire
from wardian.broker.certificates import build_csr
from wardian.broker.infrastructure.ca import InfrastructureCa
from wardian.broker.infrastructure.certificates import (
    SERVER,
    names_in,
    verify_infrastructure_certificate,
)
from wardian.broker.infrastructure.client import fetch_queue_files
from wardian.broker.infrastructure.desk import FILES_BURST, PEER_BURST
from wardian.broker.infrastructure.messages import QueueFiles, QueueFilesRequest
from wardian.broker.refusal import Refusal
from wardian.broker.state.audit import AuditEntry, verify_chain
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import FormatError, PeerProtocolError, PolicyDenied, TransportError

NAMES = ("redis.example", "127.0.0.1")


class Asking:
    """Who runs Redis, and the broker at the other end of its connections."""

    def __init__(self, broker: ToyBroker, patch: pytest.MonkeyPatch) -> None:
        self.broker, self.desks = broker, Desks(broker)
        self.desks.instead_of_sockets(patch, "wardian.broker.infrastructure.client")
        self.key = TlsKey.generate()

    async def ask(self, *names: str, now: int = NOW) -> QueueFiles:
        return await fetch_queue_files(
            ("broker", 1), key=self.key, names=names or NAMES, now=lambda: now
        )

    async def send(self, csr: bytes) -> bytes:
        stream = await self.desks.connect(("broker", 1))
        await stream.send(wire.encode(QueueFilesRequest(csr=csr)))
        return await stream.receive(most=2**16)

    def entries(self) -> list[AuditEntry]:
        store = self.broker.store
        lines = verify_chain(store.audit_lines(limit=1000), head=store.audit_head)
        return [line.entry for line in lines]


@pytest.fixture
async def asking(broker: ToyBroker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asking]:
    asking = Asking(broker, monkeypatch)
    yield asking
    await asking.desks.close()


async def test_it_gets_a_certificate_its_ca_and_users(asking: Asking) -> None:
    files = await asking.ask()
    spki = verify_infrastructure_certificate(
        files.certificate, ca=files.infrastructure_ca, holder=SERVER, now=NOW
    )
    assert spki == asking.key.spki
    assert names_in(files.certificate) == set(NAMES)
    assert "user frontend on" in files.users_acl
    last = asking.entries()[-1]
    assert (last.event, last.outcome, last.role) == ("release", "granted", "infrastructure")
    assert len(last.certificate) == 64


async def test_the_second_time_it_is_the_same_ca_and_the_same_users(asking: Asking) -> None:
    first, second = await asking.ask(), await asking.ask("::1")
    assert first.infrastructure_ca == second.infrastructure_ca
    assert first.users_acl == second.users_acl
    assert first.certificate != second.certificate


async def test_no_password_is_in_the_answer(asking: Asking) -> None:
    files = await asking.ask()
    for role in ("frontend", "worker"):
        password = asking.broker.store.get("infrastructure", f"password-{role}")
        assert password is not None
        assert password not in wire.encode(files)
        assert password.decode() not in files.users_acl


async def test_one_address_leaves_some_to_others_and_all_of_them_some_to_the_log(
    asking: Asking,
) -> None:
    before = len(asking.entries())
    for peer in ("10.0.0.1", "10.0.0.2"):
        asking.desks.peer = peer
        for _ in range(PEER_BURST):
            await asking.ask()
        with pytest.raises(TransportError, match="one address no more"):
            await asking.ask()
    asking.desks.peer = "10.0.0.3"
    with pytest.raises(TransportError, match="more certificates of servers"):
        await asking.ask()
    assert len(asking.entries()) == before + FILES_BURST + 1  # and the line of the CA


async def test_a_request_without_a_name(asking: Asking) -> None:
    assert b'"names"' in await asking.send(build_csr(asking.key))
    assert (asking.entries()[-1].role, asking.entries()[-1].rule) == ("infrastructure", "names")


@pytest.mark.parametrize("csr", [b"x", b"\x30\x00", bytes(5000)])
async def test_garbage_in_the_place_of_a_request(asking: Asking, csr: bytes) -> None:
    wire.decode(await asking.send(csr), Refusal, what="refusal")
    assert asking.entries()[-1].outcome == "refused"


async def test_a_request_that_its_key_did_not_sign(asking: Asking) -> None:
    raw = bytearray(build_csr(asking.key, names=NAMES))
    raw[-3] ^= 1
    wire.decode(await asking.send(bytes(raw)), Refusal, what="refusal")


async def test_names_that_are_none_are_not_even_sent(asking: Asking) -> None:
    for name in ("no name", "*.example", "", "a" * 300, "redis.example\nuser evil on"):
        with pytest.raises(FormatError):
            await asking.ask(name)
    assert asking.desks.served == 0


# Who stands in between, or a broker that is wrong


async def test_a_certificate_for_another_key_or_other_names(asking: Asking) -> None:
    foreign = await asking.ask()
    asking.desks.carry = lambda _: wire.encode(foreign)
    asking.key = TlsKey.generate()
    with pytest.raises(PeerProtocolError, match="another key or other names"):
        await asking.ask()
    asking.desks.carry = lambda raw: raw
    mine = await asking.ask("other.example")
    asking.desks.carry = lambda _: wire.encode(mine)
    with pytest.raises(PeerProtocolError, match="another key or other names"):
        await asking.ask()


async def test_an_authority_that_did_not_issue_it(asking: Asking) -> None:
    other = InfrastructureCa.create(mesh="test", simulated=True, now=NOW).certificate

    def swapped(raw: bytes) -> bytes:
        files = wire.decode(raw, QueueFiles, what="files")
        return wire.encode(msgspec.structs.replace(files, infrastructure_ca=other))

    asking.desks.carry = swapped
    with pytest.raises(PeerProtocolError, match="no certificate for a server"):
        await asking.ask()


async def test_t3_a_certificate_of_the_mesh_for_a_server(asking: Asking) -> None:
    authority = asking.broker.authority

    def swapped(raw: bytes) -> bytes:
        files = wire.decode(raw, QueueFiles, what="files")
        return wire.encode(
            msgspec.structs.replace(
                files,
                certificate=authority.issuer.certificate,
                infrastructure_ca=authority.ca.certificate,
            )
        )

    asking.desks.carry = swapped
    with pytest.raises(PeerProtocolError, match="no certificate for a server"):
        await asking.ask()


async def test_a_certificate_that_is_over(asking: Asking) -> None:
    with pytest.raises(PeerProtocolError, match="not valid at this time"):
        await asking.ask(now=NOW + 500 * 24 * 3600)


async def test_something_else_than_files(asking: Asking) -> None:
    asking.desks.carry = lambda _: b'{"format":"wardian queue files v1"}'
    with pytest.raises((PeerProtocolError, PolicyDenied)):
        await asking.ask()
