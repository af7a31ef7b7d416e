"""How a PKCS #12 file is protected: counted before a password touches it, whatever it says."""

import pytest

from wardian.crypto.pkcs12_frame import MAX_BYTES, MOST_ITERATIONS, Frame, read_frame
from wardian.errors import FormatError, UnsupportedAlgorithm, WardianError


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 + len(octets)]) + octets + content


def seq(*parts: bytes) -> bytes:
    return der(0x30, *parts)


def octets(*parts: bytes) -> bytes:
    return der(0x04, *parts)


def tagged(*parts: bytes) -> bytes:
    return der(0xA0, *parts)


def number(value: int) -> bytes:
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, signed=True))


def oid(tail: str) -> bytes:
    """An object identifier below 1.2.840.113549.1."""
    return der(0x06, bytes.fromhex("2a864886f70d01" + tail))


DATA, ENCRYPTED, ENVELOPED = oid("0701"), oid("0706"), oid("0703")
SHA256 = der(0x06, bytes.fromhex("608648016503040201"))
SCRYPT = der(0x06, bytes.fromhex("2b06010401da47040b"))
CERT_BAG = seq(oid("0c0a0103"), tagged(seq()))
PLAIN_KEY = seq(oid("0c0a0101"), tagged(seq()))


def pbkdf2(iterations: int) -> bytes:
    return seq(oid("050c"), seq(octets(b"salt"), number(iterations)))


def pbes2(iterations: int) -> bytes:
    return seq(oid("050d"), seq(pbkdf2(iterations), seq(oid("0307"), octets(b"iv"))))


def pbe(iterations: int, which: str = "06") -> bytes:
    return seq(oid("0c01" + which), seq(octets(b"salt"), number(iterations)))


def shrouded(algorithm: bytes) -> bytes:
    return seq(oid("0c0a0102"), tagged(seq(algorithm, octets(b"key"))))


def bags(*each: bytes) -> bytes:
    return seq(DATA, tagged(octets(seq(*each))))


def encrypted(algorithm: bytes) -> bytes:
    return seq(ENCRYPTED, tagged(seq(number(0), seq(DATA, algorithm, der(0x80, b"x")))))


def mac(iterations: int | None = 1, *more: bytes) -> bytes:
    counted = () if iterations is None else (number(iterations),)
    return seq(seq(seq(SHA256), octets(b"mac")), octets(b"salt"), *counted, *more)


def pfx(*contents: bytes, mac: bytes = mac(), version: int = 3, more: bytes = b"") -> bytes:
    return seq(number(version), seq(DATA, tagged(octets(seq(*contents)))), mac, more)


def frame(iterations: int, keys: int = 0, *, old: bool = False) -> Frame:
    return Frame(iterations=iterations, keys=keys, old=old)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (pfx(), frame(1)),
        (pfx(mac=mac(None)), frame(1)),
        (pfx(mac=mac(7)), frame(7)),
        (pfx(bags(CERT_BAG, PLAIN_KEY)), frame(1, 1)),
        (pfx(bags(shrouded(pbes2(10)), shrouded(pbes2(20)))), frame(31, 2)),
        (pfx(encrypted(pbes2(100)), bags(shrouded(pbe(5, "03")))), frame(106, 1, old=True)),
        (pfx(encrypted(pbe(1000))), frame(1001, old=True)),
        (
            pfx(mac=seq(seq(seq(oid("050e"), seq(pbkdf2(9))), octets(b"m")), octets(b"s"))),
            frame(9),
        ),
        (pfx(mac=mac(MOST_ITERATIONS)), frame(MOST_ITERATIONS)),
    ],
)
def test_what_is_counted(raw: bytes, expected: Frame) -> None:
    assert read_frame(raw) == expected


@pytest.mark.parametrize(
    "raw",
    [
        pfx(mac=mac(MOST_ITERATIONS + 1)),
        pfx(encrypted(pbes2(2**62)), mac=mac(1)),
        pfx(bags(shrouded(pbe(2**31 - 1)))),
        pfx(*[encrypted(pbes2(MOST_ITERATIONS // 2))] * 2),
    ],
)
def test_too_many_iterations(raw: bytes) -> None:
    with pytest.raises(FormatError, match="iterations"):
        read_frame(raw)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (bytes(MAX_BYTES + 1), "larger"),
        (b"", "structure"),
        (octets(b"x"), "structure"),
        (pfx() + b"\0\0", "more than"),
        (pfx(version=4), "version 3"),
        (seq(number(3), seq(DATA, tagged(octets(seq())))), "no MAC"),
        (pfx(more=number(1)), "more than"),
        (pfx(mac=octets(b"x")), "structure"),
        (pfx(mac=mac(1, number(1))), "more than"),
        (pfx(mac=seq(seq(seq(SHA256), octets(b"mac")), octets(b"salt"), octets(b"7"))), "structure"),
        (pfx(bags(seq(oid("0c0a0106"), tagged(seq())))), "bags within bags"),
        (pfx(bags(shrouded(seq(oid("050d"), seq())))), "structure"),
        (pfx(bags(shrouded(pbe(0)))), "out of range"),
        (pfx(bags(shrouded(pbe(-5)))), "out of range"),
        (pfx(bags(shrouded(pbe(2**64)))), "out of range"),
        (pfx(bags(seq(octets(b"no kind")))), "structure"),
        (seq(b"\x30\x80\x00\x00"), "not in DER"),  # a length that comes later
        (b"\x30\x84\x00\x00\x00\x00", "not in DER"),
        (b"\x30", "not in DER"),
        (b"\x30\x82\x01", "cut short"),
    ],
)  # fmt: skip
def test_what_is_no_such_file(raw: bytes, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        read_frame(raw)


@pytest.mark.parametrize(
    "raw",
    [
        seq(number(3), seq(oid("0702"), tagged(seq())), mac()),  # signed by a key
        pfx(seq(ENVELOPED, tagged(seq()))),
        pfx(encrypted(seq(oid("0305"), seq()))),
        pfx(encrypted(seq(oid("050d"), seq(seq(SCRYPT, seq()), seq(oid("0307")))))),
    ],
)
def test_what_no_password_opens(raw: bytes) -> None:
    with pytest.raises(UnsupportedAlgorithm):
        read_frame(raw)


def test_cut_anywhere_and_with_any_byte_altered() -> None:
    raw = pfx(encrypted(pbes2(100)), bags(shrouded(pbe(5, "03")), CERT_BAG))
    for length in range(len(raw)):
        with pytest.raises(FormatError):
            read_frame(raw[:length])
    for at in range(len(raw)):
        for bit in range(8):
            altered = bytearray(raw)
            altered[at] ^= 1 << bit
            try:
                assert 1 <= read_frame(bytes(altered)).iterations <= MOST_ITERATIONS
            except WardianError:
                continue
