"""Where the operator says that the Redis of Cluster Serving's clients is; what is refused of it."""

import os
from pathlib import Path

import pytest
from simulators.redis_server import InfrastructureCa

from wardian.cli.processes import place, place_self_test
from wardian.cli.state import StateDir
from wardian.cli.zoo_place import place_zoo
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError
from wardian.serving.queue.frames import Address
from wardian.serving.zoo.stream.their_redis import TheirRedis


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    made = StateDir.open(tmp_path / "state")
    made.broker_address.write_text("127.0.0.1:7000\n")
    (made.root / "zoo").mkdir()
    (made.root / "zoo" / "password").write_text("hush\n")
    (made.root / "zoo" / "password").chmod(0o600)
    (made.root / "ca.pem").write_bytes(InfrastructureCa().pem)
    return made


def say(state: StateDir, *lines: str, queue: str = "") -> StateDir:
    state.operator.write_text("\n".join(("[zoo]", *lines, queue)))
    return state


def test_by_default_it_is_on_loopback_and_the_queue_is_the_role_s_own(state: StateDir) -> None:
    found = place_zoo(state)
    assert found.settings.zoo is not None
    assert found.settings.zoo.address == ("127.0.0.1", 6379)
    assert found.settings.zoo.tls_name is None
    assert found.settings.queues[0].endswith("/run/queue/zoo.sock")
    assert found.reach.connect == (7000, 6379)
    assert found.reach.read == ()
    assert place("zoo", state, model=None, port=None).settings == found.settings
    worker = place("worker", state, model="digits", port=None)
    assert worker.settings.queues != found.settings.queues
    assert place_self_test("zoo", state).settings.self_test


def test_a_name_that_stays(state: StateDir, tmp_path: Path) -> None:
    name = place_zoo(state).settings.zoo.consumer
    assert place_zoo(state).settings.zoo.consumer == name
    other = StateDir.open(tmp_path / "other")
    other.broker_address.write_text("127.0.0.1:7000\n")
    assert place_zoo(other).settings.zoo.consumer != name
    assert place_zoo(state, consumer="mine").settings.zoo.consumer == "mine"
    assert place_zoo(say(state, 'consumer = "theirs"')).settings.zoo.consumer == "theirs"


def test_tls_and_a_password(state: StateDir) -> None:
    say(state, 'redis = "rediss://127.0.0.1:6380"', 'redis_name = "redis.example"',
        'ca_file = "ca.pem"', 'username = "zoo"', 'password_file = "zoo/password"')  # fmt: skip
    found = place_zoo(state)
    assert found.settings.zoo.tls_name == "redis.example"
    assert found.settings.zoo.ca_pem.startswith("-----BEGIN")
    assert found.settings.zoo.password_file == str(state.root / "zoo" / "password")
    assert found.reach.read == (state.root / "zoo",)
    assert found.files == {"zoo-password": state.root / "zoo" / "password"}
    assert "hush" not in repr(found)


def test_a_queue_over_redis_is_shared_with_front_ends(state: StateDir) -> None:
    say(state, queue='[queue]\nredis = "rediss://127.0.0.1:6390"')
    assert place_zoo(state).settings.redis == (("127.0.0.1", 6390),)
    assert place_zoo(state).settings.queues == ()
    assert place_zoo(state, queue="embedded").settings.queues[0].endswith("zoo.sock")


def test_a_queue_over_tcp(state: StateDir) -> None:
    say(state, "queue_port = 7002", queue="[queue]\nport = 7001")
    assert place_zoo(state).settings.queues == ("tcp:127.0.0.1:7002",)
    assert 7002 in place_zoo(state).reach.bind


def test_without_tls_and_password_only_on_loopback(state: StateDir) -> None:
    say(state, 'redis = "redis://192.0.2.7:6379"')
    with pytest.raises(ConfigError, match="only on loopback"):
        place_zoo(state)
    say(state, 'redis = "redis://192.0.2.7:6379"', 'password_file = "zoo/password"')
    assert place_zoo(state).settings.zoo.address == ("192.0.2.7", 6379)
    with pytest.raises(ConfigError, match="only on loopback"):  # whatever the host tells the role
        TheirRedis(address=Address(host="192.0.2.7", port=6379))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['redis = "rediss://127.0.0.1:6380"'], "needs the CA"),
        (['redis = "rediss://127.0.0.1:6380"', 'ca_file = "none.pem"'], "cannot be read"),
        (['redis = "redis://127.0.0.1:6379"', 'ca_file = "ca.pem"'], "rediss:// alone"),
        (['redis = "redis://127.0.0.1:6379"', 'redis_name = "x"'], "rediss:// alone"),
        (['redis = "redis://u:p@127.0.0.1:6379"'], "regex"),
        (['redis = "redis://127.0.0.1"'], "HOST:PORT"),
        (['redis = "redis://127.0.0.1:0"'], "HOST:PORT"),
        (['redis = "redis://127.0.0.1:70000"'], "HOST:PORT"),
        (['redis = "memcached://127.0.0.1:1"'], "regex"),
        (['username = "zoo"'], "password_file"),
        (['password_file = "zoo/none"'], "no file"),
        (['password_file = "ca.pem"'], "directory of its own"),
        (['password = "hush"'], "password"),
        (['consumer = "a b"'], "regex"),
    ],
)
def test_what_cannot_be_meant(state: StateDir, lines: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        place_zoo(say(state, *lines))


def test_a_password_that_others_may_read(state: StateDir) -> None:
    (state.root / "zoo" / "password").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        place_zoo(say(state, 'password_file = "zoo/password"'))


def test_a_ca_that_is_none(state: StateDir) -> None:
    for content in (b"\xff\xfe", b"no certificate"):
        (state.root / "ca.pem").write_bytes(content)
        say(state, 'redis = "rediss://127.0.0.1:6380"', 'ca_file = "ca.pem"')
        with pytest.raises(ConfigError, match="PEM"):
            found = place_zoo(state).settings.zoo
            TheirRedis(
                address=Address(host="127.0.0.1", port=1), server_name="x", ca_pem=found.ca_pem
            ).tls()


def test_the_role_refuses_what_its_host_may_not_say() -> None:
    here = Address(host="127.0.0.1", port=1)
    with pytest.raises(ConfigError, match="ca_file"):
        TheirRedis(address=here, server_name="x")
    with pytest.raises(ConfigError, match="username"):
        TheirRedis(address=here, username="x")
    shown = repr(TheirRedis(address=here, password=lambda: Secret(b"hush")))
    assert "hush" not in shown
    assert os.linesep not in shown


def test_under_gramine_its_password_has_a_name_of_its_own_and_its_queue_is_tcp(
    state: StateDir,
) -> None:
    say(state, 'password_file = "zoo/password"')
    with pytest.raises(ConfigError, match="queue_port"):
        place_zoo(state).inside()
    say(state, 'password_file = "zoo/password"', "queue_port = 7002")
    inside = place_zoo(state).inside()
    assert inside.zoo.password_file == "zoo-password"
    assert inside.queues == ("tcp:127.0.0.1:7002",)
