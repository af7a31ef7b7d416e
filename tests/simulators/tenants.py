"""Tenants of a mesh "test": keys, lists and who signs them."""

import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from wardian._internal.agreed import Tenants
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SigningKey
from wardian.serving.tenants.api_key import api_key_digest, encode_api_key
from wardian.serving.tenants.lists import SignedTenants, TenantList, TenantTerms, sign_tenants
from wardian.serving.tenants.roster import Roster
from wardian.serving.tenants.verify import VerifiedTenants, verify_tenants

MESH = "test"
DAY = 86_400
SIGNER = SigningKey.generate()
TERMS = Tenants(signers=(SIGNER.public.hex(),), max_age_s=30 * DAY)


def key_of(name: str, number: int = 0) -> bytes:
    """The text of an API key; each name has its own."""
    raw = f"{name} {number}".encode().ljust(32, b".")
    return encode_api_key(Secret(raw)).reveal()


def terms(name: str, *models: str, keys: int = 1, **more: Any) -> TenantTerms:
    given: dict[str, Any] = {
        "keys": tuple(api_key_digest(key_of(name, each)).hex() for each in range(keys)),
        "models": models,
        "all": not models,
        "rate_per_s": 1e6,
        "burst": 1_000_000,
        "max_open": 1_000_000,
    }
    return TenantTerms(name=name, **given | more)


def tenants(*listed: TenantTerms, now: int | None = None, **more: Any) -> TenantList:
    issued = int(time.time()) if now is None else now
    given = {"mesh": MESH, "serial": 1, "issued": issued, "not_after": issued + 7 * DAY}
    return TenantList(tenants=listed, **given | more)


def signed(*listed: TenantTerms, now: int | None = None, **more: Any) -> SignedTenants:
    return sign_tenants(tenants(*listed, now=now, **more), [SIGNER])


def verified(*listed: TenantTerms, now: int | None = None, **more: Any) -> VerifiedTenants:
    at = int(time.time()) if now is None else now
    return verify_tenants(signed(*listed, now=at, **more), terms=TERMS, mesh=MESH, now=at)


class Clock:
    """Both clocks of a roster, moved by the test."""

    def __init__(self, now: int = 1_800_000_000) -> None:
        self.now, self.ticks = now, 1000.0

    def unix(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.ticks

    def pass_s(self, seconds: float) -> None:
        self.ticks += seconds
        self.now += int(seconds)

    def roster(self, *listed: TenantTerms, **more: Any) -> Roster:
        roster = Roster(now=self.unix, monotonic=self.monotonic)
        if listed:
            roster.adopt(verified(*listed, now=self.now, **more))
        return roster


class ClientAuthority:
    """A client's certificate, and others that its key signs; files in `directory`."""

    def __init__(self, directory: Path, name: str = "client", *, ca: bool = True) -> None:
        self.directory, self.name = directory, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.chain, self.secret = self._write(name, self.key, self._certify(name, self.key, ca=ca))

    @property
    def der(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert(self.chain.read_text())

    def issue(self, name: str) -> tuple[Path, Path]:
        """The files of another certificate, signed by this one's key."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._write(name, key, self._certify(name, key, ca=False))

    def _certify(self, name: str, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def _write(
        self, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
    ) -> tuple[Path, Path]:
        chain, secret = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        chain.write_bytes(certificate.public_bytes(Encoding.PEM))
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        secret.chmod(0o600)
        return chain, secret


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
