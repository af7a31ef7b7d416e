"""An operator's keystore: what opens, what it gives, and what is refused of it."""

import datetime as dt
import hashlib
import json
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat, pkcs12
from simulators.keystores import PASSWORD, certificate_pem, certify, keystore, p256, quick
from test_crypto_pkcs12_frame import bags, pbes2, pfx, shrouded

from wardian.crypto import pkcs12 as ours
from wardian.crypto.pkcs12 import MAX_CHAIN, Keystore, open_keystore
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import load_identity
from wardian.errors import (
    AuthenticationFailed,
    CryptoError,
    FormatError,
)

VECTORS = Path(__file__).parents[2] / "vectors" / "pkcs12"


def opened(raw: bytes, password: bytes = PASSWORD) -> Keystore:
    return open_keystore(raw, Secret(password))


def refused(raw: bytes, password: bytes = PASSWORD) -> str:
    with pytest.raises((FormatError, CryptoError)) as caught:
        opened(raw, password)
    said = str(caught.value)
    assert said.startswith("keystore: ")
    assert password.decode("latin-1") not in said
    return said


def handshake(found: Keystore, anchor: bytes) -> tuple[str, bytes]:
    """Return the version of TLS, and the certificate, of a handshake through memory."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    load_identity(server, found.chain_pem, found.key)
    client = ssl.create_default_context(cadata=anchor.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours_, theirs = (
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for side in (ours_, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = ours_.getpeercert(binary_form=True)
    assert shown is not None
    return ours_.version() or "", shown


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        p256(),
        ec.generate_private_key(ec.SECP384R1()),
    ],
    ids=["rsa", "p256", "p384"],
)
def test_it_serves_under_each_kind_of_key(key) -> None:
    certificate = certify(key)
    found = opened(keystore(key, certificate))
    der = certificate.public_bytes(serialization.Encoding.DER)
    assert handshake(found, certificate_pem(certificate)) == ("TLSv1.3", der)
    assert found.fingerprint == hashlib.sha256(der).digest()
    assert found.key.spki == key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert dt.datetime.fromtimestamp(found.not_before, dt.UTC) == certificate.not_valid_before_utc
    assert dt.datetime.fromtimestamp(found.not_after, dt.UTC) == certificate.not_valid_after_utc
    assert found.key.private_pem().reveal() not in repr(found).encode()


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=1024),
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
        dsa.generate_private_key(2048),
    ],
    ids=["rsa-1024", "p521", "secp256k1", "dsa"],
)
def test_a_key_that_is_weak_or_that_tls_does_not_take(key) -> None:
    assert "RSA of 2048" in refused(keystore(key, certify(key)))


def test_a_key_on_curve_25519() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    signer = p256()
    assert "RSA of 2048" in refused(keystore(key, certify(key, by=(signer, "ca"))))


def test_the_chain_in_its_order_whatever_that_of_the_file() -> None:
    keys = {each: p256() for each in ("root", "outer", "inner", "leaf", "stranger")}
    root = certify(keys["root"], "root", ca=True)
    outer = certify(keys["outer"], "outer", by=(keys["root"], "root"), ca=True)
    inner = certify(keys["inner"], "inner", by=(keys["outer"], "outer"), ca=True)
    leaf = certify(keys["leaf"], by=(keys["inner"], "inner"))
    # of a name in the chain, and not of its key
    stranger = certify(keys["stranger"], "inner", by=(keys["stranger"], "nobody"), ca=True)
    for others in ([root, outer, inner, stranger], [stranger, inner, root, outer]):
        found = opened(keystore(keys["leaf"], leaf, others))
        shown = x509.load_pem_x509_certificates(found.chain_pem)
        assert shown == [leaf, inner, outer]
    assert handshake(found, certificate_pem(root))[0] == "TLSv1.3"


def test_a_chain_without_end() -> None:
    keys = [p256() for _ in range(MAX_CHAIN + 3)]
    chain = [
        certify(key, f"{number}", by=(keys[number + 1], f"{number + 1}"), ca=True)
        for number, key in enumerate(keys[:-1])
    ]
    found = opened(keystore(keys[0], chain[0], chain[1:]))
    assert x509.load_pem_x509_certificates(found.chain_pem) == chain[:MAX_CHAIN]
    # two that signed each other
    one, other = keys[:2]
    pair = [
        certify(one, "one", by=(other, "other"), ca=True),
        certify(other, "other", by=(one, "one"), ca=True),
    ]
    found = opened(keystore(one, pair[0], pair[1:]))
    assert x509.load_pem_x509_certificates(found.chain_pem) == pair


def test_wrong_passwords() -> None:
    key = p256()
    raw = keystore(key, certify(key))
    for password in (b"1234qwe", b"1234qwerr", b"\xc3\xa9", b" "):
        with pytest.raises(AuthenticationFailed):
            opened(raw, password)
    assert "UTF-8" in refused(raw, b"\xff1234")
    assert "NUL" in refused(raw, b"1234qwer\0x")
    text = "pässwörd €".encode()
    assert opened(keystore(key, certify(key), encryption=quick(text)), text).chain_pem


def test_cut_or_altered_anywhere() -> None:
    key = p256()
    raw = keystore(key, certify(key))
    whole = opened(raw)
    for length in range(len(raw)):
        with pytest.raises(FormatError):
            opened(raw[:length])
    with pytest.raises(FormatError):
        opened(raw + b"\0")
    for at in range(len(raw)):
        altered = bytearray(raw)
        altered[at] ^= 0x41
        try:
            found = opened(bytes(altered))
        except (FormatError, CryptoError):
            continue
        assert found.chain_pem == whole.chain_pem  # a bit that says nothing
        assert found.key.spki == whole.key.spki


def test_what_is_no_keystore_of_a_server() -> None:
    key, other = p256(), p256()
    assert "trust store" in refused(keystore(None, certify(key)))
    assert "no certificate" in refused(keystore(key, None))
    for raw in (b"", b"-----BEGIN CERTIFICATE-----\n", certificate_pem(certify(other))):
        assert refused(raw)


def test_two_private_keys() -> None:
    assert "several private keys" in refused(pfx(bags(shrouded(pbes2(1)), shrouded(pbes2(1)))))


def test_a_key_that_is_not_the_certificate_s() -> None:
    key, other = p256(), p256()
    assert "no certificate of its private key" in refused(keystore(key, None, [certify(other)]))


def altered(certificate: x509.Certificate, was: str, becomes: str) -> x509.Certificate:
    """Return `certificate` with other bytes in it; nobody here looks at its signature."""
    der = certificate.public_bytes(serialization.Encoding.DER)
    found = der.replace(bytes.fromhex(was), bytes.fromhex(becomes))
    assert found != der
    return x509.load_der_x509_certificate(found)


def test_certificates_that_do_not_parse() -> None:
    key = p256()
    broken = altered(certify(key, "abcdefgh"), b"abcdefgh".hex(), "ff" * 8)
    assert "altered" in refused(keystore(key, broken))
    unknown = altered(certify(key), "2a8648ce3d040302", "2a8648ce3d040309")  # of a signature
    assert "does not parse" in refused(keystore(key, unknown))


def test_a_signature_that_no_client_believes() -> None:
    key, ca = p256(), rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with_sha256, with_sha1 = "2a864886f70d01010b", "2a864886f70d010105"
    weak = altered(certify(key, by=(ca, "ca")), with_sha256, with_sha1)
    assert "sha1" in refused(keystore(key, weak))
    by_itself = altered(certify(ca), with_sha256, with_sha1)  # nobody looks at that signature
    assert opened(keystore(ca, by_itself)).chain_pem


def test_iterations_are_bounded_before_the_password_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = p256()
    raw = keystore(key, certify(key), encryption=quick(rounds=0x010203))
    more = raw.replace(b"\x02\x03\x01\x02\x03", b"\x02\x03\x7f\xff\xff")
    assert more != raw

    def never(*_: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(ours.pkcs12, "load_pkcs12", never)
    assert "iterations" in refused(more)


def test_one_without_encryption_still_has_to_have_a_mac() -> None:
    key = p256()
    raw = pkcs12.serialize_key_and_certificates(b"zoo", key, certify(key), None, NoEncryption())
    assert refused(raw)


def test_an_old_form_that_cannot_be_opened_says_how_to_make_a_new_one() -> None:
    key = p256()
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(1)
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())
        .build(PASSWORD)
    )
    raw = keystore(key, certify(key), encryption=encryption)
    assert opened(raw).chain_pem
    assert "openssl pkcs12 -export" in refused(raw, b"wrong")


@pytest.mark.parametrize("vector", json.loads((VECTORS / "vectors.json").read_text()))
def test_files_of_other_tools(vector: dict[str, str]) -> None:
    """As `openssl` and `keytool` wrote them, once."""
    raw = (VECTORS / vector["file"]).read_bytes()
    found = opened(raw, vector["password"].encode())
    assert found.fingerprint.hex() == vector["sha256"]
    assert len(x509.load_pem_x509_certificates(found.chain_pem)) == vector["chain"]
    assert isinstance(refused(raw, b"another"), str)
