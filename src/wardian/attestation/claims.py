"""What verified evidence says. Only `verifier.verify_quote` makes `Claims`."""

import enum
from dataclasses import dataclass

from wardian.attestation.intel_root import INTEL_ROOT_SHA256

ATTRIBUTE_DEBUG = 0x02
"""DEBUG in the first byte of ATTRIBUTES (Intel SDM, volume 3D, table 38-3)."""


class TcbStatus(enum.StrEnum):
    """The state of a platform's trusted computing base, in Intel's own words.

    Source: Intel PCS API v4, "TCB Info", field `tcbStatus`.
    """

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a quote says, once its signatures and its collateral are verified.

    Being genuine is all that this means: whether it is acceptable, a policy decides.

    Attributes:
        mr_enclave: digest of the enclave's code and configuration, 32 bytes.
        mr_signer: digest of the key that signed the enclave, 32 bytes.
        product_id: ISVPRODID, 0 to 65535; tells the signer's roles apart.
        svn: ISVSVN, 0 to 65535; the signer raises it with each security fix.
        attributes: ATTRIBUTES, 16 bytes: flags, then XFRM.
        misc_select: MISCSELECT.
        config_id: CONFIGID, 64 bytes.
        report_data: what the enclave vouches for, 64 bytes; see `evidence.bind`.
        tcb_status: the worst of the platform's and the quoting enclave's state.
        advisory_ids: the vendor's advisories that apply to the platform, sorted.
        root_sha256: SHA-256 of the root certificate that vouches for all this, 32 bytes.
        fmspc: the platform's model, 6 bytes.
        ppid: the platform itself, 16 bytes.
        sgx_type: 0 standard, 1 scalable, 2 scalable with integrity.
        tcb_evaluation_number: of the collateral; the vendor raises it at each TCB recovery.
        collateral_issued: Unix time at which the oldest signed statement about the TCB was made.
        collateral_expires: Unix time at which the first piece of collateral ends.
        verified_at: Unix time for which it was all verified.
    """

    mr_enclave: bytes
    mr_signer: bytes
    product_id: int
    svn: int
    attributes: bytes
    misc_select: int
    config_id: bytes
    report_data: bytes
    tcb_status: TcbStatus
    advisory_ids: tuple[str, ...]
    root_sha256: bytes
    fmspc: bytes
    ppid: bytes
    sgx_type: int
    tcb_evaluation_number: int
    collateral_issued: int
    collateral_expires: int
    verified_at: int

    @property
    def debug(self) -> bool:
        """Whether the host may read and write this enclave's memory."""
        return bool(self.attributes[0] & ATTRIBUTE_DEBUG)

    @property
    def simulated(self) -> bool:
        """Whether the root is another than Intel's: then no hardware protects anything."""
        return self.root_sha256 != INTEL_ROOT_SHA256

    def describe(self) -> dict[str, str | int | bool]:
        """Return the claims for a person or a log: names and values, digests in hex."""
        return {
            "kind": "SIMULATED" if self.simulated else "SGX",
            "mr_enclave": self.mr_enclave.hex(),
            "mr_signer": self.mr_signer.hex(),
            "product_id": self.product_id,
            "svn": self.svn,
            "debug": self.debug,
            "report_data": self.report_data.hex(),
            "tcb_status": self.tcb_status.value,
            "advisories": ", ".join(self.advisory_ids),
            "tcb_evaluation_number": self.tcb_evaluation_number,
            "root_sha256": self.root_sha256.hex(),
            "fmspc": self.fmspc.hex(),
            "ppid": self.ppid.hex(),
            "collateral_issued": self.collateral_issued,
            "collateral_expires": self.collateral_expires,
        }
