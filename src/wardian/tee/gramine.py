"""The SGX enclave as Gramine shows it to its process: pseudo-files below `/dev/attestation`.

Source: Gramine 1.9, `libos/src/fs/dev/attestation.c`, `libos/src/fs/libos_fs_pseudo.c` and its
documentation, "Attestation and Secret Provisioning".
"""

import errno
import logging
import os
import threading
from pathlib import Path

from typing_extensions import override

from wardian._internal import wire
from wardian._internal.log import Field
from wardian.attestation.evidence import REPORT_DATA_BYTES, Evidence
from wardian.crypto.kdf import hkdf
from wardian.crypto.secret import Secret
from wardian.errors import (
    ConfigError,
    ConnectionLost,
    EvidenceInvalid,
    FormatError,
    LocalProtocolError,
    SealError,
)
from wardian.tee.backend import Enclave, SealTo

ROLE_DIRECTORY = Path("/wardian")
"""Where the manifest mounts a role's directory."""

_LOG = logging.getLogger(__name__)
_SEAL_KEY_BYTES = 16
_REPORT_BYTES = 432  # a REPORT: body (384), KEYID, MAC (Intel SDM, volume 3D, table 38-21)
_PRODUCT_ID_AT = 256  # ISVPRODID in it
_READ_BYTES = 64 * 1024
_MAX_QUOTE_BYTES = 8192  # QUOTE_MAX_SIZE of attestation.c; padding of zeros included
_REPORT_DATA_AT = 48 + 320  # SGX quote, version 3: header, then REPORTDATA in the report body


class GramineEnclave(Enclave):
    """A process under gramine-sgx with `sgx.remote_attestation = "dcap"`.

    It can quote, and Gramine gives it no collateral: its evidence has none, and a verifier that
    has none of its own says so. Counters do not exist here: the host could set any file back.
    """

    def __init__(
        self, attestation: Path = Path("/dev/attestation"), files: Path = ROLE_DIRECTORY
    ) -> None:
        """Enter the enclave.

        Args:
            attestation: the directory of Gramine's pseudo-files.
            files: where `wardian.toml`, a trusted file, and `host.json`, an allowed one, lie.

        Raises:
            ConfigError: this process does not run under gramine-sgx, or without DCAP attestation.
        """
        self._attestation = attestation
        self._files = files
        self._lock = threading.Lock()
        _demand_dcap(attestation)

    @property
    @override
    def name(self) -> str:
        return "gramine"

    @property
    @override
    def simulated(self) -> bool:
        return False

    @override
    def evidence(self, report_data: bytes) -> Evidence:
        """Return a quote over `report_data` (64 bytes); zeros may pad it up to 8192 bytes.

        Raises:
            LocalProtocolError: other than 64 bytes.
            ConfigError: Gramine does not take the report data.
            ConnectionLost: the quoting enclave, which the host runs, gave no quote.
            FormatError: it gave something that no SGX quote is.
            EvidenceInvalid: the quote is over other report data.
        """
        if len(report_data) != REPORT_DATA_BYTES:
            raise LocalProtocolError(f"report data has {REPORT_DATA_BYTES} bytes")
        with self._lock:  # the two files are one operation, and shared by the whole process
            try:
                write_device(self._attestation / "user_report_data", report_data)
            except OSError as err:
                raise ConfigError("gramine: the report data cannot be written") from err
            try:
                quote = read_device(self._attestation / "quote", limit=_MAX_QUOTE_BYTES)
            except OSError as err:
                raise _no_quote(err) from err
        demand_bound(quote, report_data, at=_REPORT_DATA_AT, what="gramine")
        return Evidence(quote=quote, collateral=b"")

    @override
    def sealing_key(self, to: SealTo = SealTo.MEASUREMENT) -> Secret:
        """Return the key that the processor derives for this measurement, or for its signer.

        The signer's is bound to the product id once more: EGETKEY takes ISVPRODID in unless it is
        asked not to, and whether Gramine asks is not ours to rely on (TRUST T6).

        Raises:
            ConfigError: Gramine gives no such key, or no report of this enclave.
        """
        signer = to is SealTo.SIGNER
        key = _read(self._attestation / "keys" / ("_sgx_mrsigner" if signer else "_sgx_mrenclave"))
        if len(key) != _SEAL_KEY_BYTES:
            raise ConfigError(f"gramine: the sealing key has {len(key)} bytes, 16 expected")
        info = b"wardian gramine sealing key v1"
        if signer:
            info = wire.fields("wardian gramine signer sealing key v1", self._product_id())
        return hkdf(Secret(key), salt=b"", info=info)

    def _product_id(self) -> bytes:
        """Return ISVPRODID (2 bytes) from a report of this enclave to itself (EREPORT)."""
        with self._lock:
            target = _read(self._attestation / "my_target_info")
            try:
                write_device(self._attestation / "target_info", target)
            except OSError as err:
                raise ConfigError("gramine: the target of a report cannot be written") from err
            report = _read(self._attestation / "report")
        if len(report) != _REPORT_BYTES:
            raise ConfigError(f"gramine: the report has {len(report)} bytes, 432 expected")
        return report[_PRODUCT_ID_AT : _PRODUCT_ID_AT + 2]

    @override
    def agreed_config(self) -> bytes:
        return _read(self._files / "wardian.toml")

    @override
    def host_settings(self) -> bytes:
        return _read(self._files / "host.json")

    @override
    def announce(self, event: str, **fields: Field) -> None:
        _LOG.info(event, extra={"fields": fields})

    @override
    def read_counter(self, name: str) -> int:
        raise SealError(_NO_COUNTERS)

    @override
    def advance_counter(self, name: str, to: int) -> None:
        raise SealError(_NO_COUNTERS)


