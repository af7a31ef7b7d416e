"""The simulated vendor: the certificates, revocation lists and signed statements about platforms.

It plays Intel's part with keys of its own, made afresh for every platform directory and under a
root whose subject says what it is. The forms are Intel's, so that the verifier needs no second
path: "SGX PCK Certificate and CRL Profile Specification", revision 1.5, and the PCS API, version 4.
"""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

from wardian.attestation.claims import TcbStatus

ROOT_NAME = "Wardian Simulation Root"
FMSPC = bytes.fromhex("57524453494d")  # "WRDSIM": no processor has it
PCE_ID = bytes(2)
CPU_SVN = bytes([1]) * 16
PCE_SVN = 1
QE_PRODUCT_ID = 1
QE_SVN = 1
TCB_EVALUATION_NUMBER = 1

_LIFETIME = dt.timedelta(days=3650)
_SKEW = dt.timedelta(days=1)  # clocks of one machine's processes agree; those of two may not
_SGX_EXTENSION = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
_SGX_EXTENSION_OID = bytes.fromhex("2a864886f84d010d01")
_SEQUENCE, _OID, _INTEGER, _OCTETS, _ENUMERATED = 0x30, 0x06, 0x02, 0x04, 0x0A


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """The certificate, PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedPki:
    """The four keys of the simulated vendor and platform, with their certificates."""

    root: Issuer
    pck_ca: Issuer
    pck: Issuer
    tcb_signing: Issuer

    @property
    def pck_chain_pem(self) -> str:
        """PCK leaf, its CA, the root: what a quote carries."""
        return self.pck.pem + self.pck_ca.pem + self.root.pem


def build_pki(*, ppid: bytes, now: dt.datetime) -> SimulatedPki:
    """Return fresh keys and certificates for the platform `ppid` (16 bytes), valid ten years."""
    root = _issue(ROOT_NAME, issuer=None, ca=True, now=now)
    pck_ca = _issue("Wardian Simulation PCK Platform CA", issuer=root, ca=True, now=now)
    pck = _issue(
        "Wardian Simulation PCK Certificate",
        issuer=pck_ca,
        ca=False,
        now=now,
        sgx_extension=_sgx_extension(ppid),
    )
    tcb_signing = _issue("Wardian Simulation TCB Signing", issuer=root, ca=False, now=now)
    return SimulatedPki(root=root, pck_ca=pck_ca, pck=pck, tcb_signing=tcb_signing)


def build_collateral(
    pki: SimulatedPki,
    *,
    issued: int,
    expires: int,
    qe_signer: bytes,
    tcb_status: TcbStatus = TcbStatus.UP_TO_DATE,
    advisories: Sequence[str] = (),
    revoked: Sequence[int] = (),
) -> bytes:
    """Return signed collateral as the JSON that `attestation.collateral.bundle` reads.

    Args:
        pki: who signs.
        issued: Unix time from which it is valid.
        expires: Unix time of its end.
        qe_signer: MRSIGNER of the simulated quoting enclave, 32 bytes.
        tcb_status: the state that it attributes to the platform.
        advisories: the advisories that it says apply.
        revoked: serial numbers of PCK certificates on the revocation list.
    """
    tcb_info = json.dumps(_tcb_info(issued, expires, tcb_status, advisories))
    qe_identity = json.dumps(_qe_identity(issued, expires, qe_signer))
    tcb_chain = pki.tcb_signing.pem + pki.root.pem
    return json.dumps(
        {
            "pck_crl_issuer_chain": pki.pck_ca.pem + pki.root.pem,
            "root_ca_crl": _crl(pki.root, (), issued, expires).hex(),
            "pck_crl": _crl(pki.pck_ca, revoked, issued, expires).hex(),
            "tcb_info_issuer_chain": tcb_chain,
            "tcb_info": tcb_info,
            "tcb_info_signature": sign_raw(pki.tcb_signing.key, tcb_info.encode()).hex(),
            "qe_identity_issuer_chain": tcb_chain,
            "qe_identity": qe_identity,
            "qe_identity_signature": sign_raw(pki.tcb_signing.key, qe_identity.encode()).hex(),
        }
    ).encode()


def sign_raw(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Return the ECDSA-SHA256 signature over `message` as r || s, big endian, 64 bytes."""
    r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _issue(
    name: str,
    *,
    issuer: Issuer | None,
    ca: bool,
    now: dt.datetime,
    sgx_extension: bytes | None = None,
) -> Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer.certificate.subject if issuer else _name(name))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(_key_usage(ca=ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_authority_key(signer), critical=False)
    )
    if sgx_extension is not None:
        unrecognised = x509.UnrecognizedExtension(_SGX_EXTENSION, sgx_extension)
        builder = builder.add_extension(unrecognised, critical=False)
    return Issuer(certificate=builder.sign(signer, hashes.SHA256()), key=key)


