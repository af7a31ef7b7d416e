"""The library OS without an enclave: a role that only tests itself, on any machine.

gramine-direct enforces the same manifest, trusted files by their hashes included. It cannot attest,
so no broker gives a key to what runs here (TRUST T25).
"""

import threading
from pathlib import Path

from typing_extensions import override

from wardian.attestation.evidence import Evidence
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, SealError
from wardian.tee.backend import SealTo
from wardian.tee.gramine import GRAMINE_DIRECT, ROLE_DIRECTORY, GramineEnclave


class GramineDirectEnclave(GramineEnclave):
    """A process under gramine-direct: settings, no evidence, no sealing key."""

    def __init__(self, files: Path = ROLE_DIRECTORY) -> None:
        """Enter; `files` is where `wardian.toml` and `host.json` lie."""
        self._files = files
        self._lock = threading.Lock()

    @property
    @override
    def name(self) -> str:
        return "gramine-direct"

    @override
    def evidence(self, report_data: bytes) -> Evidence:
        raise ConfigError(GRAMINE_DIRECT)

    @override
    def sealing_key(self, to: SealTo = SealTo.MEASUREMENT) -> Secret:
        raise SealError(GRAMINE_DIRECT)
