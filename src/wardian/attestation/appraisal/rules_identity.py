"""Rules about who the attester is, whatever its TEE: its measurement, its kind, no debugging."""

from dataclasses import dataclass

from wardian.attestation.appraisal.rule import NamedRule, Outcome
from wardian.attestation.claims import Claims, SgxReport, TeeKind
from wardian.errors import ConfigError

DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class MeasurementIn(NamedRule):
    """Accepts exactly the enclaves and trust domains that are named.

    Attributes:
        measurements: `Claims.measurement` of each, 32 bytes: of an enclave its MRENCLAVE, of a
            trust domain the digest over its MRTD, RTMRs and what it was launched with. Empty
            refuses everything.
    """

    measurements: frozenset[bytes]

    def __post_init__(self) -> None:
        need_digests(self.measurements, "measurement")

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether the attester is one of the named ones."""
        known = claims.measurement in self.measurements
        state = "is one that" if known else "is not one that"
        reason = f"measurement {claims.measurement.hex()} {state} the policy names"
        return self.says(accepted=known, reason=reason)


@dataclass(frozen=True, slots=True)
class NotConfigured(NamedRule):
    """Refuses enclaves with a CONFIGID or CONFIGSVN.

    Whoever launches an enclave chooses both, and no MRENCLAVE covers them. What a trust domain was
    launched with is part of its measurement.
    """

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether nobody configured the enclave at its launch."""
        report = claims.report
        plain = not isinstance(report, SgxReport) or not (
            any(report.config_id) or report.config_svn
        )
        reason = "no configuration at launch" if plain else "launched with a CONFIGID or CONFIGSVN"
        return self.says(accepted=plain, reason=reason)


@dataclass(frozen=True, slots=True)
class AnyMeasurement(NamedRule):
    """Accepts every enclave and trust domain, of whatever author; the outcome says so.

    It is for looking at evidence. No policy file can state it.
    """

    def appraise(self, claims: Claims) -> Outcome:
        """Return acceptance, and that nobody asked what runs there."""
        reason = f"measurement {claims.measurement.hex()}: any; what runs there is not judged"
        return self.says(accepted=True, reason=reason)


@dataclass(frozen=True, slots=True)
class KindIn(NamedRule):
    """Accepts TEEs of the named kinds. Empty refuses everything."""

    kinds: frozenset[TeeKind]

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether the evidence is of one of the named kinds."""
        accepted = claims.kind in self.kinds
        verb = "accepted" if accepted else "not accepted"
        return self.says(
            accepted=accepted, reason=f"the TEE is of kind {claims.kind.value}: {verb}"
        )


@dataclass(frozen=True, slots=True)
class NotDebug(NamedRule):
    """Refuses what its host can debug. The verifier does too: a policy is not the only guard."""

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether the attester's memory is closed to the host."""
        reason = (
            "it runs in debug mode: its host can read its memory"
            if claims.debug
            else "it is not in debug mode"
        )
        return self.says(accepted=not claims.debug, reason=reason)


def need_digests(values: frozenset[bytes], what: str) -> None:
    """Refuse, with `ConfigError`, a policy that names `what` by anything but a SHA-256 digest."""
    if any(len(value) != DIGEST_BYTES for value in values):
        raise ConfigError(f"a policy names each {what} by a digest of {DIGEST_BYTES} bytes")
