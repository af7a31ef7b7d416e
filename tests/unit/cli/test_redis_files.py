"""The files of a Redis, the program, and what `wardian redis` and `queue-files` refuse."""

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from wardian.broker.certificates import build_csr, parse_csr
from wardian.broker.infrastructure.ca import InfrastructureCa
from wardian.broker.infrastructure.messages import QueueFiles
from wardian.cli import broker_queue_files
from wardian.cli.redis import command, files, program
from wardian.cli.redis.files import OWNED, ServerPlace, redis_conf, write_files
from wardian.cli.state import StateDir
from wardian.cli.up.queue import Queue
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import ConfigError, ConnectionLost

PLACE = ServerPlace(listen=("127.0.0.1",), port=6380)


def fetched(*_: object, names: tuple[str, ...] = ("localhost",)) -> tuple[TlsKey, QueueFiles]:
    """What a broker would give."""
    key = TlsKey.generate()
    ca = InfrastructureCa.create(mesh="test", simulated=True, now=1_790_000_000)
    request = parse_csr(build_csr(key, names=names))
    return key, QueueFiles(
        certificate=ca.issue_server(request, now=1_790_000_000),
        infrastructure_ca=ca.certificate,
        users_acl="user default off\n",
    )


# The files


def test_everything_is_written_for_this_user_alone(tmp_path: Path) -> None:
    written = write_files(tmp_path, *fetched(), PLACE)
    assert {path.name for path in written} == {
        "redis.conf", "users.acl", "ca.pem", "server.pem", "server.key"
    }  # fmt: skip
    for path in written:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"PRIVATE KEY" in (tmp_path / "server.key").read_bytes()


def test_the_settings_leave_nothing_open() -> None:
    lines = redis_conf(PLACE, Path("/srv/redis")).splitlines()
    for line in (
        "port 0",
        "tls-port 6380",
        "tls-auth-clients yes",
        'tls-protocols "TLSv1.3"',
        'aclfile "/srv/redis/users.acl"',
        'save ""',
        "appendonly no",
        "maxmemory-policy noeviction",
        "maxmemory 1gb",
        "bind 127.0.0.1",
    ):
        assert line in lines


@pytest.mark.parametrize("listen", ["0.0.0.0\nport 6379", "host", "", "127.0.0.1 ::1"])
def test_an_address_is_no_place_for_another_line(listen: str) -> None:
    with pytest.raises(ConfigError):
        ServerPlace(listen=(listen,), port=1)


@pytest.mark.parametrize("memory", ["1gb\nsave 1 1", "lots", "0mb", "1", "1tb", "9999999mb"])
def test_memory_is_a_number(memory: str) -> None:
    with pytest.raises(ConfigError):
        ServerPlace(listen=("::1",), port=1, memory=memory)


def test_a_directory_s_name_stays_one_word() -> None:
    text = redis_conf(PLACE, Path('/srv/a "b" \\c'))
    assert 'dir "/srv/a \\"b\\" \\\\c"' in text
    with pytest.raises(ConfigError):
        redis_conf(PLACE, Path("/srv/a\nport 6379"))


# `wardian broker queue-files`


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(broker_queue_files, "fetch", fetched)
    return tmp_path / "redis"


def queue_files(out: Path, *more: str) -> str:
    arguments = ["--broker", "127.0.0.1:1", "--name", "localhost", "--out", str(out), *more]
    result = CliRunner().invoke(
        broker_queue_files.queue_files, arguments, standalone_mode=False, catch_exceptions=False
    )
    return result.output


def test_the_command_writes_them_where_they_are_to_stay(out: Path) -> None:
    told = queue_files(out, "--port", "7777", "--listen", "::1", "--memory", "64mb")
    assert str(out / "redis.conf") in told
    conf = (out / "redis.conf").read_text()
    assert "tls-port 7777" in conf
    assert "bind ::1" in conf
    assert "maxmemory 64mb" in conf
    assert stat.S_IMODE(out.stat().st_mode) == 0o700


