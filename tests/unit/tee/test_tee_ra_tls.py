"""RA-TLS certificates that an enclave makes: Gramine's bytes, and a handshake with them."""

import dataclasses
import hashlib
import json
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typing_extensions import override

from wardian.attestation.appraisal.policy import AppraisalPolicy, MeasurementIn
from wardian.attestation.evidence import Evidence
from wardian.attestation.quotes.quote import parse_quote
from wardian.attestation.ra_tls import BOTH, Layout, verify_certificate
from wardian.crypto.tls_keys import TlsKey, load_identity
from wardian.errors import EvidenceInvalid, FormatError, LocalProtocolError, SealError
from wardian.tee.backend import Enclave
from wardian.tee.launch.simulation import SimulatedPlatform, generate_platform
from wardian.tee.launch.simulation_pki import Issuer
from wardian.tee.ra_tls import (
    GRAMINE_NOT_AFTER,
    GRAMINE_NOT_BEFORE,
    MAX_TIME,
    build_certificate,
    generate_key,
)

NOW = 1_800_000_000
MEASUREMENT = hashlib.sha256(b"an enclave").digest()
PLATFORM = generate_platform(clock=lambda: NOW)
POLICY = AppraisalPolicy(
    roots=frozenset({PLATFORM.root_sha256}), rule=MeasurementIn(frozenset({MEASUREMENT}))
)
WINDOW = {"not_before": GRAMINE_NOT_BEFORE, "not_after": GRAMINE_NOT_AFTER}
NONCE = hashlib.sha256(b"a challenge").digest()

VECTORS = Path(__file__).parents[2] / "vectors/ra-tls/gramine.json"
GRAMINE = {
    name: bytes.fromhex(value)
    for name, value in json.loads(VECTORS.read_text()).items()
    if isinstance(value, str)
}
LEGACY_OID = GRAMINE["legacy_head"][4:17]
DICE_OID = GRAMINE["dice_head"][4:12]


class PlatformEnclave(Enclave):
    """An enclave of the simulated platform in this process; remembers what it quoted."""

    def __init__(self, *, padding: bytes = b"", platform: SimulatedPlatform = PLATFORM) -> None:
        self.quoted: list[bytes] = []
        self.quotes: list[bytes] = []
        self._padding = padding
        self._platform = platform

    @property
    @override
    def name(self):
        return "simulated"

    @property
    @override
    def simulated(self):
        return True

    @override
    def evidence(self, report_data):
        quote = self._platform.quote(mr_enclave=MEASUREMENT, report_data=report_data)
        self.quoted.append(report_data)
        self.quotes.append(quote)
        return Evidence(quote=quote + self._padding, collateral=PLATFORM.collateral())

    @override
    def sealing_key(self):
        return PLATFORM.sealing_key(MEASUREMENT)

    @override
    def agreed_config(self):
        return b""

    @override
    def host_settings(self):
        return b"{}"

    @override
    def announce(self, event, **fields):
        pass

    @override
    def read_counter(self, name):
        return 0

    @override
    def advance_counter(self, name, to):
        raise SealError("no counters here")


def platform_with_quotes_of(sizes: range) -> SimulatedPlatform:
    """Return `PLATFORM` with quotes of one of these sizes: its PCK certificate is longer."""
    plain = len(PLATFORM.quote(mr_enclave=MEASUREMENT, report_data=bytes(64)))
    for more in range((sizes.start - plain) * 48 // 65 - 60, 8192):
        platform = SimulatedPlatform(
            pki=dataclasses.replace(PLATFORM._pki, pck=longer_pck(more)),
            sealing_secret=PLATFORM._sealing_secret,
            signer=PLATFORM._signer,
            ppid=PLATFORM.ppid,
            clock=lambda: NOW,
        )
        if len(platform.quote(mr_enclave=MEASUREMENT, report_data=bytes(64))) in sizes:
            return platform
    raise AssertionError(sizes)


def longer_pck(more: int) -> Issuer:
    """Return the platform's certificate with an extension of `more` bytes that nobody reads."""
    pki = PLATFORM._pki
    old = pki.pck.certificate
    builder = (
        x509.CertificateBuilder(old.issuer, old.subject, old.public_key(), old.serial_number)
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(old.not_valid_after_utc)
        .add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier("2.25.1"), bytes(more)), critical=False
        )
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return Issuer(certificate=builder.sign(pki.pck_ca.key, hashes.SHA256()), key=pki.pck.key)


def spki_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def verify(der: bytes, **changes):
    return verify_certificate(
        der, **{"policy": POLICY, "collateral": PLATFORM.collateral(), "now": NOW} | changes
    )


def element(tag: int, *parts: bytes) -> bytes:
    """Return one DER element with the lengths that occur here."""
    content = b"".join(parts)
    size = len(content)
    head = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + head + content


# --- the bytes ------------------------------------------------------------------------------------


