"""The verifier: from evidence to an `AttestationResult`, through one path for every root.

    (1) structure      parse_quote           FormatError
    (2) root           the policy names it   PolicyDenied
    (3) debug          the report's flags    TcbUnacceptable
    (4) collateral     parse_collateral      CollateralUnavailable, FormatError
    (5) issuers        demand_issuers        EvidenceInvalid
    (6) signatures     dcap-qvl              EvidenceInvalid, EvidenceStale, TcbUnacceptable
    (7) platform       the TCB info's own    EvidenceInvalid
    (8) binding        all 64 bytes          EvidenceInvalid
    (9) appraisal      the policy's rule     PolicyDenied

`dcap-qvl` verifies the chain to the root, revocation, the quoting enclave, the TCB level and the
validity of each piece of collateral. It neither looks at what the quote is bound to nor at which
enclave or guest it is, accepts bytes behind the quote, and tells the vendor's certificates apart by
their place alone: all but (6) is ours. `docs/reference/quote.md` has each step in full.
"""

import hmac
from typing import Final

from wardian.attestation.appraisal.policy import AppraisalPolicy, demand
from wardian.attestation.certificates.intel_root import INTEL_ROOT_DER, INTEL_ROOT_SHA256
from wardian.attestation.claims import Claims, TcbStatus
from wardian.attestation.collateral.bundle import parse_collateral
from wardian.attestation.evidence import REPORT_DATA_BYTES, Evidence
from wardian.attestation.quotes.quote import Quote, parse_quote
from wardian.attestation.results.result import AttestationResult
from wardian.attestation.verification.dcap import SAID, Refused, Verified, verify_signatures
from wardian.attestation.verification.issuers import demand_issuers
from wardian.attestation.verification.refusal import refusal
from wardian.attestation.verification.statements import Statements, read_statements
from wardian.errors import EvidenceInvalid, LocalProtocolError, TcbUnacceptable

__all__ = [
    "INTEL_ROOT_DER",
    "INTEL_ROOT_SHA256",
    "Claims",
    "TcbStatus",
    "verify_evidence",
    "verify_quote",
]

MAX_TIME: Final = 2**63
"""Seconds; no clock shows as many."""


def verify_evidence(
    evidence: Evidence, *, policy: AppraisalPolicy, report_data: bytes, now: int
) -> AttestationResult:
    """Return what `evidence` says: it is genuine, bound to `report_data` and accepted.

    Args:
        evidence: what the attester sent, untrusted.
        policy: which roots and which claims are accepted.
        report_data: the 64 bytes that the evidence has to be bound to; see `evidence.bind`.
        now: Unix time, seconds; collateral outside its validity then is refused.

    Raises:
        FormatError: the quote or the collateral does not parse.
        PolicyDenied: the policy does not name the root, or its rule refuses the claims.
        EvidenceInvalid: a signature does not verify, or the binding is to something else.
        EvidenceStale: the collateral is outside its time.
        TcbUnacceptable: a debug enclave or guest, or a revoked platform.
        CollateralUnavailable: the attester sent no collateral.
        LocalProtocolError: `report_data` has another length, or `now` is negative or above 2**63.
    """
    if len(report_data) != REPORT_DATA_BYTES:
        raise LocalProtocolError(f"report data has {REPORT_DATA_BYTES} bytes: use evidence.bind")
    quote = parse_quote(evidence.quote)  # (1)
    demand(policy.appraise_root(quote.root_sha256))  # (2)
    claims = _verify(quote, evidence.collateral, root=quote.chain[-1], now=now)
    if not hmac.compare_digest(claims.report_data, report_data):  # (8)
        raise EvidenceInvalid(
            "the evidence is genuine, but was made for something else: "
            "its report data is not bound to this nonce, these keys and this use"
        )
    return AttestationResult(claims=claims, outcomes=policy.demand(claims))  # (9)


def verify_quote(quote: bytes, collateral: bytes, *, root: bytes, now: int) -> Claims:
    """Return the claims of a quote that chains to `root` and is current at `now`.

    Says nothing about which enclave or guest it is or what it is bound to: appraise the claims.

    Args:
        quote: an SGX quote of version 3 or a TDX quote of version 4 or 5, untrusted; zero padding
            may follow it.
        collateral: JSON as in `Evidence`, untrusted.
        root: the trusted root certificate, DER: `INTEL_ROOT_DER` or that of a simulation.
        now: Unix time, seconds.

    Raises:
        FormatError, EvidenceInvalid, EvidenceStale, TcbUnacceptable, CollateralUnavailable,
        LocalProtocolError: as `verify_evidence`.
    """
    return _verify(parse_quote(quote), collateral, root=root, now=now)  # (1)


def _verify(quote: Quote, collateral: bytes, *, root: bytes, now: int) -> Claims:
    if not 0 <= now < MAX_TIME:
        raise LocalProtocolError("the time for which evidence is verified is no time since 1970")
    if quote.chain[-1] != root:
        raise EvidenceInvalid("the quote's certificate chain ends in another root certificate")
    if quote.report.debug:  # (3) only words the refusal: nothing is verified yet
        raise TcbUnacceptable(
            f"the {quote.report.kind} attester runs in debug mode: its host can read its memory"
        )
    signed = parse_collateral(collateral)  # (4)
    demand_issuers(quote, signed)  # (5)
    try:
        found = verify_signatures(quote.raw, signed, root=root, now=now)  # (6)
    except Refused as err:
        raise refusal(str(err), quote, signed, now=now) from err
    said = read_statements(signed)
    said.demand_pce(bytes(found.platform.pck.pce_id))  # (7)
    return _claims(quote, found, said, now=now)


def _claims(quote: Quote, found: Verified, said: Statements, *, now: int) -> Claims:
    pck = found.platform.pck
    return Claims(
        report=quote.report,
        quote_version=quote.version,
        tcb_status=found.tcb_status,
        advisory_ids=found.advisory_ids,
        tcb_date=found.tcb_date,
        root_sha256=quote.root_sha256,
        fmspc=bytes(pck.fmspc),
        pce_id=bytes(pck.pce_id),
        ppid=bytes(pck.ppid),
        sgx_type=pck.sgx_type,
        dynamic_platform=SAID[pck.dynamic_platform],
        cached_keys=SAID[pck.cached_keys],
        smt_enabled=SAID[pck.smt_enabled],
        tcb_evaluation_number=found.tcb.eval_data_number,
        collateral_issued=said.issued,
        collateral_expires=found.earliest_expiration_date,
        verified_at=now,
    )
