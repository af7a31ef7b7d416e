import datetime as dt
import os
import ssl
import tempfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from wardian.crypto import tls_keys
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey, load_identity, verify_ecdsa
from wardian.errors import AuthenticationFailed, FormatError


def certificate(key: TlsKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.private_key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key.private_key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM)


def handshake(server: ssl.SSLContext, chain: bytes) -> bytes:
    """Return the certificate that `server` showed in a handshake through memory."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=chain.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ours.getpeercert(binary_form=True)


@pytest.fixture
def key():
    return TlsKey.generate()


def test_every_bit_flip_of_a_signature_is_refused(key):
    signature = key.sign(b"message")
    verify_ecdsa(key.spki, signature, b"message")
    for bit in range(8 * len(signature)):
        forged = bytearray(signature)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(AuthenticationFailed):
            verify_ecdsa(key.spki, bytes(forged), b"message")


def test_another_message_or_key_is_refused(key):
    signature = key.sign(b"message")
    with pytest.raises(AuthenticationFailed):
        verify_ecdsa(key.spki, signature, b"messagE")
    with pytest.raises(AuthenticationFailed):
        verify_ecdsa(TlsKey.generate().spki, signature, b"message")
    with pytest.raises(AuthenticationFailed):
        verify_ecdsa(key.spki, b"", b"message")


def spki_of(private):
    return private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_only_keys_on_p256_verify(key):
    other = ec.generate_private_key(ec.SECP384R1())
    signature = other.sign(b"m", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(AuthenticationFailed, match="P-256"):
        verify_ecdsa(spki_of(other), signature, b"m")
    with pytest.raises(AuthenticationFailed, match="P-256"):
        verify_ecdsa(spki_of(ed25519.Ed25519PrivateKey.generate()), signature, b"m")
    with pytest.raises(AuthenticationFailed, match="not a public key"):
        verify_ecdsa(b"\x30\x00", signature, b"m")
    with pytest.raises(AuthenticationFailed, match="not a public key"):
        verify_ecdsa(key.spki[:-1], signature, b"m")


def test_the_key_survives_as_a_secret(key):
    again = TlsKey.from_secret(key.to_secret())
    assert again.spki == key.spki
    verify_ecdsa(key.spki, again.sign(b"m"), b"m")


def der(private, encryption=None):
    return Secret(
        private.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            encryption or serialization.NoEncryption(),
        )
    )


@pytest.mark.parametrize(
    "secret",
    [
        Secret(b"not a key"),
        der(ec.generate_private_key(ec.SECP384R1())),
        der(ed25519.Ed25519PrivateKey.generate()),
        der(
            ec.generate_private_key(ec.SECP256R1()), serialization.BestAvailableEncryption(b"word")
        ),
    ],
)
def test_what_is_not_a_clear_p256_key_is_refused(secret):
    with pytest.raises(FormatError):
        TlsKey.from_secret(secret)


def test_private_pem_is_the_key(key):
    loaded = serialization.load_pem_private_key(key.private_pem().reveal(), password=None)
    assert spki_of(loaded) == key.spki


def test_the_identity_serves(key):
    chain = certificate(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_identity(context, chain, key)
    assert ssl.DER_cert_to_PEM_cert(handshake(context, chain)).encode() == chain


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memfd_create")
def test_on_linux_no_file_is_made(key, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tempfile, "mkstemp", lambda **_: pytest.fail("a file on disk"))
    load_identity(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate(key), key)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_no_descriptor_is_left(key):
    before = len(list(Path("/proc/self/fd").iterdir()))
    load_identity(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate(key), key)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("lacking", ["memfd_create", "/proc"])
def test_elsewhere_the_file_is_encrypted_and_gone(key, monkeypatch, tmp_path, lacking):
    if lacking == "/proc":
        monkeypatch.setattr(tls_keys, "_DESCRIPTORS", tmp_path / "missing")
    else:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []

    class Watching(ssl.SSLContext):
        def load_cert_chain(self, certfile, keyfile=None, password=None):
            path = Path(certfile)
            seen.append((path.parent, path.stat().st_mode & 0o777, path.read_bytes(), password))
            super().load_cert_chain(certfile, keyfile, password)

    chain = certificate(key)
    context = Watching(ssl.PROTOCOL_TLS_SERVER)
    load_identity(context, chain, key)
    ((parent, mode, content, password),) = seen
    assert parent == tmp_path
    assert os.name != "posix" or mode == 0o600
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in content
    assert b"BEGIN PRIVATE KEY" not in content
    assert len(password) == 64
    assert list(tmp_path.iterdir()) == []
    assert ssl.DER_cert_to_PEM_cert(handshake(context, chain)).encode() == chain


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("chain", ["of another key", "not PEM", ""])
def test_a_chain_that_does_not_fit_is_refused(key, monkeypatch, tmp_path, elsewhere, chain):
    if elsewhere:
        monkeypatch.delattr(os, "memfd_create", raising=False)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pem = certificate(TlsKey.generate()) if chain == "of another key" else chain.encode()
    with pytest.raises(FormatError, match="certificate chain"):
        load_identity(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pem, key)
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_file_may_be_gone_already(key, monkeypatch, tmp_path):
    class Sweeping(ssl.SSLContext):
        def load_cert_chain(self, certfile, keyfile=None, password=None):
            super().load_cert_chain(certfile, keyfile, password)
            Path(certfile).unlink()

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    context = Sweeping(ssl.PROTOCOL_TLS_SERVER)
    tls_keys._load_from_encrypted_file(context, certificate(key), key)
