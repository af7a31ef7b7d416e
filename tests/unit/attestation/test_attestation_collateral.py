"""The form of collateral, and who signed it: before the library, and where it does not look."""

import copy
import json

import dcap_qvl
import pytest
from attestation_cases import NOW
from collateral_cases import resigned
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from simulators.td_quotes import TdxPlatform

from wardian.attestation.certificates.pem_chain import render_pem_chain
from wardian.attestation.collateral.bundle import MAX_COLLATERAL_BYTES, parse_collateral
from wardian.attestation.quotes.quote import parse_quote
from wardian.attestation.verification.statements import read_statements
from wardian.attestation.verifier import verify_quote
from wardian.errors import CollateralUnavailable, EvidenceInvalid, FormatError
from wardian.tee.launch.simulation_pki import sign_raw

PLATFORM = TdxPlatform(now=NOW)
QUOTE = PLATFORM.quote()
COLLATERAL = PLATFORM.collateral()
FIELDS = json.loads(COLLATERAL)
HEX = ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature")
CHAINS = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")


def verify(collateral, now=NOW):
    return verify_quote(QUOTE, collateral, root=PLATFORM.root_der, now=now)


def with_fields(**changes):
    return json.dumps(FIELDS | changes).encode()


CLAIMS = verify(COLLATERAL)


def library_accepts(collateral):
    statements = dcap_qvl.QuoteCollateralV3.from_json(collateral.decode())
    policy = dcap_qvl.QuotePolicy.claims_only(NOW)
    dcap_qvl.QuoteVerifier(PLATFORM.root_der).verify_with_policy(QUOTE, statements, NOW, policy)
    return True


# --- form ----------------------------------------------------------------------------------------


def test_json_may_be_laid_out_in_any_way():
    for text in (
        json.dumps(FIELDS, indent=2),
        json.dumps(dict(reversed(FIELDS.items()))),
        json.dumps(FIELDS, separators=(",", ":")).replace("/", "\\/"),
    ):
        assert verify(text.encode()) == CLAIMS


def test_no_collateral_is_retryable():
    with pytest.raises(CollateralUnavailable) as refused:
        verify(b"")
    assert refused.value.retryable


@pytest.mark.parametrize(
    "collateral", [b"{}", b"x", b"[]", b'{"unknown": 1}', b" " * (MAX_COLLATERAL_BYTES + 1)]
)
def test_collateral_that_does_not_parse(collateral):
    with pytest.raises(FormatError, match="collateral"):
        verify(collateral)


@pytest.mark.parametrize("field", HEX)
def test_hex_in_one_case(field):
    text = FIELDS[field]
    assert verify(with_fields(**{field: text.upper()})) == CLAIMS
    for other in ("no hex", text[:-1], f"0x{text}", f" {text}", f"{text[:-2]}é"):
        with pytest.raises(FormatError, match=f"{field} is not hex"):
            verify(with_fields(**{field: other}))
    half = len(text) // 2
    for mixed in (text[:half] + text[half:].upper(), text[:half].upper() + text[half:]):
        with pytest.raises(FormatError, match=f"{field} is hex in mixed case"):
            verify(with_fields(**{field: mixed}))


@pytest.mark.parametrize("field", CHAINS)
@pytest.mark.parametrize("before", ["", "text\n"])
@pytest.mark.parametrize("after", ["\n", "\0", "text"])
def test_chains_in_one_form(field, before, after):
    with pytest.raises(FormatError, match=field):
        verify(with_fields(**{field: before + FIELDS[field] + after}))
    with pytest.raises(FormatError, match=field):
        verify(with_fields(**{field: FIELDS[field].replace("\n", "\r\n")}))


@pytest.mark.parametrize("field", CHAINS)
def test_chains_are_of_two_certificates(field):
    root = PLATFORM.pki.root.pem
    for chain, count in ((root, 1), (FIELDS[field] + root, 3), ("", 0)):
        with pytest.raises(FormatError, match=f"{count} certificates, 2 expected"):
            verify(with_fields(**{field: chain}))


# --- who signed it -------------------------------------------------------------------------------


