"""What is asked of a PCCS, and what its answers may look like: no socket is here."""

import json
from hashlib import sha256
from urllib.parse import quote

import pytest
from collateral_cases import changed, fields_of, machine, made, model, root_sha256
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from simulators.pccs import answer_for

from wardian.attestation.claims import TeeKind
from wardian.attestation.collateral.pccs import Answer, build_collateral, parse_pccs
from wardian.attestation.collateral.platform_model import PckCa, PlatformModel
from wardian.attestation.collateral.signed import verify_collateral
from wardian.attestation.collateral.term import Part
from wardian.errors import ConfigError, EvidenceInvalid, FormatError

SGX = PlatformModel(
    kind=TeeKind.SGX,
    fmspc=bytes.fromhex("00a067110000"),
    ca=PckCa.PROCESSOR,
    root_sha256=bytes(32),
)


def answers(raw, of=None):
    """Return what a PCCS that has the collateral `raw` answers about `of`."""
    found = {}
    for part, question in parse_pccs("https://pccs").questions(of or model()).items():
        reply = answer_for([raw], question.target)
        assert reply.status == 200
        found[part] = Answer(headers=reply.headers, body=reply.body)
    return found


# --- questions -----------------------------------------------------------------------------------


def test_what_is_asked_about_an_sgx_platform():
    asked = parse_pccs("https://pccs.example:8081", update="early").questions(SGX)
    assert {part: each.target for part, each in asked.items()} == {
        Part.PCK_CRL: "/sgx/certification/v4/pckcrl?ca=processor&encoding=der",
        Part.ROOT_CA_CRL: "/sgx/certification/v4/rootcacrl",
        Part.TCB_INFO: "/sgx/certification/v4/tcb?fmspc=00A067110000&update=early",
        Part.QE_IDENTITY: "/sgx/certification/v4/qe/identity?update=early",
    }
    assert {(each.host, each.port, each.secure) for each in asked.values()} == {
        ("pccs.example", 8081, True)
    }


def test_what_is_asked_about_a_machine_with_tdx():
    asked = parse_pccs("http://10.0.0.1/proxied/").questions(model())
    assert asked[Part.TCB_INFO].target == (
        "/proxied/tdx/certification/v4/tcb?fmspc=57524453494D&update=standard"
    )
    assert asked[Part.QE_IDENTITY].target.startswith("/proxied/tdx/")
    assert asked[Part.PCK_CRL].target == (
        "/proxied/sgx/certification/v4/pckcrl?ca=platform&encoding=der"
    )
    assert asked[Part.ROOT_CA_CRL].target == "/proxied/sgx/certification/v4/rootcacrl"
    assert {(each.host, each.port, each.secure) for each in asked.values()} == {
        ("10.0.0.1", 80, False)
    }


def test_intels_own_service_has_the_roots_list_elsewhere():
    asked = parse_pccs("https://api.trustedservices.intel.com").questions(SGX)
    root = asked.pop(Part.ROOT_CA_CRL)
    assert (root.host, root.port, root.secure) == (
        "certificates.trustedservices.intel.com",
        443,
        True,
    )
    assert root.target == "/IntelSGXRootCA.der"
    assert {each.host for each in asked.values()} == {"api.trustedservices.intel.com"}


@pytest.mark.parametrize(
    ("url", "host", "port", "prefix"),
    [
        ("https://localhost:8081/sgx/certification/v4/", "localhost", 8081, ""),
        ("https://localhost:8081/tdx/certification/v4", "localhost", 8081, ""),
        ("http://[::1]:80/a/b", "::1", 80, "/a/b"),
        ("https://PCCS.example./", None, None, None),
        ("https://pccs_1.example", "pccs_1.example", 443, ""),
    ],
)
def test_addresses(url, host, port, prefix):
    if host is None:
        with pytest.raises(ConfigError):
            parse_pccs(url)
        return
    found = parse_pccs(url)
    assert (found.host, found.port, found.prefix) == (host, port, prefix)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "pccs.example",
        "file:///etc/passwd",
        "ftp://pccs.example",
        "unix:/run/pccs",
        "https://",
        "https://user:secret@pccs.example",
        "https://pccs.example?x=1",
        "https://pccs.example/?",
        "https://pccs.example#x",
        "https://pccs.example:0",
        "https://pccs.example:99999",
        "https://pccs.example:x",
        "https://pccs.example/../etc",
        "https://pccs.example/a b",
        "https://pccs.example/%0d%0aHost:%20other",
        "https://pccs.example\r\nX-Injected: 1",
        "https://pccs.example/\n",
        "https://[::1",
        "https://[zz]",
        "https://pcc\u0455.example",
        "https://.pccs",
        "https://a..b",
        f"https://{'a' * 64}.example",
    ],
)
def test_whatever_is_no_address_of_a_service(url):
    with pytest.raises(ConfigError, match="expected http"):
        parse_pccs(url)


