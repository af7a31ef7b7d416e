"""Where the operator says that Cluster Serving's clients are served over HTTPS; what is refused."""

import datetime as dt
from pathlib import Path

import pytest
from simulators.keystores import PASSWORD, certify, keystore, p256, write_keystore

from wardian._internal.agreed import Agreed
from wardian._internal.operator import Operator
from wardian._internal.settings import parse
from wardian.cli.state import StateDir
from wardian.cli.up.owner import roles_of
from wardian.cli.zoo_place import keystore_troubles, place_zoo
from wardian.errors import ConfigError

MESH = '[mesh]\nname = "m"\nowners = ["{}"]\n[models.digits]\n'.format("ab" * 32)
HTTPS = "[dialects.zoo]\nenabled = true\nkeystore = true\n"
REDIS = '[dialects.zoo_redis.jobs]\ns = { model = "digits" }\n'
SAID = {
    "listen": '"127.0.0.1:10023"',
    "keystore": '"zoo/keystore.pkcs12"',
    "keystore_password_file": '"zoo-keystore/password"',
}


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    made = StateDir.open(tmp_path / "state")
    made.broker_address.write_text("127.0.0.1:7000\n")
    key = p256()
    write_keystore(made.root, keystore(key, certify(key)))
    made.agreed.write_text(MESH + HTTPS)
    return say(made)


def say(state: StateDir, **changed: str | None) -> StateDir:
    lines = (f"{key} = {value}" for key, value in {**SAID, **changed}.items() if value is not None)
    state.operator.write_text("\n".join(("[zoo]", *lines)))
    return state


def troubles(state: StateDir) -> list[str]:
    agreed = parse(state.agreed.read_bytes(), Agreed, name="wardian.toml")
    return keystore_troubles(state, state.load_operator().zoo, agreed.dialects)


def test_https_alone(state: StateDir) -> None:
    found = place_zoo(say(state, tokens_per_second="30", token_wait_ms="250"))
    settings = found.settings
    assert settings.zoo is None
    assert settings.listen == (("127.0.0.1", 10023),)
    https = settings.zoo_https
    assert https is not None
    assert https.keystore == str(state.root / "zoo" / "keystore.pkcs12")
    assert (https.tokens_per_second, https.token_wait_ms) == (30, 250)
    assert found.reach.bind == (10023,)
    assert found.reach.connect == (7000,)  # no Redis
    assert found.reach.read == (state.root / "zoo", state.root / "zoo-keystore")
    assert PASSWORD.decode() not in repr(found)
    assert troubles(state) == []


def test_by_default_there_is_no_bucket_and_a_token_is_waited_for_as_it_was_there() -> None:
    place = parse(b"[zoo]\n", Operator, name="operator.toml").zoo
    assert (place.tokens_per_second, place.token_wait_ms) == (None, 100)


def test_both_dialects_and_the_redis_alone(state: StateDir) -> None:
    state.agreed.write_text(MESH + HTTPS + REDIS)
    found = place_zoo(state)
    assert found.settings.zoo is not None
    assert found.settings.zoo_https is not None
    assert found.reach.connect == (7000, 6379)
    state.agreed.write_text(MESH + REDIS)
    found = place_zoo(say(state, listen=None))
    assert found.settings.zoo_https is None
    assert (found.settings.listen, found.reach.bind, found.files) == ((), (), {})


def test_which_roles_a_mesh_has() -> None:
    for more, has in ((HTTPS, True), (REDIS, True), (HTTPS + REDIS, True), ("", False)):
        agreed = parse((MESH + more).encode(), Agreed, name="wardian.toml")
        assert ("zoo" in roles_of(agreed)) is has
    off = HTTPS.replace("keystore = true\n", "")
    assert "zoo" not in roles_of(parse((MESH + off).encode(), Agreed, name="wardian.toml"))


