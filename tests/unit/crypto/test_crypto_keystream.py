"""The keystream is ChaCha20's from its first block, and is read once."""

import pytest

from wardian.crypto.keystream import MAX_BYTES, Keystream
from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError

# RFC 8439, appendix A.1, test vectors 1 and 2: blocks 0 and 1 of the zero key and nonce.
BLOCKS = bytes.fromhex(
    "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
    "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
    "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
)


def test_rfc_8439():
    assert Keystream(Secret(bytes(32))).take(128) == BLOCKS


def test_it_goes_on_where_it_was():
    stream = Keystream(Secret(bytes(32)))
    assert b"".join(stream.take(length) for length in (0, 1, 62, 2, 63)) == BLOCKS


def test_another_key_is_another_stream():
    assert Keystream(Secret(b"\1" * 32)).take(64) != BLOCKS[:64]


@pytest.mark.parametrize("length", [16, 31, 33])
def test_keys_have_one_length(length):
    with pytest.raises(LocalProtocolError):
        Keystream(Secret(bytes(length)))


def test_it_ends_before_its_counter_starts_again():
    stream = Keystream(Secret(bytes(32)))
    for length in (MAX_BYTES + 1, -1):
        with pytest.raises(LocalProtocolError):
            stream.take(length)
    stream._left = 5
    stream.take(5)
    with pytest.raises(LocalProtocolError):
        stream.take(1)


def test_the_key_is_not_printed():
    assert "Secret" not in repr(Keystream(Secret(bytes(32))))
