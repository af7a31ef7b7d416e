"""The blocking connection: logins, deadlines, replies in pieces, and what a hostile host answers."""

import socket
import ssl
import threading
from pathlib import Path

import pytest
from simulators.memory_redis import MemoryRedis, MemoryWire
from simulators.redis_server import InfrastructureCa

from wardian.compat.zoo.unprotected.connection import BlockingRedis
from wardian.compat.zoo.unprotected.place import RedisPlace, find_redis
from wardian.crypto.secret import Secret
from wardian.errors import (
    ConfigError,
    ConnectionLost,
    LocalProtocolError,
    PeerProtocolError,
    Timeout,
    TransportError,
    WardianError,
)
from wardian.serving.queue.redis_wire import command

PING = [command(b"PING")]
CANARY = b"a canary for a password"
SOON = 1e12


def place(**more: object) -> RedisPlace:
    settings = {"ca_file": None, "redis_name": None, "password": None, "username": "", **more}
    host, port = settings.pop("host", None), settings.pop("port", None)
    return find_redis(host, port, **settings)  # type: ignore[arg-type]


def link(redis: MemoryRedis, **more: object) -> BlockingRedis:
    return BlockingRedis(place(**more), open_wire=redis.open)


def test_without_a_password_it_says_nothing_of_one() -> None:
    redis = MemoryRedis()
    with link(redis) as made:
        assert made.ask(PING, deadline=SOON) == [b"PONG"]
        assert made.ask(PING * 3, deadline=SOON) == [b"PONG"] * 3
    assert redis.names() == [b"PING"] * 5
    assert redis.opened == 1
    assert redis.wires[0].closed


@pytest.mark.parametrize("user", ["", "zoo"])
def test_it_logs_in_at_each_connection(user: str, tmp_path: Path) -> None:
    redis = MemoryRedis(password=CANARY, user=user.encode())
    file = tmp_path / "password"
    file.touch(mode=0o600)
    file.write_bytes(b"wrong\n")
    with link(redis, username=user, password=file) as made:
        with pytest.raises(PeerProtocolError, match="WRONGPASS"):
            made.ask(PING, deadline=SOON)
        file.write_bytes(CANARY + b"\nmore")  # read anew
        assert made.ask(PING, deadline=SOON) == [b"PONG"]
    with link(redis, username=user, password=Secret(CANARY)) as made:
        assert made.ask(PING, deadline=SOON) == [b"PONG"]
    with link(redis) as made, pytest.raises(PeerProtocolError, match="NOAUTH"):
        made.ask(PING, deadline=SOON)
    assert all(each.closed for each in redis.wires)


def test_a_redis_that_is_still_loading_is_asked_again() -> None:
    redis = MemoryRedis()
    redis.refuse[b"PING"] = b"LOADING Redis is loading the dataset in memory"
    with link(redis) as made:
        with pytest.raises(TransportError) as caught:
            made.ask(PING, deadline=SOON)
        assert caught.value.retryable
        redis.refuse.clear()
        assert made.ask(PING, deadline=SOON) == [b"PONG"]


def test_replies_in_pieces() -> None:
    redis = MemoryRedis()
    redis.put("k", b"x" * 1000)
    with link(redis) as made:
        made.ask(PING, deadline=SOON)
        redis.wires[0].piece = 7
        asked = [*PING, command(b"HGET", b"k", b"value"), *PING]
        assert made.ask(asked, deadline=SOON) == [b"PONG", b"x" * 1000, b"PONG"]


def test_half_a_reply_is_not_the_beginning_of_the_next() -> None:
    redis = MemoryRedis()
    with link(redis) as made:
        made.ask(PING, deadline=SOON)
        parts = iter((b"$10\r\nabc", b""))
        redis.wires[0].recv = lambda size: next(parts)  # type: ignore[method-assign]
        with pytest.raises(ConnectionLost):
            made.ask(PING, deadline=SOON)
        assert made.ask(PING, deadline=SOON) == [b"PONG"]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"", ConnectionLost),
        (b"+A\r\n+B\r\n", PeerProtocolError),
        (b"HTTP/1.1 400 Bad Request\r\n", PeerProtocolError),
        (b"*99999999\r\n", PeerProtocolError),
        (b"$999999999999\r\n", PeerProtocolError),
        (b"*1\r\n" * 40, PeerProtocolError),
        (b"+" + b"x" * 1000, PeerProtocolError),
    ],
)
def test_a_host_that_answers_anything(said: bytes, kind: type[WardianError]) -> None:
    redis = MemoryRedis()
    with link(redis) as made:
        made.ask(PING, deadline=SOON)
        redis.wires[0].recv = lambda size: said  # type: ignore[method-assign]
        with pytest.raises(kind):
            made.ask(PING, deadline=SOON)
        assert redis.wires[0].closed
        assert made.ask(PING, deadline=SOON) == [b"PONG"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), Timeout),
        (ConnectionResetError(), ConnectionLost),
        (ssl.SSLError(), ConnectionLost),
        (ssl.SSLCertVerificationError(), PeerProtocolError),
    ],
)
def test_errors_of_the_way_have_types(error: OSError, kind: type[WardianError]) -> None:
    def refuse(*_: object) -> MemoryWire:
        raise error

    made = BlockingRedis(place(), open_wire=refuse)
    with pytest.raises(kind):
        made.ask(PING, deadline=SOON)


