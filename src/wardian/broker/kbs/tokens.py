"""What the KBS desk signs: results about its sessions' attesters, under the policy in force."""

import secrets
from typing import Any, Final

from wardian.attestation.results.ear import TrustTier, build_appraisal
from wardian.attestation.results.ear_key import EarKeyStatement
from wardian.attestation.results.ear_token import ANOTHER_POLICY, EarSigner, verify_ear
from wardian.broker.kbs.messages import runtime_data
from wardian.broker.kbs.sessions import Attested, Session
from wardian.errors import AuthenticationFailed, EvidenceStale, PolicyDenied, WardianError

_ANY_TIER: Final = frozenset(TrustTier)
"""A token stands for its session here; whether that is good enough, the release decides."""


class KbsTokens:
    """The broker's signer of results, what the mesh CA says of it, and the policy's name."""

    __slots__ = ("_signer", "policy_id", "statement")

    def __init__(self, signer: EarSigner, *, statement: EarKeyStatement, policy_id: str) -> None:
        """Sign with `signer`.

        Args:
            signer: of this broker; its audience is this broker too.
            statement: the mesh CA's, about the signer's key.
            policy_id: what tokens call the policy in force, for example by the manifest's digest.
        """
        self._signer, self.statement, self.policy_id = signer, statement, policy_id

    @property
    def keys(self) -> dict[str, Any]:
        """The signer's key as a set of JWKs (RFC 7517, 5), and the statement about it."""
        return {"keys": [self._signer.public], "statement": self.statement}

    def fresh_id(self) -> str:
        """Return a name for a token, that nobody guesses."""
        return secrets.token_urlsafe(16)

    def issue(
        self,
        session: Session,
        attested: Attested,
        *,
        now: float,
        audience: str | None = None,
        nonce: bytes | None = None,
    ) -> str:
        """Return a token about the attester of `session`, which ends no later than that.

        Args:
            session: whose.
            attested: what it holds.
            now: Unix seconds.
            audience: the relying party that it is for. None: this broker, and then the token
                stands for the session.
            nonce: the relying party's, to be echoed; 8 to 64 bytes.
        """
        appraisal = build_appraisal(
            attested.result,
            policy_id=self.policy_id,
            runtime_data=runtime_data(attested.nonce, attested.key),
        )
        return self._signer.issue(
            appraisal,
            now=int(now),
            ends=int(session.ends),
            token_id=attested.token_id if audience is None else self.fresh_id(),
            audience=audience,
            nonce=nonce,
        )

    def id_of(self, token: str, *, now: float) -> str:
        """Return the name of a token that stands for a session here.

        Raises:
            EvidenceStale: it is over, or was made under the policy before.
            AuthenticationFailed: it does not verify, or is for another relying party.
        """
        try:
            verified = verify_ear(
                token,
                key=self._signer.jwk,
                issuer=self._signer.issuer,
                audience=self._signer.audience,
                policy_id=self.policy_id,
                now=int(now),
                nonce=None,
                accepted=_ANY_TIER,
            )
        except EvidenceStale:
            raise
        except WardianError as err:
            if isinstance(err, PolicyDenied) and err.rule == ANOTHER_POLICY:
                raise EvidenceStale("another policy is in force by now: attest anew") from err
            raise AuthenticationFailed(f"the token is refused: {err}") from err
        return verified.jti
