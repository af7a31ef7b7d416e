"""Attestation results that travel: signed tokens for relying parties that are not of the mesh.

A JWS has no place for a label that says what a signature is for. So the key that signs tokens signs
nothing else, and it is no key of TLS: the mesh CA vouches for it in a statement under a label of
its own, and gives it no certificate that a peer might take for a process's.

    relying party   verified the broker's evidence once, so it knows the mesh CA's key
                    ear_key.verify_ear_key(statement)  -> the key, for a day, for one manifest
                    verify_ear(token)                  -> claims: how trustworthy, until when, and
                                                          by that manifest's policy
"""

import base64
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import msgspec

from wardian.attestation.results.ear import PROFILE, SUBMODULE, TrustTier, build_ear
from wardian.attestation.results.ear_key import KEY_LIFE_S, NAME_PATTERN, SKEW_S, EarKeyStatement
from wardian.crypto.jose import ES256, PublicJwk, jwk_of, sign_jws, verify_jws
from wardian.crypto.secret import Secret
from wardian.crypto.strict_text import parse_json
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import (
    EvidenceInvalid,
    EvidenceStale,
    FormatError,
    LocalProtocolError,
    PolicyDenied,
)

TOKEN_LIFE_S: Final = 300
MAX_TOKEN_LIFE_S: Final = 3600
NONCE_BYTES: Final = (8, 64)
"""From and to (draft-ietf-rats-ear-04, section 3, `eat_nonce`)."""
AFFIRMING: Final = frozenset({TrustTier.AFFIRMING})
ANOTHER_POLICY: Final = "policy"
"""The rule by which a token is refused that rests on another policy than the accepted one."""

_TYP: Final = "JWT"
_Time = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class Appraisal(msgspec.Struct, frozen=True, kw_only=True):
    """What a verified token says about one attester; unknown claims are ignored (EAR, 4)."""

    ear_status: TrustTier
    ear_trustworthiness_vector: dict[str, Annotated[int, msgspec.Meta(ge=-128, le=127)]]
    ear_appraisal_policy_ids: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    ear_attester_claims: dict[str, Any]
    ear_verifier_claims: dict[str, Any]


class Ear(msgspec.Struct, frozen=True, kw_only=True):
    """A verified token; only `verify_ear` makes one. Unknown claims are ignored (EAR, 4)."""

    eat_profile: str
    iss: str
    aud: str
    jti: str
    iat: _Time
    exp: _Time
    ear_status: TrustTier
    submods: dict[str, Appraisal]
    eat_nonce: str | None = None

    @property
    def appraisal(self) -> Appraisal:
        """What it says about the attester."""
        return self.submods[SUBMODULE]


class EarSigner:
    """Signs attestation results, with a key that does nothing else."""

    __slots__ = ("_key", "audience", "issuer", "jwk", "life_s")

    def __init__(
        self, key: TlsKey, *, issuer: str, audience: str, life_s: int = TOKEN_LIFE_S
    ) -> None:
        """Sign with `key`.

        Args:
            key: made for this alone; the caller keeps it sealed.
            issuer: who says it, 1 to 200 printable ASCII characters without spaces.
            audience: whom tokens are for if nobody else is named, likewise.
            life_s: how long a token is good, 1 to 3600 seconds.

        Raises:
            LocalProtocolError: another name or life.
        """
        if not 1 <= life_s <= MAX_TOKEN_LIFE_S:
            raise LocalProtocolError(f"a token lives 1 to {MAX_TOKEN_LIFE_S} seconds")
        if any(re.match(NAME_PATTERN, name) is None for name in (issuer, audience)):
            raise LocalProtocolError("an issuer or audience is a name without spaces, in ASCII")
        self._key, self.issuer, self.audience, self.life_s = key, issuer, audience, life_s
        self.jwk = jwk_of(key.spki)

    def to_secret(self) -> Secret:
        """Return the private key (PKCS #8 DER), for the store alone."""
        return self._key.to_secret()

    @property
    def public(self) -> dict[str, str]:
        """The public key as the JWK that relying parties configure."""
        return self.jwk.members | {"alg": ES256, "use": "sig", "kid": self.jwk.thumbprint}

    def certify(
        self, sign: Callable[[bytes], bytes], *, manifest_digest: bytes, now: int
    ) -> EarKeyStatement:
        """Return the mesh CA's statement about the key, good for a day from `now`.

        Args:
            sign: the mesh CA's: returns ECDSA-SHA256, DER.
            manifest_digest: SHA-256 of the manifest in force, 32 bytes.
            now: Unix seconds.
        """
        unsigned = EarKeyStatement(
            issuer=self.issuer,
            spki=self._key.spki,
            manifest_digest=manifest_digest,
            starts=now,
            ends=now + KEY_LIFE_S,
        )
        return msgspec.structs.replace(unsigned, signature=sign(unsigned.content))

    def issue(
        self,
        appraisal: Mapping[str, Any],
        *,
        now: int,
        ends: int,
        token_id: str | None = None,
        audience: str | None = None,
        nonce: bytes | None = None,
    ) -> str:
        """Return a token that says `appraisal`.

        Args:
            appraisal: of `build_appraisal`.
            now: Unix seconds.
            ends: when what it rests on ends, Unix seconds; a token ends no later.
            token_id: names the token; fresh if None.
            audience: the relying party that it is for; the signer's own if None.
            nonce: the relying party's, to be echoed; 8 to 64 bytes.
        """
        claims = build_ear(appraisal, issued=now, expires=min(now + self.life_s, ends))
        claims |= {
            "iss": self.issuer,
            "aud": audience or self.audience,
            "jti": token_id or secrets.token_urlsafe(16),
        }
        if nonce is not None:
            claims["eat_nonce"] = encode_nonce(nonce)
        header = {"typ": _TYP, "kid": self.jwk.thumbprint}
        return sign_jws(msgspec.json.encode(claims), key=self._key, header=header)


