"""Attacks on RA-TLS certificates. The certificates are put together here byte by byte."""

import ast
import hashlib
from pathlib import Path

import pytest
from attestation_cases import MEASUREMENT, NOW
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

import wardian
from wardian.attestation.appraisal.policy import AllOf, AppraisalPolicy, MeasurementIn, NotDebug
from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.dice import TaggedEvidence, build_claims, build_tagged_evidence
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.attestation.ra_tls import (
    BOTH,
    MAX_CERTIFICATE_BYTES,
    MAX_EXTENSION_BYTES,
    Layout,
    RaTlsPeer,
    report_data,
    verify_certificate,
)
from wardian.attestation.verifier import verify_evidence
from wardian.broker.release.protocol import broker_report_data, workload_report_data
from wardian.errors import (
    CollateralUnavailable,
    EvidenceInvalid,
    EvidenceStale,
    FormatError,
    LocalProtocolError,
    PolicyDenied,
    TcbUnacceptable,
    WardianError,
)
from wardian.serving.frontend_evidence import frontend_report_data
from wardian.tee.launch.simulation import generate_platform

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
PLATFORM = generate_platform(clock=lambda: NOW)
POLICY = AppraisalPolicy(
    roots=frozenset({PLATFORM.root_sha256}), rule=MeasurementIn(frozenset({MEASUREMENT}))
)
NONCE = hashlib.sha256(b"a challenge").digest()

VERSION_3 = bytes.fromhex("a003020102")
SERIAL_1 = bytes.fromhex("020101")
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
NAME = bytes.fromhex("3010310e300c06035504030c055241544c53")  # CN=RATLS
VALIDITY = bytes.fromhex("301e") + b"\x17\x0d010101000000Z" + b"\x17\x0d301231235959Z"
NO_CA = bytes.fromhex("30090603551d1304023000")
LEGACY_OID = bytes.fromhex("060b06092a864886f84d8a3906")
DICE_OID = bytes.fromhex("0606678105050409")
UNKNOWN_OID = bytes.fromhex("06022a03")  # 1.2.3
CRITICAL, CRITICAL_FALSE = bytes.fromhex("0101ff"), bytes.fromhex("010100")


# --- a certificate, piece by piece ----------------------------------------------------------------


def element(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    octets = (size.bit_length() + 7) // 8
    return bytes([tag, 0x80 | octets]) + size.to_bytes(octets, "big") + content


def spki_of(key) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def extension(oid: bytes, value: bytes, critical: bytes = b"") -> bytes:
    return element(0x30, oid, critical, element(0x04, value))


def tbs(
    *extensions: bytes,
    spki: bytes = spki_of(KEY),
    version: bytes = VERSION_3,
    serial: bytes = SERIAL_1,
    algorithm: bytes = ECDSA_SHA256,
    issuer: bytes = NAME,
    subject: bytes = NAME,
    validity: bytes = VALIDITY,
) -> bytes:
    wrapped = element(0xA3, element(0x30, *extensions))
    return element(0x30, version, serial, algorithm, issuer, validity, subject, spki, wrapped)


def signed(
    body: bytes, *, key=KEY, algorithm: bytes = ECDSA_SHA256, digest=None, unused: int = 0
) -> bytes:
    signature = key.sign(body, ec.ECDSA(digest or hashes.SHA256()))
    return element(0x30, body, algorithm, element(0x03, bytes([unused]), signature))


def quote(data: bytes, **changes) -> bytes:
    return PLATFORM.quote(**{"mr_enclave": MEASUREMENT, "report_data": data} | changes)


def legacy(spki: bytes = spki_of(KEY)) -> bytes:
    return extension(LEGACY_OID, quote(report_data(spki)))


def evidence_for(claims: bytes) -> bytes:
    evidence = TaggedEvidence(quote=quote(report_data(claims)), claims=claims)
    return build_tagged_evidence(evidence)


def dice(spki: bytes = spki_of(KEY), *, nonce: bytes | None = None) -> bytes:
    return extension(DICE_OID, evidence_for(build_claims(spki, nonce=nonce)))


def verify(der: bytes, **changes) -> RaTlsPeer:
    return verify_certificate(
        der, **{"policy": POLICY, "collateral": PLATFORM.collateral(), "now": NOW} | changes
    )


LEGACY_ONLY = signed(tbs(NO_CA, legacy()))
DICE_ONLY = signed(tbs(NO_CA, dice()))
BOTH_LAYOUTS = signed(tbs(NO_CA, legacy(), dice()))
FRESH = signed(tbs(NO_CA, legacy(), dice(nonce=NONCE)))


# --- what is accepted -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("der", "layout"),
    [
        (LEGACY_ONLY, Layout.LEGACY),
        (DICE_ONLY, Layout.DICE),
        (BOTH_LAYOUTS, Layout.DICE),
        (FRESH, Layout.DICE),
    ],
)
def test_genuine_certificate(der, layout):
    peer = verify(der)
    assert peer.layout is layout
    assert peer.spki == spki_of(KEY)
    assert peer.spki_sha256 == hashlib.sha256(spki_of(KEY)).digest()
    assert peer.result.claims.measurement == MEASUREMENT
    assert peer.result.claims.simulated
    assert all(outcome.accepted for outcome in peer.result.outcomes)
    with pytest.raises(AttributeError):
        peer.spki = b""


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize(
    ("digest", "algorithm"),
    [
        (hashes.SHA256(), ECDSA_SHA256),
        (hashes.SHA384(), bytes.fromhex("300a06082a8648ce3d040303")),
        (hashes.SHA512(), bytes.fromhex("300a06082a8648ce3d040304")),
    ],
)
def test_p384_and_each_hash(layout, digest, algorithm):
    key = ec.generate_private_key(ec.SECP384R1())
    spki = spki_of(key)
    value = legacy(spki) if layout is Layout.LEGACY else dice(spki)
    body = tbs(NO_CA, value, spki=spki, algorithm=algorithm)
    peer = verify(signed(body, key=key, algorithm=algorithm, digest=digest))
    assert (peer.layout, peer.spki) == (layout, spki)


