"""The role `zoo` before it serves anybody: what it refuses, what it says, its password."""

import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))

from toy_mesh import JOBS, ZooMesh

from wardian.errors import ConfigError
from wardian.roles import zoo, zoo_streams
from wardian.roles.host import HostSettings, ZooRedisPlace

ENCLAVE = SimpleNamespace(evidence=None, name="simulated", simulated=True)
PLACE = ZooRedisPlace(address=("127.0.0.1", 1))


async def refused(mesh: ZooMesh, **host: object) -> str:
    with pytest.raises(ConfigError) as caught:
        await zoo._serve(ENCLAVE, HostSettings(**host), mesh.agreed)  # type: ignore[arg-type]
    return str(caught.value)


async def test_without_the_owner_s_word_it_does_not_start() -> None:
    said = await refused(ZooMesh(dialect=""), zoo=PLACE, queues=("q",))
    assert "[dialects.zoo_redis]" in said


async def test_without_a_redis_or_a_queue_or_in_the_open_it_does_not_start() -> None:
    assert "no Redis" in await refused(ZooMesh(), queues=("q",))
    assert "one queue" in await refused(ZooMesh(), zoo=PLACE)
    place = ZooRedisPlace(address=("192.0.2.7", 1))
    assert "loopback" in await refused(ZooMesh(), zoo=place, queues=("q",))


async def test_it_says_what_it_is_before_it_asks_for_anything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    encrypted = JOBS.replace('"digits"', '"digits", record_encrypted = true')
    with caplog.at_level(logging.WARNING):
        said = await refused(ZooMesh(dialect=encrypted), zoo=PLACE, queues=("q",))
    assert "no broker" in said
    told = {record.message: record.fields for record in caplog.records}
    assert told["zoo.unprotected"]["said"].startswith("UNPROTECTED")
    assert "known to everybody" in told["zoo.record_encrypted"]["said"]


def test_its_password_is_the_first_line_and_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "password"
    place = ZooRedisPlace(address=("192.0.2.7", 1), password_file=str(path))
    password = zoo_streams.way_to_theirs(place).password
    assert password is not None
    for text, meant in ((b"one\n", b"one"), (b" two \r\nmore\n", b"two")):
        path.write_bytes(text)
        assert password().reveal() == meant
    path.write_bytes(b"\n")
    with pytest.raises(ConfigError, match="is empty"):
        password()
    path.write_bytes(b"x" * 2000)
    with pytest.raises(ConfigError, match="larger"):
        password()
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        password()


def test_its_self_test() -> None:
    assert "result of" in zoo._try_record(HostSettings())
