"""The SGX enclave as Gramine shows it to its process: pseudo-files below `/dev/attestation`.

Source: Gramine 1.9, `libos/src/fs/dev/attestation.c` and its documentation, "Attestation and
Secret Provisioning".
"""

import logging
import threading
from pathlib import Path

from typing_extensions import override

from wardian._internal.log import Field
from wardian.attestation.evidence import REPORT_DATA_BYTES, Evidence
from wardian.crypto.kdf import hkdf
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, LocalProtocolError, SealError
from wardian.tee.backend import Enclave

_LOG = logging.getLogger(__name__)
_SEAL_KEY_BYTES = 16


class GramineEnclave(Enclave):
    """A process under gramine-sgx with `sgx.remote_attestation = "dcap"`.

    It can quote, and Gramine gives it no collateral: its evidence has none, and a verifier that
    has none of its own says so. Counters do not exist here: the host could set any file back.
    """

    def __init__(
        self, attestation: Path = Path("/dev/attestation"), files: Path = Path("/")
    ) -> None:
        """Enter the enclave.

        Args:
            attestation: the directory of Gramine's pseudo-files.
            files: where `wardian.toml`, a trusted file, and `host.json`, an allowed one, lie.

        Raises:
            ConfigError: this process does not run under gramine-sgx, or without attestation.
        """
        self._attestation = attestation
        self._files = files
        self._lock = threading.Lock()
        kind = _read(attestation / "attestation_type").strip()
        if kind != b"dcap":
            raise ConfigError(
                'gramine: attestation is off; the manifest needs sgx.remote_attestation = "dcap"'
            )

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
        if len(report_data) != REPORT_DATA_BYTES:
            raise LocalProtocolError(f"report data has {REPORT_DATA_BYTES} bytes")
        with self._lock:  # the two files are one operation, and shared by the whole process
            try:
                (self._attestation / "user_report_data").write_bytes(report_data)
            except OSError as err:
                raise ConfigError("gramine: the report data cannot be written") from err
            quote = _read(self._attestation / "quote")
        return Evidence(quote=quote, collateral=b"")

    @override
    def sealing_key(self) -> Secret:
        key = _read(self._attestation / "keys" / "_sgx_mrenclave")
        if len(key) != _SEAL_KEY_BYTES:
            raise ConfigError(f"gramine: the sealing key has {len(key)} bytes, 16 expected")
        return hkdf(Secret(key), salt=b"", info=b"wardian gramine sealing key v1")

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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise ConfigError(f"gramine: {path} cannot be read: {err.strerror}") from err
