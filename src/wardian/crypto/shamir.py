"""Sharing a key among people, so that any n of m put it together (Shamir, 1979). Pure.

Each byte of the secret is the value at 0 of a random polynomial of degree n - 1 over GF(256), the
field of AES (FIPS 197, section 4.2); a share is its values at one index from 1 to 255. Fewer than n
shares say nothing about the secret, whatever their holders can compute.

Beside the shares there is a public `ShareSet`. It holds a commitment to each share, SHA-256 over
the set, the index and the share. So a share that was altered, or belongs to another set, is found
and named before anything is put together. A plain hash is enough: a share is 32 bytes of full
entropy, so its hash tells nothing of it. That the shares fit together it does not prove: who deals
is trusted (an attested broker), or what comes out is compared with something public.

Secrets are multiplied by public numbers alone (indexes, and what follows from them): 32 bytes in
one integer, without a branch on their bits, or by a table of multiples that is read at a public
place. Python's integers promise no constant time beyond that.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from wardian._internal import wire
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, LocalProtocolError, PolicyDenied

SECRET_BYTES: Final = 32
SET_ID_BYTES: Final = 16
MAX_SHARES: Final = 255  # the field has no more elements beside 0
COMMITMENT_LABEL: Final = "wardian share commitment v1"
_REDUCTION: Final = 0x1B  # x^8 + x^4 + x^3 + x + 1, without its highest term
_ONES: Final = int.from_bytes(b"\x01" * SECRET_BYTES)
_LOW_BITS: Final = 0x7F * _ONES


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One holder's share. It prints without its value."""

    set_id: bytes
    """16 bytes that name the sharing it belongs to."""
    index: int
    """1 to 255."""
    value: Secret
    """32 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareSet:
    """What everybody may know of a sharing.

    Attributes:
        set_id: 16 random bytes.
        threshold: how many shares it takes, 2 or more.
        commitments: 32 bytes for each share, that of index 1 first.
    """

    set_id: bytes
    threshold: int
    commitments: tuple[bytes, ...]

    def verify(self, share: Share) -> None:
        """Return if `share` is one of this sharing's.

        Raises:
            PolicyDenied: it is of another sharing (rule `share-set`).
            AuthenticationFailed: it is not the share of its index; names the index.
        """
        if share.set_id != self.set_id or not 1 <= share.index <= len(self.commitments):
            raise PolicyDenied("this share belongs to another sharing", rule="share-set")
        if commitment(share, threshold=self.threshold) != self.commitments[share.index - 1]:
            raise AuthenticationFailed(f"share {share.index} is not the one that was dealt")


def split(
    secret: Secret, *, threshold: int, shares: int, set_id: bytes | None = None
) -> tuple[ShareSet, tuple[Share, ...]]:
    """Return `secret` shared among `shares` holders, any `threshold` of whom can combine it.

    Args:
        secret: 32 bytes.
        threshold: 2 to `shares`.
        shares: at most 255.
        set_id: 16 bytes that name the sharing and no other; None draws them.

    Raises:
        LocalProtocolError: a number is out of range, or the secret has another length.
    """
    if not 1 < threshold <= shares <= MAX_SHARES or len(secret) != SECRET_BYTES:
        raise LocalProtocolError(
            f"{SECRET_BYTES} bytes are shared among at most {MAX_SHARES}, by two of them or more"
        )
    if set_id is None:
        set_id = secrets.token_bytes(SET_ID_BYTES)
    coefficients = [secret.reveal()]
    coefficients += [secrets.token_bytes(SECRET_BYTES) for _ in range(threshold - 1)]
    indexes = range(1, shares + 1)
    dealt = tuple(
        Share(set_id=set_id, index=index, value=Secret(value))
        for index, value in zip(indexes, evaluate(coefficients, indexes), strict=True)
    )
    commitments = tuple(commitment(share, threshold=threshold) for share in dealt)
    return ShareSet(set_id=set_id, threshold=threshold, commitments=commitments), dealt


def combine(shares: Sequence[Share], share_set: ShareSet) -> Secret:
    """Return the secret that `shares` of `share_set` put together, 32 bytes.

    Raises:
        PolicyDenied: a share of another sharing (rule `share-set`), one index twice (`share-once`),
            or too few (`share-threshold`).
        AuthenticationFailed: a share is not the one that was dealt; names its index.
    """
    for share in shares:
        share_set.verify(share)
    indexes = [share.index for share in shares]
    if len(set(indexes)) != len(indexes):
        raise PolicyDenied("a share was given twice", rule="share-once")
    if len(indexes) < share_set.threshold:
        raise PolicyDenied(
            f"{len(indexes)} shares are fewer than the {share_set.threshold} that it takes",
            rule="share-threshold",
        )
    secret = 0
    for share, weight in zip(shares, _weights(tuple(indexes)), strict=True):
        secret ^= _scaled(int.from_bytes(share.value.reveal()), weight)
    return Secret(secret.to_bytes(SECRET_BYTES))


def commitment(share: Share, *, threshold: int) -> bytes:
    """Return the public 32 bytes that `share` is known by."""
    parts = share.set_id, bytes((threshold, share.index)), share.value.reveal()
    return hashlib.sha256(wire.fields(COMMITMENT_LABEL, *parts)).digest()


def evaluate(coefficients: Sequence[bytes], indexes: Sequence[int]) -> list[bytes]:
    """Return the values of 32 polynomials at each of `indexes`.

    Args:
        coefficients: 32 bytes each, one for each polynomial; the constants first.
        indexes: 1 to 255.
    """
    values, powers = [0] * len(indexes), [1] * len(indexes)
    for coefficient in coefficients:
        multiples = _multiples(int.from_bytes(coefficient))
        for place, index in enumerate(indexes):
            values[place] ^= multiples[powers[place]]
            powers[place] = _times(powers[place], index)
    return [value.to_bytes(SECRET_BYTES) for value in values]


@lru_cache(maxsize=16)
def _weights(indexes: tuple[int, ...]) -> tuple[int, ...]:
    """Return what the share of each of `indexes` counts for at 0: Lagrange's basis there."""
    return tuple(_at_zero(index, indexes) for index in indexes)


