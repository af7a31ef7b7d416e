"""The KBS protocol's broker as a state machine: requests in, responses out, no socket and no clock.

    POST /kbs/v0/auth                     a challenge, and a session's cookie
    POST /kbs/v0/attest                   evidence  -> a token
    GET  /kbs/v0/resource/REPO/TYPE/TAG   a secret, sealed to the attester's key
    POST /v1/attestation-result           a token for another relying party
    GET  /v1/attestation-result/keys      the key of tokens, and the mesh CA's word for it
    GET  /openapi.json                    all that, described

Two of them need work that takes time: evidence is verified, a secret is looked up and its release
committed. There `accept` returns an `Errand` instead of a response; whoever composes the process
runs `errands.carry_out`, serves others meanwhile, and gives `conclude` the outcome.
"""

import base64
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from wardian.attestation.claims import SgxReport, TdReport
from wardian.attestation.evidence import Evidence
from wardian.attestation.evidence_digest import evidence_digest
from wardian.attestation.results.ear_key import EarKeyStatement
from wardian.attestation.results.ear_token import EarSigner
from wardian.attestation.results.result import AttestationResult
from wardian.broker.kbs.answers import (
    KbsRequest,
    KbsResponse,
    bearer_of,
    cookie_of,
    problem,
    refuse,
    reply,
)
from wardian.broker.kbs.errands import Appraisal, Delivery, Errand, Outcome
from wardian.broker.kbs.messages import (
    NONCE_BYTES,
    parse_attestation,
    parse_request,
    parse_resource,
    parse_result_request,
    report_data,
)
from wardian.broker.kbs.openapi import OPENAPI
from wardian.broker.kbs.sessions import Attested, KbsLimits, PeerBuckets, Session, Sessions
from wardian.broker.kbs.tokens import KbsTokens
from wardian.crypto.jose import seal_jwe
from wardian.crypto.secret import Secret
from wardian.errors import (
    AuthenticationFailed,
    EvidenceInvalid,
    EvidenceStale,
    FormatError,
    LocalProtocolError,
    PolicyDenied,
    WardianError,
)

PREFIX: Final = "/kbs/v0/"
RESULT_PATH: Final = "/v1/attestation-result"
MAX_TARGET_BYTES: Final = 1024

_ATTEST: Final = f"{PREFIX}attest"
_RESOURCE: Final = f"{PREFIX}resource/"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """A request with who asks and when."""

    request: KbsRequest
    peer: str
    now: float

    @property
    def path(self) -> str:
        return self.request.target.decode("latin-1")


_Handler: TypeAlias = Callable[[_Question], KbsResponse | Errand]


