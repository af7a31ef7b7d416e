import os

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wardian.crypto.kdf import MAX_OUTPUT_BYTES, Expander, expand, extract, hkdf
from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError

# RFC 5869, appendix A: test cases 1, 2 and 3.
RFC_5869 = [
    (
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        (
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
            "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
            "cc30c58179ec3e87c14c01d5c1f3434f1d87"
        ),
    ),
    (
        "0b" * 22,
        "",
        "",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


@pytest.mark.parametrize(("key", "salt", "info", "output"), RFC_5869)
def test_rfc_5869(key, salt, info, output):
    made = hkdf(
        Secret(bytes.fromhex(key)),
        salt=bytes.fromhex(salt),
        info=bytes.fromhex(info),
        length=len(output) // 2,
    )
    assert made.reveal().hex() == output


@pytest.mark.parametrize("length", [1, 31, 32, 33, 64, 65, 8159, MAX_OUTPUT_BYTES])
def test_agrees_with_cryptography(length):
    theirs = HKDF(algorithm=hashes.SHA256(), length=length, salt=b"salt", info=b"info")
    ours = hkdf(Secret(b"k" * 32), salt=b"salt", info=b"info", length=length)
    assert ours.reveal() == theirs.derive(b"k" * 32)


@pytest.mark.parametrize("length", [0, -1, MAX_OUTPUT_BYTES + 1])
def test_length_is_bounded(length):
    with pytest.raises(LocalProtocolError, match="HKDF gives"):
        expand(extract(Secret(bytes(32)), salt=b""), b"", length=length)


def test_a_short_key_is_refused():
    with pytest.raises(LocalProtocolError, match="too short"):
        hkdf(Secret(b"password"), salt=b"", info=b"")


def test_each_use_has_its_own_key():
    key = Secret.random()
    keys = [
        hkdf(key, salt=b"", info=b"one"),
        hkdf(key, salt=b"", info=b"two"),
        hkdf(key, salt=b"x", info=b"one"),
        hkdf(Secret.random(), salt=b"", info=b"one"),
    ]
    assert len({k.reveal() for k in keys}) == len(keys)


@pytest.mark.parametrize("size", [0, 1, 55, 64, 300])
def test_an_expander_expands(size: int) -> None:
    key, info = os.urandom(32), os.urandom(size)
    expander = Expander(key)
    assert expander.key(info) == expander.key(info) == expand(key, info)
    assert key.hex() not in repr(expander)
