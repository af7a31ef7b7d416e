"""Which X25519 keys something can be sealed to: found by a comparison, and the same as by trying."""

import pytest

from wardian.crypto.hpke import HpkePrivateKey, hpke_seal, refuse_unusable
from wardian.errors import FormatError

PRIME = 2**255 - 19
# u of the points of order 1, 2, 4 and 8 (https://cr.yp.to/ecdh.html), as bytes with each u that is
# the same modulo p, and with the highest bit set, which X25519 does not look at.
SMALL = (
    0,
    1,
    PRIME - 1,
    int.from_bytes(
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"), "little"
    ),
    int.from_bytes(
        bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"), "little"
    ),
)
WRITTEN = [
    (u | top << 255).to_bytes(32, "little")
    for small in SMALL
    for u in (small, small + PRIME)
    if u < 2**255
    for top in (0, 1)
]


def sealed_to(public: bytes) -> bool:
    try:
        hpke_seal(public, b"", info=b"")
    except FormatError:
        return False
    return True


def accepted(public: bytes) -> bool:
    try:
        refuse_unusable(public)
    except FormatError:
        return False
    return True


def test_every_way_to_write_a_point_of_small_order_is_refused() -> None:
    assert len(set(WRITTEN)) == 14
    for public in WRITTEN:
        assert not sealed_to(public)
        assert not accepted(public)


def test_what_is_sealed_to_is_accepted() -> None:
    """Beside each point of small order, at the ends of the field, and anywhere."""
    near = {(u + off) % 2**255 for u in SMALL for off in (-2, -1, 1, 2, PRIME - 2, PRIME + 2)}
    publics = [u.to_bytes(32, "little") for u in near]
    publics += [HpkePrivateKey.generate().public for _ in range(20)]
    assert sum(map(accepted, publics)) > 20
    for public in publics:
        assert accepted(public) is sealed_to(public)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_another_length_is_refused(length: int) -> None:
    with pytest.raises(FormatError, match="32 bytes"):
        refuse_unusable(b"\x09" * length)
