"""Who signed the collateral: the roles that `dcap-qvl` does not tell apart.

The library verifies each chain up to the root, but takes any certificate below it as the signer of
any statement, and reads the PCK CRL's issuers for their dates without verifying them. So a PCK key,
of which every platform has one, could sign TCB info that calls every platform up to date.
"""

from wardian.attestation.certificates.vendor_chain import verify_chain
from wardian.attestation.certificates.x509_errors import X509_ERRORS
from wardian.attestation.collateral.bundle import Collateral
from wardian.attestation.quotes.quote import Quote
from wardian.errors import EvidenceInvalid


def demand_issuers(quote: Quote, collateral: Collateral) -> None:
    """Return if who signed the collateral may do so under the quote's root.

    TCB info and QE identity are signed by a certificate that the root itself issued: those of PCK
    keys never are. The PCK CRL is of the CA that issued the platform's certificate. That CA's own
    certificate may be another one than in the quote, for the vendor issues it anew at times.

    Says nothing about the statements' signatures and times, nor about the platform's certificate.

    Raises:
        EvidenceInvalid: somebody else signed, or a certificate does not parse.
    """
    root = quote.chain[-1]
    for name, issuers in (
        ("the TCB info", collateral.tcb_info_issuers),
        ("the QE identity", collateral.qe_identity_issuers),
    ):
        # There are two: the library has nothing else to build a path to the root from.
        if issuers[-1] != root:
            raise EvidenceInvalid(f"the issuers of {name} end in another root than the quote's")
    if collateral.pck_chain not in {None, quote.chain}:
        raise EvidenceInvalid("the collateral holds another PCK chain than the quote")
    authority, found = (
        verify_chain(chain, root_sha256=quote.root_sha256, what=what)[0]
        for chain, what in (
            (quote.chain[1:], "the platform's CA"),
            (collateral.pck_crl_issuers, "the PCK CRL's issuers"),
        )
    )
    # The parser takes any count of unused bits in the signature's BIT STRING; there are none.
    if not collateral.pck_crl_issuers[0].endswith(b"\0" + found.signature):
        raise EvidenceInvalid("the PCK CRL's issuers: a signature is of another form than DER's")
    try:
        same = (found.subject, found.public_key()) == (authority.subject, authority.public_key())
    except X509_ERRORS as err:
        raise EvidenceInvalid("the PCK CRL's issuers: a name or a key does not parse") from err
    if not same:
        raise EvidenceInvalid("the PCK CRL is of another CA than the platform's certificate")
