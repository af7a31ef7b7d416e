"""The simulated platform: what the processor, its quoting enclave and its vendor would do.

It protects nothing: whoever can read its directory can forge its evidence and open what was
sealed under it. It exists so that everything else runs, and is tested, as it is on hardware: the
quotes are complete and only a policy that names this platform's root accepts them.
"""

import contextlib
import datetime as dt
import hashlib
import secrets
import shutil
import struct
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from wardian._internal import wire
from wardian._internal.clock import UnixTime, unix_time
from wardian._internal.files import read_private
from wardian.attestation.claims import ATTRIBUTE_DEBUG, TcbStatus
from wardian.attestation.evidence import REPORT_DATA_BYTES, Evidence
from wardian.crypto.kdf import hkdf
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, FormatError, LocalProtocolError
from wardian.tee.launch.simulation_pki import (
    CPU_SVN,
    PCE_SVN,
    QE_PRODUCT_ID,
    QE_SVN,
    Issuer,
    SimulatedPki,
    build_collateral,
    build_pki,
    sign_raw,
)

COLLATERAL_LIFETIME_S = 30 * 24 * 3600
COLLATERAL_RENEWAL_S = 7 * 24 * 3600
"""Collateral that has no more than this left is made anew."""

_SKEW_S = 3600
_INTEL_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")  # quote v3 knows no other
_INIT, _MODE64, _PROVISION_KEY = 0x01, 0x04, 0x10
_XFRM_X87_SSE = 0x03
_SECRETS_FILE = "platform.json"
_ROOT_FILE = "root.der"


class _Stored(wire.Message, frozen=True, kw_only=True):
    """The platform's private file: keys as PKCS #8 DER, certificates as DER, in root-first order.

    Attributes:
        keys, certificates: of the root, the PCK CA, the PCK and the TCB signer.
        sealing_secret: 32 bytes, stands for the processor's fused seal key.
        signer: public key of the simulated signer of enclaves, DER.
        ppid: 16 bytes.
    """

    keys: tuple[bytes, bytes, bytes, bytes]
    certificates: tuple[bytes, bytes, bytes, bytes]
    sealing_secret: bytes
    signer: bytes
    ppid: bytes


