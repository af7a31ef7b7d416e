"""Flink's processes are killed one after the other; strangers with certificates of the same CA."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from simulators.flink_cluster import Authority, own_cluster, own_place
from simulators.placed_workers import PlacedWorkers
from simulators.what_stands import comm, descriptors, files_below

from wardian.cli.engines.flink_files import write_flink_files
from wardian.engines import Supervisor
from wardian.engines.flink.cluster import ExistingCluster, OwnCluster
from wardian.engines.flink.engine import FlinkEngine
from wardian.engines.flink.place import FlinkTls
from wardian.engines.flink.rest import RestClient
from wardian.errors import ConnectionLost, TransportError

pytestmark = [pytest.mark.usefixtures("need_flink"), pytest.mark.timeout(400)]
PATIENCE_S = 120.0


def processes(word: str, below: Path) -> list[int]:
    """The processes with `word` in their command line whose environment names `below`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            argv, environ = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:
            continue
        if word.encode() in argv and str(below).encode() in environ:
            found.append(int(entry.name))
    return found


async def eventually(condition) -> float:
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.05)
    return asyncio.get_running_loop().time() - began


async def ready(engine: FlinkEngine) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                status = await engine.status()
            except TransportError:
                status = ()
            if status and all(each.state == "ready" for each in status):
                return
            await asyncio.sleep(0.2)


@pytest.mark.slow
async def test_whatever_is_killed_comes_back(tmp_path: Path, record_property) -> None:
    workers, below = PlacedWorkers.under(tmp_path), tmp_path / "flink"
    async with own_cluster(below) as cluster:
        engine = FlinkEngine(cluster)
        await engine.start(workers.spec())
        await ready(engine)
        for what, word in (
            ("Flink's Python", "beam_boot"),
            ("TaskManager", "taskexecutor.TaskManagerRunner"),
            ("JobManager", "StandaloneSessionClusterEntrypoint"),
        ):
            (first,) = workers.living()
            (pid,) = [each for each in processes(word, below) if comm(each) not in {"bash", ""}]
            python = processes("beam_boot", below)
            os.kill(pid, signal.SIGKILL)
            if what != "JobManager":
                gone = await eventually(lambda first=first: first not in workers.living())
                record_property(f"{what}: worker gone after", round(gone, 2))
            if what == "TaskManager":  # Flink leaves its Python behind; it ends by itself
                await eventually(lambda python=python: not set(python) & set(_living()))
            back = await eventually(
                lambda first=first: bool(workers.living() - {first}) and len(workers.living()) == 1
            )
            await ready(engine)
            record_property(f"{what}: another worker after", round(back, 2))
            print(what, "worker back after", round(back, 2))
        for path in (f"/jobs/{engine._jid}{which}" for which in ("", "/plan", "/config")):
            answer = await cluster.rest.get(path, object)
            assert cluster.place.tls.password not in json.dumps(answer), path
        _no_password_in_files_and_command_lines(cluster)
        await engine.stop()
        await eventually(lambda: not workers.living())


def _no_password_in_files_and_command_lines(cluster: OwnCluster) -> None:
    secret, kept = cluster.place.tls.password.encode(), 0
    for name in ("checkpoints", "savepoints", "tmp", "work", "logs"):
        for path, content in files_below(cluster.place.directory / name):
            kept += 1
            assert secret not in content, path
    assert kept > 3
    for pid in _living():
        with contextlib.suppress(OSError):
            assert secret not in Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.slow
