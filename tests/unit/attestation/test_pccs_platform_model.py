"""Which collateral a quote needs is read from a certificate whose chain verified, and else not."""

import dataclasses

import pytest
from collateral_cases import builder, impostor, machine, model, root_sha256
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from wardian.attestation.claims import TeeKind
from wardian.attestation.collateral.platform_model import ca_of, verify_model
from wardian.attestation.quotes.quote import Quote, parse_quote
from wardian.errors import EvidenceInvalid
from wardian.tee.launch.simulation_pki import FMSPC, _pair, _sgx_extension

_EXTENSION = x509.ObjectIdentifier("1.2.840.113741.1.13.1")


def quote(*chain: x509.Certificate) -> Quote:
    """Return a quote with another chain: nothing else of it is looked at."""
    ders = tuple(certificate.public_bytes(Encoding.DER) for certificate in chain)
    return dataclasses.replace(parse_quote(machine().quote()), chain=ders or _chain())


def _chain():
    return parse_quote(machine().quote()).chain


def verify(of: Quote):
    return verify_model(of, roots=frozenset({root_sha256(), bytes(32)}))


def issued(*, by, extension: bytes | None) -> x509.Certificate:
    key = machine().pki.pck.certificate.public_key()
    certificate = builder("PCK", by, key, ca=False)
    if extension is not None:
        unrecognised = x509.UnrecognizedExtension(_EXTENSION, extension)
        certificate = certificate.add_extension(unrecognised, critical=False)
    return certificate.sign(by.key, hashes.SHA256())


def test_the_model_of_a_quote():
    assert verify(quote()) == model()
    assert model().kind is TeeKind.TDX


def test_a_root_that_nobody_named():
    with pytest.raises(EvidenceInvalid, match="another root"):
        verify_model(quote(), roots=frozenset())
    pki = impostor()
    forged = quote(pki.pck.certificate, pki.pck_ca.certificate, pki.root.certificate)
    with pytest.raises(EvidenceInvalid, match="another root"):
        verify(forged)


def test_a_chain_that_only_looks_like_one():
    pki, forger = machine().pki, impostor()
    for chain in (
        (forger.pck, pki.pck_ca, pki.root),
        (forger.pck, forger.pck_ca, pki.root),
        (pki.pck_ca, pki.pck, pki.root),
        (pki.pck, pki.root, pki.root),
    ):
        with pytest.raises(EvidenceInvalid, match="chain does not verify"):
            verify(quote(*(issuer.certificate for issuer in chain)))


def test_a_signer_of_statements_is_no_authority():
    pki = machine().pki
    leaf = issued(by=pki.tcb_signing, extension=_sgx_extension(bytes(16)))
    with pytest.raises(EvidenceInvalid, match="no authority"):
        verify(quote(leaf, pki.tcb_signing.certificate, pki.root.certificate))


def test_a_certificate_that_is_none():
    chain = (b"\x30\x00", *_chain()[1:])
    with pytest.raises(EvidenceInvalid, match="chain does not verify"):
        verify(dataclasses.replace(quote(), chain=chain))


def test_a_certificate_that_names_no_platform():
    pki = machine().pki
    twice = _sgx_extension(bytes(16)) + _pair((4,), 0x04, bytes(6))
    for extension, told in (
        (None, "no SGX extension"),
        (b"\x30\x00", "names no model, or more than one"),
        (_pair((4,), 0x04, FMSPC[:5]), "names no model, or more than one"),
        (twice, "names no model, or more than one"),
    ):
        leaf = issued(by=pki.pck_ca, extension=extension)
        with pytest.raises(EvidenceInvalid, match=told):
            verify(quote(leaf, pki.pck_ca.certificate, pki.root.certificate))


def test_a_name_that_does_not_parse():
    class Hostile:
        @property
        def subject(self):
            raise ValueError("invalid UTF-8")

    with pytest.raises(EvidenceInvalid, match="does not parse"):
        ca_of(Hostile())
