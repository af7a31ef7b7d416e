"""The files by which an engine's processes know each other: written for one user, asked for whole."""

import stat
import time
from pathlib import Path

import pytest

from wardian._internal.operator import FlinkTable, Operator, RayTable
from wardian.broker.certificates import build_csr, parse_csr
from wardian.broker.infrastructure.ca import InfrastructureCa
from wardian.cli.engines import flink as flink_module
from wardian.cli.engines import ray as ray_module
from wardian.cli.engines.flink import FlinkCluster
from wardian.cli.engines.infrastructure import Pair
from wardian.cli.engines.ray import KEY, TOKEN, TRUSTED, RayCluster, write_files
from wardian.cli.state import StateDir
from wardian.crypto.tls_keys import TlsKey
from wardian.engines import Supervisor
from wardian.errors import ConfigError


@pytest.fixture
def pair() -> Pair:
    now = int(time.time())
    ca = InfrastructureCa.create(mesh="m", simulated=True, now=now)
    key = TlsKey.generate()
    request = parse_csr(build_csr(key, names=("localhost", "127.0.0.1")))
    return Pair(key=key, certificate=ca.issue_server(request, now=now))


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir.open(tmp_path / "s")


def supervisor() -> Supervisor:
    return Supervisor(
        on_line=lambda _name, _line: None, on_ended=lambda _: None, on_failed=lambda _: None
    )


def python(directory: Path) -> str:
    path = directory / "python"
    path.touch(mode=0o700)
    return str(path)


def test_ray_s_files_are_for_one_user_and_trust_one_certificate(tmp_path: Path, pair: Pair) -> None:
    directory = tmp_path / "files"
    write_files(directory, pair)
    first = (directory / TOKEN).read_text()
    write_files(directory, pair)
    assert (directory / TOKEN).read_text() != first
    assert (directory / TRUSTED).read_bytes() == (directory / "server.pem").read_bytes()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for name in (KEY, TOKEN):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600


async def test_a_cluster_that_was_not_started_has_no_engine(state: StateDir) -> None:
    for cluster in (
        RayCluster(state, Operator(), supervisor()),
        FlinkCluster(state, Operator(), supervisor()),
    ):
        with pytest.raises(ConfigError, match="was not started"):
            cluster.engine()
        await cluster.stop()


async def test_ray_that_is_there_is_entered_by_files_that_are_whole_and_closed(
    state: StateDir, tmp_path: Path, pair: Pair
) -> None:
    table = RayTable(python=python(tmp_path), address="127.0.0.1:6379")
    with pytest.raises(ConfigError, match="files: say where"):
        await RayCluster(state, Operator(ray=table), supervisor()).start()
    given = tmp_path / "given"
    table = RayTable(python=python(tmp_path), address="127.0.0.1:6379", files=str(given))
    with pytest.raises(ConfigError, match=r"server\.pem is not there"):
        await RayCluster(state, Operator(ray=table), supervisor()).start()
    write_files(given, pair)
    (given / TOKEN).chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        await RayCluster(state, Operator(ray=table), supervisor()).start()


async def test_flink_that_is_there_is_entered_by_files_that_are_whole_and_closed(
    state: StateDir, tmp_path: Path
) -> None:
    table = FlinkTable(python=python(tmp_path), rest="flink.example:8081")
    with pytest.raises(ConfigError, match="files: say where"):
        await FlinkCluster(state, Operator(flink=table), supervisor()).start()
    given = tmp_path / "given"
    given.mkdir()
    table = FlinkTable(python=python(tmp_path), rest="flink.example:8081", files=str(given))
    with pytest.raises(ConfigError, match=r"client\.p12 is not there"):
        await FlinkCluster(state, Operator(flink=table), supervisor()).start()
    for name in flink_module._OF_CLIENT:
        (given / name).write_text("x")
        (given / name).chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        await FlinkCluster(state, Operator(flink=table), supervisor()).start()


def test_free_ports_are_a_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_module, "_free", lambda _address, port: port not in {24003, 24205})
    assert ray_module._free_range("127.0.0.1", nodes=1) == 24100
    assert ray_module._free_range("127.0.0.1", nodes=2) == 24400
    monkeypatch.setattr(ray_module, "_free", lambda _address, _port: False)
    with pytest.raises(ConfigError, match="first_port"):
        ray_module._free_range("127.0.0.1", nodes=1)