_NO_COUNTERS = "no monotonic counter: under Gramine the host could set any file back"


def _demand_dcap(attestation: Path) -> None:
    """Refuse a process that cannot quote, and say which of the reasons it is."""
    try:
        present = {file.name for file in attestation.iterdir()}
    except OSError as err:
        raise ConfigError(
            f"gramine: {attestation} cannot be read: {err.strerror}; start this with gramine-sgx"
        ) from err
    if "attestation_type" not in present:
        raise ConfigError(GRAMINE_DIRECT)
    kind = _read(attestation / "attestation_type").strip()
    if kind != b"dcap":
        raise ConfigError(
            "gramine: attestation is off, or of a kind that is not supported; "
            'the manifest needs sgx.remote_attestation = "dcap"'
        )
    if "quote" not in present:
        raise ConfigError(GRAMINE_DIRECT)


GRAMINE_DIRECT = "gramine-direct cannot attest and gets no key; start this with gramine-sgx"


def _no_quote(err: OSError) -> FormatError | ConnectionLost:
    if err.errno == errno.EFBIG:
        return FormatError(f"gramine: the quote has more than {_MAX_QUOTE_BYTES} bytes")
    return ConnectionLost(
        f"gramine: no quote: {err.strerror}; do aesmd and the provisioning service answer?"
    )


def _read(path: Path) -> bytes:
    try:
        return read_device(path, limit=wire.MAX_MESSAGE_BYTES)
    except OSError as err:
        raise ConfigError(f"gramine: {path} cannot be read: {err.strerror}") from err


def read_device(path: Path, *, limit: int) -> bytes:
    """Return what `path` holds, at most `limit` bytes, from one opening of it.

    A pseudo-file is made for each opening: what two openings give does not belong together.

    Raises:
        OSError: it cannot be read; with EFBIG, it holds more than `limit` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY)
    content = bytearray()
    try:
        while part := os.read(descriptor, min(limit + 1 - len(content), _READ_BYTES)):
            content += part
            if len(content) > limit:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    finally:
        os.close(descriptor)
    return bytes(content)


def write_device(path: Path, content: bytes) -> None:
    """Write `content` to the existing `path` in one call.

    Raises:
        OSError: it cannot be written; with EIO, it took only a part. The rest cannot follow: to a
            pseudo-file each write is a value of its own, which it pads with zeros.
    """
    descriptor = os.open(path, os.O_WRONLY)
    try:
        written = os.write(descriptor, content)
    finally:
        os.close(descriptor)
    if written != len(content):
        raise OSError(errno.EIO, "written in part", str(path))


def demand_bound(quote: bytes, report_data: bytes, *, at: int, what: str) -> None:
    """Refuse a `quote` whose report data, `at` bytes from its start, is not `report_data`.

    A verifier would refuse it too, but could not say that the fault lies here.

    Raises:
        FormatError: too short to have report data.
        EvidenceInvalid: other report data; something else wrote to the same device.
    """
    if len(quote) < at + REPORT_DATA_BYTES:
        raise FormatError(f"{what}: a quote of {len(quote)} bytes")
    if quote[at : at + REPORT_DATA_BYTES] != report_data:
        raise EvidenceInvalid(f"{what}: the quote is over other report data than was written")
