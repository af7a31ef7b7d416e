"""The structure of a quote: lengths, padding, kinds, and the one form that each has."""

import dataclasses
import struct

import pytest
from attestation_cases import MEASUREMENT, NOW, REPORT_DATA
from simulators.td_quotes import SGX, TD15, TDX, TdxPlatform, td_body

from wardian.attestation.claims import SgxReport, TdReport
from wardian.attestation.quotes.quote import MAX_QUOTE_BYTES, parse_quote
from wardian.attestation.quotes.sgx import SGX_BODY, parse_sgx_body
from wardian.errors import FormatError

PLATFORM = TdxPlatform(now=NOW)
V4 = PLATFORM.quote()
V5 = PLATFORM.quote(version=5)
V5_TD15 = PLATFORM.quote(td_body(tee_tcb_svn2=bytes(range(16))), version=5)
SIZES = {3: 432, 4: 632, 5: 638}
"""Where the signed part of each version ends; of TD 1.0 in version 5."""


def rebuilt(quote: bytes, chain: bytes) -> bytes:
    """Return the SGX `quote` with another chain and lengths that fit."""
    raw = quote[:1048] + len(chain).to_bytes(4, "little") + chain
    return raw[:432] + (len(raw) - 436).to_bytes(4, "little") + raw[436:]


def chain_of(quote: bytes) -> bytes:
    return quote[1052:]


def changed(quote: bytes, at: int, value: bytes) -> bytes:
    return quote[:at] + value + quote[at + len(value) :]


# --- what is read --------------------------------------------------------------------------------


def test_fields_of_an_enclave(evidence, platform):
    quote = parse_quote(evidence.quote)
    assert quote.raw == evidence.quote
    assert quote.version == 3
    assert quote.report.mr_enclave == MEASUREMENT
    assert quote.report.mr_signer == platform.mr_signer
    assert quote.report.report_data == REPORT_DATA
    assert (quote.report.product_id, quote.report.svn, quote.report.misc_select) == (3, 4, 0)
    assert quote.report.attributes == bytes([5]) + bytes(7) + bytes([3]) + bytes(7)
    assert quote.report.config_id == bytes(64)
    assert len(quote.chain) == 3
    assert quote.root_sha256 == platform.root_sha256


def test_each_field_of_an_enclave_lies_where_the_manual_says():
    """SDM, volume 3D, table 38-21: offset and length of each, by a body that counts."""
    body = bytes(i % 251 for i in range(SGX_BODY.size))
    assert dataclasses.asdict(parse_sgx_body(body)) == dataclasses.asdict(
        SgxReport(
            cpu_svn=body[0:16],
            misc_select=int.from_bytes(body[16:20], "little"),
            isv_ext_prod_id=body[32:48],
            attributes=body[48:64],
            mr_enclave=body[64:96],
            mr_signer=body[128:160],
            config_id=body[192:256],
            product_id=int.from_bytes(body[256:258], "little"),
            svn=int.from_bytes(body[258:260], "little"),
            config_svn=int.from_bytes(body[260:262], "little"),
            isv_family_id=body[304:320],
            report_data=body[320:384],
        )
    )


@pytest.mark.parametrize(
    ("quote", "start", "version"), [(V4, 48, 4), (V5, 54, 5), (V5_TD15, 54, 5)]
)
def test_each_field_of_a_trust_domain_lies_where_the_library_reference_says(quote, start, version):
    newer = quote is V5_TD15
    body = bytes(i % 251 for i in range(648 if newer else 584))
    parsed = parse_quote(changed(quote, start, body))
    assert parsed.version == version
    assert parsed.report == TdReport(
        tee_tcb_svn=body[0:16],
        mr_seam=body[16:64],
        mr_signer_seam=body[64:112],
        seam_attributes=body[112:120],
        td_attributes=body[120:128],
        xfam=body[128:136],
        mr_td=body[136:184],
        mr_config_id=body[184:232],
        mr_owner=body[232:280],
        mr_owner_config=body[280:328],
        rtmrs=(body[328:376], body[376:424], body[424:472], body[472:520]),
        report_data=body[520:584],
        tee_tcb_svn2=body[584:600] if newer else None,
        mr_service_td=body[600:648] if newer else None,
    )
    assert parsed.root_sha256 == PLATFORM.root_sha256


# --- lengths and padding -------------------------------------------------------------------------


@pytest.mark.parametrize("version", [3, 4, 5])
def test_truncation_at_every_length(evidence, version):
    quote = {3: evidence.quote, 4: V4, 5: V5_TD15}[version]
    for length in range(len(quote)):
        with pytest.raises(FormatError):
            parse_quote(quote[:length])


@pytest.mark.parametrize("padding", [1, 7, 4096])
def test_zero_padding_is_accepted_and_cut_off(evidence, padding):
    for quote in (evidence.quote, V4, V5, V5_TD15):
        assert parse_quote(quote + bytes(padding)).raw == quote


@pytest.mark.parametrize("tail", [b"\x01", b"\0\0\x01", b"\n", b" " * 10, b"\0" * 99 + b"x"])
def test_any_other_trailing_byte_is_refused(evidence, tail):
    for quote in (evidence.quote, V4, V5):
        with pytest.raises(FormatError, match="zero padding"):
            parse_quote(quote + tail)