@pytest.mark.parametrize("path", ["", "/sgx/certification/v4", "/sgx/certification/v3", ":x"])
def test_a_password_is_not_repeated(path):
    with pytest.raises(ConfigError) as refused:
        parse_pccs(f"https://user:hunter2@pccs.example{path}")
    assert "hunter2" not in str(refused.value)


def test_another_version_of_the_api():
    with pytest.raises(ConfigError, match="only version 4"):
        parse_pccs("https://pccs.example/sgx/certification/v3/")


# --- answers -------------------------------------------------------------------------------------


def test_answers_become_collateral_byte_for_byte():
    raw = made()
    found = build_collateral(answers(raw))
    assert fields_of(found) == fields_of(raw)
    assert verify_collateral(found, root_sha256=root_sha256()).model == model()


def test_answers_about_sgx(platform):
    raw = platform.collateral()
    about = verify_collateral(raw, root_sha256=platform.root_sha256).model
    assert fields_of(build_collateral(answers(raw, about))) == fields_of(raw)


@pytest.mark.parametrize("name", ["sgx_quote", "sgx_quote_debug", "tdx_quote"])
def test_what_intel_signed(real, name):
    raw = real(f"{name}_collateral.json")
    root = x509.load_pem_x509_certificates(fields_of(raw)["tcb_info_issuer_chain"].encode())[-1]
    digest = sha256(root.public_bytes(Encoding.DER)).digest()
    about = verify_collateral(raw, root_sha256=digest).model
    found = build_collateral(answers(raw, about))
    assert fields_of(found) == fields_of(raw)
    verify_collateral(found, root_sha256=digest)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1,\n\t"b" : [ ] }',
        '{"a":"\\u00e9\\"}{","tcbInfo":{"nested":{}},"signature":"no"}',
        '{"a":1.50e+01,"a":2,"\u00e9":"\u00e9"}',
    ],
)
def test_what_was_signed_is_never_written_anew(text):
    """Numbers, escapes, blanks, keys that come twice: the signature is over these bytes."""
    raw = changed(made(), tcb_info=text, qe_identity=text)
    found = answers(made())
    body = f'{{ "ignored":[1],\n "signature":"00", "tcbInfo" : {text} }}'.encode()
    found[Part.TCB_INFO] = Answer(headers=found[Part.TCB_INFO].headers, body=body)
    body = body.replace(b'"tcbInfo" :', b'"enclaveIdentity" :')
    found[Part.QE_IDENTITY] = Answer(headers=found[Part.QE_IDENTITY].headers, body=body)
    built = fields_of(build_collateral(found))
    assert built["tcb_info"] == fields_of(raw)["tcb_info"] == text
    assert built["qe_identity"] == text


def with_body(part, body):
    found = answers(made())
    found[part] = Answer(headers=found[part].headers, body=body)
    return found


@pytest.mark.parametrize("part", [Part.PCK_CRL, Part.ROOT_CA_CRL])
def test_the_forms_of_a_revocation_list(part):
    raw = made()
    der = bytes.fromhex(fields_of(raw)[part.value])
    pem = x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)
    for body in (der, der.hex().encode(), der.hex().upper().encode() + b"\n", pem, b"\n" + pem):
        found = answers(raw)
        found[part] = Answer(headers=found[part].headers, body=body)
        assert fields_of(build_collateral(found))[part.value] == der.hex()


@pytest.mark.parametrize("part", [Part.PCK_CRL, Part.ROOT_CA_CRL])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"<html>",
        b"30",
        b"30zz",
        b"30\xff",
        b"\x30\x82\xff\xff",
        b"-----BEGIN X509 CRL-----\n",
        b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
        bytes(1000),
    ],
)
def test_what_is_no_revocation_list(part, body):
    with pytest.raises(FormatError, match=f"{part.value} is no revocation list"):
        build_collateral(with_body(part, body))