def signed_by_the_pck(name, chain):
    """Return collateral in which the platform's own key signed one of the vendor's statements."""
    text = FIELDS[name].replace("UpToDate", "OutOfDate")
    return with_fields(
        **{
            name: text,
            f"{name}_signature": sign_raw(PLATFORM.pki.pck.key, text.encode()).hex(),
            f"{name}_issuer_chain": chain,
        }
    )


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_statement_signed_by_the_key_of_a_platform(name):
    """The library takes it: below the root, every certificate is as good as another."""
    forged = signed_by_the_pck(name, PLATFORM.pki.pck_chain_pem)
    assert library_accepts(forged)
    with pytest.raises(FormatError, match="3 certificates, 2 expected"):
        verify(forged)


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
@pytest.mark.parametrize("second", ["root", "pck_ca"])
def test_statement_signed_by_the_key_of_a_platform_with_a_shorter_chain(name, second):
    pki = PLATFORM.pki
    with pytest.raises(EvidenceInvalid, match="another root|chain does not verify"):
        verify(signed_by_the_pck(name, pki.pck.pem + getattr(pki, second).pem))


@pytest.mark.parametrize("field", CHAINS)
def test_issuers_under_another_root(field):
    other = TdxPlatform(now=NOW)
    with pytest.raises(EvidenceInvalid, match="another root"):
        verify(with_fields(**{field: json.loads(other.collateral())[field]}))


def test_issuers_of_the_pck_crl_are_verified():
    """The library reads their dates alone: an altered one would move the collateral's end."""
    chain = parse_collateral(COLLATERAL).pck_crl_issuers
    ended = x509.load_der_x509_certificate(chain[0]).not_valid_after_utc.strftime("%y%m%d")
    assert chain[0].count(ended.encode()) == 1
    sooner = chain[0].replace(ended.encode(), b"2" + ended[1:].encode())
    forged = with_fields(pck_crl_issuer_chain=render_pem_chain((sooner, chain[1])).decode())
    assert library_accepts(forged)
    with pytest.raises(EvidenceInvalid, match="issuers: the certificate chain does not verify"):
        verify(forged)


def reissued(subject=None, key=None):
    """Return a certificate like the PCK CA's by the same root, with another serial number."""
    pki = PLATFORM.pki
    old = pki.pck_ca.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject or old.subject)
        .issuer_name(old.issuer)
        .public_key(key or old.public_key())
        .serial_number(old.serial_number + 1)
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(old.not_valid_after_utc)
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(pki.root.key, hashes.SHA256())


