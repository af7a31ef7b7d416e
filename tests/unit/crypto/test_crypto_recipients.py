import hashlib

import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.kdf import hkdf
from wardian.crypto.recipients import (
    BrokerKey,
    HpkeIdentity,
    HpkeRecipient,
    PassphraseIdentity,
    PassphraseRecipient,
)
from wardian.crypto.sealed_header import STANZA_BYTES, Stanza, StanzaKind
from wardian.crypto.secret import Secret
from wardian.errors import FormatError, LocalProtocolError

FILE_KEY = Secret(bytes(range(32)))


def pairs():
    private = HpkePrivateKey.generate()
    key = BrokerKey(Secret.random())
    words = Secret(b"correct horse")
    return {
        StanzaKind.BROKER_KEY: (key, key),
        StanzaKind.HPKE: (HpkeRecipient(private.public), HpkeIdentity(private)),
        StanzaKind.PASSPHRASE: (PassphraseRecipient(words, log2_n=15), PassphraseIdentity(words)),
    }


def test_each_kind_unwraps_its_own_and_no_other():
    mine, others = pairs(), pairs()
    for kind, (recipient, _) in mine.items():
        stanza = recipient.wrap(FILE_KEY)
        assert stanza.kind is kind
        assert len(stanza.body) == STANZA_BYTES[kind]
        assert FILE_KEY.reveal() not in stanza.body
        for other, (_, identity) in mine.items():
            assert (identity.unwrap(stanza) == FILE_KEY) is (other is kind)
        if kind is not StanzaKind.PASSPHRASE:  # its words are the same in both
            assert others[kind][1].unwrap(stanza) is None


def test_every_bit_flip_of_a_stanza_is_refused():
    for kind, (recipient, identity) in pairs().items():
        if kind is StanzaKind.PASSPHRASE:
            continue  # a scrypt for each bit; the samples below are enough
        stanza = recipient.wrap(FILE_KEY)
        for bit in range(8 * len(stanza.body)):
            body = bytearray(stanza.body)
            body[bit // 8] ^= 1 << bit % 8
            assert identity.unwrap(Stanza(kind=kind, body=bytes(body))) is None


@pytest.mark.parametrize("at", [0, 15, 17, 56])
def test_a_changed_passphrase_stanza_is_refused(at):
    recipient, identity = pairs()[StanzaKind.PASSPHRASE]
    body = bytearray(recipient.wrap(FILE_KEY).body)
    body[at] ^= 1
    assert identity.unwrap(Stanza(kind=StanzaKind.PASSPHRASE, body=bytes(body))) is None


def test_another_passphrase_is_refused():
    stanza = PassphraseRecipient(Secret(b"correct"), log2_n=15).wrap(FILE_KEY)
    assert PassphraseIdentity(Secret(b"Correct")).unwrap(stanza) is None


@pytest.mark.parametrize("log2_n", [0, 14, 21, 64])
def test_the_work_factor_is_bounded(log2_n):
    with pytest.raises(LocalProtocolError, match="15 to 20"):
        PassphraseRecipient(Secret(b"words"), log2_n=log2_n)


def test_the_key_id_is_a_labelled_hash():
    key = BrokerKey(Secret(bytes(32)))
    label = b"wardian broker key id v1\x00"
    assert key.key_id == hashlib.sha256(label + bytes(32)).digest()[:16]
    assert key.key_id.hex() in repr(key)
    assert bytes(32).hex() not in repr(key)


def test_the_broker_key_itself_wraps_nothing():
    """What is derived for one use is of no use in another."""
    key = Secret.random()
    wrapped = BrokerKey(key).wrap(FILE_KEY).body[16:]
    wrapping_key = hkdf(key, salt=b"", info=b"wardian sealed-file v1 broker key")
    assert aes_key_unwrap(wrapping_key.reveal(), wrapped) == FILE_KEY.reveal()


def test_a_broker_key_has_32_bytes():
    with pytest.raises(LocalProtocolError, match="32 bytes"):
        BrokerKey(Secret(bytes(16)))


def test_an_unusable_public_key_is_refused():
    with pytest.raises(FormatError):
        HpkeRecipient(bytes(32)).wrap(FILE_KEY)