def test_signed_bytes_are_gramines():
    """Built here from the pieces of a certificate that Gramine made, with our key and quotes."""
    key = generate_key()
    enclave = PlatformEnclave()
    der = build_certificate(enclave, key, **WINDOW)
    spki = spki_of(key)
    key_id = hashlib.sha1(spki[-97:]).digest()  # RFC 5280, 4.2.1.2 (1): over the point alone
    first, second = enclave.quotes
    evidence = (
        b"\xd9\xea\x60\x82\x59"
        + len(second).to_bytes(2, "big")
        + second
        + b"\x58\x33\xa1\x6bpubkey-hash\x58\x24\x82\x01\x58\x20"
        + hashlib.sha256(spki).digest()
    )
    expected = element(
        0x30,
        GRAMINE["version"],
        GRAMINE["serial"],
        bytes.fromhex("300a06082a8648ce3d040302"),
        GRAMINE["name"],
        GRAMINE["validity"],
        GRAMINE["name"],
        spki,
        element(
            0xA3,
            element(
                0x30,
                GRAMINE["basic_constraints"],
                GRAMINE["subject_key_identifier"][:-20] + key_id,
                GRAMINE["authority_key_identifier"][:-20] + key_id,
                element(0x30, LEGACY_OID, element(0x04, first)),
                element(0x30, DICE_OID, element(0x04, evidence)),
            ),
        ),
    )
    assert x509.load_der_x509_certificate(der).tbs_certificate_bytes == expected
    assert len(spki) == len(GRAMINE["spki"])
    assert hashlib.sha1(GRAMINE["spki"][-97:]).digest() == GRAMINE["subject_key_identifier"][-20:]


def test_each_layout_has_its_own_quote():
    key = generate_key()
    enclave = PlatformEnclave()
    build_certificate(enclave, key, nonce=NONCE, **WINDOW)
    claims = (
        b"\xa2\x6bpubkey-hash\x58\x24\x82\x01\x58\x20"
        + hashlib.sha256(spki_of(key)).digest()
        + b"\x65nonce\x58\x20"
        + NONCE
    )
    assert enclave.quoted == [
        hashlib.sha256(spki_of(key)).digest() + bytes(32),
        hashlib.sha256(claims).digest() + bytes(32),
    ]


@pytest.mark.parametrize("oid", [LEGACY_OID, DICE_OID])
def test_gramines_search_finds_the_evidence(oid):
    """Its verifier looks for the OID's bytes, then for an OCTET STRING with two length bytes."""
    enclave = PlatformEnclave()
    der = build_certificate(enclave, generate_key(), **WINDOW)
    at = der.index(oid) + len(oid)
    assert der.count(oid) == 1
    assert der[at : at + 2] == b"\x04\x82"
    size = int.from_bytes(der[at + 2 : at + 4], "big")
    value = der[at + 4 : at + 4 + size]
    assert 128 <= size <= 8192
    if oid == LEGACY_OID:
        assert value == enclave.quotes[0]
    else:
        assert value[7 : 7 + len(enclave.quotes[1])] == enclave.quotes[1]


def test_padding_of_the_quote_stays_outside():
    enclave = PlatformEnclave(padding=bytes(1000))
    der = build_certificate(enclave, generate_key(), **WINDOW)
    assert verify(der).layout is Layout.DICE
    for quote in enclave.quotes:
        assert parse_quote(quote).raw == quote
        assert quote in der
        assert quote + b"\0" not in der


# --- what we make, we accept ----------------------------------------------------------------------


@pytest.mark.parametrize("layouts", [BOTH, {Layout.LEGACY}, {Layout.DICE}])
@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP256R1()])
def test_accepted_by_our_verifier(layouts, curve):
    key = ec.generate_private_key(curve)
    enclave = PlatformEnclave()
    peer = verify(build_certificate(enclave, key, layouts=layouts, **WINDOW))
    assert peer.layout is (Layout.DICE if Layout.DICE in layouts else Layout.LEGACY)
    assert peer.spki == spki_of(key)
    assert peer.result.claims.measurement == MEASUREMENT
    assert len(enclave.quotes) == len(layouts)


def test_nonce_is_answered():
    der = build_certificate(PlatformEnclave(), generate_key(), nonce=NONCE, **WINDOW)
    assert verify(der, nonce=NONCE).layout is Layout.DICE
    with pytest.raises(EvidenceInvalid, match="nonce"):
        verify(der, nonce=NONCE[::-1])


def test_window_of_any_length():
    key = generate_key()
    der = build_certificate(PlatformEnclave(), key, not_before=0, not_after=MAX_TIME)
    certificate = x509.load_der_x509_certificate(der)
    assert certificate.not_valid_before_utc.timestamp() == 0
    assert certificate.not_valid_after_utc.timestamp() == MAX_TIME
    assert verify(der).spki == spki_of(key)


def test_keys_are_fresh_and_on_p384():
    first, second = generate_key(), generate_key()
    assert isinstance(first.curve, ec.SECP384R1)
    assert spki_of(first) != spki_of(second)


