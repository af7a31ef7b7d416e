import pytest

from wardian.crypto.secret import Secret
from wardian.crypto.signing import SIGNATURE_BYTES, SigningKey, verify_signature
from wardian.errors import AuthenticationFailed, FormatError

# RFC 8032, section 7.1: tests 1 and 2.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
]


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_rfc_8032(seed, public, message, signature):
    key = SigningKey.from_secret(Secret(bytes.fromhex(seed)))
    assert key.public.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    verify_signature(key.public, bytes.fromhex(signature), bytes.fromhex(message))


def test_every_bit_flip_of_a_signature_is_refused():
    key = SigningKey.generate()
    signature = key.sign(b"message")
    for bit in range(8 * SIGNATURE_BYTES):
        forged = bytearray(signature)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(AuthenticationFailed):
            verify_signature(key.public, bytes(forged), b"message")


def test_another_message_or_key_is_refused():
    key = SigningKey.generate()
    signature = key.sign(b"message")
    with pytest.raises(AuthenticationFailed):
        verify_signature(key.public, signature, b"messagE")
    with pytest.raises(AuthenticationFailed):
        verify_signature(SigningKey.generate().public, signature, b"message")


@pytest.mark.parametrize(("public", "signature"), [(31, 64), (33, 64), (32, 63), (32, 65), (0, 0)])
def test_wrong_lengths_are_refused(public, signature):
    with pytest.raises(AuthenticationFailed):
        verify_signature(bytes(public), bytes(signature), b"")


def test_the_key_survives_as_a_secret():
    key = SigningKey.generate()
    again = SigningKey.from_secret(key.to_secret())
    assert again.public == key.public
    verify_signature(key.public, again.sign(b"m"), b"m")


def test_a_seed_has_32_bytes():
    with pytest.raises(FormatError, match="32 bytes"):
        SigningKey.from_secret(Secret(bytes(31)))