@pytest.mark.parametrize(
    ("head", "name"), [(b"\x82\x07\x58\x30", "sha384"), (b"\x82\x08\x58\x40", "sha512")]
)
def test_longer_hashes_of_the_key(head, name):
    entry = head + hashlib.new(name, spki_of(KEY)).digest()
    claims = b"\xa1\x6bpubkey-hash\x58" + bytes([len(entry)]) + entry
    assert (
        verify(signed(tbs(NO_CA, extension(DICE_OID, evidence_for(claims))))).layout == "tcg-dice"
    )


def test_other_extensions_that_do_not_matter():
    usage = extension(bytes.fromhex("0603551d0f"), bytes.fromhex("03020780"), CRITICAL)
    note = extension(UNKNOWN_OID, b"whatever")
    assert verify(signed(tbs(usage, NO_CA, note, dice()))).layout is Layout.DICE


def test_layouts_that_the_caller_wants():
    assert verify(BOTH_LAYOUTS, layouts={Layout.LEGACY}).layout is Layout.LEGACY
    assert verify(BOTH_LAYOUTS, layouts={Layout.DICE}).layout is Layout.DICE
    for der, layouts in (
        (LEGACY_ONLY, {Layout.DICE}),
        (DICE_ONLY, {Layout.LEGACY}),
        (BOTH_LAYOUTS, frozenset()),
        (signed(tbs(NO_CA)), BOTH),
    ):
        with pytest.raises(EvidenceInvalid, match="no evidence in an accepted layout"):
            verify(der, layouts=layouts)


# --- evidence of one, key of another --------------------------------------------------------------


@pytest.mark.parametrize("stolen", [(legacy(),), (dice(),), (legacy(), dice())])
def test_evidence_taken_from_another_certificate(stolen):
    """The man in the middle shows the enclave's evidence with a key of his own."""
    body = tbs(NO_CA, *stolen, spki=spki_of(OTHER_KEY))
    with pytest.raises(EvidenceInvalid, match="another key|made for something else"):
        verify(signed(body, key=OTHER_KEY))


