"""Makes vectors.json: sharings computed without Wardian, by tables of logarithms (FIPS 197, 4.2)."""

import hashlib
import json
import random
import struct
from pathlib import Path

SIZES = ((2, 2), (2, 3), (3, 5), (5, 5), (7, 20), (64, 64))
LABEL = b"wardian share commitment v1"


def tables() -> tuple[list[int], list[int]]:
    powers, logarithms, element = [0] * 512, [0] * 256, 1
    for exponent in range(255):
        powers[exponent] = powers[exponent + 255] = element
        logarithms[element] = exponent
        doubled = element << 1
        element ^= doubled ^ 0x11B if doubled > 255 else doubled  # times 3, which generates all
    return powers, logarithms


POWERS, LOGARITHMS = tables()


def times(one: int, other: int) -> int:
    return POWERS[LOGARITHMS[one] + LOGARITHMS[other]] if one and other else 0


def power(element: int, exponent: int) -> int:
    result = 1
    for _ in range(exponent):
        result = times(result, element)
    return result


def share(polynomials: list[bytes], index: int) -> bytes:
    """Sum up coefficient times power, term by term, for each of 32 bytes."""
    values = []
    for position in range(32):
        value = 0
        for degree, coefficients in enumerate(polynomials):
            value ^= times(coefficients[position], power(index, degree))
        values.append(value)
    return bytes(values)


def fields(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">Q", len(part)) + part for part in parts)


def sharing(threshold: int, shares: int, source: random.Random) -> dict[str, object]:
    secret, set_id = source.randbytes(32), source.randbytes(16)
    polynomials = [secret, *(source.randbytes(32) for _ in range(threshold - 1))]
    values = [share(polynomials, index) for index in range(1, shares + 1)]
    commitments = [
        hashlib.sha256(fields(LABEL, set_id, bytes((threshold, index)), value)).hexdigest()
        for index, value in enumerate(values, start=1)
    ]
    return {
        "threshold": threshold,
        "set_id": set_id.hex(),
        "secret": secret.hex(),
        "coefficients": [each.hex() for each in polynomials[1:]],
        "shares": [value.hex() for value in values],
        "commitments": commitments,
    }


def make() -> str:
    assert times(0x57, 0x83) == 0xC1  # FIPS 197, 4.2
    assert times(0x57, 0x13) == 0xFE  # FIPS 197, 4.2.1
    source = random.Random(20_261_126)
    return json.dumps([sharing(*size, source) for size in SIZES], indent=1) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "vectors.json").write_text(make())