def test_nobody_waits_for_ever_for_a_turn() -> None:
    redis = MemoryRedis()
    entered, leave = threading.Event(), threading.Event()
    with link(redis) as made:

        def hold() -> None:
            with made.alone(deadline=SOON):
                entered.set()
                leave.wait(20)

        other = threading.Thread(target=hold)
        other.start()
        entered.wait(20)
        with pytest.raises(Timeout, match="no turn"):
            made.ask(PING, deadline=0)
        leave.set()
        other.join()
        assert made.ask(PING, deadline=SOON) == [b"PONG"]


def test_an_error_in_between_ends_what_was_watched() -> None:
    redis = MemoryRedis()
    with link(redis) as made:
        with pytest.raises(KeyError), made.alone(deadline=SOON) as talk:
            talk([command(b"WATCH", b"k")])
            raise KeyError
        assert redis.wires[0].closed


def test_closed_is_closed() -> None:
    redis = MemoryRedis()
    made = link(redis)
    made.close()
    made.close()
    with pytest.raises(LocalProtocolError, match="closed"):
        made.ask(PING, deadline=SOON)
    assert redis.opened == 0


@pytest.mark.parametrize("host", ["192.0.2.7", "0.0.0.0", "2001:db8::1", "10.1.2.3"])
def test_without_tls_and_a_password_only_on_loopback(host: str, tmp_path: Path) -> None:
    made = BlockingRedis(place(host=host))  # the real way: and yet no socket is opened
    with pytest.raises(ConfigError, match="only on loopback; give ca_file= or password="):
        made.ask(PING, deadline=SOON)
    assert place(host=host, password=Secret(CANARY)).addresses() == [(host, 6379)]
    ca = tmp_path / "ca.pem"
    ca.write_bytes(InfrastructureCa().pem)
    assert place(host=host, ca_file=ca, port="1").addresses() == [(host, 1)]
    assert place(host="127.0.0.1").addresses() == [("127.0.0.1", 6379)]
    assert place(host="::1").addresses() == [("::1", 6379)]


def test_tls_is_of_its_ca_its_name_and_1_3(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(InfrastructureCa().pem)
    made = place(ca_file=str(ca))
    assert made.tls is not None
    assert made.tls.minimum_version == ssl.TLSVersion.TLSv1_3
    assert made.tls.verify_mode == ssl.CERT_REQUIRED
    assert made.tls.check_hostname
    assert made.tls_name == "localhost"
    assert place(ca_file=ca, redis_name="redis.test").tls_name == "redis.test"
    assert len(made.tls.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"port": 0}, "1 to 65535"),
        ({"port": "65536"}, "1 to 65535"),
        ({"port": "http"}, "a number"),
        ({"port": "²"}, "a number"),
        ({"port": True}, "a number"),
        ({"redis_name": "x"}, "ca_file"),
        ({"username": "x"}, "password"),
        ({"password": "in a text"}, "Secret"),
        ({"password": b"in bytes"}, "Secret"),
        ({"ca_file": Path(__file__)}, "not X.509"),
        ({"ca_file": "/nowhere"}, "cannot be read"),
    ],
)
def test_settings_that_are_wrong(given: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        place(**given)
    assert "in a text" not in str(caught.value)


@pytest.mark.parametrize(("content", "mode"), [(b"", 0o600), (b"\n", 0o600), (CANARY, 0o644)])
def test_a_password_file_that_is_none(content: bytes, mode: int, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.touch(mode=mode)
    file.write_bytes(content)
    file.chmod(mode)
    redis = MemoryRedis()
    with link(redis, password=file) as made, pytest.raises(ConfigError):
        made.ask(PING, deadline=SOON)


def test_the_password_is_in_no_repr() -> None:
    assert "canary" not in repr(place(password=Secret(CANARY)))
    assert "password" not in repr(place(password=Secret(CANARY)))


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("wardian.compat.zoo.unprotected.place.socket.getaddrinfo", fails)
    with pytest.raises(ConnectionLost, match="does not resolve"):
        BlockingRedis(place(host="nowhere.test")).ask(PING, deadline=SOON)
