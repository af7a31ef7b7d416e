"""A vendor that signs whatever a test wants, and who pretends to be it."""

import datetime as dt
import functools
import json
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from simulators.td_quotes import QE_SIGNER, TdxPlatform, stamp

from wardian.attestation.claims import TeeKind
from wardian.attestation.collateral.platform_model import PckCa, PlatformModel
from wardian.attestation.collateral.signed import SignedCollateral, verify_collateral
from wardian.tee.launch.simulation_pki import (
    FMSPC,
    Issuer,
    SimulatedPki,
    _crl,
    _der,
    build_collateral,
    build_pki,
    sign_raw,
)

NOW = 1_800_000_000
HOUR, DAY = 3600, 24 * 3600


@functools.cache
def machine() -> TdxPlatform:
    """A machine with TDX whose clock stands still at `NOW`."""
    return TdxPlatform(now=NOW)


@functools.cache
def impostor() -> SimulatedPki:
    """Another vendor: the same names, other keys."""
    return build_pki(ppid=bytes(16), now=dt.datetime.fromtimestamp(NOW, dt.UTC))


def resigned(tbs: bytes, issuer: Issuer) -> bytes:
    """Return a certificate with the content `tbs`, whatever it says, signed by `issuer`."""
    ecdsa_with_sha256 = bytes.fromhex("300a06082a8648ce3d040302")
    signature = issuer.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return _der(0x30, tbs + ecdsa_with_sha256 + _der(0x03, b"\0" + signature))


def root_sha256() -> bytes:
    return machine().root_sha256


def model() -> PlatformModel:
    return PlatformModel(
        kind=TeeKind.TDX, fmspc=FMSPC, ca=PckCa.PLATFORM, root_sha256=root_sha256()
    )


def made(
    *,
    issued: int = NOW - HOUR,
    ends: int = NOW + 30 * DAY,
    number: int = 17,
    pki: SimulatedPki | None = None,
    tcb_info: dict[str, Any] | None = None,
    qe_identity: dict[str, Any] | None = None,
) -> bytes:
    """Return genuine collateral with these times; `tcb_info` and the other change what is signed."""
    pki = pki or machine().pki
    signed = json.loads(build_collateral(pki, issued=issued, expires=ends, qe_signer=QE_SIGNER))
    times = {
        "issueDate": stamp(issued),
        "nextUpdate": stamp(ends),
        "tcbEvaluationDataNumber": number,
    }
    for name, said in (
        ("tcb_info", machine().tcb_info() | times | (tcb_info or {})),
        ("qe_identity", machine().qe_identity() | times | (qe_identity or {})),
    ):
        signed |= statement(name, json.dumps(said), pki)
    return json.dumps(signed).encode()


def statement(name: str, text: str, pki: SimulatedPki | None = None) -> dict[str, str]:
    """Return the two fields of a statement in the bytes of `text`."""
    key = (pki or machine().pki).tcb_signing.key
    return {name: text, f"{name}_signature": sign_raw(key, text.encode()).hex()}


def changed(raw: bytes, **fields: str) -> bytes:
    """Return the collateral in `raw` with other fields."""
    return json.dumps(json.loads(raw) | fields).encode()


def fields_of(raw: bytes) -> dict[str, str]:
    return json.loads(raw)


def crl(issuer: Any, *, revoked: tuple[int, ...] = (), issued: int = NOW - HOUR) -> str:
    """Return a revocation list of `issuer` (an `Issuer`) in hex."""
    return _crl(issuer, revoked, issued, NOW + 30 * DAY).hex()


def signed(**terms: Any) -> SignedCollateral:
    """Return verified collateral; see `made`."""
    return verify_collateral(made(**terms), root_sha256=root_sha256())


def builder(name: str, issuer: Any, public_key: Any, *, ca: bool) -> x509.CertificateBuilder:
    """Return a certificate to be signed by `issuer`, for whoever has `public_key`."""
    now = dt.datetime.fromtimestamp(NOW, dt.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=100))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
