"""TCG DICE tagged evidence, as interoperable RA-TLS lays it out: three fixed CBOR structures.

    evidence    60000([quote, claims])                         both byte strings
    claims      {"pubkey-hash": hash entry, ? "nonce": nonce}  both byte strings
    hash entry  [algorithm, digest]                            unsigned integer, byte string

The quote vouches for the claims as bytes, so they are kept as they came; what they say is parsed
apart. This is no general CBOR: heads are definite and in their shortest form (RFC 8949, 4.2.1),
each structure ends where its bytes end, and what is not named above is refused.

Sources: CCC-Attestation/interoperable-ra-tls, "Interoperable RA-TLS X.509 Cert and Evidence
Formats" and "SGX / TDX Evidence Tags and Formats"; IANA, "CBOR Tags" 60000 and "Named Information
Hash Algorithm Registry"; Gramine 1.9, `tools/sgx/ra-tls/ra_tls_attest.c`.
"""

import enum
import hashlib
from dataclasses import dataclass
from typing import Final

from wardian.errors import FormatError

QUOTE_TAG: Final = 60000
"""A quote of an Intel TEE; 60001 and 60002 are reports, which no other machine can verify."""

_UNSIGNED, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = 0, 2, 3, 4, 5, 6
_SHORTEST_FROM: Final = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}
_PUBKEY_HASH: Final = b"pubkey-hash"
_NONCE: Final = b"nonce"


class HashAlgorithm(enum.IntEnum):
    """The algorithms that a verifier of these claims has to know, by IANA's numbers."""

    SHA_256 = 1
    SHA_384 = 7
    SHA_512 = 8

    @property
    def digest_bytes(self) -> int:
        """The length of a digest, untruncated."""
        return hashlib.new(_HASHLIB[self]).digest_size

    def digest(self, message: bytes) -> bytes:
        """Return the digest of `message`, `digest_bytes` long."""
        return hashlib.new(_HASHLIB[self], message).digest()