def test_nothing_may_follow_a_revocation_list():
    der = bytes.fromhex(fields_of(made())["pck_crl"])
    with pytest.raises(FormatError):
        build_collateral(with_body(Part.PCK_CRL, der + b"\0"))


@pytest.mark.parametrize("part", [Part.TCB_INFO, Part.QE_IDENTITY])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"<html>",
        b'{"signature":"00"}',
        b'{"NAME":{}}',
        b'{"NAME":{},"signature":1}',
        b'{"NAME":null,"signature":"00"}',
        b'{"NAME":"{}","signature":"00"}',
        b'{"NAME":[{}],"signature":"00"}',
        b'{"NAME":{"a":"\xff"},"signature":"00"}',
        b'{"NAME":{},"signature":"00"}{}',
        b'{"NAME":' + b"[" * 100_000,
        b'{"NAME":{"a":1,"signature":"00"}',
    ],
)
def test_what_is_no_signed_statement(part, body):
    name = {Part.TCB_INFO: b"tcbInfo", Part.QE_IDENTITY: b"enclaveIdentity"}[part]
    with pytest.raises(FormatError):
        build_collateral(with_body(part, body.replace(b"NAME", name)))


# --- issuer chains in headers --------------------------------------------------------------------


def with_headers(part, *headers):
    found = answers(made())
    found[part] = Answer(headers=headers, body=found[part].body)
    return found


def chain():
    return fields_of(made())["tcb_info_issuer_chain"]


@pytest.mark.parametrize(
    "name", ["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain", "tcb-info-issuer-chain"]
)
def test_both_names_of_the_header(name):
    found = with_headers(Part.TCB_INFO, ("Date", "x"), (name, quote(chain(), safe="")))
    assert fields_of(build_collateral(found))["tcb_info_issuer_chain"] == chain()


def test_the_last_line_end_may_be_missing_and_slashes_unencoded():
    value = quote(chain().rstrip("\n"), safe="/ ")
    found = with_headers(Part.TCB_INFO, ("TCB-Info-Issuer-Chain", f" {value} "))
    assert fields_of(build_collateral(found))["tcb_info_issuer_chain"] == chain()


@pytest.mark.parametrize("part", [Part.PCK_CRL, Part.TCB_INFO, Part.QE_IDENTITY])
def test_no_chain(part):
    with pytest.raises(FormatError, match="came with 0 issuer chains"):
        build_collateral(with_headers(part, ("Date", "x")))


def test_two_chains():
    value = quote(chain(), safe="")
    for second in ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain", "tcb-info-issuer-chain"):
        found = with_headers(Part.TCB_INFO, ("TCB-Info-Issuer-Chain", value), (second, value))
        with pytest.raises(FormatError, match="came with 2 issuer chains"):
            build_collateral(found)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "%",
        "%zz",
        "a\r\nX-Injected: 1",
        "a\nb",
        "a\x00b",
        "\u00e9",
        "<script>",
        "-----BEGIN CERTIFICATE-----\nMII",
    ],
)
def test_a_header_that_is_not_percent_encoded(value):
    with pytest.raises(FormatError, match="not percent-encoded"):
        build_collateral(with_headers(Part.TCB_INFO, ("TCB-Info-Issuer-Chain", value)))


def test_a_header_that_decodes_to_something_else():
    with pytest.raises(FormatError, match="not ASCII"):
        build_collateral(with_headers(Part.TCB_INFO, ("TCB-Info-Issuer-Chain", "%FF")))
    for value in ("%0D%0AX-Injected:%201", "%00", quote(chain().replace("\n", "\r\n"))):
        built = with_headers(Part.TCB_INFO, ("TCB-Info-Issuer-Chain", value.replace(":", "%3A")))
        with pytest.raises(FormatError, match="collateral: tcb_info_issuer_chain"):
            verify_collateral(build_collateral(built), root_sha256=root_sha256())


def test_answers_are_not_collateral_yet():
    """Whoever answers may put together what he likes: only signatures say whose it is."""
    found = answers(made())
    found[Part.QE_IDENTITY] = Answer(
        headers=found[Part.QE_IDENTITY].headers,
        body=json.dumps(
            {"enclaveIdentity": machine().qe_identity(), "signature": "00" * 64}
        ).encode(),
    )
    with pytest.raises(EvidenceInvalid):
        verify_collateral(build_collateral(found), root_sha256=root_sha256())