def _crl(issuer: Issuer, revoked: Sequence[int], issued: int, expires: int) -> bytes:
    """Return a revocation list, DER."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(_utc(issued))
        .next_update(_utc(expires))
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(_authority_key(issuer.key), critical=False)
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial)
        builder = builder.add_revoked_certificate(entry.revocation_date(_utc(issued)).build())
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _tcb_info(
    issued: int, expires: int, status: TcbStatus, advisories: Sequence[str]
) -> dict[str, object]:
    """Return TCB info, version 3, with the one TCB level that the platform has."""
    components = [{"svn": svn} for svn in CPU_SVN]
    return {
        "id": "SGX",
        "version": 3,
        "issueDate": _stamp(issued),
        "nextUpdate": _stamp(expires),
        "fmspc": FMSPC.hex().upper(),
        "pceId": PCE_ID.hex(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": TCB_EVALUATION_NUMBER,
        "tcbLevels": [
            {
                "tcb": {"sgxtcbcomponents": components, "pcesvn": PCE_SVN},
                "tcbDate": "2026-01-01T00:00:00Z",
                "tcbStatus": status.value,
                "advisoryIDs": list(advisories),
            }
        ],
    }


def _qe_identity(issued: int, expires: int, qe_signer: bytes) -> dict[str, object]:
    """Return the identity, version 2, of the simulated quoting enclave."""
    level = {"tcb": {"isvsvn": QE_SVN}, "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": "UpToDate"}
    return {
        "id": "QE",
        "version": 2,
        "issueDate": _stamp(issued),
        "nextUpdate": _stamp(expires),
        "tcbEvaluationDataNumber": TCB_EVALUATION_NUMBER,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": qe_signer.hex().upper(),
        "isvprodid": QE_PRODUCT_ID,
        "tcbLevels": [level],
    }


def _sgx_extension(ppid: bytes) -> bytes:
    """Return the PCK certificate's SGX extension, DER (profile specification, table 2)."""
    components = [
        _pair((2, number), _INTEGER, bytes([svn])) for number, svn in enumerate(CPU_SVN, start=1)
    ]
    tcb = b"".join(
        (*components, _pair((2, 17), _INTEGER, bytes([PCE_SVN])), _pair((2, 18), _OCTETS, CPU_SVN))
    )
    return _der(
        _SEQUENCE,
        _pair((1,), _OCTETS, ppid)
        + _pair((2,), _SEQUENCE, tcb)
        + _pair((3,), _OCTETS, PCE_ID)
        + _pair((4,), _OCTETS, FMSPC)
        + _pair((5,), _ENUMERATED, b"\0"),
    )


def _pair(arc: tuple[int, ...], tag: int, value: bytes) -> bytes:
    """Return SEQUENCE { OID below the SGX extension's, value }."""
    return _der(_SEQUENCE, _der(_OID, _SGX_EXTENSION_OID + bytes(arc)) + _der(tag, value))


def _der(tag: int, content: bytes) -> bytes:
    """Return one DER element (X.690, section 8.1) of less than 65536 bytes."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + content


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Wardian simulation, protects nothing"),
        ]
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _utc(unix: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(unix, dt.UTC)


def _stamp(unix: int) -> str:
    return _utc(unix).strftime("%Y-%m-%dT%H:%M:%SZ")
