"""Where the queue's Redis is: what an operator may write, and what becomes of it for a role."""

import socket
from pathlib import Path

import pytest

from wardian.cli import host
from wardian.cli.queue_place import find_queue
from wardian.cli.redis_address import MOST_SERVERS, RedisAddress, parse_redis
from wardian.cli.state import StateDir
from wardian.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "servers", "sentinel"),
    [
        ("rediss://redis.example:6380", (("redis.example", 6380),), None),
        ("rediss://[::1]:1", (("::1", 1),), None),
        ("rediss://a:1,b:65535", (("a", 1), ("b", 65535)), None),
        ("rediss+sentinel://a:1,[::1]:2/my.master", (("a", 1), ("::1", 2)), "my.master"),
    ],
)
def test_addresses(text: str, servers: tuple[tuple[str, int], ...], sentinel: str | None) -> None:
    assert parse_redis(text) == RedisAddress(servers=servers, sentinel=sentinel)


@pytest.mark.parametrize(
    "text",
    [
        "redis://a:1",
        "rediss://user:password@a:1",
        "rediss://a",
        "rediss://a:0",
        "rediss://a:65536",
        "rediss://a:1/0",
        "rediss://a:1?db=1",
        "rediss://a:1,",
        "rediss://,a:1",
        "rediss://a:1 b:2",
        "rediss://::1:1",
        "rediss://[::1:1",
        "rediss+sentinel://a:1",
        "rediss+sentinel://a:1/",
        "rediss+sentinel://a:1/x y",
        "redis+sentinel://a:1/m",
        "rediss:a:1",
        "unix:///run/redis.sock",
        "redis",
        "",
        "rediss://a:1\n",
        "rediss://a:१",
        "rediss://" + ",".join(["a:1"] * (MOST_SERVERS + 1)),
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_redis(text)


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_redis("rediss://user:hunter2@a:1")
    assert "hunter2" not in str(caught.value)


# What roles are told


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir.open(tmp_path / "state")
    state.broker_address.write_text("127.0.0.1:4444\n")
    return state


def test_by_default_the_queue_is_the_front_end_s(state: StateDir) -> None:
    settings = host.place_frontend(state, port=9000).settings
    assert (settings.redis, settings.queues) == ((), (state.queue,))


def test_a_redis_of_the_operator_s(state: StateDir) -> None:
    state.operator.write_text('[queue]\nredis = "rediss://127.0.0.1:6380"\n')
    for placed in (host.place_frontend(state, port=9000), host.place_worker(state, model="m")):
        assert placed.settings.redis == (("127.0.0.1", 6380),)
        assert placed.settings.redis_name == "127.0.0.1"
        assert placed.settings.queues == ()
        assert placed.settings.sentinel is None
        assert set(placed.reach.connect) == {4444, 6380}
        assert placed.reach.sockets == ()
        placed.inside()  # it leaves an enclave, too
    assert host.place_frontend(state, port=9000).reach.bind == (9000,)


def test_what_is_chosen_comes_before_what_the_file_says(state: StateDir) -> None:
    state.operator.write_text('[queue]\nredis = "rediss://127.0.0.1:6380"\n')
    embedded = host.place_worker(state, model="m", queue="embedded")
    assert embedded.settings.queues == (state.queue,)
    chosen = host.place_frontend(state, port=9000, queue="rediss://127.0.0.1:1")
    assert chosen.settings.redis == (("127.0.0.1", 1),)


def test_every_server_of_a_cluster_is_known_by_one_name(state: StateDir) -> None:
    state.operator.write_text(
        '[queue]\nredis = "rediss://127.0.0.1:1,[::1]:2"\nredis_name = "redis.example"\n'
    )
    way = find_queue(state, state.load_operator())
    assert way.settings["redis"] == (("127.0.0.1", 1), ("::1", 2))
    assert way.settings["redis_name"] == "redis.example"
    assert way.redis == (1, 2)


def test_names_are_resolved_here(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.9", 6380))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    way = find_queue(state, state.load_operator(), "rediss://redis.example:6380")
    assert way.settings["redis"] == (("10.0.0.9", 6380),)
    assert way.settings["redis_name"] == "redis.example"


def test_sentinels_name_servers_at_ports_that_the_operator_says(state: StateDir) -> None:
    url = "rediss+sentinel://127.0.0.1:26380/mesh"
    with pytest.raises(ConfigError, match="redis_ports"):
        find_queue(state, state.load_operator(), url)
    state.operator.write_text(f'[queue]\nredis = "{url}"\nredis_ports = [6380, 6381]\n')
    placed = host.place_worker(state, model="m")
    assert placed.settings.sentinel == "mesh"
    assert set(placed.reach.connect) == {4444, 26380, 6380, 6381}


@pytest.mark.parametrize(
    "line",
    [
        'redis = "redis://a:1"',
        'redis = "rediss://"',
        "redis = 1",
        'redis_name = ""',
        "redis_ports = [70000]",
    ],
)
def test_settings_that_are_none(state: StateDir, line: str) -> None:
    state.operator.write_text(f"[queue]\n{line}\n")
    with pytest.raises(ConfigError, match="queue|redis"):
        host.place_worker(state, model="m")
