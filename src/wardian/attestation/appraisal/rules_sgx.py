"""Rules about SGX enclaves. Evidence of another kind is refused by each of them.

Source of all fields: Intel SDM, volume 3D, table 38-21 (REPORT) and 38-3 (ATTRIBUTES).
"""

import abc
from dataclasses import dataclass

from typing_extensions import override

from wardian.attestation.appraisal.bit_mask import BitMask, match_bits
from wardian.attestation.appraisal.rule import NamedRule, Outcome
from wardian.attestation.appraisal.rules_identity import need_digests
from wardian.attestation.claims import Claims, SgxReport
from wardian.errors import ConfigError

CONFIG_ID_BYTES = 64
NO_CONFIG_ID = bytes(CONFIG_ID_BYTES)


class EnclaveRule(NamedRule, abc.ABC):
    """A rule about an enclave's report."""

    __slots__ = ()

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether the enclave is accepted; what is none is refused."""
        if isinstance(claims.report, SgxReport):
            return self.appraise_enclave(claims.report)
        reason = f"the TEE is of kind {claims.kind.value}: no enclave that this rule could judge"
        return self.says(accepted=False, reason=reason)

    @abc.abstractmethod
    def appraise_enclave(self, report: SgxReport) -> Outcome:
        """Return whether the enclave with this report is accepted."""


@dataclass(frozen=True, slots=True)
class SignedBy(EnclaveRule):
    """Accepts what one signer signed as one product, from a security version on.

    Attributes:
        mr_signer: MRSIGNER, 32 bytes.
        product_id: ISVPRODID, 0 to 65535. A signer's roles differ in it, so it is never left open.
        min_svn: the lowest ISVSVN that is accepted, 0 to 65535.
    """

    mr_signer: bytes
    product_id: int
    min_svn: int

    def __post_init__(self) -> None:
        need_digests(frozenset({self.mr_signer}), "signer")

    @override
    def appraise_enclave(self, report: SgxReport) -> Outcome:
        """Return whether signer, product and security version fit."""
        if report.mr_signer != self.mr_signer:
            reason = f"signer {report.mr_signer.hex()} is not the one that the policy names"
        elif report.product_id != self.product_id:
            reason = f"product id {report.product_id} is not the one that the policy names"
        elif report.svn < self.min_svn:
            reason = f"security version {report.svn} is older than the policy accepts"
        else:
            return self.says(accepted=True, reason="signer, product and version fit")
        return self.says(accepted=False, reason=reason)


@dataclass(frozen=True, slots=True)
class ConfigIdIn(EnclaveRule):
    """Accepts enclaves that their launcher gave one of the named configurations.

    CONFIGID is chosen at launch and no part of MRENCLAVE: code that reads it does what it says.
    So is CONFIGSVN, its version, which has to be zero where there is no CONFIGID.

    Attributes:
        config_ids: CONFIGID of each, 64 bytes; zeros stand for none.
    """

    config_ids: frozenset[bytes]

    def __post_init__(self) -> None:
        if any(len(value) != CONFIG_ID_BYTES for value in self.config_ids):
            raise ConfigError(f"a policy names each CONFIGID by its {CONFIG_ID_BYTES} bytes")

    @override
    def appraise_enclave(self, report: SgxReport) -> Outcome:
        """Return whether the enclave's configuration is one of the named ones."""
        if report.config_id == NO_CONFIG_ID and report.config_svn:
            reason = f"CONFIGSVN is {report.config_svn}, without a CONFIGID"
            return self.says(accepted=False, reason=reason)
        accepted = report.config_id in self.config_ids
        state = "is one that" if accepted else "is not one that"
        shown = "of zeros" if report.config_id == NO_CONFIG_ID else report.config_id.hex()
        return self.says(accepted=accepted, reason=f"CONFIGID {shown} {state} the policy names")


@dataclass(frozen=True, slots=True)
class FlagsMatch(EnclaveRule):
    """Accepts enclaves with certain bits in ATTRIBUTES.FLAGS, 64 bits."""

    bits: BitMask

    def __post_init__(self) -> None:
        self.bits.need_width(64)

    @override
    def appraise_enclave(self, report: SgxReport) -> Outcome:
        """Return whether the flags are as the policy demands."""
        return match_bits(self, self.bits, report.attributes[:8], "ATTRIBUTES.FLAGS")


@dataclass(frozen=True, slots=True)
class XfrmMatch(EnclaveRule):
    """Accepts enclaves with certain bits in ATTRIBUTES.XFRM, 64 bits that are laid out as XCR0."""

    bits: BitMask

    def __post_init__(self) -> None:
        self.bits.need_width(64)

    @override
    def appraise_enclave(self, report: SgxReport) -> Outcome:
        """Return whether the processor state that the enclave may use is as demanded."""
        return match_bits(self, self.bits, report.attributes[8:], "ATTRIBUTES.XFRM")


@dataclass(frozen=True, slots=True)
class MiscSelectMatch(EnclaveRule):
    """Accepts enclaves with certain bits in MISCSELECT, 32 bits."""

    bits: BitMask

    def __post_init__(self) -> None:
        self.bits.need_width(32)

    @override
    def appraise_enclave(self, report: SgxReport) -> Outcome:
        """Return whether MISCSELECT is as the policy demands."""
        return match_bits(self, self.bits, report.misc_select.to_bytes(4, "little"), "MISCSELECT")
