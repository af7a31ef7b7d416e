"""`redisUrl`: where their Redis is, and what is refused before anybody is asked."""

import re
from pathlib import Path

import pytest

from wardian.compat.zoo.their_place import TheirPlace, their_place
from wardian.errors import ConfigError

CANARY = "hunter2-canary"
CA, PASSWORD = Path("ca.pem"), Path("password")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("localhost:6379", "redis://127.0.0.1:6379"),
        ("LOCALHOST:6379", "redis://127.0.0.1:6379"),
        ("redis://127.0.0.1:1/", "redis://127.0.0.1:1"),
        ("[::1]:6380", "redis://[::1]:6380"),
        ("redis.example:6379", "redis://redis.example:6379"),
    ],
)
def test_what_it_names(text, url):
    assert their_place(text, said="redisUrl").url == url


def test_tls_is_of_the_text_unless_something_else_says():
    place = their_place("rediss://redis.example:6380", said="a", ca_file=CA)
    assert (place.tls, place.url) == (True, "rediss://redis.example:6380")
    assert their_place("localhost:1", said="a", tls=True, ca_file=CA).url == "rediss://127.0.0.1:1"
    with pytest.raises(ConfigError, match="--redis-ca-file"):
        their_place("rediss://localhost:1", said="a", tls=False, ca_file=CA)


@pytest.mark.parametrize(
    "text",
    [
        f"redis://:{CANARY}@localhost:6379", f"{CANARY}@localhost:1", CANARY, f"{CANARY}:0",
        f"{CANARY}:65536", f"http://{CANARY}:1", f"{CANARY}:1:2", f"{CANARY}:1\n", "", ":1",
        f"[{CANARY}]:1", f"{CANARY}:-1", f"{CANARY}/x:1", f"redis://{CANARY}:1/0",
    ],
)  # fmt: skip
def test_what_names_none_is_refused_and_not_shown(text):
    with pytest.raises(ConfigError, match="redisUrl") as caught:
        their_place(text, said="redisUrl")
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "given", "told"),
    [
        ("192.0.2.7:6379", {}, "only on loopback"),
        ("[2001:db8::1]:6379", {}, "only on loopback"),
        ("localhost:1", {"tls": True}, "--redis-ca-file"),
        ("rediss://localhost:1", {}, "--redis-ca-file"),
        ("localhost:1", {"username": "me"}, "--redis-password-file"),
    ],
)
def test_what_would_be_open_or_could_not_be_asked(text, given, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        their_place(text, said="redisUrl", **given)


def test_a_password_or_tls_lets_it_be_on_a_network():
    assert their_place("192.0.2.7:1", said="a", password_file=PASSWORD).address == "192.0.2.7"
    assert their_place("192.0.2.7:1", said="a", tls=True, ca_file=CA).tls


def test_two_names_of_one_place():
    place = TheirPlace(host="localhost", port=6379, said="a")
    assert place.is_at(None, None)
    assert place.is_at("127.0.0.1", 6379)
    assert not place.is_at("127.0.0.1", 6380)
    assert not place.is_at("elsewhere", None)