def test_too_long(evidence):
    with pytest.raises(FormatError, match="at most"):
        parse_quote(evidence.quote + bytes(MAX_QUOTE_BYTES))


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (432, b"\x00\x00\x00\x00", "zero padding"),
        (432, b"\xff\xff\xff\xff", "a length does not fit"),
        (1012, b"\x1f\x00", "authentication data has 32"),
        (1012, b"\x00\x00", "authentication data has 32"),
        (1046, b"\x01\x00", "certification data of type 1; only 5"),
        (1048, b"\x00\x00\x00\x00", "a length does not fit"),
        (1048, b"\xff\xff\xff\xff", "a length does not fit"),
    ],
)
def test_lengths_of_an_sgx_quote(evidence, at, value, says):
    with pytest.raises(FormatError, match=says):
        parse_quote(changed(evidence.quote, at, value))


@pytest.mark.parametrize("quote", [V4, V5])
@pytest.mark.parametrize(
    ("after", "value", "says"),
    [
        (0, b"\x00\x00\x00\x00", "zero padding"),
        (0, b"\xff\xff\xff\xff", "a length does not fit"),
        (4 + 128, b"\x05\x00", "certification data of type 5; only 6"),
        (4 + 128 + 2, b"\x00\x00\x00\x00", "a length does not fit"),
        (4 + 128 + 2, b"\xff\xff\xff\xff", "a length does not fit"),
        (4 + 128 + 6 + 448, b"\x00\x00", "authentication data has 32"),
        (4 + 128 + 6 + 448 + 34, b"\x06\x00", "certification data of type 6; only 5"),
        (4 + 128 + 6 + 448 + 34 + 2, b"\x00\x00\x00\x00", "a length does not fit"),
        (4 + 128 + 6 + 448 + 34 + 2, b"\xff\xff\xff\xff", "a length does not fit"),
    ],
)
def test_lengths_of_a_tdx_quote(quote, after, value, says):
    with pytest.raises(FormatError, match=says):
        parse_quote(changed(quote, SIZES[quote[0]] + after, value))


def test_bytes_behind_the_nested_data_are_refused():
    """They are inside the outer length, so no padding; no signature covers them."""
    outer = SIZES[4] + 4 + 128 + 2
    grown = changed(V4, SIZES[4], (len(V4) - SIZES[4] - 4 + 1).to_bytes(4, "little")) + b"\0"
    with pytest.raises(FormatError, match="ends at"):
        parse_quote(grown)
    grown = changed(grown, outer, (len(V4) - outer - 4 + 1).to_bytes(4, "little"))
    with pytest.raises(FormatError, match="ends at"):
        parse_quote(grown)


# --- kinds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ((2, 2, SGX), "SGX version 2; only"),
        ((6, 2, SGX), "SGX version 6; only"),
        ((4, 2, SGX), "SGX version 4; only SGX version 3 and TDX versions 4 and 5"),
        ((5, 2, SGX), "SGX version 5; only"),
        ((3, 2, TDX), "TDX version 3; only"),
        ((6, 2, TDX), "TDX version 6; only"),
        ((3, 3, SGX), "key type 3; only ECDSA P-256"),
        ((4, 3, TDX), "key type 3; only ECDSA P-256"),
        ((4, 2, 1), "TEE type 0x1; only SGX"),
        ((3, 2, 0x8100), "TEE type 0x8100; only SGX"),
    ],
)
def test_other_kinds_are_refused_by_name(evidence, header, says):
    for quote in (evidence.quote, V4, V5):
        with pytest.raises(FormatError, match=says):
            parse_quote(changed(quote, 0, struct.pack("<HHI", *header)))


def test_quoting_enclave_of_another_vendor(evidence):
    for quote in (evidence.quote, V4):
        with pytest.raises(FormatError, match="another vendor"):
            parse_quote(changed(quote, 12, bytes(16)))


@pytest.mark.parametrize(
    ("body_type", "size", "says"),
    [
        (1, 384, "body type 1 .an SGX enclave. of 384"),
        (2, 648, "body type 2 .TD 1.0. of 648"),
        (3, 584, "body type 3 .TD 1.5. of 584"),
        (4, 648, "body type 4 .an unknown kind."),
        (TD15, 0, "body type 3"),
        (TD15, 2**32 - 1, "body type 3"),
    ],
)
def test_body_types_of_version_5(body_type, size, says):
    with pytest.raises(FormatError, match=says):
        parse_quote(changed(V5, 48, struct.pack("<HI", body_type, size)))


# --- the chain -----------------------------------------------------------------------------------


def test_chain_may_end_as_c_strings_do(evidence):
    assert len(parse_quote(rebuilt(evidence.quote, chain_of(evidence.quote) + b"\0")).chain) == 3


@pytest.mark.parametrize("end", [b"\0\0", b"\n", b"\n\0", b"\r\n", b" "])
def test_chain_with_another_end(evidence, end):
    with pytest.raises(FormatError, match="lines of 64"):
        parse_quote(rebuilt(evidence.quote, chain_of(evidence.quote) + end))


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_chain_of_wrong_length(evidence, count):
    one = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    with pytest.raises(FormatError, match=f"{count} certificates, 3 expected"):
        parse_quote(rebuilt(evidence.quote, one * count))
