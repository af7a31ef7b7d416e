"""The structure of a quote: lengths, padding, kinds."""

import pytest
from attestation_cases import MEASUREMENT, REPORT_DATA

from wardian.attestation.quote_sgx import MAX_QUOTE_BYTES, parse_sgx_quote
from wardian.errors import FormatError


def rebuilt(quote: bytes, chain: bytes) -> bytes:
    """Return `quote` with another chain and lengths that fit."""
    raw = quote[:1048] + len(chain).to_bytes(4, "little") + chain
    return raw[:432] + (len(raw) - 436).to_bytes(4, "little") + raw[436:]


def chain_of(quote: bytes) -> bytes:
    return quote[1052:]


def test_fields(evidence, platform):
    quote = parse_sgx_quote(evidence.quote)
    assert quote.raw == evidence.quote
    assert quote.mr_enclave == MEASUREMENT
    assert quote.mr_signer == platform.mr_signer
    assert quote.report_data == REPORT_DATA
    assert (quote.product_id, quote.svn, quote.misc_select) == (3, 4, 0)
    assert quote.attributes == bytes([5]) + bytes(7) + bytes([3]) + bytes(7)
    assert quote.config_id == bytes(64)
    assert len(quote.chain) == 3
    assert quote.root_sha256 == platform.root_sha256


def test_truncation_at_every_length(evidence):
    for length in range(len(evidence.quote)):
        with pytest.raises(FormatError):
            parse_sgx_quote(evidence.quote[:length])


@pytest.mark.parametrize("padding", [1, 7, 4096])
def test_zero_padding_is_accepted_and_cut_off(evidence, padding):
    quote = parse_sgx_quote(evidence.quote + bytes(padding))
    assert quote.raw == evidence.quote


@pytest.mark.parametrize("tail", [b"\x01", b"\0\0\x01", b"\n", b" " * 10, b"\0" * 99 + b"x"])
def test_any_other_trailing_byte_is_refused(evidence, tail):
    with pytest.raises(FormatError, match="zero padding"):
        parse_sgx_quote(evidence.quote + tail)


def test_too_long(evidence):
    with pytest.raises(FormatError, match="at most"):
        parse_sgx_quote(evidence.quote + bytes(MAX_QUOTE_BYTES))


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (0, b"\x02\x00", "version 2"),
        (0, b"\x04\x00", "SGX version 4"),
        (0, b"\x04\x00\x02\x00\x81", "TDX version 4"),
        (0, b"\x05\x00", "version 5"),
        (2, b"\x03\x00", "key type 3"),
        (4, b"\x81", "TEE type 0x81"),
        (432, b"\x00\x00\x00\x00", "signature data"),
        (432, b"\xff\xff\xff\xff", "signature data"),
        (1012, b"\x1f\x00", "authentication data"),
        (1046, b"\x01\x00", "another type than 5"),
        (1048, b"\x00\x00\x00\x00", "certification data does not fit"),
        (1048, b"\xff\xff\xff\xff", "certification data does not fit"),
    ],
)
def test_header_and_lengths(evidence, at, value, says):
    raw = evidence.quote[:at] + value + evidence.quote[at + len(value) :]
    with pytest.raises(FormatError, match=says):
        parse_sgx_quote(raw)


@pytest.mark.parametrize("end", [b"\0", b"\n\0", b"\r\n"])
def test_chain_may_end_as_c_strings_do(evidence, end):
    assert len(parse_sgx_quote(rebuilt(evidence.quote, chain_of(evidence.quote) + end)).chain) == 3


def test_chain_with_foreign_text(evidence):
    chain = chain_of(evidence.quote)
    for altered in (
        b"text" + chain,
        chain + b"text",
        chain.replace(b"-----BEGIN", b"text\n-----BEGIN", 2),
        b"",
        b"\0" * 100,
        b"-----BEGIN CERTIFICATE-----\n",
    ):
        with pytest.raises(FormatError):
            parse_sgx_quote(rebuilt(evidence.quote, altered))


def test_chain_with_bad_base64(evidence):
    chain = b"-----BEGIN CERTIFICATE-----\nAAAAA\n-----END CERTIFICATE-----\n" * 2
    with pytest.raises(FormatError, match="base64"):
        parse_sgx_quote(rebuilt(evidence.quote, chain))


@pytest.mark.parametrize("count", [1, 5])
def test_chain_of_wrong_length(evidence, count):
    one = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    with pytest.raises(FormatError, match=f"{count} certificates"):
        parse_sgx_quote(rebuilt(evidence.quote, one * count))