def test_claims_written_anew_for_another_key():
    """The quote is genuine and stays, the claims are changed to fit the thief's key."""
    evidence = TaggedEvidence(
        quote=quote(report_data(build_claims(spki_of(KEY)))),
        claims=build_claims(spki_of(OTHER_KEY)),
    )
    value = extension(DICE_OID, build_tagged_evidence(evidence))
    body = tbs(NO_CA, value, spki=spki_of(OTHER_KEY))
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        verify(signed(body, key=OTHER_KEY))


def test_claims_that_do_not_say_which_key():
    """Gramine's verifier skips claims that it does not know and asks for none: so would do these."""
    for claims in (b"\xa1\x65other\x40", b"\xa1\x65nonce\x50" + bytes(16), b"\xa0"):
        with pytest.raises(FormatError, match="DICE claims"):
            verify(signed(tbs(NO_CA, extension(DICE_OID, evidence_for(claims)))))


@pytest.mark.parametrize("at", [32, 47, 63])
def test_second_half_of_the_report_data_counts(at):
    """Gramine's verifier compares the first 32 bytes only."""
    claims = build_claims(spki_of(KEY))
    for layout, vouched_for in ((Layout.LEGACY, spki_of(KEY)), (Layout.DICE, claims)):
        data = bytearray(report_data(vouched_for))
        data[at] = 1
        made = quote(bytes(data))
        value = (
            extension(LEGACY_OID, made)
            if layout is Layout.LEGACY
            else extension(
                DICE_OID, build_tagged_evidence(TaggedEvidence(quote=made, claims=claims))
            )
        )
        with pytest.raises(EvidenceInvalid, match="made for something else"):
            verify(signed(tbs(NO_CA, value)))


def test_quote_of_one_layout_in_the_other():
    spki, claims = spki_of(KEY), build_claims(spki_of(KEY))
    as_legacy = extension(LEGACY_OID, quote(report_data(claims)))
    as_dice = build_tagged_evidence(TaggedEvidence(quote=quote(report_data(spki)), claims=claims))
    for value in (as_legacy, extension(DICE_OID, as_dice)):
        with pytest.raises(EvidenceInvalid, match="made for something else"):
            verify(signed(tbs(NO_CA, value)))


def test_bad_dice_is_not_helped_by_good_legacy():
    others = dice(spki_of(OTHER_KEY))
    value = evidence_for(build_claims(spki_of(KEY)))
    unbound = extension(DICE_OID, value[:-1] + bytes([value[-1] ^ 1]))
    report = extension(DICE_OID, b"\xd9\xea\x61" + value[3:])
    for bad in (others, unbound, report, extension(DICE_OID, b""), extension(DICE_OID, b"junk")):
        for order in ((legacy(), bad), (bad, legacy())):
            with pytest.raises((EvidenceInvalid, FormatError)):
                verify(signed(tbs(NO_CA, *order)))


def test_bad_legacy_is_not_helped_by_good_dice():
    """It would not be believed; that it does not even parse is reason enough."""
    with pytest.raises(FormatError, match="quote"):
        verify(signed(tbs(NO_CA, extension(LEGACY_OID, b"junk"), dice())))


def test_debug_enclave_and_other_enclave():
    spki = spki_of(KEY)
    debug = extension(LEGACY_OID, quote(report_data(spki), debug=True))
    with pytest.raises(TcbUnacceptable, match="debug"):
        verify(
            signed(tbs(NO_CA, debug)), policy=AppraisalPolicy(roots=POLICY.roots, rule=NotDebug())
        )
    other = extension(LEGACY_OID, quote(report_data(spki), mr_enclave=bytes(32)))
    with pytest.raises(PolicyDenied, match="not one that"):
        verify(signed(tbs(NO_CA, other)))


def test_policy_decides():
    hardware = AppraisalPolicy(roots=frozenset({INTEL_ROOT_SHA256}), rule=POLICY.rule)
    with pytest.raises(PolicyDenied, match="SIMULATED"):
        verify(BOTH_LAYOUTS, policy=hardware)
    with pytest.raises(PolicyDenied, match="empty"):
        verify(BOTH_LAYOUTS, policy=AppraisalPolicy(roots=POLICY.roots, rule=AllOf()))
    with pytest.raises(CollateralUnavailable):
        verify(BOTH_LAYOUTS, collateral=b"")
    with pytest.raises(FormatError, match="collateral"):
        verify(BOTH_LAYOUTS, collateral=b"{}")
    stale = PLATFORM.issue_collateral(issued=NOW - 100, expires=NOW - 1)
    with pytest.raises(EvidenceStale, match="collateral"):
        verify(BOTH_LAYOUTS, collateral=stale)