_HASHLIB: Final = {
    HashAlgorithm.SHA_256: "sha256",
    HashAlgorithm.SHA_384: "sha384",
    HashAlgorithm.SHA_512: "sha512",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedEvidence:
    """A quote and the claims that it should vouch for, unverified.

    Attributes:
        quote: as it came; of which kind, nobody looked yet.
        claims: the encoded claims, whose SHA-256 the quote's report data begins with.
    """

    quote: bytes
    claims: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomClaims:
    """What the encoded claims say, unverified.

    Attributes:
        algorithm: what made `pubkey_hash`.
        pubkey_hash: digest of the certificate's SubjectPublicKeyInfo (DER), of the
            algorithm's full length.
        nonce: the freshness challenge that the attester answered, of any length, or None.
    """

    algorithm: HashAlgorithm
    pubkey_hash: bytes
    nonce: bytes | None


def build_claims(spki: bytes, *, nonce: bytes | None = None) -> bytes:
    """Return the encoded claims for the key in `spki`: 51 bytes, as Gramine writes them.

    Args:
        spki: SubjectPublicKeyInfo, DER.
        nonce: of the verifier; None leaves the claim out.
    """
    algorithm = HashAlgorithm.SHA_256
    entry = _head(_ARRAY, 2) + _head(_UNSIGNED, algorithm) + _byte_string(algorithm.digest(spki))
    # The order is that of the specification, not the sorted one of RFC 8949.
    claims = _text_string(_PUBKEY_HASH) + _byte_string(entry)
    if nonce is not None:
        claims += _text_string(_NONCE) + _byte_string(nonce)
    return _head(_MAP, 1 if nonce is None else 2) + claims


def build_tagged_evidence(evidence: TaggedEvidence) -> bytes:
    """Return the value of the certificate's extension."""
    items = _byte_string(evidence.quote) + _byte_string(evidence.claims)
    return _head(_TAG, QUOTE_TAG) + _head(_ARRAY, 2) + items


def parse_tagged_evidence(raw: bytes) -> TaggedEvidence:
    """Return the quote and the claims in `raw`, the value of the certificate's extension.

    Args:
        raw: untrusted.

    Raises:
        FormatError: any other tag, structure or encoding, or something follows.
    """
    reader = _Reader(raw, what="DICE evidence")
    reader.demand(_TAG, QUOTE_TAG)
    reader.demand(_ARRAY, 2)
    evidence = TaggedEvidence(quote=reader.string(_BYTES), claims=reader.string(_BYTES))
    reader.end()
    return evidence


def parse_claims(raw: bytes) -> CustomClaims:
    """Return what the encoded claims in `raw` say. Either order of the two claims is accepted.

    Args:
        raw: untrusted.

    Raises:
        FormatError: "pubkey-hash" is missing, a claim is unknown or there twice, the hash is of
            another algorithm than `HashAlgorithm` or of another length, or the encoding is off.
    """
    reader = _Reader(raw, what="DICE claims")
    found: dict[bytes, bytes] = {}
    for _ in range(reader.head(_MAP)):
        name = reader.string(_TEXT)
        if name not in {_PUBKEY_HASH, _NONCE}:
            raise FormatError("DICE claims: a claim is neither pubkey-hash nor nonce")
        if name in found:
            raise FormatError("DICE claims: a claim is there twice")
        found[name] = reader.string(_BYTES)
    reader.end()
    if _PUBKEY_HASH not in found:
        raise FormatError("DICE claims: pubkey-hash is missing, so nothing binds the key")
    algorithm, digest = _parse_hash_entry(found[_PUBKEY_HASH])
    return CustomClaims(algorithm=algorithm, pubkey_hash=digest, nonce=found.get(_NONCE))


def _parse_hash_entry(raw: bytes) -> tuple[HashAlgorithm, bytes]:
    """Return the algorithm and the digest (RFC 9393, `hash-entry`)."""
    reader = _Reader(raw, what="DICE claims, pubkey-hash")
    reader.demand(_ARRAY, 2)
    number = reader.head(_UNSIGNED)
    digest = reader.string(_BYTES)
    reader.end()
    try:
        algorithm = HashAlgorithm(number)
    except ValueError as err:
        raise FormatError("DICE claims, pubkey-hash: not SHA-256, SHA-384 or SHA-512") from err
    if len(digest) != algorithm.digest_bytes:
        raise FormatError("DICE claims, pubkey-hash: not of its algorithm's length")
    return algorithm, digest


class _Reader:
    """Reads CBOR items front to back; every other form of the same value is refused."""

    __slots__ = ("_at", "_raw", "_what")

    def __init__(self, raw: bytes, *, what: str) -> None:
        self._raw = raw
        self._what = what
        self._at = 0

    def head(self, major: int) -> int:
        """Return the argument of the next item, which is of type `major` (RFC 8949, 3)."""
        initial = self._take(1)[0]
        if initial >> 5 != major:
            raise self._error("an item is of another type")
        short = initial & 0x1F
        if short < 24:
            return short
        size = 1 << (short - 24)
        if size not in _SHORTEST_FROM:
            raise self._error("a length is indefinite or reserved")
        argument = int.from_bytes(self._take(size), "big")
        if argument < _SHORTEST_FROM[size]:
            raise self._error("a number is not in its shortest form")
        return argument

    def demand(self, major: int, argument: int) -> None:
        """Go past the head of the next item, which has this type and argument and no other."""
        if self.head(major) != argument:
            raise self._error("a tag or a number of items is another one")

    def string(self, major: int) -> bytes:
        """Return the content of the next item, a string of type `major`."""
        return self._take(self.head(major))

    def end(self) -> None:
        """Return if everything was read."""
        if self._at != len(self._raw):
            raise self._error("something follows")

    def _take(self, size: int) -> bytes:
        if size > len(self._raw) - self._at:
            raise self._error("ends inside an item")
        self._at += size
        return self._raw[self._at - size : self._at]

    def _error(self, reason: str) -> FormatError:
        return FormatError(f"{self._what}: {reason}, at byte {self._at}")


def _head(major: int, argument: int) -> bytes:
    """Return the shortest head of an item (RFC 8949, 3)."""
    if argument < _SHORTEST_FROM[1]:
        return bytes((major << 5 | argument,))
    size = next(s for s in (1, 2, 4, 8) if argument < 1 << (8 * s))
    return bytes((major << 5 | 23 + size.bit_length(),)) + argument.to_bytes(size, "big")


def _byte_string(content: bytes) -> bytes:
    return _head(_BYTES, len(content)) + content


def _text_string(content: bytes) -> bytes:
    return _head(_TEXT, len(content)) + content
