"""The owner's key file: what fits, opens; what was changed, says so."""

import pytest

from wardian.crypto import recipients
from wardian.crypto.owner_key import (
    decode_owner_key,
    encode_owner_key,
    needs_passphrase,
    owner_public,
)
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SignatureKind, SigningKey
from wardian.errors import FormatError, WrongRecipient

KINDS = pytest.mark.parametrize("kind", list(SignatureKind))
PHRASE = Secret(b"correct horse battery staple")


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least work that a stanza may ask for; what is tested does not depend on it."""
    monkeypatch.setitem(recipients.PassphraseRecipient.__init__.__kwdefaults__, "log2_n", 15)


@KINDS
@pytest.mark.parametrize("passphrase", [None, PHRASE], ids=["clear", "passphrase"])
def test_a_key_comes_back(kind: SignatureKind, passphrase: Secret | None) -> None:
    key = SigningKey.generate(kind)
    file = encode_owner_key(key, passphrase=passphrase)
    again = decode_owner_key(file, passphrase=passphrase)
    assert (again.public, again.kind) == (key.public, kind)
    assert owner_public(file) == key.public
    assert needs_passphrase(file) is (passphrase is not None)
    clear = key.to_secret().reveal().hex().encode()
    assert (clear in file.reveal()) is (passphrase is None)


def test_another_passphrase_or_none() -> None:
    file = encode_owner_key(SigningKey.generate(), passphrase=PHRASE)
    with pytest.raises(WrongRecipient, match="not its passphrase"):
        decode_owner_key(file, passphrase=Secret(b"guess"))
    with pytest.raises(WrongRecipient, match="none was given"):
        decode_owner_key(file)


@KINDS
def test_a_private_key_beside_anothers_public_key(kind: SignatureKind) -> None:
    """Whoever can write the file cannot have the owner sign as another without its noticing."""
    mine, theirs = SigningKey.generate(kind), SigningKey.generate(kind)
    text = encode_owner_key(mine).reveal()
    with pytest.raises(FormatError, match="does not belong"):
        decode_owner_key(
            Secret(text.replace(mine.public.hex().encode(), theirs.public.hex().encode()))
        )


def test_a_key_read_as_the_other_kind() -> None:
    key = SigningKey.generate(SignatureKind.P256)
    text = encode_owner_key(key).reveal()
    with pytest.raises(FormatError, match="does not belong"):
        decode_owner_key(Secret(text.replace(b"kind p256", b"kind ed25519")))


def test_work_that_would_exhaust_whoever_opens_it() -> None:
    file = encode_owner_key(SigningKey.generate(), passphrase=PHRASE).reveal()
    at = file.index(b"passphrase ") + len(b"passphrase ") + 2 * 16
    for log2_n in (b"0e", b"15", b"ff"):
        greedy = file[:at] + log2_n + file[at + 2 :]
        with pytest.raises(FormatError, match="work factor"):
            decode_owner_key(Secret(greedy), passphrase=PHRASE)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.upper(),
        lambda text: text + b"\n",
        lambda text: text.replace(b"v1", b"v2"),
        lambda text: text.replace(b"kind ed25519", b"kind rsa"),
        lambda text: b"00" * 32,
        lambda text: b"x" * 2000,
        lambda text: b"\xff\xfe",
    ],
    ids=["upper case", "a line more", "v2", "rsa", "zeros", "long", "not text"],
)
def test_what_is_no_owner_key(spoil) -> None:
    file = Secret(spoil(encode_owner_key(SigningKey.generate()).reveal()))
    with pytest.raises(FormatError, match="wardian owner keygen"):
        decode_owner_key(file)
    with pytest.raises(FormatError):
        owner_public(file)


def test_it_does_not_print() -> None:
    assert "private" not in repr(encode_owner_key(SigningKey.generate()))