class SimulatedPlatform:
    """A machine that makes evidence and sealing keys, for one owner of one directory.

    `generate_platform` makes one in memory, `open_platform` keeps one in a directory.
    """

    def __init__(
        self,
        *,
        pki: SimulatedPki,
        sealing_secret: Secret,
        signer: bytes,
        ppid: bytes,
        clock: UnixTime = unix_time,
    ) -> None:
        self._pki = pki
        self._sealing_secret = sealing_secret
        self._signer = signer
        self._ppid = ppid
        self._clock = clock
        self._qe_signer = hashlib.sha256(b"wardian simulated quoting enclave").digest()
        self._attestation_key = ec.generate_private_key(ec.SECP256R1())
        self._quoting_enclave = self._build_quoting_enclave()
        self._collateral = b""
        self._collateral_expires = 0

    @property
    def root_der(self) -> bytes:
        """The root certificate, DER."""
        return self._pki.root.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def root_sha256(self) -> bytes:
        """SHA-256 of the root certificate: what a policy names to accept this platform."""
        return hashlib.sha256(self.root_der).digest()

    @property
    def mr_signer(self) -> bytes:
        """MRSIGNER of every enclave here: SHA-256 of this platform's simulated signer key."""
        return hashlib.sha256(self._signer).digest()

    @property
    def ppid(self) -> bytes:
        """The platform's id, 16 bytes."""
        return self._ppid

    @property
    def pck_serial(self) -> int:
        """Serial number of the PCK certificate, for revocation lists."""
        return self._pki.pck.certificate.serial_number

    def evidence(
        self,
        *,
        mr_enclave: bytes,
        report_data: bytes,
        mr_signer: bytes | None = None,
        product_id: int = 0,
        svn: int = 0,
        debug: bool = False,
    ) -> Evidence:
        """Return a quote over the given values with current collateral; see `quote`."""
        quote = self.quote(
            mr_enclave=mr_enclave,
            report_data=report_data,
            mr_signer=mr_signer,
            product_id=product_id,
            svn=svn,
            debug=debug,
        )
        return Evidence(quote=quote, collateral=self.collateral())

    def quote(
        self,
        *,
        mr_enclave: bytes,
        report_data: bytes,
        mr_signer: bytes | None = None,
        product_id: int = 0,
        svn: int = 0,
        debug: bool = False,
    ) -> bytes:
        """Return an SGX quote, version 3, as `attestation.quotes.quote` lays it out.

        Args:
            mr_enclave: the measurement, 32 bytes.
            report_data: what to vouch for, 64 bytes.
            mr_signer: 32 bytes; by default this platform's.
            product_id: 0 to 65535.
            svn: 0 to 65535.
            debug: whether the enclave says that its host can read it. No verifier accepts it.

        Raises:
            LocalProtocolError: a value has another length.
        """
        header = struct.pack("<HHIHH16s20s", 3, 2, 0, QE_SVN, PCE_SVN, _INTEL_VENDOR_ID, bytes(20))
        body = _report_body(
            mr_enclave=mr_enclave,
            mr_signer=self.mr_signer if mr_signer is None else mr_signer,
            product_id=product_id,
            svn=svn,
            report_data=report_data,
            flags=_INIT | _MODE64 | (ATTRIBUTE_DEBUG if debug else 0),
        )
        signature = sign_raw(self._attestation_key, header + body)
        data = signature + self._quoting_enclave
        return header + body + struct.pack("<I", len(data)) + data

    def collateral(self) -> bytes:
        """Return current collateral, renewed when it has little time left."""
        now = self._clock()
        if now >= self._collateral_expires - COLLATERAL_RENEWAL_S:
            self._collateral_expires = now + COLLATERAL_LIFETIME_S
            self._collateral = self.issue_collateral(
                issued=now - _SKEW_S, expires=self._collateral_expires
            )
        return self._collateral

    def issue_collateral(
        self,
        *,
        issued: int,
        expires: int,
        tcb_status: TcbStatus = TcbStatus.UP_TO_DATE,
        advisories: tuple[str, ...] = (),
        revoked: tuple[int, ...] = (),
    ) -> bytes:
        """Return collateral that says what it is told to; see `simulation_pki.build_collateral`."""
        return build_collateral(
            self._pki,
            issued=issued,
            expires=expires,
            qe_signer=self._qe_signer,
            tcb_status=tcb_status,
            advisories=advisories,
            revoked=revoked,
        )

    def sealing_key(self, mr_enclave: bytes) -> Secret:
        """Return the key, 32 bytes, that only the enclave with this measurement gets here."""
        info = wire.fields("wardian simulated sealing key v1", mr_enclave)
        return hkdf(self._sealing_secret, salt=b"", info=info)

    def signer_sealing_key(self, product_id: int) -> Secret:
        """Return the key, 32 bytes, that every enclave with this product id (0 to 65535) gets here.

        All enclaves of this platform have one simulated signer.
        """
        product = product_id.to_bytes(2, "big")
        info = wire.fields("wardian simulated signer sealing key v1", self.mr_signer, product)
        return hkdf(self._sealing_secret, salt=b"", info=info)

    def save(self, directory: Path) -> None:
        """Write the platform to `directory`, which is made for its owner alone (0700, 0600)."""
        issuers = _issuers(self._pki)
        stored = _Stored(
            keys=tuple(_private_der(issuer.key) for issuer in issuers),  # type: ignore[arg-type]
            certificates=tuple(  # type: ignore[arg-type]
                issuer.certificate.public_bytes(serialization.Encoding.DER) for issuer in issuers
            ),
            sealing_secret=self._sealing_secret.reveal(),
            signer=self._signer,
            ppid=self._ppid,
        )
        directory.mkdir(mode=0o700)
        for name, content in ((_SECRETS_FILE, wire.encode(stored)), (_ROOT_FILE, self.root_der)):
            (directory / name).touch(mode=0o600, exist_ok=False)
            (directory / name).write_bytes(content)

    def _build_quoting_enclave(self) -> bytes:
        """Return what follows the enclave's signature in every quote of this platform."""
        numbers = self._attestation_key.public_key().public_numbers()
        public = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
        auth_data = bytes(range(32))  # opaque to verifiers; Intel's quoting enclave does the same
        report = _report_body(
            mr_enclave=hashlib.sha256(b"wardian simulated quoting enclave code").digest(),
            mr_signer=self._qe_signer,
            product_id=QE_PRODUCT_ID,
            svn=QE_SVN,
            report_data=hashlib.sha256(public + auth_data).digest() + bytes(32),
            flags=_INIT | _MODE64 | _PROVISION_KEY,
        )
        chain = self._pki.pck_chain_pem.encode()
        return (
            public
            + report
            + sign_raw(self._pki.pck.key, report)
            + struct.pack("<H", len(auth_data))
            + auth_data
            + struct.pack("<HI", 5, len(chain))
            + chain
        )


