"""RATS Verifier: is this evidence real, current and acceptable? Needs no TEE and runs anywhere.

Evidence (a quote and what its vendor signed about the platform) comes in, an `AttestationResult`
comes out, or an error. One path serves hardware and simulation; they differ only in the root
certificate, and a policy has to name the root that it accepts.

    quotes        what an attester's TEE signs: its structure
    certificates  those of the platforms' vendor: the root, the form of chains, who signed what
    collateral    what the vendor signs about platforms: its form, a cache, asking a PCCS for it
    verification  is it genuine and current? `dcap-qvl`, and what that library leaves open
    appraisal     is it acceptable? policies, their rules, and the file that states them
    results       the verdict, and the same in everybody's words, signed (EAR)
    here          claims, evidence, verifier (all steps, in their order), ra_tls and dice (evidence
                  in a TLS certificate), evidence_digest

Imports go one way; import-linter has the order. A verdict asks nobody: `verifier` reaches neither
the cache nor the PCCS.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wardian.attestation.appraisal.policy import AppraisalPolicy
    from wardian.attestation.appraisal.policy_file import load_policy
    from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
    from wardian.attestation.claims import Claims, TcbStatus
    from wardian.attestation.evidence import Evidence, Purpose, bind
    from wardian.attestation.quotes.quote import parse_quote
    from wardian.attestation.results.result import AttestationResult
    from wardian.attestation.verifier import verify_evidence, verify_quote

__all__ = [
    "INTEL_ROOT_SHA256",
    "AppraisalPolicy",
    "AttestationResult",
    "Claims",
    "Evidence",
    "Purpose",
    "TcbStatus",
    "bind",
    "load_policy",
    "parse_quote",
    "verify_evidence",
    "verify_quote",
]

_HOME = {
    "INTEL_ROOT_SHA256": "certificates.intel_root",
    "AppraisalPolicy": "appraisal.policy",
    "AttestationResult": "results.result",
    "Claims": "claims",
    "Evidence": "evidence",
    "Purpose": "evidence",
    "TcbStatus": "claims",
    "bind": "evidence",
    "load_policy": "appraisal.policy_file",
    "parse_quote": "quotes.quote",
    "verify_evidence": "verifier",
    "verify_quote": "verifier",
}


def __getattr__(name: str) -> object:
    """Import the module that defines `name` at its first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 (the room stays unloaded until used)

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
