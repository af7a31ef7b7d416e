"""How a PKCS #12 file is protected, found out before a password touches it (RFC 7292).

Whoever opens such a file derives keys by as many iterations as the file itself says, so that a
number in it could keep a process busy for days. Here they are summed up first. What is inside of an
encrypted part is not seen, and need not be: it is opened only once the MAC, which covers it, was
verified under the password.

Only DER is read (X.690, section 10), which `openssl pkcs12` and `keytool` write.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from wardian.errors import FormatError, UnsupportedAlgorithm

MAX_BYTES: Final = 64 * 1024
"""Of a file: a key and a chain have less than a tenth of it."""
MOST_ITERATIONS: Final = 5_000_000
"""Of all key derivations of a file: a few seconds. `keytool` has 30,000, older ones 200,000."""

_SEQUENCE, _INTEGER, _OCTETS, _OID, _CONTEXT_0 = 0x30, 0x02, 0x04, 0x06, 0xA0
_PKCS = bytes.fromhex("2a864886f70d01")  # 1.2.840.113549.1
_DATA = _PKCS + b"\x07\x01"
_ENCRYPTED_DATA = _PKCS + b"\x07\x06"
_KEY_BAG = _PKCS + b"\x0c\x0a\x01\x01"
_SHROUDED_KEY_BAG = _PKCS + b"\x0c\x0a\x01\x02"
_SAFE_CONTENTS_BAG = _PKCS + b"\x0c\x0a\x01\x06"
_PBE = _PKCS + b"\x0c\x01"  # RFC 7292, appendix C: one more number says which
_PBKDF2, _PBES2, _PBMAC1 = _PKCS + b"\x05\x0c", _PKCS + b"\x05\x0d", _PKCS + b"\x05\x0e"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What is seen of a file from outside.

    Attributes:
        iterations: of all key derivations together.
        keys: private keys that do not lie within an encrypted part.
        old: a part of it is encrypted as before PBES2: by RC2, RC4 or triple DES.
    """

    iterations: int
    keys: int
    old: bool


def read_frame(raw: bytes) -> Frame:
    """Return how the PKCS #12 file in `raw` is protected.

    Args:
        raw: untrusted; at most `MAX_BYTES`.

    Raises:
        FormatError: no such file in DER, cut short or with something after it, without a MAC, or
            with more iterations than `MOST_ITERATIONS`.
        UnsupportedAlgorithm: protected by something else than a password and PBKDF2, or the key
            derivation of PKCS #12.
    """
    if len(raw) > MAX_BYTES:
        raise FormatError(f"keystore: larger than {MAX_BYTES} bytes")
    pfx = _inner(raw, _SEQUENCE)
    version, safe, *more = _begins(pfx, _INTEGER, _SEQUENCE)
    if _number(version) != 3:
        raise FormatError("keystore: no PKCS #12 file of version 3")
    if not more:
        raise FormatError("keystore: has no MAC, so that nobody can tell whether it is whole")
    _, _, mac = _shaped(pfx, _INTEGER, _SEQUENCE, _SEQUENCE)
    counted = _Counted(iterations=_mac_iterations(mac))
    for _, content in _elements(_inner(_data(safe), _SEQUENCE)):
        counted.add_content(content)
    if counted.iterations > MOST_ITERATIONS:
        raise FormatError(
            f"keystore: its passwords take more than {MOST_ITERATIONS:,} iterations in all; export "
            "it with fewer"
        )
    return Frame(iterations=counted.iterations, keys=counted.keys, old=counted.old)


