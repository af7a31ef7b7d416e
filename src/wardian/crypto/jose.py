"""JOSE as far as other people's protocols need it: one key form, one signature, one encryption.

    key         JWK, P-256                                    RFC 7517; RFC 7518, 6.2
    signature   JWS compact, ES256                            RFC 7515, 7.1; RFC 7518, 3.4
    encryption  JWE flattened JSON, ECDH-ES+A256KW, A256GCM   RFC 7516, 7.2.2; RFC 7518, 4.6 and 5.3

Nothing is negotiated: no name of an algorithm that arrives decides anything, it has to be the one
that is expected. A key never arrives with what it is to verify. Whatever has two spellings in JSON
or in base64 is refused in all but one. Why this is not a library: ADR 13.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from wardian.crypto.secret import Secret
from wardian.crypto.strict_text import b64url, from_b64url, parse_json
from wardian.crypto.tls_keys import TlsKey, verify_ecdsa
from wardian.errors import AuthenticationFailed, FormatError

ES256: Final = "ES256"
ECDH_ES_A256KW: Final = "ECDH-ES+A256KW"
A256GCM: Final = "A256GCM"
MAX_TOKEN_CHARS: Final = 16 * 1024
"""Of a signed token: what fits into a header of ours."""

_COORDINATE_BYTES: Final = 32
_IV_BYTES: Final = 12
_TAG_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicJwk:
    """A public key on P-256; only `parse_jwk` and `jwk_of` make one, so its point is on the curve.

    Attributes:
        x, y: the coordinates, 32 bytes each, big endian.
    """

    x: bytes
    y: bytes

    @property
    def key(self) -> ec.EllipticCurvePublicKey:
        """The key as `cryptography` knows it."""
        x, y = int.from_bytes(self.x, "big"), int.from_bytes(self.y, "big")
        return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()

    @property
    def spki(self) -> bytes:
        """The key as DER SubjectPublicKeyInfo (RFC 5480), 91 bytes."""
        return self.key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def members(self) -> dict[str, str]:
        """The members that a JWK of this kind has to have (RFC 7518, 6.2.1), sorted by name."""
        return {"crv": "P-256", "kty": "EC", "x": b64url(self.x), "y": b64url(self.y)}

    @property
    def thumbprint(self) -> str:
        """SHA-256 over the required members (RFC 7638), base64url, 43 characters."""
        return b64url(hashlib.sha256(_compact(self.members)).digest())


def jwk_of(spki: bytes) -> PublicJwk:
    """Return the key in `spki` (DER).

    Raises:
        FormatError: not a public key on P-256.
    """
    try:
        key = serialization.load_der_public_key(spki)
    except ValueError as err:
        raise FormatError("JWK: the key is not a public key") from err
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise FormatError("JWK: the key is not on the curve P-256")
    numbers = key.public_numbers()
    return PublicJwk(
        x=numbers.x.to_bytes(_COORDINATE_BYTES, "big"),
        y=numbers.y.to_bytes(_COORDINATE_BYTES, "big"),
    )


def parse_jwk(value: object, *, alg: str) -> PublicJwk:
    """Return the public key that a JWK in decoded JSON says, which is for `alg` and nothing else.

    Args:
        value: untrusted. It has exactly the members `kty`, `crv`, `alg`, `x` and `y`; so it has no
            private part, and nothing that another reader might go by.
        alg: the only accepted value of `alg`.

    Raises:
        FormatError: other members or values, or a point that is not on the curve.
    """
    if not isinstance(value, dict) or set(value) != {"kty", "crv", "alg", "x", "y"}:
        raise FormatError("JWK: the members kty, crv, alg, x and y are needed, and no others")
    if (value["kty"], value["crv"], value["alg"]) != ("EC", "P-256", alg):
        raise FormatError(f"JWK: an EC key on P-256 for {alg} is needed")
    found = PublicJwk(
        x=from_b64url(value["x"], what="JWK x", length=_COORDINATE_BYTES),
        y=from_b64url(value["y"], what="JWK y", length=_COORDINATE_BYTES),
    )
    try:
        _ = found.key
    except ValueError as err:
        raise FormatError("JWK: the point is not on the curve P-256") from err
    return found


def sign_jws(payload: bytes, *, key: TlsKey, header: Mapping[str, str]) -> str:
    """Return `payload` signed with ES256 in the compact serialisation.

    Args:
        payload: the claims, JSON.
        key: of this use alone: a JWS has no label that would keep it apart from others.
        header: `typ` and `kid`, or less; `alg` comes first by itself.
    """
    signed = f"{b64url(_compact({'alg': ES256} | dict(header)))}.{b64url(payload)}"
    r, s = decode_dss_signature(key.sign(signed.encode()))
    return f"{signed}.{b64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def verify_jws(token: str, *, spki: bytes, typ: str | None, kid: str | None) -> bytes:
    """Return the payload of `token`, which the holder of `spki`'s private key signed.

    Args:
        token: JWS in the compact serialisation, at most 16,384 characters, untrusted.
        spki: DER SubjectPublicKeyInfo of a P-256 key, already trusted.
        typ: the only accepted `typ`; None where there has to be none.
        kid: the only accepted `kid`, likewise.

    Raises:
        FormatError: not a compact JWS, or with other members in its header.
        AuthenticationFailed: another algorithm, type or key, or the signature is not of this key.
    """
    if len(token) > MAX_TOKEN_CHARS:
        raise FormatError(f"token: more than {MAX_TOKEN_CHARS} characters")
    parts = token.split(".")
    if len(parts) != 3:
        raise FormatError("token: not three parts")
    signed, _, last = token.rpartition(".")
    header = parse_json(from_b64url(parts[0], what="token header"), what="token header")
    said = {"alg": ES256, "typ": typ, "kid": kid}
    expected = {name: value for name, value in said.items() if value is not None}
    if not isinstance(header, dict) or set(header) != set(expected):
        raise FormatError(f"token header: exactly {', '.join(expected)} are needed")
    if header != expected:
        raise AuthenticationFailed("token: of another algorithm, type or key than is trusted here")
    signature = from_b64url(last, what="token signature", length=2 * 32)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    verify_ecdsa(spki, encode_dss_signature(r, s), signed.encode())
    return from_b64url(parts[1], what="token payload")


def seal_jwe(plaintext: Secret, *, recipient: PublicJwk) -> dict[str, str]:
    """Return `plaintext` so that only the holder of `recipient`'s private key can read it.

    The flattened JSON form, with a fresh key and a fresh ephemeral key each time. The protected
    header has one fixed spelling, members of `epk` sorted: clients of the KBS protocol do not
    authenticate the header that they received, but the one that they write anew from it.

    Args:
        plaintext: what to seal.
        recipient: who may read it. Nobody is named as the sender.

    Returns:
        The members `protected`, `encrypted_key`, `iv`, `ciphertext` and `tag`.
    """
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    shared = ephemeral.exchange(ec.ECDH(), recipient.key)
    content_key, iv = os.urandom(32), os.urandom(_IV_BYTES)
    epk = jwk_of(TlsKey(ephemeral).spki).members
    protected = b64url(_compact({"alg": ECDH_ES_A256KW, "enc": A256GCM, "epk": epk}))
    sealed = AESGCM(content_key).encrypt(iv, plaintext.reveal(), protected.encode())
    wrapping_key = concat_kdf(shared, algorithm=ECDH_ES_A256KW, length=32)
    return {
        "protected": protected,
        "encrypted_key": b64url(keywrap.aes_key_wrap(wrapping_key, content_key)),
        "iv": b64url(iv),
        "ciphertext": b64url(sealed[:-_TAG_BYTES]),
        "tag": b64url(sealed[-_TAG_BYTES:]),
    }


def concat_kdf(
    shared: bytes, *, algorithm: str, length: int, apu: bytes = b"", apv: bytes = b""
) -> bytes:
    """Return `length` bytes of key from an ECDH secret (RFC 7518, 4.6.2: Concat KDF, SHA-256)."""
    info = b"".join(
        len(part).to_bytes(4, "big") + part for part in (algorithm.encode(), apu, apv)
    ) + (8 * length).to_bytes(4, "big")
    return ConcatKDFHash(hashes.SHA256(), length, info).derive(shared)


def _compact(value: Mapping[str, object]) -> bytes:
    """Return `value` as JSON without spaces, in its own order."""
    return json.dumps(value, separators=(",", ":")).encode()