# --- freshness ------------------------------------------------------------------------------------


def test_nonce_that_is_answered():
    assert verify(FRESH, nonce=NONCE).layout is Layout.DICE


@pytest.mark.parametrize(
    ("der", "nonce", "says"),
    [
        (DICE_ONLY, NONCE, "does not answer"),
        (BOTH_LAYOUTS, NONCE, "does not answer"),
        (FRESH, NONCE[:-1] + b"\0", "does not answer"),
        (FRESH, NONCE[:16], "does not answer"),
        (FRESH, NONCE + b"\0", "does not answer"),
        (FRESH, bytes(32), "does not answer"),
        (LEGACY_ONLY, NONCE, "legacy RA-TLS layout cannot"),
    ],
)
def test_nonce_that_is_not_answered(der, nonce, says):
    with pytest.raises(EvidenceInvalid, match=says):
        verify(der, nonce=nonce)


def test_nonce_is_not_looked_for_in_the_other_layout():
    with pytest.raises(EvidenceInvalid, match="cannot answer"):
        verify(FRESH, nonce=NONCE, layouts={Layout.LEGACY})


def test_nonce_added_after_the_quote():
    evidence = TaggedEvidence(
        quote=quote(report_data(build_claims(spki_of(KEY)))),
        claims=build_claims(spki_of(KEY), nonce=NONCE),
    )
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        verify(
            signed(tbs(NO_CA, extension(DICE_OID, build_tagged_evidence(evidence)))), nonce=NONCE
        )


@pytest.mark.parametrize("nonce", [b"", bytes(15), bytes(65)])
def test_nonce_of_a_useless_length_is_our_bug(nonce):
    with pytest.raises(LocalProtocolError, match="16 to 64"):
        verify(signed(tbs(NO_CA, dice(nonce=nonce))), nonce=nonce)


# --- one use is not another (TRUST T24) -----------------------------------------------------------


def release_bindings(spki: bytes, claims: bytes):
    """What Wardian's own protocols demand, with values that the attacker may choose."""
    digest = hashlib.sha256(b"manifest").digest()
    for free in (bytes(32), NONCE, spki, claims, hashlib.sha256(spki).digest()):
        yield workload_report_data(
            broker_nonce=free,
            hpke_public=free,
            tls_spki=spki,
            digest=digest,
            role="worker",
            models=("digits",),
        )
        yield broker_report_data(
            workload_nonce=free, broker_nonce=free, ca_spki=spki, digest=digest, version=1
        )
        yield frontend_report_data(
            nonce=free, tls_spki=spki, ca_spki=spki, manifest_digest=digest, version=1
        )
        for purpose in Purpose:
            yield from (bind(purpose, free), bind(purpose, spki), bind(purpose, free, spki))


@pytest.mark.parametrize("nonce", [None, NONCE])
def test_ra_tls_evidence_never_releases_a_key(nonce):
    spki, claims = spki_of(KEY), build_claims(spki_of(KEY), nonce=nonce)
    for vouched_for in (spki, claims):
        made = Evidence(quote=quote(report_data(vouched_for)), collateral=PLATFORM.collateral())
        verify_evidence(made, policy=POLICY, report_data=report_data(vouched_for), now=NOW)
        for demanded in release_bindings(spki, claims):
            with pytest.raises(EvidenceInvalid, match="made for something else"):
                verify_evidence(made, policy=POLICY, report_data=demanded, now=NOW)


def test_evidence_for_a_release_is_no_ra_tls():
    spki, claims = spki_of(KEY), build_claims(spki_of(KEY))
    for data in release_bindings(spki, claims):
        as_dice = build_tagged_evidence(TaggedEvidence(quote=quote(data), claims=claims))
        for value in (extension(LEGACY_OID, quote(data)), extension(DICE_OID, as_dice)):
            with pytest.raises(EvidenceInvalid, match="made for something else"):
                verify(signed(tbs(NO_CA, value)))