@dataclass(slots=True, kw_only=True)
class _Counted:
    """What was found so far; see `Frame`."""

    iterations: int
    keys: int = 0
    old: bool = False

    def add_content(self, content: bytes) -> None:
        """Count a ContentInfo of the AuthenticatedSafe (RFC 7292, section 4.1)."""
        kind = _kind(content)
        if kind == _ENCRYPTED_DATA:
            _, wrapped = _shaped(content, _OID, _CONTEXT_0)
            encrypted = _begins(_inner(wrapped, _SEQUENCE), _INTEGER, _SEQUENCE)[1]
            self._add_algorithm(_begins(encrypted, _OID, _SEQUENCE)[1])
        elif kind == _DATA:
            for _, bag in _elements(_inner(_data(content), _SEQUENCE)):
                self._add_bag(bag)
        else:
            raise UnsupportedAlgorithm("keystore: a part is for a key, not a password")

    def _add_bag(self, bag: bytes) -> None:
        """Count a SafeBag (RFC 7292, section 4.2)."""
        kind = _kind(bag)
        if kind == _SAFE_CONTENTS_BAG:
            raise FormatError("keystore: has bags within bags")
        if kind == _SHROUDED_KEY_BAG:
            value = _begins(bag, _OID, _CONTEXT_0)[1]
            self._add_algorithm(_shaped(_inner(value, _SEQUENCE), _SEQUENCE, _OCTETS)[0])
        self.keys += kind in {_KEY_BAG, _SHROUDED_KEY_BAG}

    def _add_algorithm(self, algorithm: bytes) -> None:
        """Count an encryption by password: PBES2, or one of RFC 7292, appendix C."""
        kind = _kind(algorithm)
        if kind[:-1] == _PBE:
            self.old = True
            _, iterations = _shaped(_parameters(algorithm), _OCTETS, _INTEGER)
            self.iterations += _number(iterations)
        elif kind == _PBES2:
            self.iterations += _kdf_iterations(_parameters(algorithm))
        else:
            raise UnsupportedAlgorithm("keystore: is encrypted, but not by a password as usual")


def _mac_iterations(mac: bytes) -> int:
    """Return the iterations of MacData (RFC 7292, section 4; RFC 9579)."""
    digest, _, *more = _begins(mac, _SEQUENCE, _OCTETS)
    algorithm = _shaped(digest, _SEQUENCE, _OCTETS)[0]
    if _kind(algorithm) == _PBMAC1:
        return _kdf_iterations(_parameters(algorithm))
    return _number(_shaped(mac, _SEQUENCE, _OCTETS, _INTEGER)[2]) if more else 1


def _kdf_iterations(parameters: bytes) -> int:
    """Return the iterations of PBKDF2, where that is the first of `parameters` (RFC 8018, A.2)."""
    algorithm = _begins(parameters, _SEQUENCE)[0]
    if _kind(algorithm) != _PBKDF2:
        raise UnsupportedAlgorithm("keystore: its key is derived otherwise than by PBKDF2")
    return _number(_begins(_parameters(algorithm), _OCTETS, _INTEGER)[1])


def _data(content: bytes) -> bytes:
    """Return what is in a ContentInfo of the kind `data` (RFC 5652, section 4)."""
    if _kind(content) != _DATA:
        raise UnsupportedAlgorithm("keystore: is signed by a key; one with a password was expected")
    return _inner(_shaped(content, _OID, _CONTEXT_0)[1], _OCTETS)


def _parameters(algorithm: bytes) -> bytes:
    """Return the parameters, a sequence, of an AlgorithmIdentifier."""
    return _shaped(algorithm, _OID, _SEQUENCE)[1]


def _kind(sequence: bytes) -> bytes:
    """Return the object identifier that `sequence` begins with."""
    return _begins(sequence, _OID)[0]


def _inner(raw: bytes, tag: int) -> bytes:
    """Return the content of the one element, with this `tag`, that `raw` is."""
    return _shaped(raw, tag)[0]


def _shaped(raw: bytes, *tags: int) -> list[bytes]:
    """Return the contents of the elements that `raw` is, which have just these `tags`."""
    contents = _begins(raw, *tags)
    if len(contents) != len(tags):
        raise FormatError("keystore: has more than a PKCS #12 file")
    return contents


def _begins(raw: bytes, *tags: int) -> list[bytes]:
    """Return the contents of the elements that `raw` is, the first of which have these `tags`."""
    elements = list(_elements(raw))
    if tuple(tag for tag, _ in elements[: len(tags)]) != tags:
        raise FormatError("keystore: another structure than that of PKCS #12")
    return [content for _, content in elements]


def _elements(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element in `raw`."""
    at = 0
    while at < len(raw):
        tag, length, at = raw[at], int.from_bytes(raw[at + 1 : at + 2] or b"\xff"), at + 2
        if length >= 0x80:
            size = length - 0x80
            if not 1 <= size <= 3:
                raise FormatError("keystore: not in DER, or cut short")
            length, at = int.from_bytes(raw[at : at + size]), at + size
        if at + length > len(raw):
            raise FormatError("keystore: cut short")
        yield tag, raw[at : at + length]
        at += length


def _number(raw: bytes) -> int:
    """Return the integer whose content is `raw`, 1 to 2**63 - 1."""
    value = int.from_bytes(raw, signed=True)
    if len(raw) > 8 or value < 1:
        raise FormatError("keystore: a number is out of range")
    return value
