"""Sharing a key among people, so that any n of m put it together (Shamir, 1979). Pure.

Each byte of the secret is the value at 0 of a random polynomial of degree n - 1 over GF(256), the
field of AES (FIPS 197, section 4.2); a share is its values at one index from 1 to 64. Fewer than n
shares say nothing about the secret, whatever their holders can compute.

Beside the shares there is a public `ShareSet`. It holds a commitment to each share, SHA-256 over
the set, the index and the share. So a share that was altered, or belongs to another set, is found
and named before anything is put together. A plain hash is enough: who deals is trusted (an attested
broker), so nobody has to prove that the shares fit together, and a share is 32 bytes of full
entropy, so its hash tells nothing of it.

Multiplication uses no table and no branch on secret bits. Python's integers promise no constant
time beyond that.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wardian._internal import wire
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, LocalProtocolError, PolicyDenied

SECRET_BYTES: Final = 32
SET_ID_BYTES: Final = 16
MAX_SHARES: Final = 64
COMMITMENT_LABEL: Final = "wardian share commitment v1"
_REDUCTION: Final = 0x1B  # x^8 + x^4 + x^3 + x + 1, without its highest term


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One holder's share. It prints without its value."""

    set_id: bytes
    """16 bytes that name the sharing it belongs to."""
    index: int
    """1 to 64."""
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


def split(secret: Secret, *, threshold: int, shares: int) -> tuple[ShareSet, tuple[Share, ...]]:
    """Return `secret` shared among `shares` holders, any `threshold` of whom can combine it.

    Args:
        secret: 32 bytes.
        threshold: 2 to `shares`.
        shares: at most 64.

    Raises:
        LocalProtocolError: a number is out of range, or the secret has another length.
    """
    if not 1 < threshold <= shares <= MAX_SHARES or len(secret) != SECRET_BYTES:
        raise LocalProtocolError(
            f"{SECRET_BYTES} bytes are shared among at most {MAX_SHARES}, by two of them or more"
        )
    set_id = secrets.token_bytes(SET_ID_BYTES)
    coefficients = [secret.reveal()]
    coefficients += [secrets.token_bytes(SECRET_BYTES) for _ in range(threshold - 1)]
    dealt = tuple(
        Share(set_id=set_id, index=index, value=Secret(evaluate(coefficients, index)))
        for index in range(1, shares + 1)
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
    secret = bytearray(SECRET_BYTES)
    for share in shares:
        factor = _at_zero(share.index, indexes)
        for position, byte in enumerate(share.value.reveal()):
            secret[position] ^= _times(byte, factor)
    return Secret(secret)


def commitment(share: Share, *, threshold: int) -> bytes:
    """Return the public 32 bytes that `share` is known by."""
    parts = share.set_id, bytes((threshold, share.index)), share.value.reveal()
    return hashlib.sha256(wire.fields(COMMITMENT_LABEL, *parts)).digest()


def evaluate(coefficients: Sequence[bytes], index: int) -> bytes:
    """Return the values at `index` of polynomials, one for each position; the constants first."""
    values = bytearray(len(coefficients[0]))
    for coefficient in reversed(coefficients):
        for position, byte in enumerate(coefficient):
            values[position] = _times(values[position], index) ^ byte
    return bytes(values)


def _at_zero(index: int, indexes: Sequence[int]) -> int:
    """Return what the share of `index` counts for at 0: Lagrange's basis polynomial there."""
    factor = 1
    for other in indexes:
        if other != index:
            factor = _times(factor, _times(other, _inverse(other ^ index)))
    return factor


def _times(one: int, other: int) -> int:
    """Return the product of two elements of the field, 0 to 255."""
    product = 0
    for _ in range(8):
        product ^= one & -(other & 1)
        one = (one << 1 & 0xFF) ^ (_REDUCTION & -(one >> 7))
        other >>= 1
    return product


def _inverse(element: int) -> int:
    """Return what gives 1 with `element`, which is not 0: its power of 254."""
    power = 1
    for _ in range(6):  # 254 is 1111 1110 in binary: seven ones, then a zero
        power = _times(_times(power, power), element)
    power = _times(_times(power, power), element)
    return _times(power, power)