# --- what we do not make --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layouts": frozenset()}, "at least one layout"),
        ({"layouts": {"other"}}, "at least one layout"),
        ({"layouts": {Layout.LEGACY}, "nonce": NONCE}, "only the DICE layout"),
        ({"nonce": b""}, "16 to 64"),
        ({"nonce": bytes(15)}, "16 to 64"),
        ({"nonce": bytes(65)}, "16 to 64"),
        ({"not_before": -1}, "1970"),
        ({"not_before": NOW, "not_after": NOW}, "ends after"),
        ({"not_after": MAX_TIME + 1}, "1970"),
    ],
)
def test_arguments(changes, says):
    enclave = PlatformEnclave()
    with pytest.raises(LocalProtocolError, match=says):
        build_certificate(enclave, generate_key(), **WINDOW | changes)
    assert enclave.quoted == []


@pytest.mark.parametrize("curve", [ec.SECP521R1(), ec.SECP256K1()])
def test_key_on_another_curve(curve):
    with pytest.raises(LocalProtocolError, match="P-256 or P-384"):
        build_certificate(PlatformEnclave(), ec.generate_private_key(curve), **WINDOW)


@pytest.mark.parametrize("layouts", [{Layout.LEGACY}, {Layout.DICE}])
def test_quote_that_gramine_could_not_read(layouts):
    """Its verifier takes 8192 bytes, with the CBOR where there is some."""
    room = 8192 - (7 + 53 if layouts == {Layout.DICE} else 0)
    key = generate_key()
    fits = PlatformEnclave(platform=platform_with_quotes_of(range(room - 5, room + 1)))
    assert verify(build_certificate(fits, key, layouts=layouts, **WINDOW)).spki == spki_of(key)
    longer = PlatformEnclave(platform=platform_with_quotes_of(range(room + 1, room + 7)))
    with pytest.raises(FormatError, match="more than 8192"):
        build_certificate(longer, key, layouts=layouts, **WINDOW)


def test_longest_certificate_of_all_is_still_read():
    room = 8192 - 7 - 53 - 66 - 8
    key = generate_key()
    enclave = PlatformEnclave(platform=platform_with_quotes_of(range(room - 5, room + 1)))
    der = build_certificate(enclave, key, nonce=bytes(64), **WINDOW)
    assert len(der) > 16_500
    assert verify(der, nonce=bytes(64)).layout is Layout.DICE


def test_enclave_without_a_quote():
    class Mute(PlatformEnclave):
        @override
        def evidence(self, report_data):
            return Evidence(quote=b"", collateral=b"")

    with pytest.raises(FormatError, match="quote"):
        build_certificate(Mute(), generate_key(), **WINDOW)


# --- in a handshake -------------------------------------------------------------------------------


def server_with(der: bytes, key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # TRUST T20: resumption shows no certificate
    pem = x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)
    load_identity(context, pem, TlsKey(key))
    return context


def connect(server: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return client and server after a handshake through memory; no chain is judged in it."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    pending = [ours, theirs]
    for _ in range(6):
        for side in list(pending):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            pending.remove(side)
    assert pending == []
    return ours, theirs


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP256R1()])
@pytest.mark.parametrize("layouts", [BOTH, {Layout.LEGACY}, {Layout.DICE}])
def test_from_handshake_to_verdict(curve, layouts):
    key = ec.generate_private_key(curve)
    der = build_certificate(PlatformEnclave(), key, layouts=layouts, **WINDOW)
    client, server = connect(server_with(der, key))
    assert client.version() == "TLSv1.3"
    assert not client.session_reused
    shown = client.getpeercert(binary_form=True)
    peer = verify(shown)
    assert (shown, peer.spki) == (der, spki_of(key))
    client.write(b"only now a request")
    assert server.read(100) == b"only now a request"


def test_man_in_the_middle_with_a_key_of_his_own():
    """The handshake succeeds, as any would; the verdict does not."""
    key, own = generate_key(), generate_key()
    genuine = x509.load_der_x509_certificate(build_certificate(PlatformEnclave(), key, **WINDOW))
    forged = (
        x509.CertificateBuilder()
        .subject_name(genuine.subject)
        .issuer_name(genuine.issuer)
        .public_key(own.public_key())
        .serial_number(genuine.serial_number)
        .not_valid_before(genuine.not_valid_before_utc)
        .not_valid_after(genuine.not_valid_after_utc)
    )
    for extension in genuine.extensions:
        forged = forged.add_extension(extension.value, critical=extension.critical)
    der = forged.sign(own, genuine.signature_hash_algorithm).public_bytes(
        serialization.Encoding.DER
    )
    client, _ = connect(server_with(der, own))
    for layouts in (BOTH, {Layout.LEGACY}, {Layout.DICE}):
        with pytest.raises(EvidenceInvalid):
            verify(client.getpeercert(binary_form=True), layouts=layouts)


def test_man_in_the_middle_with_the_enclaves_certificate():
    der = build_certificate(PlatformEnclave(), generate_key(), **WINDOW)
    with pytest.raises(FormatError, match="not of this key"):
        server_with(der, generate_key())