def test_a_renewal_leaves_what_the_operator_may_have_changed(out: Path) -> None:
    with pytest.raises(ConfigError, match="leave out --renew"):
        queue_files(out, "--renew")
    queue_files(out)
    for name in OWNED:
        (out / name).write_text("# mine\n")
    before = (out / "server.key").read_bytes()
    with pytest.raises(ConfigError, match="is there already"):
        queue_files(out)
    assert (out / "server.key").read_bytes() == before
    queue_files(out, "--renew")
    assert (out / "server.key").read_bytes() != before
    assert {(out / name).read_text() for name in OWNED} == {"# mine\n"}


def test_a_broker_that_does_not_answer_leaves_no_files(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise ConnectionLost("no broker answers")

    monkeypatch.setattr(broker_queue_files, "fetch", nobody)
    with pytest.raises(ConnectionLost):
        queue_files(out)
    assert not out.exists()


def test_one_broker_is_named(out: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="say which broker"):
        queue_files(out, "--state", str(tmp_path))


# The program


def a_program(directory: Path, says: str) -> Path:
    path = directory / "redis-server"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o700)
    return path


@pytest.mark.parametrize(
    ("says", "good"),
    [
        ("Redis server v=7.0.15 sha=0 malloc=libc bits=64", True),
        ("Redis server v=6.2.0 sha=0", True),
        ("Valkey server v=8.1.0 sha=0", True),
        ("Redis server v=10.0.1", True),
        ("Redis server v=6.0.16 sha=0", False),
        ("Redis server v=5.0.14", False),
        ("hello", False),
        ("", False),
    ],
)
def test_a_server_is_new_enough(tmp_path: Path, says: str, good: bool) -> None:
    path = str(a_program(tmp_path, says))
    if good:
        program.demand_new_enough(path)
        return
    with pytest.raises(ConfigError, match=r"6\.2|version"):
        program.demand_new_enough(path)


def test_no_server_is_an_error_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="apt install redis-server"):
        program.find_server()
    place = StateDir.open(tmp_path / "state")
    with pytest.raises(ConfigError, match="apt install redis-server"):
        Queue("redis").demand_possible(place, place.load_operator())
    a_program(tmp_path, "Valkey server v=8.1.0 ").rename(tmp_path / "valkey-server")
    assert program.find_server() == str(tmp_path / "valkey-server")
    Queue("redis").demand_possible(place, place.load_operator())


def test_what_up_tells_front_ends_and_workers(tmp_path: Path) -> None:
    place = StateDir.open(tmp_path / "state")
    assert Queue(None).options == ()
    assert Queue("rediss://127.0.0.1:1").options == ("--queue", "rediss://127.0.0.1:1")
    (_, url) = Queue("redis").options
    assert url.startswith("rediss://127.0.0.1:")
    with pytest.raises(ConfigError):
        Queue("redis://127.0.0.1:1").demand_possible(place, place.load_operator())


# `wardian redis`


@pytest.mark.parametrize("queue", ["rediss://a:1,b:1", "rediss+sentinel://a:1/m", "embedded"])
def test_it_runs_one_server_of_this_machine(queue: str) -> None:
    with pytest.raises(ConfigError):
        command._own_address(queue)
    with pytest.raises(ConfigError, match="where it is to listen"):
        command._own_address(None)
    assert command._own_address("rediss://localhost:6380") == ("localhost", 6380)


def test_where_no_broker_answers_the_files_of_before_are_good_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateDir.open(tmp_path / "state")
    state.broker_address.write_text("127.0.0.1:4444\n")

    def nobody(*_: object, **__: object) -> None:
        raise ConnectionLost("no broker answers")

    monkeypatch.setattr(command, "fetch", nobody)
    with pytest.raises(ConnectionLost):
        command._renew(state, PLACE, ("localhost",))
    monkeypatch.setattr(command, "fetch", fetched)
    command._renew(state, PLACE, ("localhost",))
    before = (state.redis / files.KEY).read_bytes()
    command._renew(state, PLACE, ("localhost",))
    assert (state.redis / files.KEY).read_bytes() != before
    before = (state.redis / files.KEY).read_bytes()
    monkeypatch.setattr(command, "fetch", nobody)
    command._renew(state, PLACE, ("localhost",))
    assert (state.redis / files.KEY).read_bytes() == before
