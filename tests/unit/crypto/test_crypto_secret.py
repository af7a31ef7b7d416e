import copy
import json
import logging
import pickle

import pytest

from wardian.crypto.secret import MAX_SECRET_BYTES, Secret
from wardian.errors import LocalProtocolError

CANARY = b"canary-0123456789"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_cannot_be_pickled(protocol):
    with pytest.raises(LocalProtocolError, match="not pickled"):
        pickle.dumps(Secret(CANARY), protocol)


def test_a_secret_gives_no_state():
    with pytest.raises(LocalProtocolError, match="not pickled"):
        Secret(CANARY).__getstate__()


def test_a_secret_does_not_print():
    for show in (repr, str, ascii, "{}".format, "{!r:>40}".format, "%s".__mod__):
        assert "canary" not in show(Secret(CANARY))
        assert "17 bytes" in show(Secret(CANARY))


def test_a_secret_does_not_reach_a_log(caplog):
    logging.getLogger("t").warning("%s %r", Secret(CANARY), {"key": Secret(CANARY)})
    assert "canary" not in caplog.text


def test_a_secret_has_no_attributes_to_dump():
    assert not hasattr(Secret(CANARY), "__dict__")
    with pytest.raises(TypeError):
        vars(Secret(CANARY))


def test_a_secret_is_no_bytes_by_accident():
    for accident in (bytes, bytearray, memoryview, json.dumps, iter):
        with pytest.raises(TypeError):
            accident(Secret(CANARY))


def test_a_secret_is_no_key_of_a_mapping():
    with pytest.raises(TypeError):
        hash(Secret(CANARY))


def test_equality_is_with_secrets_alone():
    assert Secret(CANARY) == Secret(bytearray(CANARY))
    assert Secret(CANARY) != Secret(CANARY[:-1])
    assert Secret(CANARY) != CANARY
    assert CANARY.__eq__(Secret(CANARY)) is NotImplemented


def test_the_secret_is_a_copy():
    value = bytearray(CANARY)
    secret = Secret(value)
    value[:] = bytes(len(value))
    assert secret.reveal() == CANARY
    assert len(secret) == len(CANARY)


def test_wiping_forgets():
    secret = Secret(CANARY)
    held = secret._value
    copies = [copy.copy(secret), copy.deepcopy(secret)]
    secret.wipe()
    secret.wipe()
    assert bytes(held) == b""
    assert repr(secret) == "Secret(wiped)"
    with pytest.raises(LocalProtocolError, match="wiped"):
        secret.reveal()
    assert all(other.reveal() == CANARY for other in copies)


def test_wiped_secrets_are_not_the_same():
    one, two = Secret(b"one"), Secret(b"two")
    one.wipe()
    two.wipe()
    assert one != two
    assert one != Secret(b"one")
    assert one == one  # noqa: PLR0124


@pytest.mark.parametrize("value", [b"", bytes(MAX_SECRET_BYTES + 1)])
def test_length_is_bounded(value):
    with pytest.raises(LocalProtocolError, match="1 to"):
        Secret(value)


@pytest.mark.parametrize("value", ["text", None, 32, memoryview(b"view"), [1, 2]])
def test_only_bytes_become_a_secret(value):
    with pytest.raises(LocalProtocolError, match="made of bytes"):
        Secret(value)


def test_random_secrets_differ():
    assert len(Secret.random()) == 32
    assert len(Secret.random(48)) == 48
    assert Secret.random() != Secret.random()


def test_two_of_one_length_are_added_and_either_gives_the_other() -> None:
    one, other = Secret(b"\x0f\xf0"), Secret(b"\xff\xff")
    assert one ^ other == Secret(b"\xf0\x0f")
    assert (one ^ other) ^ other == one
    gone = Secret(b"xx")
    gone.wipe()
    for wrong in (Secret(b"\xff"), gone):
        with pytest.raises(LocalProtocolError):
            _ = one ^ wrong
