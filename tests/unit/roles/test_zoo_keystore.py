"""The keystore of the role `zoo`: what is said of one that cannot be used, and of its time."""

import logging
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from simulators.keystores import PASSWORD, certify, keystore, p256, write_keystore

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))

from toy_mesh import JOBS, ZooMesh

from wardian._internal.metrics import Metrics
from wardian.crypto.tls_keys import ServerKey
from wardian.errors import ConfigError
from wardian.roles import zoo, zoo_https
from wardian.roles.host import HostSettings, ZooHttpsPlace, ZooRedisPlace
from wardian.roles.zoo_keystore import load_keystore, time_trouble
from wardian.roles.zoo_streams import watch_streams
from wardian.serving.zoo.stream.counts import Counts

ENCLAVE = SimpleNamespace(evidence=None, name="simulated", simulated=True)
HTTPS = "[dialects.zoo]\nenabled = true\nkeystore = true\n"
DAY = 24 * 3600


@pytest.fixture
def place(tmp_path: Path) -> ZooHttpsPlace:
    key = p256()
    paths = write_keystore(tmp_path, keystore(key, certify(key)))
    return ZooHttpsPlace(keystore=str(paths[0]), password_file=str(paths[1]))


def test_what_cannot_be_used(place: ZooHttpsPlace) -> None:
    assert load_keystore(place).chain_pem.startswith(b"-----BEGIN CERTIFICATE-----")
    Path(place.password_file).write_bytes(b"not this one\n")
    with pytest.raises(ConfigError, match="keystore: the password does not open it") as caught:
        load_keystore(place)
    assert "not this one" not in str(caught.value)
    Path(place.password_file).write_bytes(b"\n")
    with pytest.raises(ConfigError, match="keystore_password_file: is empty"):
        load_keystore(place)
    Path(place.password_file).write_bytes(PASSWORD)
    Path(place.keystore).write_bytes(bytes(70_000))
    with pytest.raises(ConfigError, match="larger"):
        load_keystore(place)
    Path(place.keystore).unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_keystore(place)


def test_its_time_is_told_and_does_not_stop_it(place: ZooHttpsPlace) -> None:
    found = load_keystore(place)
    assert time_trouble(found, now=found.not_before - 1) == (
        "the certificate of the keystore is not valid yet"
    )
    assert time_trouble(found, now=found.not_after - 30 * DAY - 1) is None
    assert "in 30 days" in (time_trouble(found, now=found.not_after - 30 * DAY + 1) or "")
    assert "in 1 days" in (time_trouble(found, now=found.not_after - 1) or "")
    assert "is over:" in (time_trouble(found, now=found.not_after + 1) or "")


async def refused(mesh: ZooMesh, **host: object) -> str:
    with pytest.raises(ConfigError) as caught:
        await zoo._serve(ENCLAVE, HostSettings(**host), mesh.agreed)  # type: ignore[arg-type]
    return str(caught.value)


async def test_owner_and_operator_have_to_say_the_same(place: ZooHttpsPlace) -> None:
    """Whatever the host tells it: nothing listens that was not agreed on."""
    here, redis = (("127.0.0.1", 1),), ZooRedisPlace(address=("127.0.0.1", 1))
    given: dict[str, object] = {"queues": ("q",)}
    https = {"zoo_https": place, "listen": here}
    assert "did not agree" in await refused(ZooMesh(dialect=""), **given, **https)
    off = "[dialects.zoo]\nenabled = true\n"
    assert "did not agree" in await refused(ZooMesh(dialect=off), **given, **https)
    assert "nothing listens" in await refused(ZooMesh(dialect=JOBS), zoo=redis, **given, **https)
    assert "no keystore" in await refused(ZooMesh(dialect=HTTPS), **given)
    assert "no keystore" in await refused(ZooMesh(dialect=HTTPS), zoo=redis, **given)
    assert "an address" in await refused(ZooMesh(dialect=HTTPS), zoo_https=place, **given)
    assert "an address" in await refused(ZooMesh(dialect=HTTPS), listen=here, **given)
    assert "no Redis" in await refused(ZooMesh(dialect=HTTPS + JOBS), **given, **https)
    assert "one queue" in await refused(ZooMesh(dialect=HTTPS), **https)


def say_another(place: ZooHttpsPlace) -> None:
    Path(place.password_file).write_bytes(b"wrong-one\n")


async def test_it_says_what_it_is_and_finds_a_bad_keystore_before_it_asks_a_broker(
    place: ZooHttpsPlace, caplog: pytest.LogCaptureFixture
) -> None:
    https = {"zoo_https": place, "listen": (("127.0.0.1", 1),), "queues": ("q",)}
    with caplog.at_level(0):
        assert "no broker" in await refused(ZooMesh(dialect=HTTPS), **https)
        say_another(place)
        assert "does not open" in await refused(ZooMesh(dialect=HTTPS), **https)
    (said, again) = [each.fields for each in caplog.records if each.message == "zoo.unprotected"]
    assert said == again
    assert said["said"].startswith("UNPROTECTED: the operator holds the private key")
    told = caplog.text + repr([each.__dict__ for each in caplog.records])
    assert PASSWORD.decode() not in told
    assert "wrong-one" not in told


def test_it_may_have_every_model_over_https_and_those_of_its_streams_otherwise(
    place: ZooHttpsPlace,
) -> None:
    both = ZooMesh(dialect=HTTPS + JOBS).agreed
    assert zoo._models(HostSettings(zoo_https=place), both) == tuple(sorted(both.models))
    assert zoo._models(HostSettings(), both) == ("digits",)


async def test_a_certificate_that_tls_does_not_take(
    place: ZooHttpsPlace, caplog: pytest.LogCaptureFixture
) -> None:
    mesh = ZooMesh(dialect=HTTPS)
    terms = mesh.agreed.dialects.keystore
    assert terms is not None
    found = load_keystore(place)
    broken = replace(found, key=ServerKey(p256()), not_after=found.not_before + 1)
    with caplog.at_level(logging.INFO), pytest.raises(ConfigError, match="keystore"):
        zoo_https.open_front(
            broken, place, terms, agreed=mesh.agreed,
            dispatcher=SimpleNamespace(catalog=dict, submit=None, counters=None),  # type: ignore[arg-type]
            metrics=Metrics(),
        )  # fmt: skip
    told = {each.message: each.fields for each in caplog.records}
    assert told["zoo.keystore"]["sha256"] == found.fingerprint.hex()
    assert "over" in told["zoo.keystore_time"]["said"]


def test_streams_are_counted_in_metrics() -> None:
    counts = Counts()
    counts.read, counts.answered, counts.claimed = 9, 4, 1
    counts.nan["late"] += 2
    counts.dropped["no-uri"] += 1
    stream = SimpleNamespace(name="s", counts=counts, consumer=SimpleNamespace(held=2))
    metrics = Metrics()
    watch_streams(metrics, [stream])  # type: ignore[list-item]
    shown = metrics.render().decode()
    for line in (
        'wardian_zoo_records_read_total{stream="s"} 9.0',
        'wardian_zoo_records_total{outcome="answered",stream="s"} 4.0',
        'wardian_zoo_records_total{outcome="nan_late",stream="s"} 2.0',
        'wardian_zoo_records_total{outcome="dropped_no-uri",stream="s"} 1.0',
        'wardian_zoo_records_held{stream="s"} 2.0',
    ):
        assert line in shown
    assert set(counts.fields()) == {
        "read", "claimed", "repeated", "answered", "nan_late", "dropped_no-uri"
    }  # fmt: skip
