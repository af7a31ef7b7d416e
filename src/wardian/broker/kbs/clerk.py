"""Runs the KBS desk in a broker: what is in force there decides, and its log says what came of it.

    accept      at the desk, under the manifest and the epoch of this moment
    carry out   evidence is verified in a thread; a secret is released, committed, and only then had
    conclude    at the desk again, under what is in force by then

A new manifest, and a new epoch, end all sessions: who was attested before attests anew (TRUST T21).
"""

import asyncio
import logging
from typing import Final

from wardian._internal.log import event
from wardian.attestation.evidence import Evidence
from wardian.attestation.evidence_digest import evidence_digest
from wardian.attestation.results.ear_key import KEY_LIFE_S, EarKeyStatement
from wardian.attestation.results.ear_token import EarSigner
from wardian.attestation.results.result import AttestationResult
from wardian.broker.authority import Authority
from wardian.broker.desk import Office
from wardian.broker.kbs.answers import KbsRequest, KbsResponse, refuse
from wardian.broker.kbs.desk import KbsDesk
from wardian.broker.kbs.errands import Appraisal, Errand, Outcome, carry_out
from wardian.broker.kbs.messages import ResourcePath, secret_name
from wardian.broker.kbs.sessions import KbsLimits
from wardian.broker.limits import Bucket, peer_of
from wardian.broker.mesh.appraisal import interop_policy
from wardian.broker.refusal import refusal_for
from wardian.broker.release.releases import Releases
from wardian.broker.state.store import Place
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import Timeout, WardianError

log = logging.getLogger(__name__)

ERRAND_S: Final = 30.0
"""How long a client is kept waiting: collateral may have to be fetched first."""
CONFIRMED_S: Final = 1.0
"""For how long it is taken for known that this broker's state is the newest."""
ROLE: Final = "kbs"
"""What stands in audit lines in the place of a role: who asks here has none."""

_KEY: Final[Place] = ("ear", "key")
_DECIDED: Final = frozenset({401, 403})
"""The statuses of an errand that somebody decided; others say that nobody could."""


