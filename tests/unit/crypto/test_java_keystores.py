import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import pkcs12
from simulators.flink_cluster import Authority

from wardian.crypto.java_keystores import keystore, truststore
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import FormatError

AUTHORITY = Authority()


def test_a_keystore_opens_with_its_password_alone() -> None:
    pair = AUTHORITY.pair()
    raw = keystore(
        pair.key, certificate=pair.certificate, password="pw", ca=AUTHORITY.certificate
    ).reveal()
    key, leaf, more = pkcs12.load_key_and_certificates(raw, b"pw")
    assert key.private_numbers() == pair.key.private_key.private_numbers()
    assert leaf == x509.load_der_x509_certificate(pair.certificate)
    assert more == [x509.load_der_x509_certificate(AUTHORITY.certificate)]
    with pytest.raises(ValueError, match="password"):
        pkcs12.load_key_and_certificates(raw, b"other")


def test_a_truststore_holds_the_peer_and_a_name_but_not_its_ca() -> None:
    peer = x509.load_der_x509_certificate(AUTHORITY.pair().certificate)
    raw = truststore(AUTHORITY.pair().certificate, AUTHORITY.certificate, password="pw")
    held = [each.certificate for each in pkcs12.load_pkcs12(raw, b"pw").additional_certs]
    assert len(held) == 3  # the peer, the one that is its own issuer, one with the peer's issuer
    stand_in = held[2]
    assert stand_in.subject == peer.issuer
    with pytest.raises(InvalidSignature):
        peer.verify_directly_issued_by(stand_in)


def test_what_is_refused() -> None:
    pair = AUTHORITY.pair()
    with pytest.raises(FormatError, match="another key"):
        keystore(TlsKey.generate(), certificate=pair.certificate, password="pw")
    with pytest.raises(FormatError, match="DER"):
        keystore(pair.key, certificate=b"x", password="pw")
    with pytest.raises(FormatError, match="without"):
        truststore(password="pw")
    with pytest.raises(FormatError, match="DER"):
        truststore(b"x", password="pw")