def generate_platform(*, clock: UnixTime = unix_time) -> SimulatedPlatform:
    """Return a new platform with keys of its own, in memory."""
    ppid = secrets.token_bytes(16)
    now = dt.datetime.fromtimestamp(clock(), dt.UTC)
    signer = ec.generate_private_key(ec.SECP256R1()).public_key()  # in simulation nobody signs
    return SimulatedPlatform(
        pki=build_pki(ppid=ppid, now=now),
        sealing_secret=Secret.random(32),
        signer=signer.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        ppid=ppid,
        clock=clock,
    )


def create_platform(directory: Path, *, clock: UnixTime = unix_time) -> SimulatedPlatform:
    """Return a new platform that is kept in `directory`, which must not exist yet.

    The directory appears complete or not at all: processes that start together share one.

    Raises:
        ConfigError: it exists, or cannot be written.
    """
    platform = generate_platform(clock=clock)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".simulation-", dir=directory.parent))
        try:
            platform.save(scratch / "new")
            # Renaming onto a directory that holds files fails, and that is the wanted race.
            (scratch / "new").rename(directory)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as err:
        raise ConfigError(
            f"{directory}: cannot create the simulated platform: {err.strerror}"
        ) from err
    return platform


def load_platform(directory: Path, *, clock: UnixTime = unix_time) -> SimulatedPlatform:
    """Return the platform that is kept in `directory`.

    Raises:
        ConfigError: it is not there, open to other users, or damaged; says what to do.
    """
    path = directory / _SECRETS_FILE
    raw = read_private(path)
    try:
        return _restore(wire.decode(raw, _Stored, what="simulated platform"), clock)
    except (FormatError, ValueError, TypeError) as err:
        raise ConfigError(f"{path}: damaged; remove {directory} to make a new platform") from err


def open_platform(directory: Path, *, clock: UnixTime = unix_time) -> SimulatedPlatform:
    """Return the platform in `directory`, made first if there is none.

    Raises:
        ConfigError: as `load_platform`.
    """
    if not (directory / _SECRETS_FILE).exists():
        with contextlib.suppress(ConfigError):  # somebody else was quicker: then it loads
            return create_platform(directory, clock=clock)
    return load_platform(directory, clock=clock)


def _restore(stored: _Stored, clock: UnixTime) -> SimulatedPlatform:
    issuers = []
    for der, key_der in zip(stored.certificates, stored.keys, strict=True):
        key = serialization.load_der_private_key(key_der, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise FormatError("simulated platform: a key is not of an elliptic curve")
        issuers.append(Issuer(certificate=x509.load_der_x509_certificate(der), key=key))
    root, pck_ca, pck, tcb_signing = issuers
    return SimulatedPlatform(
        pki=SimulatedPki(root=root, pck_ca=pck_ca, pck=pck, tcb_signing=tcb_signing),
        sealing_secret=Secret(stored.sealing_secret),
        signer=stored.signer,
        ppid=stored.ppid,
        clock=clock,
    )


def _issuers(pki: SimulatedPki) -> tuple[Issuer, Issuer, Issuer, Issuer]:
    return (pki.root, pki.pck_ca, pki.pck, pki.tcb_signing)


def _private_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _report_body(
    *,
    mr_enclave: bytes,
    mr_signer: bytes,
    product_id: int,
    svn: int,
    report_data: bytes,
    flags: int,
) -> bytes:
    """Return a report body, 384 bytes (Intel SDM, volume 3D, table 38-21)."""
    if (len(mr_enclave), len(mr_signer), len(report_data)) != (32, 32, REPORT_DATA_BYTES):
        raise LocalProtocolError("a report has measurements of 32 bytes and report data of 64")
    return struct.pack(
        "<16sI28sQQ32s32x32s96xHH60x64s",
        CPU_SVN,
        0,  # MISCSELECT
        bytes(28),
        flags,
        _XFRM_X87_SSE,
        mr_enclave,
        mr_signer,
        product_id,
        svn,
        report_data,
    )