class KbsClerk:
    """Answers requests of the KBS protocol. Everything but the verifying runs on one thread."""

    __slots__ = (
        "_confirmed_at",
        "_desk",
        "_epoch",
        "_limits",
        "_logs",
        "_office",
        "_releases",
        "_signer",
        "_statement",
    )

    def __init__(self, office: Office, *, limits: KbsLimits | None = None) -> None:
        """Answer with what the authority of `office` has in force.

        Args:
            office: the means of all desks of this broker.
            limits: what clients may cost; the defaults if None.

        Raises:
            SealError: there is no key of tokens yet, and none can be kept.
        """
        authority = office.authority
        self._office, self._limits = office, limits or KbsLimits()
        self._releases = Releases(authority)
        self._signer = EarSigner(
            _kept_key(authority),
            issuer=f"wardian:mesh:{authority.mesh}",
            audience=f"wardian:broker:{authority.mesh}",
        )
        self._desk: KbsDesk | None = None
        self._statement: EarKeyStatement | None = None
        self._epoch = 0
        self._confirmed_at: float | None = None
        most = office.limits
        self._logs = Bucket(per_s=most.logs_per_s, burst=most.log_burst, now=office.ticks())

    async def answer(self, request: KbsRequest, *, host: str) -> KbsResponse:
        """Return the response to `request`; a refusal is audited before it is told.

        Args:
            request: untrusted.
            host: the IP address that it came from.
        """
        try:
            response = await self._answer(request, peer=peer_of(host))
        except Exception as err:  # noqa: BLE001 (the outermost loop: a bug stays in its request)
            self._note_bug(err)
            response = refuse(err)
        if response.problem is not None:
            told = logging.WARNING if self._logs.take(self._office.ticks()) else logging.DEBUG
            event(log, "kbs.refused", level=told, status=response.status, problem=response.problem)
        return response

    async def _answer(self, request: KbsRequest, *, peer: str) -> KbsResponse:
        clock = self._office.authority.clock
        step = self._in_force().accept(request, peer=peer, now=clock())
        if isinstance(step, KbsResponse):
            return step
        outcome = await self._outcome(step)
        response = self._in_force().conclude(step, outcome, now=clock())
        if response.status in _DECIDED:
            self._audit(step, outcome, problem=response.problem or "")
        return response

    async def _outcome(self, errand: Errand) -> Outcome:
        """Return what came of `errand`, whatever it was: it has to be concluded."""
        try:
            async with asyncio.timeout(ERRAND_S):
                return await carry_out(errand, appraise=self._appraise, release=self._release)
        except TimeoutError:
            return Timeout("the evidence could not be verified in time: ask later")
        except Exception as err:  # noqa: BLE001 (the client is told that there is trouble, no more)
            self._note_bug(err)
            return err

    async def _appraise(self, evidence: Evidence, report_data: bytes) -> AttestationResult:
        policy = interop_policy(self._office.authority.manifest.manifest)
        return await self._office.verify(evidence, policy=policy, report_data=report_data)

    def _release(self, result: AttestationResult, resource: ResourcePath, digest: bytes) -> Secret:
        name = secret_name(resource, mesh=self._office.authority.mesh)
        return self._releases.release_interop(name, result=result, evidence=digest)

    def _note_bug(self, err: Exception) -> None:
        if not isinstance(err, WardianError):
            event(log, "kbs.bug", level=logging.ERROR, error=type(err).__name__)

    def _audit(self, errand: Errand, outcome: Outcome, *, problem: str) -> None:
        """Write the audit line of a refusal, within the ration: here evidence costs nothing.

        Raises:
            SealError: it cannot be made durable.
        """
        office, authority = self._office, self._office.authority
        if not office.lines.grants_line(office.ticks()):
            return
        rule = refusal_for(outcome).rule if isinstance(outcome, Exception) else problem
        entry = authority.entry(
            event="refusal", outcome="refused", role=ROLE, rule=rule, **_about(errand)
        )
        authority.record([entry], level=logging.WARNING)

    def _in_force(self) -> KbsDesk:
        """Return the desk, which goes by what is in force now.

        Raises:
            TransportError: there is no manifest yet.
            SealError: another broker counted in this one's place, or nobody knows.
        """
        authority = self._office.authority
        digest, epoch = authority.manifest.digest, authority.epoch
        self._confirm()
        desk = self._desk
        if desk is None:
            desk = self._desk = KbsDesk(
                signer=self._signer,
                statement=self._certify(),
                policy_id=digest.hex(),
                limits=self._limits,
            )
        elif self._statement_due(digest):
            desk.renew(statement=self._certify(), policy_id=digest.hex())
        if epoch != self._epoch:
            desk.end_sessions()
            self._epoch = epoch
        return desk

    def _certify(self) -> EarKeyStatement:
        """Return, and remember, the mesh CA's statement about the key of tokens, made now."""
        authority = self._office.authority
        self._statement = self._signer.certify(
            authority.ca.sign,
            manifest_digest=authority.manifest.digest,
            now=authority.clock(),
        )
        return self._statement

    def _statement_due(self, manifest_digest: bytes) -> bool:
        """Return whether there is no statement for this manifest that is in its first half."""
        statement = self._statement
        if statement is None or statement.manifest_digest != manifest_digest:
            return True
        left = statement.ends - self._office.authority.clock()
        return not KEY_LIFE_S // 2 <= left <= KEY_LIFE_S

    def _confirm(self) -> None:
        """Ask the counter whether this state is the newest, unless it said so a moment ago."""
        now = self._office.ticks()
        if self._confirmed_at is None or not 0 <= now - self._confirmed_at <= CONFIRMED_S:
            self._office.authority.store.confirm()
            self._confirmed_at = now


def _about(errand: Errand) -> dict[str, str]:
    """Return what an audit line says of whom and what `errand` was about."""
    if isinstance(errand, Appraisal):
        return {"evidence": evidence_digest(errand.evidence).hex()}
    attested = errand.attested
    return {
        "measurement": attested.result.claims.measurement.hex(),
        "evidence": attested.evidence_digest.hex(),
        "kind": "secret",
        "secret": errand.resource.tag,
    }


def _kept_key(authority: Authority) -> TlsKey:
    """Return the key of tokens, made and kept when there was none: all brokers of a mesh share it.

    Raises:
        SealError: it cannot be kept.
    """
    kept = authority.store.get(*_KEY)
    if kept is not None:
        return TlsKey.from_secret(Secret(kept))
    key = TlsKey.generate()
    made = authority.entry(event="start", outcome="granted", role=ROLE, kind="certificate")
    authority.record([made], {_KEY: key.to_secret().reveal()})
    return key
