"""`model_secured`: the secret and the salt of their models, from their Redis, within a time."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from simulators.redis_server import InfrastructureCa
from simulators.zoo_models import KEYS, SALT, SECRET, encrypted
from simulators.zoo_redis import PlainRedis, TheirClient

from wardian.cli.reseal.command import reseal
from wardian.cli.their_redis import demand_answer, secured_keys, way_to
from wardian.compat.zoo.their_place import TheirPlace, their_place
from wardian.crypto.zoo_formats import ZooForm
from wardian.crypto.zoo_keys import ZooKeys
from wardian.errors import ConfigError

HASH = ("HSET", "model_secured")
CBC = ZooForm.UNAUTHENTICATED_CBC_128


@pytest.fixture(scope="module")
def redis(need_program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainRedis]:
    server = PlainRedis(need_program("redis-server"), tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture
def client(redis: PlainRedis) -> Iterator[TheirClient]:
    made = redis.client()
    made("FLUSHALL")
    yield made
    made.close()


def place(port: int) -> TheirPlace:
    return their_place(f"localhost:{port}", said="redisUrl")


def fetched(redis: PlainRedis, wait_s: float = 0.5) -> ZooKeys:
    return secured_keys(way_to(place(redis.port)), wait_s=wait_s, poll_s=0.05)


def test_what_they_put_there_is_what_opens(redis: PlainRedis, client: TheirClient) -> None:
    client(*HASH, "secret", SECRET, "salt", SALT)
    keys = fetched(redis)
    assert keys.key(CBC) == KEYS.key(CBC)


def test_it_is_waited_for_and_a_line_says_so(
    redis: PlainRedis, client: TheirClient, capsys: pytest.CaptureFixture[str]
) -> None:
    client(*HASH, "secret", SECRET)

    def put() -> None:
        time.sleep(0.3)
        client(*HASH, "salt", SALT)

    putting = threading.Thread(target=put)
    putting.start()
    keys = fetched(redis, wait_s=20)
    putting.join()
    assert keys.key(CBC) == KEYS.key(CBC)
    said = capsys.readouterr().err
    assert said.count("waiting up to") == 1
    assert said.count("in the clear") == 1
    assert SECRET.decode() not in said


@pytest.mark.parametrize("there", [(), ("secret", "x"), ("salt", "x"), ("secret", "", "salt", "x")])
def test_what_nobody_puts_there_ends_with_what_to_do(
    redis: PlainRedis, client: TheirClient, there: tuple[str, ...]
) -> None:
    if there:
        client(*HASH, *there)
    with pytest.raises(ConfigError, match="redis-cli HSET model_secured secret"):
        fetched(redis)


def test_what_is_no_hash_or_too_long(redis: PlainRedis, client: TheirClient) -> None:
    client("SET", "model_secured", "canary")
    with pytest.raises(ConfigError, match=r"refuses to give it \(WRONGTYPE\)") as caught:
        fetched(redis)
    assert "canary" not in str(caught.value)
    client("DEL", "model_secured")
    client(*HASH, "secret", "x", "salt", "y" * 65_537)
    with pytest.raises(ConfigError, match="65,537 bytes"):
        fetched(redis)
    client(*HASH, "salt", "y" * 1_000_000)
    with pytest.raises(ConfigError, match="model_secured"):
        fetched(redis)


def test_who_says_nothing_is_not_waited_for_without_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = place(silent.getsockname()[1])
        with pytest.raises(ConfigError, match="Redis: says nothing"):
            demand_answer(way_to(where), where)


def test_who_speaks_something_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def talk() -> None:
            link, _ = listening.accept()
            with link:
                link.recv(100)
                link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                link.recv(100)

        talking = threading.Thread(target=talk)
        talking.start()
        where = place(listening.getsockname()[1])
        with pytest.raises(ConfigError, match="redisUrl: redis://"):
            demand_answer(way_to(where), where)
        talking.join()


def test_over_tls_with_a_password(need_program, tmp_path: Path) -> None:
    ca, directory = InfrastructureCa(), tmp_path / "redis"
    directory.mkdir()
    for name, content in zip(
        ("server.pem", "server.key"), ca.server(name="localhost"), strict=True
    ):
        (directory / name).write_bytes(content)
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    (tmp_path / "password").touch(mode=0o600)
    (tmp_path / "password").write_text("hush\n")
    plain = PlainRedis(need_program("redis-server"), directory)
    plain.settings = (
        f"tls-port {plain.port + 1}", f"tls-cert-file {directory / 'server.pem'}",
        f"tls-key-file {directory / 'server.key'}", "tls-auth-clients no", "requirepass hush",
    )  # fmt: skip
    plain.start()
    try:
        client = plain.client()
        client("AUTH", "hush")
        client(*HASH, "secret", SECRET, "salt", SALT)
        client.close()
        told = {"said": "redisUrl", "ca_file": tmp_path / "ca.pem"}
        where = their_place(
            f"rediss://localhost:{plain.port + 1}", password_file=tmp_path / "password", **told
        )
        demand_answer(way_to(where), where)
        keys = secured_keys(way_to(where), wait_s=1, poll_s=0.1)
        assert keys.key(CBC) == KEYS.key(CBC)
        where = their_place(f"rediss://localhost:{plain.port + 1}", **told)
        with pytest.raises(ConfigError, match="NOAUTH"):
            demand_answer(way_to(where), where)
        (tmp_path / "ca.pem").write_bytes(InfrastructureCa().pem)
        with pytest.raises(ConfigError, match="cannot be reached"):
            demand_answer(way_to(where), where)
    finally:
        plain.kill()


def test_reseal_takes_them_from_there(
    redis: PlainRedis, client: TheirClient, tmp_path: Path
) -> None:
    client(*HASH, "secret", SECRET, "salt", SALT)
    path = tmp_path / "net.bin"
    path.write_bytes(encrypted(b"some weights", CBC))
    how = [str(path), "--form", "cbc", "--bits", "128", "--media-type", "a/b",
           "--new-key", str(tmp_path / "key"), "--model-secured", f"redis://localhost:{redis.port}"]  # fmt: skip
    done = CliRunner().invoke(reseal, how)
    assert done.exit_code == 0, done.output + str(done.exception)
    assert (tmp_path / "net.bin.sealed").exists()
    assert "DEL model_secured" in done.stderr
    done = CliRunner().invoke(reseal, [*how, "--secret-file", str(tmp_path / "x")])
    assert "takes the place" in str(done.exception)
