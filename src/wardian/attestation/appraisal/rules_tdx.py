"""Rules about TDX trust domains. Evidence of another kind is refused by each of them.

Source of all fields: "Intel TDX DCAP Quoting Library API", appendix A.3. What no policy can accept
is refused with the evidence already: debug, migration, service trust domains, foreign TDX modules.
"""

import abc
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from wardian.attestation.appraisal.bit_mask import BitMask, match_bits
from wardian.attestation.appraisal.rule import NamedRule, Outcome
from wardian.attestation.claims import Claims, TdReport
from wardian.errors import ConfigError

REGISTER_BYTES: Final = 48
NO_REGISTER: Final = bytes(REGISTER_BYTES)
SVN_BYTES: Final = 16
RTMRS: Final = ("rtmr0", "rtmr1", "rtmr2", "rtmr3")
REGISTERS: Final = (
    "mr_td",
    *RTMRS,
    "mr_config_id",
    "mr_owner",
    "mr_owner_config",
    "mr_seam",
)
"""The registers of 48 bytes that `TdRegisterIn` knows, by their names in `TdReport`."""


class TrustDomainRule(NamedRule, abc.ABC):
    """A rule about a trust domain's report."""

    __slots__ = ()

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether the trust domain is accepted; what is none is refused."""
        if isinstance(claims.report, TdReport):
            return self.appraise_domain(claims.report)
        reason = f"the TEE is of kind {claims.kind.value}: no trust domain for this rule to judge"
        return self.says(accepted=False, reason=reason)

    @abc.abstractmethod
    def appraise_domain(self, report: TdReport) -> Outcome:
        """Return whether the trust domain with this report is accepted."""


@dataclass(frozen=True, slots=True)
class TdRegisterIn(TrustDomainRule):
    """Accepts trust domains one register of which has one of the named values.

    Attributes:
        register_name: one of `REGISTERS`.
        values: what it may be, 48 bytes each. Empty refuses everything.
    """

    register_name: str
    values: frozenset[bytes]

    def __post_init__(self) -> None:
        if self.register_name not in REGISTERS:
            raise ConfigError(f"a trust domain has no register {self.register_name!r}")
        if any(len(value) != REGISTER_BYTES for value in self.values):
            raise ConfigError(
                f"a policy names each {self.register_name} by its {REGISTER_BYTES} bytes"
            )

    @override
    def appraise_domain(self, report: TdReport) -> Outcome:
        """Return whether the register has one of the named values."""
        found = register_of(report, self.register_name)
        accepted = found in self.values
        state = "is one that" if accepted else "is not one that"
        shown = "of zeros" if found == NO_REGISTER else found.hex()
        reason = f"{self.register_name} {shown} {state} the policy names"
        return self.says(accepted=accepted, reason=reason)


def register_of(report: TdReport, register: str) -> bytes:
    """Return the 48 bytes of one of `REGISTERS`."""
    if register in RTMRS:
        return report.rtmrs[RTMRS.index(register)]
    found: bytes = getattr(report, register)
    return found


@dataclass(frozen=True, slots=True)
class TeeTcbSvnAtLeast(TrustDomainRule):
    """Accepts trust domains that a TDX module launched which is new enough.

    Attributes:
        svn: TEE_TCB_SVN, 16 bytes; none of its parts may be lower than the byte here.
    """

    svn: bytes

    def __post_init__(self) -> None:
        if len(self.svn) != SVN_BYTES:
            raise ConfigError(f"TEE_TCB_SVN has {SVN_BYTES} bytes")

    @override
    def appraise_domain(self, report: TdReport) -> Outcome:
        """Return whether every part of the module's security version is high enough."""
        accepted = all(
            found >= least for found, least in zip(report.tee_tcb_svn, self.svn, strict=True)
        )
        state = "new enough" if accepted else "older than the policy accepts"
        return self.says(
            accepted=accepted, reason=f"TEE_TCB_SVN {report.tee_tcb_svn.hex()}: {state}"
        )


@dataclass(frozen=True, slots=True)
class TdAttributesMatch(TrustDomainRule):
    """Accepts trust domains with certain bits in TDATTRIBUTES, 64 bits."""

    bits: BitMask

    def __post_init__(self) -> None:
        self.bits.need_width(64)

    @override
    def appraise_domain(self, report: TdReport) -> Outcome:
        """Return whether the attributes are as the policy demands."""
        return match_bits(self, self.bits, report.td_attributes, "TDATTRIBUTES")


@dataclass(frozen=True, slots=True)
class XfamMatch(TrustDomainRule):
    """Accepts trust domains with certain bits in XFAM, 64 bits that are laid out as XCR0."""

    bits: BitMask

    def __post_init__(self) -> None:
        self.bits.need_width(64)

    @override
    def appraise_domain(self, report: TdReport) -> Outcome:
        """Return whether the processor state that the guest may use is as the policy demands."""
        return match_bits(self, self.bits, report.xfam, "XFAM")