class KbsDesk:
    """Serves clients of the KBS protocol. One thread calls it; `now` is in Unix seconds."""

    __slots__ = ("_buckets", "_limits", "_routes", "_sessions", "_tokens")

    def __init__(
        self,
        *,
        signer: EarSigner,
        statement: EarKeyStatement,
        policy_id: str,
        limits: KbsLimits | None = None,
    ) -> None:
        """Issue tokens with `signer`.

        Args:
            signer: of this broker; its audience is this broker too.
            statement: the mesh CA's, about the signer's key.
            policy_id: what tokens call the policy in force, for example by the manifest's digest.
            limits: what clients may cost; the defaults if None.
        """
        self._tokens = KbsTokens(signer, statement=statement, policy_id=policy_id)
        self._limits = limits or KbsLimits()
        self._sessions = Sessions(self._limits)
        self._buckets = PeerBuckets(self._limits)
        self._routes: dict[str, tuple[bytes, _Handler]] = {
            f"{PREFIX}auth": (b"POST", self._auth),
            _ATTEST: (b"POST", self._attest),
            _RESOURCE: (b"GET", self._resource),
            RESULT_PATH: (b"POST", self._result),
            f"{RESULT_PATH}/keys": (b"GET", self._keys),
            "/openapi.json": (b"GET", self._openapi),
        }

    def renew(self, *, statement: EarKeyStatement, policy_id: str) -> None:
        """Go by another statement; by another policy too, and then all sessions end."""
        if policy_id != self._tokens.policy_id:
            self.end_sessions()
        self._tokens.statement, self._tokens.policy_id = statement, policy_id

    def end_sessions(self) -> None:
        """End all sessions: whoever was attested attests anew."""
        self._sessions.clear()

    def accept(self, request: KbsRequest, *, peer: str, now: float) -> KbsResponse | Errand:
        """Return the response to `request`, or what has to be done before there is one.

        Args:
            request: untrusted.
            peer: whom it counts for, of `limits.peer_of`.
            now: Unix seconds.
        """
        try:
            self._buckets.spend(peer, now=now, body_bytes=len(request.body))
            return self._route(_Question(request=request, peer=peer, now=now))
        except EvidenceStale as err:
            return problem(401, "TokenNotFound", str(err))
        except WardianError as err:
            return refuse(err)

    def conclude(self, errand: Errand, outcome: Outcome, *, now: float) -> KbsResponse:
        """Return the response to the request that `errand` came of.

        Args:
            errand: of `accept`; each is concluded once.
            outcome: of `carry_out`, or whatever exception kept it from ending.
            now: Unix seconds.

        Raises:
            LocalProtocolError: the outcome is of another kind of errand.
        """
        try:
            if isinstance(outcome, AttestationResult) and isinstance(errand, Appraisal):
                return self._admit(errand, outcome, now=now)
        except WardianError as err:
            outcome = err
        if isinstance(outcome, Secret) and isinstance(errand, Delivery):
            return reply(seal_jwe(outcome, recipient=errand.attested.key))
        if not isinstance(outcome, Exception):
            raise LocalProtocolError("the outcome is of another errand")
        if isinstance(errand, Appraisal):
            self._sessions.drop(errand.session)
        return refuse(outcome)

    def _route(self, question: _Question) -> KbsResponse | Errand:
        request, path = question.request, question.path
        if len(request.target) > MAX_TARGET_BYTES:
            return problem(414, "TooLong", f"a path has at most {MAX_TARGET_BYTES} characters")
        limits = self._limits
        most = limits.evidence_bytes if path == _ATTEST else limits.body_bytes
        if len(request.body) > most:
            return problem(413, "TooLarge", f"a body has at most {most} bytes here")
        route = self._routes.get(_RESOURCE if path.startswith(_RESOURCE) else path)
        if route is None and path.startswith(PREFIX):
            return problem(404, "PluginNotFound", "of the plugins there is only `resource`")
        if route is None:
            return problem(404, "InvalidRequestPath", "there is nothing here; see /openapi.json")
        method, handler = route
        if request.method != method:
            allow = b"Allow: " + method + b"\r\n"
            return problem(405, "Method", f"only {method.decode()} is served here", headers=allow)
        return handler(question)

    def _auth(self, question: _Question) -> KbsResponse:
        tee = parse_request(question.request.body)
        nonce = base64.b64encode(secrets.token_bytes(NONCE_BYTES)).decode()
        session = self._sessions.open(peer=question.peer, tee=tee, nonce=nonce, now=question.now)
        challenge = {"nonce": nonce, "extra-params": ""}
        return _with_cookie(challenge, session, now=question.now)

    def _attest(self, question: _Question) -> Errand:
        session = self._named(question)
        if session is None:
            raise EvidenceStale("no such session, or no longer: ask for a challenge first")
        nonce = self._sessions.answer(session, now=question.now)
        try:
            found = parse_attestation(question.request.body)
            if not hmac.compare_digest(found.nonce.encode(), nonce.encode()):
                raise EvidenceInvalid("the evidence answers another challenge than this session's")
        except WardianError:
            self._sessions.drop(session)
            raise
        return Appraisal(
            evidence=Evidence(quote=found.quote, collateral=b""),
            report_data=report_data(found.nonce, found.key),
            session=session,
            attestation=found,
        )

    def _admit(self, errand: Appraisal, result: AttestationResult, *, now: float) -> KbsResponse:
        """Keep what was accepted, and answer with the token that stands for it."""
        if not hmac.compare_digest(result.claims.report_data, errand.report_data):
            raise EvidenceInvalid("the evidence is bound to something else than this session")
        if result.claims.kind is not errand.session.tee:
            raise EvidenceInvalid("the evidence is of another TEE than the one that was named")
        _demand_unconfigured(result.claims.report)
        attested = Attested(
            result=result,
            key=errand.attestation.key,
            nonce=errand.attestation.nonce,
            evidence_digest=evidence_digest(errand.evidence),
            token_id=self._tokens.fresh_id(),
        )
        self._sessions.attest(errand.session, attested, now=now)
        token = self._tokens.issue(errand.session, attested, now=now)
        return _with_cookie({"token": token}, errand.session, now=now)

    def _resource(self, question: _Question) -> KbsResponse | Errand:
        try:
            resource = parse_resource(question.path.removeprefix(_RESOURCE))
        except FormatError as err:
            return problem(404, "InvalidRequestPath", str(err))
        return Delivery(resource=resource, attested=self._use(question)[1])

    def _result(self, question: _Question) -> KbsResponse:
        audience, nonce = parse_result_request(question.request.body)
        session, attested = self._use(question)
        token = self._tokens.issue(
            session, attested, now=question.now, audience=audience, nonce=nonce
        )
        return reply({"token": token})

    def _keys(self, _: _Question) -> KbsResponse:
        return reply(self._tokens.keys)

    def _openapi(self, _: _Question) -> KbsResponse:
        return reply(OPENAPI)

    def _use(self, question: _Question) -> tuple[Session, Attested]:
        """Return who asks, and take one use out of the session.

        Raises:
            EvidenceStale: nobody that was attested, or no longer.
            AuthenticationFailed: a token that does not verify, or of another session than the
                cookie's.
        """
        session = self._session_of(question)
        if session is None or session.attested is None or session.uses < 1:
            raise EvidenceStale("not attested, or no longer: attest first")
        session.uses -= 1
        return session, session.attested

    def _session_of(self, question: _Question) -> Session | None:
        token, named = bearer_of(question.request), self._named(question)
        if token is None:
            return named
        token_id = self._tokens.id_of(token, now=question.now)
        found = self._sessions.of_token(token_id, now=question.now)
        if named is not None and found is not named:
            raise AuthenticationFailed("cookie and token are of two sessions: show one of them")
        return found

    def _named(self, question: _Question) -> Session | None:
        """Return the living session that the request's cookie names."""
        session_id = cookie_of(question.request)
        return None if session_id is None else self._sessions.named(session_id, now=question.now)


def _demand_unconfigured(report: SgxReport | TdReport) -> None:
    """Return if whoever launched the attester gave it no configuration beside its measurement.

    CONFIGID is where an enclave's init-data is bound. MRCONFIGID is part of the measurement.

    Raises:
        PolicyDenied: the rule `config-id`: an enclave has a CONFIGID or a CONFIGSVN.
    """
    if isinstance(report, SgxReport) and (any(report.config_id) or report.config_svn):
        raise PolicyDenied(
            "the enclave was launched with a CONFIGID or CONFIGSVN, which its measurement does not "
            "cover, and which is not verified here",
            rule="config-id",
        )


def _with_cookie(value: object, session: Session, *, now: float) -> KbsResponse:
    """Return `value` with the session's cookie, which ends with the session."""
    left = max(0, int(session.ends - now))
    return reply(value, cookie=session.session_id, max_age_s=left)
