"""Every single-bit flip of what a quote's signatures cover is refused: all of them, no sample."""

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardian.attestation.intel_root import INTEL_ROOT_DER
from wardian.attestation.quote_sgx import parse_sgx_quote
from wardian.attestation.verifier import verify_quote
from wardian.errors import AttestationError, FormatError
from wardian.tee.launch.simulation import generate_platform

NOW = 1_800_000_000
REAL_NOW = 1751624924
QUOTES = Path(__file__).parents[2] / "../shared/data/quotes"

SIGNED = range(432)
"""Header and report body."""
SIGNATURES = range(436, 436 + 64 + 64 + 384 + 64)
"""Signature, attestation key, quoting enclave's report, its signature."""
AUTH_DATA = range(1014, 1014 + 32)
LENGTHS = (*range(432, 436), *range(1012, 1014), *range(1046, 1052))


def simulated():
    platform = generate_platform(clock=lambda: NOW)
    quote = platform.quote(
        mr_enclave=hashlib.sha256(b"e").digest(), report_data=hashlib.sha512(b"r").digest()
    )
    return quote, platform.collateral(), platform.root_der, NOW


def real():
    if not QUOTES.exists():
        reason = "the real quotes are kept outside the repository, and are not here"
        if os.environ.get("WARDIAN_REQUIRE_ALL"):
            pytest.fail(reason)
        pytest.skip(reason)
    quote = (QUOTES / "sgx_quote").read_bytes()
    return quote, (QUOTES / "sgx_quote_collateral.json").read_bytes(), INTEL_ROOT_DER, REAL_NOW


@pytest.mark.parametrize("case", [simulated, real])
def test_every_flip_is_refused(case):
    quote, collateral, root, now = case()
    verify_quote(quote, collateral, root=root, now=now)
    accepted = []
    for at in (*SIGNED, *LENGTHS, *SIGNATURES, *AUTH_DATA):
        for bit in range(8):
            flipped = bytearray(quote)
            flipped[at] ^= 1 << bit
            try:
                verify_quote(bytes(flipped), collateral, root=root, now=now)
            except (AttestationError, FormatError):
                continue
            accepted.append((at, bit))
    assert accepted == []


@given(st.binary(max_size=3000))
def test_junk_is_a_format_error(raw):
    with pytest.raises(FormatError):
        parse_sgx_quote(raw)


@given(st.data())
def test_rewritten_quote_parses_or_is_a_format_error(data):
    quote = bytearray(simulated_quote())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(quote) - 1))
        quote[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(quote)))
    try:
        parsed = parse_sgx_quote(bytes(quote[:end]))
    except FormatError:
        return
    assert parsed.raw == bytes(quote[:end])


_SIMULATED: list[bytes] = []


def simulated_quote() -> bytes:
    if not _SIMULATED:
        _SIMULATED.append(simulated()[0])
    return _SIMULATED[0]
