"""An enclave's report body in a quote: 384 bytes, structure only, nothing is verified here.

Layout (little endian), from the Intel SDM, volume 3D, table 38-21, and "Intel SGX ECDSA QuoteLib
Reference, DCAP API", appendix A.4:

      0  16  CPUSVN
     16   4  MISCSELECT, then 12 reserved
     32  16  ISVEXTPRODID
     48  16  ATTRIBUTES: flags, XFRM
     64  32  MRENCLAVE, then 32 reserved
    128  32  MRSIGNER, then 32 reserved
    192  64  CONFIGID
    256   2  ISVPRODID
    258   2  ISVSVN
    260   2  CONFIGSVN, then 42 reserved
    304  16  ISVFAMILYID
    320  64  REPORTDATA

Reserved bytes are signed like the rest and may be anything: a newer processor gives them meaning.
"""

import struct

from wardian.attestation.claims import SgxReport

SGX_BODY = struct.Struct("<16sI12x16s16s32s32x32s32x64sHHH42x16s64s")


def parse_sgx_body(body: bytes) -> SgxReport:
    """Return the fields of an enclave's report.

    Args:
        body: `SGX_BODY.size` bytes, untrusted; every value is possible.
    """
    (
        cpu_svn,
        misc_select,
        isv_ext_prod_id,
        attributes,
        mr_enclave,
        mr_signer,
        config_id,
        product_id,
        svn,
        config_svn,
        isv_family_id,
        report_data,
    ) = SGX_BODY.unpack(body)
    return SgxReport(
        cpu_svn=cpu_svn,
        misc_select=misc_select,
        isv_ext_prod_id=isv_ext_prod_id,
        attributes=attributes,
        mr_enclave=mr_enclave,
        mr_signer=mr_signer,
        config_id=config_id,
        product_id=product_id,
        svn=svn,
        config_svn=config_svn,
        isv_family_id=isv_family_id,
        report_data=report_data,
    )