@given(st.sampled_from(Purpose), st.lists(st.binary(max_size=40), max_size=4), st.binary())
def test_no_binding_ends_as_ra_tls_does(purpose, parts, vouched_for):
    """The two differ in form: 32 zero bytes, against the second half of SHA-512."""
    assert report_data(vouched_for)[32:] == bytes(32)
    assert bind(purpose, *parts)[32:] != bytes(32)


def test_release_does_not_know_these_layouts():
    """No way leads from such a certificate to a key: the broker's code does not read one."""
    broker = Path(wardian.__file__).parent / "broker"
    assert [path.name for path in broker.rglob("*.py") if "ra_tls" in path.read_text()] == []
    assert (broker / "release/admission.py").exists()


# --- the certificate ------------------------------------------------------------------------------


def test_oid_is_not_searched_for_in_bytes():
    """Gramine's verifier takes the first place where the OID's bytes stand, in whatever value."""
    decoy = LEGACY_OID + element(0x04, quote(report_data(spki_of(KEY))))
    hidden = extension(UNKNOWN_OID, decoy)
    with pytest.raises(EvidenceInvalid, match="no evidence"):
        verify(signed(tbs(NO_CA, hidden)))
    wrong = LEGACY_OID + element(0x04, quote(report_data(spki_of(OTHER_KEY))))
    assert (
        verify(signed(tbs(NO_CA, extension(UNKNOWN_OID, wrong), legacy()))).layout
        == "gramine-legacy"
    )


@pytest.mark.parametrize(
    "extensions",
    [
        (NO_CA, legacy(), legacy()),
        (NO_CA, dice(), dice()),
        (NO_CA, dice(), legacy(), dice(spki_of(OTHER_KEY))),
        (NO_CA, dice(), NO_CA),
    ],
)
def test_the_same_extension_twice(extensions):
    with pytest.raises(FormatError):
        verify(signed(tbs(*extensions)))


@pytest.mark.parametrize(
    "surprise",
    [
        extension(DICE_OID, evidence_for(build_claims(spki_of(KEY))), CRITICAL),
        extension(LEGACY_OID, quote(report_data(spki_of(KEY))), CRITICAL),
        extension(UNKNOWN_OID, b"", CRITICAL),
        extension(DICE_OID, evidence_for(build_claims(spki_of(KEY))), CRITICAL_FALSE),  # not DER
    ],
)
def test_critical_flag_surprises(surprise):
    good = legacy() if DICE_OID in surprise else dice()
    with pytest.raises(FormatError):
        verify(signed(tbs(NO_CA, surprise)))
    with pytest.raises(FormatError):
        verify(signed(tbs(NO_CA, surprise, good)))


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 100, b"\x05\x00", b"x"])
def test_nothing_may_follow_the_evidence(tail):
    claims = build_claims(spki_of(KEY))
    padded = TaggedEvidence(quote=quote(report_data(claims)) + tail, claims=claims)
    for value in (
        extension(LEGACY_OID, quote(report_data(spki_of(KEY))) + tail),
        extension(DICE_OID, evidence_for(claims) + tail),
        extension(DICE_OID, build_tagged_evidence(padded)),
        extension(DICE_OID, evidence_for(claims + tail)),
        dice() + tail,
    ):
        with pytest.raises(FormatError):
            verify(signed(tbs(NO_CA, value)))
    with pytest.raises(FormatError):
        verify(DICE_ONLY + tail)


@pytest.mark.parametrize(
    ("extensions", "error"),
    [
        ((bytes.fromhex("300c0603551d13040530030101ff"), dice()), EvidenceInvalid),  # CA
        ((bytes.fromhex("300f0603551d130101ff040530030101ff"), dice()), EvidenceInvalid),
        # keyUsage: digitalSignature and keyCertSign
        ((NO_CA, bytes.fromhex("300b0603551d0f040403020284"), dice()), EvidenceInvalid),
        ((dice(),), FormatError),  # does not say
        ((bytes.fromhex("30080603551d13040130"), dice()), FormatError),  # does not parse
    ],
)
def test_certificate_of_a_ca(extensions, error):
    with pytest.raises(error):
        verify(signed(tbs(*extensions)))


