"""A trust domain's report body in a quote: structure only, nothing is verified here.

Layout, from "Intel TDX DCAP Quoting Library API", appendix A.3.2 (TD 1.0) and A.3.3 (TD 1.5):

      0  16  TEE_TCB_SVN
     16  48  MRSEAM
     64  48  MRSIGNERSEAM
    112   8  SEAMATTRIBUTES
    120   8  TDATTRIBUTES
    128   8  XFAM
    136  48  MRTD
    184  48  MRCONFIGID
    232  48  MROWNER
    280  48  MROWNERCONFIG
    328  48  RTMR0, then RTMR1 to RTMR3
    520  64  REPORTDATA
    584  16  TEE_TCB_SVN_2   in TD 1.5 alone
    600  48  MRSERVICETD     in TD 1.5 alone
"""

import struct

from wardian.attestation.claims import TdReport

TD_BODY = struct.Struct("<16s48s48s8s8s8s48s48s48s48s48s48s48s48s64s")
"""TD 1.0, 584 bytes."""
TD15_BODY = struct.Struct(f"<{TD_BODY.size}s16s48s")
"""TD 1.5, 648 bytes."""


def parse_td_body(body: bytes) -> TdReport:
    """Return the fields of a trust domain's report, version 1.0.

    Args:
        body: `TD_BODY.size` bytes, untrusted; every value is possible.
    """
    return _parse(body, tee_tcb_svn2=None, mr_service_td=None)


def parse_td15_body(body: bytes) -> TdReport:
    """Return the fields of a trust domain's report, version 1.5.

    Args:
        body: `TD15_BODY.size` bytes, untrusted; every value is possible.
    """
    base, tee_tcb_svn2, mr_service_td = TD15_BODY.unpack(body)
    return _parse(base, tee_tcb_svn2=tee_tcb_svn2, mr_service_td=mr_service_td)


def _parse(base: bytes, *, tee_tcb_svn2: bytes | None, mr_service_td: bytes | None) -> TdReport:
    (
        tee_tcb_svn,
        mr_seam,
        mr_signer_seam,
        seam_attributes,
        td_attributes,
        xfam,
        mr_td,
        mr_config_id,
        mr_owner,
        mr_owner_config,
        *rtmrs,
        report_data,
    ) = TD_BODY.unpack(base)
    rtmr0, rtmr1, rtmr2, rtmr3 = rtmrs
    return TdReport(
        tee_tcb_svn=tee_tcb_svn,
        mr_seam=mr_seam,
        mr_signer_seam=mr_signer_seam,
        seam_attributes=seam_attributes,
        td_attributes=td_attributes,
        xfam=xfam,
        mr_td=mr_td,
        mr_config_id=mr_config_id,
        mr_owner=mr_owner,
        mr_owner_config=mr_owner_config,
        rtmrs=(rtmr0, rtmr1, rtmr2, rtmr3),
        report_data=report_data,
        tee_tcb_svn2=tee_tcb_svn2,
        mr_service_td=mr_service_td,
    )