def _at_zero(index: int, indexes: Sequence[int]) -> int:
    """Return what the share of `index` counts for at 0."""
    factor = 1
    for other in indexes:
        if other != index:
            factor = _times(factor, _times(other, _inverse(other ^ index)))
    return factor


def _multiples(values: int) -> list[int]:
    """Return 32 elements in one integer times each element of the field, 0 to 255."""
    table = [0]
    for _ in range(8):
        table += [each ^ values for each in table]
        values = _doubled(values)
    return table


def _scaled(values: int, factor: int) -> int:
    """Return 32 elements in one integer times `factor`, which is public."""
    product = 0
    while factor:
        if factor & 1:
            product ^= values
        values = _doubled(values)
        factor >>= 1
    return product


def _doubled(values: int) -> int:
    """Return 32 elements in one integer times x."""
    return (values & _LOW_BITS) << 1 ^ (values >> 7 & _ONES) * _REDUCTION


def _logarithms() -> tuple[list[int], list[int]]:
    """Return the powers of x + 1, which are all elements but 0, and where each is among them."""
    powers, places, element = [], [0] * 256, 1
    for place in range(255):
        powers.append(element)
        places[element] = place
        element ^= _doubled(element)
    return powers, places


_POWERS, _PLACES = _logarithms()


def _times(one: int, other: int) -> int:
    """Return the product of two public elements of the field, 0 to 255."""
    return _POWERS[(_PLACES[one] + _PLACES[other]) % 255] if one and other else 0


def _inverse(element: int) -> int:
    """Return what gives 1 with `element`, which is public and not 0."""
    return _POWERS[-_PLACES[element] % 255]