def encode_nonce(nonce: bytes) -> str:
    """Return a relying party's nonce as a token echoes it: base64url with its padding.

    Raises:
        FormatError: not 8 to 64 bytes.
    """
    least, most = NONCE_BYTES
    if not least <= len(nonce) <= most:
        raise FormatError(f"a nonce has {least} to {most} bytes")
    return base64.urlsafe_b64encode(nonce).decode()


def verify_ear(
    token: str,
    *,
    key: PublicJwk,
    issuer: str,
    audience: str,
    policy_id: str,
    now: int,
    nonce: bytes | None,
    accepted: frozenset[TrustTier] = AFFIRMING,
) -> Ear:
    """Return what `token` says: signed by `key`, by this policy, for this audience, good and fresh.

    That the one who shows it is the attester, it does not say: let it use the key in
    `ear_verifier_claims.runtime_data`, which the evidence was bound to.

    Args:
        token: untrusted.
        key: of `verify_ear_key`, or configured.
        issuer: the only accepted `iss`.
        audience: the name that the relying party goes by; the only accepted `aud`.
        policy_id: the only accepted policy: of a mesh, SHA-256 of the manifest in hex, the one that
            `verify_ear_key` was given. The key signs under every manifest.
        now: Unix seconds.
        nonce: the relying party's own, which has to be echoed. None: it asked for none, and a
            token made for somebody who did is refused.
        accepted: the tiers that are good enough. Simulated attesters are contraindicated.

    Raises:
        FormatError: not a token of this kind.
        AuthenticationFailed: not signed by `key` with ES256.
        PolicyDenied: another issuer, audience or policy, or a tier that is not accepted.
        EvidenceStale: over, or not begun.
        EvidenceInvalid: another nonce.
    """
    payload = verify_jws(token, spki=key.spki, typ=_TYP, kid=key.thumbprint)
    try:
        found = msgspec.convert(parse_json(payload, what="token"), Ear)
    except msgspec.ValidationError as err:
        raise FormatError("token: signed, but without the claims of an attestation result") from err
    if found.eat_profile != PROFILE or set(found.submods) != {SUBMODULE}:
        raise FormatError("token: of another profile, or about more than one attester")
    if found.iss != issuer:
        raise PolicyDenied("the token is of another issuer", rule="issuer")
    if found.aud != audience:
        raise PolicyDenied("the token is for another relying party", rule="audience")
    if found.appraisal.ear_appraisal_policy_ids != (policy_id,):
        raise PolicyDenied("the token is a result under another policy", rule=ANOTHER_POLICY)
    if not found.iat - SKEW_S <= now < found.exp or found.exp - found.iat > MAX_TOKEN_LIFE_S:
        raise EvidenceStale("the token is not valid at this time")
    echoed = (found.eat_nonce or "").encode()
    if not hmac.compare_digest(echoed, b"" if nonce is None else encode_nonce(nonce).encode()):
        raise EvidenceInvalid("the token was not made for this question: it has another nonce")
    if not {found.ear_status, found.appraisal.ear_status} <= accepted:
        raise PolicyDenied(f"the token says {found.appraisal.ear_status.value}", rule="tier")
    return found
