"""The audit log on loopback: the commands against a real broker, and against one that forked."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))

from toy_mesh import MASTER_KEY, Counter, ToyMesh

from wardian._internal.clock import unix_time
from wardian.broker.certificates import chain_pem
from wardian.broker.frames import FRAME_BYTES, FrameStream, connect
from wardian.broker.service import BrokerService
from wardian.broker.standby.identity import nobody
from wardian.broker.state.store import Store
from wardian.crypto.owner_key import encode_owner_key
from wardian.crypto.signing import SigningKey
from wardian.errors import ConnectionLost

WITNESS = SigningKey.generate()


@dataclass
class Running:
    service: BrokerService
    where: str
    counter: Counter

    def append(self, count: int, rule: str = "r") -> None:
        authority = self.service.authority
        entry = authority.entry(event="refusal", outcome="refused", role="worker", rule=rule)
        authority.record([entry] * count)


async def start(mesh: ToyMesh, path: Path, counter: Counter) -> Running:
    service = BrokerService(
        store=Store(path, master_key=MASTER_KEY, counter=counter.seam),
        attest=mesh.attest("broker"),
        agreed_toml=mesh.agreed_toml,
        clock=unix_time,
    )
    address, port = await service.start("127.0.0.1", 0)
    return Running(service, f"{address}:{port}", counter)


@pytest.fixture
def mesh() -> ToyMesh:
    return ToyMesh(witnesses=[WITNESS], head_threshold=1)


@pytest.fixture
async def broker(mesh: ToyMesh, tmp_path: Path) -> AsyncIterator[Running]:
    running = await start(mesh, tmp_path / "broker.db", Counter())
    yield running
    await running.service.aclose()


@pytest.fixture
def files(mesh: ToyMesh, broker: Running, tmp_path: Path) -> Path:
    (tmp_path / "mesh-ca.pem").write_bytes(chain_pem((broker.service.authority.ca.certificate,)))
    (tmp_path / "wardian.toml").write_bytes(mesh.agreed_toml)
    (tmp_path / "witness.key").write_bytes(encode_owner_key(WITNESS).reveal())
    (tmp_path / "witness.key").chmod(0o600)
    return tmp_path


async def command(files: Path, *arguments: str, expect: int = 0) -> str:
    """Run `wardian audit` in a process of its own, in the directory `files`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "wardian.cli",
        "audit",
        *arguments,
        cwd=files,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    assert process.returncode == expect, told.decode()
    return told.decode()


async def test_the_whole_way(broker: Running, files: Path) -> None:
    at = ("--broker", broker.where, "--ca", "mesh-ca.pem")
    broker.append(700)
    count = broker.service.authority.store.audit_head.count
    assert f"{count} lines, {count} read now" in await command(
        files, "verify", *at, "--head", "memory.json"
    )
    demand = ("--witnesses", "wardian.toml")
    assert "0 of the 1 witnesses" in await command(files, "verify", *at, *demand, expect=3)
    sign = ("witness", "--key", "witness.key", "--memory", "witness.json", *at)
    assert "say --first" in await command(files, *sign, expect=2)
    assert f"signed {count} lines" in await command(files, *sign, "--first")
    broker.append(2, rule="later")
    told = await command(files, "verify", *at, *demand, "--head", "memory.json", "--json")
    assert json.loads(told)["read"] == 2
    assert "REFUSED by later" in await command(files, "show", *at, "--last", "1")
    await command(files, "export", "log.jsonl", *at)
    assert "WHOLE" in await command(
        files, "verify", "log.jsonl", "--ca", "mesh-ca.pem", "--head", "memory.json"
    )
    await command(files, "prove", str(count), *at, "--out", "proof.json")
    assert "REFUSED by r" in await command(
        files, "verify", "--proof", "proof.json", "--ca", "mesh-ca.pem"
    )


async def test_a_broker_that_was_started_on_a_copy(
    mesh: ToyMesh, broker: Running, files: Path
) -> None:
    at = ("--ca", "mesh-ca.pem", "--head", "memory.json")
    sign = ("witness", "--key", "witness.key", "--memory", "witness.json", "--ca", "mesh-ca.pem")
    broker.append(3)
    copy, counted = files / "copy.db", Counter(broker.counter.value)
    copy.write_bytes((files / "broker.db").read_bytes())
    broker.append(3, rule="seen")
    await command(files, "verify", "--broker", broker.where, *at)
    await command(files, *sign, "--first", "--broker", broker.where)
    twin = await start(mesh, copy, counted)
    try:
        twin.append(9, rule="hidden")
        told = await command(files, "verify", "--broker", twin.where, *at, expect=3)
        assert "does not follow" in told
        told = await command(files, *sign, "--broker", twin.where, expect=3)
        assert "forked" in told
        assert "witness.json.refused-" in told
        assert "WHOLE" in await command(
            files, "verify", "--broker", twin.where, "--ca", "mesh-ca.pem"
        )  # who remembers nothing notices nothing
    finally:
        await twin.service.aclose()
    await command(files, "verify", "--broker", broker.where, *at)
    await command(files, *sign, "--broker", broker.where)


async def test_somebody_in_between(broker: Running, files: Path) -> None:
    """It ends TLS and carries whole frames on: all that it shows is genuine, and it may be old."""
    host, _, port = broker.where.partition(":")

    carrying: set[asyncio.Task[None]] = set()

    async def carry(here: FrameStream) -> None:
        there = await connect((host, int(port)))
        with contextlib.suppress(ConnectionLost):
            while True:
                await there.send(await here.receive(most=FRAME_BYTES))
                await here.send(await there.receive(most=FRAME_BYTES))
        await there.close()
        await here.close()

    server = await asyncio.get_running_loop().create_server(
        lambda: FrameStream(lambda here: carrying.add(asyncio.create_task(carry(here)))),
        "127.0.0.1",
        0,
        ssl=nobody(now=unix_time()),
    )
    async with server:
        at = ("--broker", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert "UNVERIFIED" in await command(files, "verify", *at)
        sign = ("witness", "--key", "witness.key", "--memory", "witness.json", "--first")
        for arguments in (
            ("show",),
            ("verify",),
            ("export", "log.jsonl"),
            ("prove", "1", "--out", "proof.json"),
            sign,
        ):
            told = await command(files, *arguments, *at, "--ca", "mesh-ca.pem", expect=1)
            assert "does not end at a broker of this mesh CA" in told
    assert not any((files / name).exists() for name in ("log.jsonl", "proof.json", "witness.json"))


async def test_nobody_is_there(files: Path) -> None:
    at = ("--broker", "127.0.0.1:1", "--ca", "mesh-ca.pem")
    for arguments in (("show",), ("verify",), ("export", "x"), ("prove", "1", "--out", "x")):
        assert "no broker answers" in await command(files, *arguments, *at, expect=1)