@pytest.mark.parametrize(
    ("starts", "ends", "valid"),
    [
        (b"270115080000Z", b"270115080000Z", True),  # NOW, to the second
        (b"270115080001Z", b"301231235959Z", False),
        (b"010101000000Z", b"270115075959Z", False),
        (b"301231235959Z", b"010101000000Z", False),
    ],
)
def test_validity(starts, ends, valid):
    der = signed(tbs(NO_CA, dice(), validity=b"\x30\x1e\x17\x0d" + starts + b"\x17\x0d" + ends))
    if valid:
        assert verify(der).layout is Layout.DICE
    else:
        with pytest.raises(EvidenceStale, match="not valid at this time"):
            verify(der)


def test_certificate_signed_by_another_key():
    with pytest.raises(EvidenceInvalid, match="not signed by its own key"):
        verify(signed(tbs(NO_CA, dice()), key=OTHER_KEY))


def test_certificate_of_another_issuer():
    other = NAME.replace(b"RATLS", b"OTHER")
    with pytest.raises(EvidenceInvalid, match="not self-signed"):
        verify(signed(tbs(NO_CA, dice(), issuer=other)))


def test_signature_algorithms():
    sha1 = bytes.fromhex("300906072a8648ce3d0401")
    sha224 = bytes.fromhex("300a06082a8648ce3d040301")
    sha384 = bytes.fromhex("300a06082a8648ce3d040303")
    null = bytes.fromhex("300c06082a8648ce3d0403020500")  # RFC 5758, 3.2: absent
    ed = bytes.fromhex("300506032b6570")
    rsa_sha256 = bytes.fromhex("300d06092a864886f70d01010b0500")
    unknown = bytes.fromhex("300406022a03")
    for inner, outer, digest in (
        (sha1, sha1, hashes.SHA1()),
        (sha224, sha224, hashes.SHA224()),
        (ECDSA_SHA256, sha384, hashes.SHA384()),
        (ECDSA_SHA256, sha384, hashes.SHA256()),
        (sha384, ECDSA_SHA256, hashes.SHA256()),
        (null, null, hashes.SHA256()),
        (ECDSA_SHA256, null, hashes.SHA256()),
        (ed, ed, hashes.SHA256()),
        (rsa_sha256, rsa_sha256, hashes.SHA256()),
        (unknown, unknown, hashes.SHA256()),
    ):
        with pytest.raises(FormatError):
            verify(signed(tbs(NO_CA, dice(), algorithm=inner), algorithm=outer, digest=digest))


def test_signature_of_half_a_byte():
    """The parser lets unused bits of the signature pass where they are 0; X.509 has none."""
    body = tbs(NO_CA, dice())
    der = next(d for d in (signed(body, unused=1) for _ in range(99)) if d[-1] % 2 == 0)
    with pytest.raises(FormatError, match="whole bytes"):
        verify(der)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": b""},  # 1, by default
        {"version": bytes.fromhex("a003020101")},  # 2
        {"version": bytes.fromhex("a003020103")},
        {"serial": bytes.fromhex("020100")},
        {"serial": bytes.fromhex("0201ff")},
        {"serial": bytes.fromhex("02020001")},  # not DER
        {"validity": b"\x30\x1e\x17\x0d011301000000Z\x17\x0d301231235959Z"},  # month 13
        {"subject": b"\x30\x00\x00", "issuer": b"\x30\x00\x00"},
    ],
)
def test_fields_of_the_certificate(changes):
    with pytest.raises(FormatError):
        verify(signed(tbs(NO_CA, dice(), **changes)))


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("serial", ["020100", "0201ff"])
def test_serial_number_that_the_library_only_warns_of(serial):
    with pytest.raises(FormatError, match="positive serial number"):
        verify(signed(tbs(NO_CA, dice(), serial=bytes.fromhex(serial))))


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP224R1()),
        ec.generate_private_key(ec.SECP256K1()),
    ],
)
def test_other_curves(key):
    spki = spki_of(key)
    with pytest.raises(FormatError, match="P-256 or P-384"):
        verify(signed(tbs(NO_CA, dice(spki), spki=spki), key=key))