async def test_a_job_outlives_its_operator_and_is_replaced_without_a_gap(tmp_path: Path) -> None:
    workers = PlacedWorkers.under(tmp_path)
    async with own_cluster(tmp_path / "flink") as somebody_s:
        await somebody_s.start()
        await somebody_s.demand("somebody", 2)
        there = replace(
            somebody_s.place,
            directory=tmp_path / "ours",
            ports=None,
            rest=somebody_s.place.rest_address,
        )
        first, second = ExistingCluster(there), ExistingCluster(there)
        engine = FlinkEngine(first)
        await engine.start(workers.spec())
        await ready(engine)
        await engine._end_watch()  # its process ends here, without a word to Flink
        first.close()
        (before,) = workers.living()
        gap = asyncio.create_task(_fewest(workers))
        again = FlinkEngine(second)
        await again.start(workers.spec())
        await ready(again)
        gap.cancel()
        assert await gap == 1
        await eventually(lambda: len(workers.living()) == 1)  # the old one answers what it holds
        assert workers.said()[before][-1] == "answered"
        assert not await second.demand("more", 2)  # two slots in all, one of them taken
        await again.stop()
        await eventually(lambda: not workers.living())
        second.close()


async def _fewest(workers: PlacedWorkers) -> int:
    fewest = len(workers.living())
    try:
        while True:
            fewest = min(fewest, len(workers.living()))
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        return fewest


async def test_nobody_else_with_a_certificate_of_the_ca_gets_in(tmp_path: Path) -> None:
    authority, directory = Authority(), tmp_path / "flink"
    supervisor = Supervisor(
        on_line=lambda _name, _line: None, on_ended=lambda _: None, on_failed=lambda _: None
    )
    place = own_place(directory, authority)
    cluster = OwnCluster(place, supervisor)
    stranger = write_flink_files(
        tmp_path / "stranger", cluster=authority.pair("cluster"), client=authority.pair("client")
    )
    try:
        await cluster.start()
        await cluster.demand("test", 1)
        async with asyncio.timeout(PATIENCE_S):
            while len(_listening(directory)) < 7:
                await asyncio.sleep(0.3)
        assert {address for address, _ in _listening(directory)} == {"127.0.0.1"}
        for _, port in sorted(_listening(directory)):
            assert not _gets_in(port, place.tls, none=True), port
            assert not _gets_in(port, stranger), port
            own = place.tls.directory
            internal = port != place.rest_address[1]
            assert _gets_in(port, place.tls, pem=None if not internal else own / "cluster.pem")
        client = _mixed(tmp_path / "mixed", stranger, place.tls)
        with pytest.raises(ConnectionLost):
            await RestClient(place.rest_address, client).get("/overview", dict)
        # and a server with another certificate of the CA is none that our client speaks to
        wrong = _mixed(tmp_path / "wrong", place.tls, stranger)
        with pytest.raises(ConnectionLost):
            await RestClient(place.rest_address, wrong).get("/overview", dict)
    finally:
        await supervisor.stop()
        cluster.close()


def _gets_in(port: int, tls: FlinkTls, *, none: bool = False, pem: Path | None = None) -> bool:
    """Whether who has these files is let in by TLS: what is not, is told so within the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if pem is not None:
        context.load_cert_chain(pem)
    elif not none:
        context.load_cert_chain(tls.path("client.pem"), tls.path("client.key"))
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            context.wrap_socket(plain) as stream,
        ):
            stream.settimeout(1.5)
            try:
                return bool(stream.recv(1))
            except TimeoutError:  # TLS 1.3 refuses after the client's handshake: silence is entry
                return True
    except ssl.SSLError:
        return False


def _mixed(directory: Path, client: FlinkTls, server: FlinkTls) -> FlinkTls:
    directory.mkdir()
    for name, tls in (("client.pem", client), ("client.key", client), ("server.pem", server)):
        (directory / name).write_bytes(tls.path(name).read_bytes())
    return FlinkTls(directory=directory, password="")


def _listening(below: Path) -> set[tuple[str, int]]:
    """What the JVMs of the cluster listen at, by /proc."""
    inodes = set()
    for word in ("TaskManagerRunner", "StandaloneSessionClusterEntrypoint"):
        for pid in processes(word, below):
            if comm(pid) == "java":
                inodes |= descriptors(pid)
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            local, state, inode = (line.split()[at] for at in (1, 3, 9))
            if state == "0A" and f"socket:[{inode}]" in inodes:
                address, _, port = local.rpartition(":")
                packed = bytes.fromhex(address)[-4:][::-1]
                found.add((socket.inet_ntoa(packed), int(port, 16)))
    return found


def _living() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