def test_a_free_port_and_both_addresses_of_a_name(state: StateDir) -> None:
    found = place_zoo(say(state, listen='"127.0.0.1:0"'))
    ((host, port),) = found.settings.listen
    assert host == "127.0.0.1"
    assert 0 < port < 65536
    assert found.reach.bind == (port,)
    assert place_zoo(say(state, listen='"[::1]:10023"')).settings.listen == (("::1", 10023),)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"listen": None}, r"\[zoo\] listen: required"),
        ({"keystore": None}, r"\[zoo\] keystore: required"),
        ({"keystore_password_file": None}, "keystore_password_file: required"),
        ({"listen": None, "keystore": None}, "listen, keystore: required"),
        ({"listen": '"127.0.0.1"'}, "regex"),
        ({"listen": '"127.0.0.1:70000"'}, "HOST:PORT"),
        ({"listen": '"no such host:1"'}, "regex"),
        ({"listen": '"host.invalid:1"'}, "does not resolve"),
        ({"keystore": '"zoo/none"'}, "no file"),
        ({"keystore": '"zoo"'}, "directory of its own"),
        ({"keystore": '"keystore.pkcs12"'}, "directory of its own"),
        ({"keystore_password_file": '"zoo/none"'}, "no file"),
        ({"tokens_per_second": "0"}, "tokens_per_second"),
        ({"tokens_per_second": "1000001"}, "tokens_per_second"),
        ({"tokens_per_second": "1.5"}, "tokens_per_second"),
        ({"token_wait_ms": "-1"}, "token_wait_ms"),
        ({"token_wait_ms": "60001"}, "token_wait_ms"),
        ({"keystore_password": '"1234qwer"'}, "keystore_password"),
    ],
)
def test_what_cannot_be_meant(state: StateDir, changed: dict[str, str | None], said: str) -> None:
    say(state, **changed)
    for found in (place_zoo, troubles):
        with pytest.raises(ConfigError, match=said):
            found(state)


@pytest.mark.parametrize("file", ["zoo/keystore.pkcs12", "zoo-keystore/password"])
def test_files_that_others_may_read_or_that_are_too_large(state: StateDir, file: str) -> None:
    (state.root / file).chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        place_zoo(state)
    (state.root / file).chmod(0o600)
    (state.root / file).write_bytes(bytes(64 * 1024 + 1))
    with pytest.raises(ConfigError, match="larger"):
        place_zoo(state)


def test_the_operator_alone_opens_nothing(state: StateDir) -> None:
    for more in ("", REDIS, "[dialects.zoo]\nenabled = true\n"):
        state.agreed.write_text(MESH + more)
        with pytest.raises(ConfigError, match="nothing may listen"):
            place_zoo(state)
        with pytest.raises(ConfigError, match="nothing may listen"):
            troubles(state)


def test_a_keystore_that_does_not_open_is_found_before_anything_starts(state: StateDir) -> None:
    (state.root / "zoo-keystore" / "password").write_bytes(b"another\n")
    with pytest.raises(ConfigError, match="the password does not open it") as caught:
        troubles(state)
    assert "another\n" not in str(caught.value)
    key = p256()
    old = certify(
        key, start=certify(key).not_valid_before_utc.replace(year=2001), lasts=dt.timedelta(days=1)
    )
    write_keystore(state.root, keystore(key, old))
    (said,) = troubles(state)
    assert "is over" in said


def test_under_gramine_its_files_have_names_of_their_own(state: StateDir) -> None:
    inside = place_zoo(say(state, queue_port="7002")).inside()
    assert inside.zoo_https is not None
    assert inside.zoo_https.keystore == "zoo-keystore"
    assert inside.zoo_https.password_file == "zoo-keystore-password"
    assert inside.listen == (("127.0.0.1", 10023),)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (HTTPS.replace("enabled = true", "enabled = false"), "enabled"),
        (HTTPS.replace("keystore = true", 'keystore = "k.p12"'), "keystore"),
        (HTTPS + '[tenants]\nsigners = ["{}"]\n'.format("cd" * 32), "whoever connects"),
    ],
)
def test_what_owners_cannot_mean(table: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse((MESH + table).encode(), Agreed, name="wardian.toml")