def test_other_kinds_of_keys():
    for key in (
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
    ):
        spki = spki_of(key)
        with pytest.raises(FormatError, match="P-256 or P-384"):
            verify(signed(tbs(NO_CA, dice(spki), spki=spki)))
    broken = spki_of(KEY)[:-1] + bytes([spki_of(KEY)[-1] ^ 1])  # not on the curve
    with pytest.raises(FormatError):
        verify(signed(tbs(NO_CA, dice(broken), spki=broken)))


def test_sizes():
    with pytest.raises(FormatError, match=f"at most {MAX_CERTIFICATE_BYTES}"):
        verify(bytes(MAX_CERTIFICATE_BYTES + 1))
    for oid in (LEGACY_OID, DICE_OID):
        with pytest.raises(FormatError, match=f"more than {MAX_EXTENSION_BYTES}"):
            verify(signed(tbs(NO_CA, extension(oid, bytes(MAX_EXTENSION_BYTES + 1)))))


# --- any bytes ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_flip_of_every_bit_is_refused():
    """All of them, no sample: also those of the signature and of what is around it."""
    assert verify(BOTH_LAYOUTS).layout is Layout.DICE
    accepted = []
    for at in range(len(BOTH_LAYOUTS)):
        for bit in range(8):
            flipped = bytearray(BOTH_LAYOUTS)
            flipped[at] ^= 1 << bit
            try:
                verify(bytes(flipped))
            except WardianError:
                continue
            accepted.append((at, bit))
    assert accepted == []


def test_every_flip_of_dice_evidence_is_refused_though_signed_anew():
    """The attacker holds the key, as the enclave's own host might: the quote has to bind the rest."""
    value = evidence_for(build_claims(spki_of(KEY), nonce=NONCE))
    signed_parts = (*range(7 + 436), *range(len(value) - 93, len(value)))
    accepted = []
    for at in signed_parts:
        for bit in range(8):
            flipped = bytearray(value)
            flipped[at] ^= 1 << bit
            try:
                verify(signed(tbs(NO_CA, extension(DICE_OID, bytes(flipped)))))
            except WardianError:
                continue
            accepted.append((at, bit))
    assert accepted == []


def test_truncation_at_every_length():
    for length in range(len(BOTH_LAYOUTS)):
        with pytest.raises(FormatError):
            verify(BOTH_LAYOUTS[:length])


@given(st.binary(max_size=600))
def test_junk(raw):
    with pytest.raises(FormatError):
        verify(raw)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_rewritten_certificate(data):
    der = bytearray(BOTH_LAYOUTS)
    for _ in range(data.draw(st.integers(1, 6))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(der)) | st.just(len(der)))
    if bytes(der[:end]) != BOTH_LAYOUTS:
        with pytest.raises(WardianError):
            verify(bytes(der[:end]))


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_rewritten_certificate_signed_anew(data):
    """Bytes that nobody honest signs, with a signature that verifies: only our errors come out."""
    body = bytearray(
        tbs(NO_CA, *data.draw(st.sampled_from(((legacy(),), (dice(),), (dice(), legacy())))))
    )
    start = body.index(DICE_OID if DICE_OID in body else LEGACY_OID)
    fields = st.integers(0, start + 30) | st.integers(0, len(body) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(fields)] = data.draw(st.integers(0, 255))
    end = data.draw(st.just(len(body)) | st.integers(0, len(body)))
    try:
        peer = verify(signed(bytes(body[:end])))
    except WardianError:
        return
    assert peer.spki == spki_of(KEY)
    assert peer.result.claims.measurement == MEASUREMENT


@given(st.sampled_from((LEGACY_OID, DICE_OID)), st.binary(max_size=200))
def test_any_value_signed_anew(oid, value):
    with pytest.raises(FormatError):
        verify(signed(tbs(NO_CA, extension(oid, value))))


@given(st.binary(min_size=1, max_size=100))
def test_any_extension_signed_anew(raw):
    with pytest.raises(FormatError):
        verify(signed(tbs(NO_CA, dice(), raw)))


# --- the type -------------------------------------------------------------------------------------


def test_only_the_verifier_makes_a_peer():
    makers = set()
    for path in Path(wardian.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "RaTlsPeer":
                makers.add(path.relative_to(Path(wardian.__file__).parent).as_posix())
    assert makers == {"attestation/ra_tls.py"}
