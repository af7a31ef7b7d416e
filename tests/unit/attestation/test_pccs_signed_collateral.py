"""Collateral is taken for genuine if every statement is signed by whom it has to be, and else not."""

import dataclasses
import itertools
import json

import pytest
from collateral_cases import (
    DAY,
    HOUR,
    NOW,
    builder,
    changed,
    crl,
    fields_of,
    impostor,
    machine,
    made,
    model,
    resigned,
    root_sha256,
    signed,
    statement,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from simulators.td_quotes import stamp

from wardian.attestation.certificates.intel_root import INTEL_ROOT_DER, INTEL_ROOT_SHA256
from wardian.attestation.certificates.pem_chain import render_pem_chain
from wardian.attestation.claims import TeeKind
from wardian.attestation.collateral.platform_model import PckCa, verify_model
from wardian.attestation.collateral.signed import (
    expires_soon,
    newest,
    older,
    root_of,
    verify_collateral,
)
from wardian.attestation.collateral.term import WARN_BEFORE_S, Part
from wardian.attestation.quotes.quote import parse_quote
from wardian.attestation.verifier import verify_quote
from wardian.errors import (
    CollateralUnavailable,
    EvidenceInvalid,
    FormatError,
    LocalProtocolError,
)
from wardian.tee.launch.simulation_pki import Issuer, _der, sign_raw


def verify(raw):
    return verify_collateral(raw, root_sha256=root_sha256())


# --- what is genuine -----------------------------------------------------------------------------


def test_genuine_collateral_says_what_it_is_about_and_when_it_ends():
    found = verify(made(issued=NOW - DAY, ends=NOW + DAY, number=12))
    assert found.model == model()
    assert str(found.model) == "TDX 57524453494d platform"
    assert found.ends == NOW + DAY
    assert found.issued == NOW - DAY
    assert found.terms[Part.TCB_INFO].evaluation == 12
    assert found.terms[Part.PCK_CRL].evaluation == 0


def test_what_comes_out_is_what_came_in_and_verifies_a_quote():
    raw = made()
    encoded = verify(raw).encode()
    assert fields_of(encoded) == fields_of(raw)
    claims = verify_quote(machine().quote(), encoded, root=machine().root_der, now=NOW)
    assert claims.collateral_expires == verify(raw).ends


def test_a_simulated_sgx_platform(platform):
    found = verify_collateral(platform.collateral(), root_sha256=platform.root_sha256)
    quote = parse_quote(platform.quote(mr_enclave=bytes(32), report_data=bytes(64)))
    assert found.model.kind is TeeKind.SGX
    assert found.model == verify_model(quote, roots=frozenset({platform.root_sha256}))


@pytest.mark.parametrize(
    ("name", "now", "kind", "ca"),
    [
        ("sgx_quote", 1751624924, TeeKind.SGX, PckCa.PROCESSOR),
        ("tdx_quote", 1751624191, TeeKind.TDX, PckCa.PLATFORM),
        ("tdx_quote_out_of_date", 1740714290, TeeKind.TDX, PckCa.PLATFORM),
    ],
)
def test_real_collateral(real, name, now, kind, ca):
    found = verify_collateral(real(f"{name}_collateral.json"), root_sha256=INTEL_ROOT_SHA256)
    quote = parse_quote(real(name))
    assert found.model == verify_model(quote, roots=frozenset({INTEL_ROOT_SHA256}))
    assert (found.model.kind, found.model.ca) == (kind, ca)
    claims = verify_quote(quote.raw, found.encode(), root=INTEL_ROOT_DER, now=now)
    assert claims.fmspc == found.model.fmspc
    assert claims.collateral_expires == found.ends


def test_the_platforms_own_chain_is_left_out():
    raw = made()
    found = verify(changed(raw, pck_certificate_chain=machine().pki.pck_chain_pem))
    assert found == verify(raw)
    assert "pck_certificate_chain" not in fields_of(found.encode())


# --- attacks: somebody else's statements ---------------------------------------------------------


@pytest.mark.parametrize("name", [
    "pck_crl_issuer_chain", "root_ca_crl", "pck_crl", "tcb_info_issuer_chain", "tcb_info",
    "tcb_info_signature", "qe_identity_issuer_chain", "qe_identity", "qe_identity_signature",
])  # fmt: skip
def test_no_field_may_be_altered(name):
    raw = made()
    text = fields_of(raw)[name]
    for at in range(len(text) // 4, len(text), len(text) // 4):
        other = "1" if text[at] == "0" else "0"
        with pytest.raises((EvidenceInvalid, FormatError)):
            verify(changed(raw, **{name: text[:at] + other + text[at + 1 :]}))


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_a_statement_is_verified_in_the_bytes_that_were_signed(name):
    rewritten = json.dumps(json.loads(fields_of(made())[name]), indent=1)
    with pytest.raises(EvidenceInvalid, match=f"{name}: the signature does not verify"):
        verify(changed(made(), **{name: rewritten}))


def test_a_forged_root_with_the_same_names():
    with pytest.raises(EvidenceInvalid, match="ends in another root certificate"):
        verify(made(pki=impostor()))
    assert root_of(made(pki=impostor())) != root_sha256()
    assert root_of(made()) == root_sha256()


@pytest.mark.parametrize("name", ["pck_crl", "tcb_info", "qe_identity"])
def test_a_forged_signer_below_the_true_root(name):
    forger, root = impostor(), machine().pki.root.pem
    chain = (forger.pck_ca if name == "pck_crl" else forger.tcb_signing).pem + root
    forged = {field: text for field, text in fields_of(made(pki=forger)).items() if name in field}
    with pytest.raises(EvidenceInvalid, match=f"{name}: the certificate chain does not verify"):
        verify(changed(made(), **forged | {f"{name}_issuer_chain": chain}))


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_a_pck_key_signs_no_statement_about_platforms(name):
    """Every platform has one: its owner would call his own machine up to date."""
    pki = machine().pki
    text = fields_of(made())[name]
    forged = {
        f"{name}_signature": sign_raw(pki.pck.key, text.encode()).hex(),
        f"{name}_issuer_chain": pki.pck.pem + pki.root.pem,
    }
    with pytest.raises(EvidenceInvalid, match=f"{name}: the certificate chain does not verify"):
        verify(changed(made(), **forged))
    with pytest.raises(EvidenceInvalid, match="another root"):
        verify(changed(made(), **forged | {f"{name}_issuer_chain": pki.pck.pem + pki.pck_ca.pem}))


def test_revocation_lists_are_those_of_their_issuers():
    pki, forger = machine().pki, impostor()
    for name, wrong in (
        ("root_ca_crl", forger.root),  # the right name, another key
        ("root_ca_crl", pki.pck_ca),  # somebody else of the same vendor
        ("pck_crl", forger.pck_ca),
        ("pck_crl", pki.root),
        # The right key under another name: a list of whom else it revokes.
        ("root_ca_crl", Issuer(certificate=pki.pck_ca.certificate, key=pki.root.key)),
    ):
        with pytest.raises(EvidenceInvalid, match=f"{name}: the revocation list is not its"):
            verify(changed(made(), **{name: crl(wrong)}))


@pytest.mark.parametrize("name", ["pck_crl", "tcb_info", "qe_identity"])
def test_a_signer_that_the_root_revoked(name):
    """Each statement has a signer of its own here, and one of them was revoked."""
    pki, raw = machine().pki, made()
    for each in ("tcb_info", "qe_identity"):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = builder("TCB Signing", pki.root, key.public_key(), ca=False).sign(
            pki.root.key, hashes.SHA256()
        )
        signer = Issuer(certificate=certificate, key=key)
        signature = sign_raw(key, fields_of(raw)[each].encode()).hex()
        chain = signer.pem + pki.root.pem
        raw = changed(raw, **{f"{each}_signature": signature, f"{each}_issuer_chain": chain})
    verify(raw)
    chain = fields_of(raw)[f"{name}_issuer_chain"].encode()
    serial = x509.load_pem_x509_certificates(chain)[0].serial_number
    with pytest.raises(EvidenceInvalid, match="was revoked by the root"):
        verify(changed(raw, root_ca_crl=crl(pki.root, revoked=(serial,))))


def test_a_signer_with_another_kind_of_key():
    root = machine().pki.root
    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        certificate = builder("TCB Signing", root, key.public_key(), ca=False).sign(
            root.key, hashes.SHA256()
        )
        chain = certificate.public_bytes(Encoding.PEM).decode() + root.pem
        with pytest.raises(EvidenceInvalid, match="tcb_info: the signature does not verify"):
            verify(changed(made(), tcb_info_issuer_chain=chain))


@pytest.mark.filterwarnings("ignore")  # `cryptography` warns of it, and goes on
@pytest.mark.parametrize("name", ["pck_crl", "tcb_info"])
def test_a_signer_with_a_serial_number_below_zero(name):
    """Certificates of others may have one; no revocation list can name it (RFC 5280, 4.1.2.2)."""
    pki = machine().pki
    signer = pki.pck_ca if name == "pck_crl" else pki.tcb_signing
    tbs = bytearray(signer.certificate.tbs_certificate_bytes)
    serial = tbs.index(b"\xa0\x03\x02\x01\x02\x02") + 7  # behind the version, tag and length
    tbs[serial] |= 0x80
    chain = render_pem_chain((resigned(bytes(tbs), pki.root), machine().root_der)).decode()
    with pytest.raises(EvidenceInvalid, match="does not parse"):
        verify(changed(made(), **{f"{name}_issuer_chain": chain}))


def test_an_authority_that_is_neither_of_the_two():
    root, key = machine().pki.root, machine().pki.pck_ca.key
    for name in ("PCK CA", "PCK Platform and Processor CA"):
        certificate = builder(name, root, key.public_key(), ca=True).sign(root.key, hashes.SHA256())
        issuer = Issuer(certificate=certificate, key=key)
        with pytest.raises(EvidenceInvalid, match="unknown authority"):
            verify(changed(made(), pck_crl=crl(issuer), pck_crl_issuer_chain=issuer.pem + root.pem))


# --- attacks: what does not parse or fit ---------------------------------------------------------


def test_nothing_and_nonsense():
    with pytest.raises(CollateralUnavailable):
        verify(b"")
    with pytest.raises(FormatError):
        verify(b"{}")
    with pytest.raises(EvidenceInvalid, match="pck_crl: the revocation list does not parse"):
        verify(changed(made(), pck_crl="00ff"))
    with pytest.raises(EvidenceInvalid, match="64 bytes"):
        verify(changed(made(), tcb_info_signature="00ff"))
    nothing = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    with pytest.raises(EvidenceInvalid, match="tcb_info: the certificate chain does not verify"):
        verify(changed(made(), tcb_info_issuer_chain=nothing + machine().pki.root.pem))


@pytest.mark.parametrize(
    ("tcb_info", "qe_identity", "told"),
    [
        ({"id": "SGX"}, {}, "different or unknown kinds"),
        ({}, {"id": "QE"}, "different or unknown kinds"),
        ({"id": "SNP"}, {"id": "SNP"}, "different or unknown kinds"),
        ({"version": 2}, {}, "TCB info of version 3"),
        ({}, {"version": 1}, "QE identity of version 2"),
        ({"fmspc": "no hex"}, {}, "FMSPC is not hex"),
        ({"fmspc": "00"}, {}, "an FMSPC has 6 bytes"),
        ({"issueDate": "yesterday"}, {}, "tcb_info has no valid time"),
        ({"nextUpdate": "2026-01-01T00:00:00"}, {}, "tcb_info has a time without a zone"),
        ({}, {"issueDate": ""}, "qe_identity has no valid time"),
        ({"tcbEvaluationDataNumber": "17"}, {}, "tcb_info: Expected `int`"),
    ],
)
def test_statements_that_say_something_else(tcb_info, qe_identity, told):
    with pytest.raises((EvidenceInvalid, FormatError), match=told):
        verify(made(tcb_info=tcb_info, qe_identity=qe_identity))


def test_a_revocation_list_that_never_ends():
    issuer = machine().pki.root
    der = without_next_update(bytes.fromhex(crl(issuer)), issuer.key)
    assert x509.load_der_x509_crl(der).next_update_utc is None
    with pytest.raises(EvidenceInvalid, match="does not say when it ends"):
        verify(changed(made(), root_ca_crl=der.hex()))


def without_next_update(der, key):
    """Return a revocation list without the optional field (RFC 5280, section 5.1), signed anew."""
    listed = x509.load_der_x509_crl(der)
    tbs, content = listed.tbs_certlist_bytes, b"\x17\x0d"  # UTCTime: thisUpdate, then nextUpdate
    first = tbs.index(content)
    second = tbs.index(content, first + 1)
    header = 4 if tbs[1] == 0x82 else 3
    shorter = _der(0x30, tbs[header:second] + tbs[second + 15 :])
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    signature = _der(0x03, b"\0" + key.sign(shorter, ec.ECDSA(hashes.SHA256())))
    return _der(0x30, shorter + algorithm + signature)


# --- time ----------------------------------------------------------------------------------------


def test_it_ends_with_its_first_statement_or_certificate():
    late = made(ends=NOW + 20_000 * DAY)  # after every certificate
    pki = machine().pki
    ends = int(pki.root.certificate.not_valid_after_utc.timestamp())
    assert verify(late).ends == ends
    early = changed(made(), **statement("qe_identity", json.dumps(
        machine().qe_identity() | {"nextUpdate": stamp(NOW + HOUR)}
    )))  # fmt: skip
    assert verify(early).ends == NOW + HOUR


@pytest.mark.parametrize(
    ("life_s", "margin_s"),
    [(30 * DAY, WARN_BEFORE_S), (365 * DAY, WARN_BEFORE_S), (4 * DAY, DAY), (8 * HOUR, 2 * HOUR)],
)
def test_expires_soon_a_week_before_the_end_or_a_quarter_of_its_life(life_s, margin_s):
    held = signed(issued=NOW, ends=NOW + life_s)
    assert not expires_soon(held, NOW)
    assert not expires_soon(held, NOW + life_s - margin_s)
    assert expires_soon(held, NOW + life_s - margin_s + 1)
    assert expires_soon(held, NOW + life_s + 1)


def test_the_margin_may_be_chosen():
    held = signed(issued=NOW, ends=NOW + 30 * DAY)
    assert expires_soon(held, NOW + DAY, warn_before_s=30 * DAY)
    assert not expires_soon(held, NOW + 29 * DAY, warn_before_s=HOUR)


# --- which is newer ------------------------------------------------------------------------------


def test_neither_numbers_nor_times_go_back_whatever_is_paired():
    """Each of 81 mixtures of three genuine sets with each other: every statement is the newer."""
    sets = [
        made(issued=NOW - 3 * DAY, number=17),
        made(issued=NOW - 2 * DAY, number=16),  # later, and about an earlier evaluation
        made(issued=NOW - DAY, number=18),
    ]
    parts = {
        Part.PCK_CRL: ("pck_crl", "pck_crl_issuer_chain"),
        Part.ROOT_CA_CRL: ("root_ca_crl",),
        Part.TCB_INFO: ("tcb_info", "tcb_info_signature", "tcb_info_issuer_chain"),
        Part.QE_IDENTITY: ("qe_identity", "qe_identity_signature", "qe_identity_issuer_chain"),
    }
    mixtures = [
        verify(changed(sets[0], **{
            name: fields_of(sets[chosen])[name]
            for chosen, names in zip(choice, parts.values(), strict=True) for name in names
        }))
        for choice in itertools.product(range(3), repeat=4)
    ]  # fmt: skip
    for held in mixtures:
        for other in mixtures[::7]:
            best = newest(held, other)
            for part in Part:
                ranks = held.terms[part].rank, other.terms[part].rank
                assert best.terms[part].rank == max(ranks)
            assert not older(best, best)
            assert older(best, held) == tuple(
                part for part in Part if held.terms[part].rank < best.terms[part].rank
            )
            assert verify(best.encode()) == best


def test_equally_new_changes_nothing():
    held = signed()
    assert newest(held, signed()) is not held
    assert newest(held, signed()).collateral == held.collateral


def test_two_models_are_not_compared():
    other = dataclasses.replace(model(), fmspc=bytes(6))
    with pytest.raises(LocalProtocolError):
        newest(signed(), dataclasses.replace(signed(), model=other))