def pem_of(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def test_ca_whose_certificate_the_vendor_issued_anew():
    """Intel did so: its processor CA has two certificates of one name and one key."""
    chain = pem_of(reissued()) + PLATFORM.pki.root.pem
    assert verify(with_fields(pck_crl_issuer_chain=chain)) == CLAIMS


@pytest.mark.parametrize("what", ["subject", "key"])
def test_ca_of_other_platforms(what):
    signing = PLATFORM.pki.tcb_signing.certificate
    other = {"subject": signing.subject} if what == "subject" else {"key": signing.public_key()}
    chain = pem_of(reissued(**other)) + PLATFORM.pki.root.pem
    with pytest.raises(EvidenceInvalid, match="another CA than the platform's"):
        verify(with_fields(pck_crl_issuer_chain=chain))


def test_unused_bits_of_a_signature():
    """A BIT STRING of DER says how many bits of its last byte do not count; of ECDSA's: none."""
    while True:
        certificate = reissued()
        if certificate.signature[-1] % 2 == 0:
            break
    der = certificate.public_bytes(serialization.Encoding.DER)
    at = len(der) - len(certificate.signature) - 1
    assert der[at] == 0
    odd = der[:at] + b"\x01" + der[at + 1 :]
    for first, accepted in ((der, True), (odd, False)):
        chain = render_pem_chain((first, PLATFORM.root_der)).decode()
        collateral = with_fields(pck_crl_issuer_chain=chain)
        if accepted:
            assert verify(collateral) == CLAIMS
            continue
        with pytest.raises(EvidenceInvalid, match="another form than DER"):
            verify(collateral)


def quote_with_ca(der):
    """Return the quote with another certificate in the place of the platform's CA."""
    chain = parse_quote(QUOTE).chain
    start = QUOTE.index(b"-----BEGIN")
    data = QUOTE[:start] + render_pem_chain((chain[0], der, chain[2])) + b"\0"
    for at in (632, 632 + 4 + 128 + 2, start - 4):
        data = data[:at] + (len(data) - at - 4).to_bytes(4, "little") + data[at + 4 :]
    return data


def test_issuer_of_the_platform_that_is_no_certificate():
    with pytest.raises(EvidenceInvalid, match="platform's CA: the certificate chain does not"):
        verify_quote(quote_with_ca(b"\0" * 500), COLLATERAL, root=PLATFORM.root_der, now=NOW)


EC_KEY = bytes.fromhex("06072a8648ce3d0201")  # id-ecPublicKey (RFC 5480, 2.1.1)


def with_another_key(certificate):
    """Return `certificate` by the root anew, with a key of a kind that nobody ever named."""
    tbs = certificate.tbs_certificate_bytes
    assert EC_KEY in tbs
    return resigned(tbs.replace(EC_KEY, EC_KEY[:-1] + b"\x7f"), PLATFORM.pki.root)


def test_ca_with_a_key_of_a_kind_that_nobody_knows():
    """Whoever looks at evidence under its own root, as `wardian attest show` does, meets it."""
    odd = with_another_key(PLATFORM.pki.pck_ca.certificate)
    with pytest.raises(EvidenceInvalid, match="does not parse"):
        verify_quote(quote_with_ca(odd), COLLATERAL, root=PLATFORM.root_der, now=NOW)
    chain = render_pem_chain((odd, PLATFORM.root_der)).decode()
    with pytest.raises(EvidenceInvalid, match="does not parse"):
        verify(with_fields(pck_crl_issuer_chain=chain))


def test_pck_chain_in_collateral_is_the_quotes_own():
    """Tools add it, and the quote's counts: so there is nothing to choose between."""
    own = PLATFORM.pki.pck_chain_pem
    assert verify(with_fields(pck_certificate_chain=own)) == CLAIMS
    other = TdxPlatform(now=NOW).pki.pck_chain_pem
    with pytest.raises(EvidenceInvalid, match="another PCK chain"):
        verify(with_fields(pck_certificate_chain=other))
    with pytest.raises(FormatError, match="pck_certificate_chain"):
        verify(with_fields(pck_certificate_chain=own + "\n"))


# --- what we read in it --------------------------------------------------------------------------


def test_oldest_of_three_statements():
    def issued(tcb_info, qe_identity):
        said = PLATFORM.tcb_info(), PLATFORM.qe_identity()
        said[0]["issueDate"] = tcb_info
        said[1]["issueDate"] = qe_identity
        return verify(PLATFORM.collateral(*said)).collateral_issued

    crl = NOW - 3600
    assert issued("2027-01-15T07:30:00Z", "2027-01-15T07:45:00Z") == crl
    assert issued("2027-01-15T06:00:00Z", "2027-01-15T05:00:00Z") == NOW - 3 * 3600
    assert issued("2027-01-15T05:00:00Z", "2027-01-15T06:00:00Z") == NOW - 3 * 3600


def test_collateral_for_platforms_with_another_pce():
    """The library compares the FMSPC alone."""
    tcb_info = PLATFORM.tcb_info() | {"pceId": "0001"}
    assert library_accepts(PLATFORM.collateral(tcb_info))
    with pytest.raises(EvidenceInvalid, match="another PCEID"):
        verify(PLATFORM.collateral(tcb_info))


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
@pytest.mark.parametrize(
    "text", ["{}", '{"issueDate": "yesterday"}', '{"issueDate": "2027-01-15"}', "junk"]
)
def test_statement_without_a_date(name, text):
    signed = parse_collateral(with_fields(**{name: text}))
    with pytest.raises(FormatError, match=f"{name} lacks a valid issueDate"):
        read_statements(signed)


def test_list_without_a_date():
    with pytest.raises(FormatError, match="pck_crl is no revocation list"):
        read_statements(parse_collateral(with_fields(pck_crl="00")))


def test_statements_of_the_vendor_stay_as_they_were_signed():
    spaced = copy.deepcopy(FIELDS)
    spaced["tcb_info"] = json.dumps(json.loads(FIELDS["tcb_info"]), indent=1)
    with pytest.raises(EvidenceInvalid, match="tcb_info"):
        verify(json.dumps(spaced).encode())
