"""Bytes that are almost right: seeds, changed a little, cut and glued together.

Deterministic: the same `random.Random` gives the same inputs, so that a failure can be repeated.
"""

import random
from collections.abc import Iterator, Sequence

INTERESTING = (b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0")
TOKENS = (
    b"null", b"true", b"-1", b"0", b"1e999", b"9223372036854775808", b'""', b"[]", b"{}",
    b'"\\u0000"', b'"\\ud800"', b",", b":", b"[[[[[[[[", b'{"format":"', b"\xf0\x9f\x8c\xb1",
    b"-----BEGIN CERTIFICATE-----", b"=", b"\r\n", b"nan", b"1_0", b"0x10", b"[", b"]]",
)  # fmt: skip
MOST_BYTES = 20_000
"""Longer seeds are changed as well; no change makes them longer than that by much."""


def mutations(seeds: Sequence[bytes], rng: random.Random, count: int) -> Iterator[bytes]:
    """Yield `count` inputs made of `seeds`: one in 64 random altogether, others 1 to 8 changes."""
    for _ in range(count):
        if rng.random() < 1 / 64:
            yield rng.randbytes(rng.choice((0, 1, 2, 4, 16, 64, 512)))
            continue
        raw = bytearray(rng.choice(seeds))
        for _ in range(1 << rng.randrange(4)):
            _CHANGES[rng.randrange(len(_CHANGES))](raw, rng, seeds)
        yield bytes(raw)


def _flip(raw: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    if raw:
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)


def _replace(raw: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    if raw:
        raw[rng.randrange(len(raw))] = rng.randrange(256)


def _number(raw: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    at, value = rng.randrange(len(raw) + 1), rng.choice(INTERESTING)
    raw[at : at + len(value)] = value


def _token(raw: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    at, value = rng.randrange(len(raw) + 1), rng.choice(TOKENS)
    raw[at : at + rng.choice((0, 1, len(value)))] = value


def _cut(raw: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    at = rng.randrange(len(raw) + 1)
    del raw[at : at + rng.choice((1, 2, 4, 32, 400))]


def _truncate(raw: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    del raw[rng.randrange(len(raw) + 1) :]


def _repeat(raw: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    at = rng.randrange(len(raw) + 1)
    part = raw[at : at + rng.choice((1, 4, 32, 400))]
    if len(raw) + len(part) <= MOST_BYTES:
        raw[at:at] = part


def _splice(raw: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    other = rng.choice(seeds)
    start, at = rng.randrange(len(other) + 1), rng.randrange(len(raw) + 1)
    raw[at:] = other[start:]


_CHANGES = (_flip, _flip, _replace, _number, _token, _cut, _truncate, _repeat, _splice)
