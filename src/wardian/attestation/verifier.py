"""The verifier: from evidence to an `AttestationResult`, through one path for every root.

    (1) structure      parse_sgx_quote       FormatError
    (2) root           the policy names it   PolicyDenied
    (3) signatures     dcap-qvl              EvidenceInvalid, EvidenceStale, TcbUnacceptable
    (4) binding        all 64 bytes          EvidenceInvalid
    (5) appraisal      the policy's rule     PolicyDenied

`dcap-qvl` verifies the chain to the root, revocation, the quoting enclave, the TCB level and the
validity of each piece of collateral. It neither looks at what the quote is bound to nor at which
enclave it is, and accepts bytes behind the quote: (1), (4) and (5) are ours.
"""

import hmac

from wardian.attestation.claims import Claims, TcbStatus
from wardian.attestation.collateral import oldest_issue, parse_collateral
from wardian.attestation.dcap import Refused, verify_signatures
from wardian.attestation.evidence import REPORT_DATA_BYTES, Evidence
from wardian.attestation.intel_root import INTEL_ROOT_DER, INTEL_ROOT_SHA256
from wardian.attestation.policy import AppraisalPolicy, demand
from wardian.attestation.quote_sgx import SgxQuote, parse_sgx_quote
from wardian.attestation.refusal import refusal
from wardian.attestation.result import AttestationResult
from wardian.errors import EvidenceInvalid, LocalProtocolError

__all__ = [
    "INTEL_ROOT_DER",
    "INTEL_ROOT_SHA256",
    "Claims",
    "TcbStatus",
    "verify_evidence",
    "verify_quote",
]


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
        TcbUnacceptable: a debug enclave, or a revoked platform.
        CollateralUnavailable: the attester sent no collateral.
    """
    if len(report_data) != REPORT_DATA_BYTES:
        raise LocalProtocolError(f"report data has {REPORT_DATA_BYTES} bytes: use evidence.bind")
    quote = parse_sgx_quote(evidence.quote)
    demand(policy.appraise_root(quote.root_sha256))
    claims = _verify(quote, evidence.collateral, root=quote.chain[-1], now=now)
    if not hmac.compare_digest(claims.report_data, report_data):
        raise EvidenceInvalid(
            "the evidence is genuine, but was made for something else: "
            "its report data is not bound to this nonce, these keys and this use"
        )
    return AttestationResult(claims=claims, outcomes=policy.demand(claims))


def verify_quote(quote: bytes, collateral: bytes, *, root: bytes, now: int) -> Claims:
    """Return the claims of a quote that chains to `root` and is current at `now`.

    Says nothing about which enclave it is or what it is bound to: appraise the claims.

    Args:
        quote: an SGX ECDSA quote, version 3, untrusted; zero padding may follow it.
        collateral: JSON as in `Evidence`, untrusted.
        root: the trusted root certificate, DER: `INTEL_ROOT_DER` or that of a simulation.
        now: Unix time, seconds.

    Raises:
        FormatError, EvidenceInvalid, EvidenceStale, TcbUnacceptable, CollateralUnavailable: as
            `verify_evidence`.
    """
    return _verify(parse_sgx_quote(quote), collateral, root=root, now=now)


def _verify(quote: SgxQuote, collateral: bytes, *, root: bytes, now: int) -> Claims:
    if quote.chain[-1] != root:
        raise EvidenceInvalid("the quote's certificate chain ends in another root certificate")
    statements = parse_collateral(collateral)
    try:
        found = verify_signatures(quote.raw, statements, root=root, now=now)
    except Refused as err:
        raise refusal(str(err), quote, statements, now=now) from err
    return Claims(
        mr_enclave=quote.mr_enclave,
        mr_signer=quote.mr_signer,
        product_id=quote.product_id,
        svn=quote.svn,
        attributes=quote.attributes,
        misc_select=quote.misc_select,
        config_id=quote.config_id,
        report_data=quote.report_data,
        tcb_status=found.tcb.status,
        advisory_ids=tuple(sorted(found.tcb.advisory_ids)),
        root_sha256=quote.root_sha256,
        fmspc=bytes(found.platform.pck.fmspc),
        ppid=bytes(found.platform.pck.ppid),
        sgx_type=found.platform.pck.sgx_type,
        tcb_evaluation_number=found.tcb.eval_data_number,
        collateral_issued=oldest_issue(statements),
        collateral_expires=found.earliest_expiration_date,
        verified_at=now,
    )
