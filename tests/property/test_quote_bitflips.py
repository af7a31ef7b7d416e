"""Every single-bit flip of a quote and of its collateral is refused, or says nothing else.

The normal suite takes every `STRIDE`th bit, and every `FINE`th where a quote names its attester.
`WARDIAN_ALL_FLIPS=1` takes all of them, 317 824 for the two real quotes, in some minutes. Those that
are accepted would stand here and in `docs/reference/quote.md`: there is none.
"""

import functools
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.td_quotes import TdxPlatform, td_body

from wardian.attestation.certificates.intel_root import INTEL_ROOT_DER
from wardian.attestation.claims import Claims
from wardian.attestation.quotes.quote import parse_quote
from wardian.attestation.verifier import verify_quote
from wardian.errors import AttestationError, FormatError
from wardian.tee.launch.simulation import generate_platform

NOW = 1_800_000_000
QUOTES = Path(__file__).parents[2] / "../shared/data/quotes"
REAL = {"sgx_quote": 1751624924, "tdx_quote": 1751624191}
ALL = bool(os.environ.get("WARDIAN_ALL_FLIPS"))
STRIDE, FINE = (1, 1) if ALL else (29, 3)  # coprime to 8: every place in a byte comes up


@dataclass(frozen=True, kw_only=True)
class Case:
    quote: bytes
    collateral: bytes
    root: bytes
    now: int

    def verify(self, part: str | None = None, altered: bytes = b"") -> Claims:
        return verify_quote(
            altered if part == "quote" else self.quote,
            altered if part == "collateral" else self.collateral,
            root=self.root,
            now=self.now,
        )

    def accepted(self, part: str, bits: Iterator[int]) -> list[tuple[int, int]]:
        """Return byte and bit of every flip that is not refused; fail if one alters the claims."""
        genuine = self.verify()
        content = bytearray(getattr(self, part))
        accepted = []
        for bit in bits:
            at, mask = bit // 8, 1 << bit % 8
            content[at] ^= mask
            try:
                assert self.verify(part, bytes(content)) == genuine, (at, bit % 8)
                accepted.append((at, bit % 8))
            except (AttestationError, FormatError):
                pass
            content[at] ^= mask
        return accepted


@functools.cache
def simulated_sgx() -> Case:
    platform = generate_platform(clock=lambda: NOW)
    quote = platform.quote(
        mr_enclave=hashlib.sha256(b"e").digest(), report_data=hashlib.sha512(b"r").digest()
    )
    return Case(quote=quote, collateral=platform.collateral(), root=platform.root_der, now=NOW)


@functools.cache
def simulated_tdx(version: int) -> Case:
    platform = TdxPlatform(now=NOW)
    body = td_body() if version == 4 else td_body(mr_service_td=bytes(48))
    return Case(
        quote=platform.quote(body, version=version) + bytes(64),
        collateral=platform.collateral(pck_certificate_chain=platform.pki.pck_chain_pem),
        root=platform.root_der,
        now=NOW,
    )


@functools.cache
def real(name: str) -> Case:
    if not QUOTES.exists():
        reason = "the real quotes are kept outside the repository, and are not here"
        (pytest.fail if os.environ.get("WARDIAN_REQUIRE_ALL") else pytest.skip)(reason)
    return Case(
        quote=(QUOTES / name).read_bytes(),
        collateral=(QUOTES / f"{name}_collateral.json").read_bytes(),
        root=INTEL_ROOT_DER,
        now=REAL[name],
    )


def case_of(name: str) -> Case:
    made = {
        "sgx": simulated_sgx,
        "tdx 4": lambda: simulated_tdx(4),
        "tdx 5": lambda: simulated_tdx(5),
    }
    return made[name]() if name in made else real(name)


@pytest.mark.slow
@pytest.mark.timeout(1800 if ALL else 120)
@pytest.mark.parametrize("part", ["quote", "collateral"])
@pytest.mark.parametrize("name", ["sgx", "tdx 4", "tdx 5", *REAL])
def test_flips_anywhere(name, part):
    case = case_of(name)
    bits = range(0, 8 * len(getattr(case, part)), STRIDE)
    assert case.accepted(part, iter(bits)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgx", "tdx 5"])
def test_flips_of_what_names_the_attester(name):
    """Header, body with MRENCLAVE or MRTD and report data, and the length behind them."""
    case = case_of(name)
    signed = {"sgx": 432, "tdx 5": 54 + 648}[name]
    assert case.accepted("quote", iter(range(0, 8 * (signed + 4), FINE))) == []


# --- any bytes -----------------------------------------------------------------------------------


@given(st.binary(max_size=3000))
def test_junk_is_a_format_error(raw):
    with pytest.raises(FormatError):
        parse_quote(raw)


@given(st.sampled_from(["sgx", "tdx 4", "tdx 5"]), st.data())
def test_rewritten_quote_parses_or_is_a_format_error(name, data):
    quote = bytearray(case_of(name).quote)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(quote) - 1))
        quote[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(quote)))
    try:
        parsed = parse_quote(bytes(quote[:end]))
    except FormatError:
        return
    assert parsed.raw + bytes(end - len(parsed.raw)) == bytes(quote[:end])
