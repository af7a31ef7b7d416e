"""The mesh CA as an owner knows it: from the first broker that it verified, for good."""

import hashlib
from pathlib import Path

from wardian._internal.files import replace_file
from wardian.broker.certificates import chain_pem
from wardian.cli.audit.source import load_ca


class KnownCa:
    """A file that has the mesh CA's certificate, or will have it after a first visit."""

    __slots__ = ("_path", "spki")

    spki: bytes | None
    """The CA's key (DER) as it is known; None before the first visit, or where no file is named."""

    def __init__(self, path: Path | None) -> None:
        """Know the CA in the PEM file `path`, if there is one yet.

        Raises:
            ConfigError: the file holds something else.
        """
        self._path = path
        self.spki = load_ca(path) if path is not None and path.exists() else None

    def keep(self, certificate: bytes) -> str:
        """Write down the CA of a broker that was verified, if none was known; say which it is.

        Args:
            certificate: DER, whose key the broker's evidence binds.
        """
        named = f"SHA-256 {hashlib.sha256(certificate).hexdigest()}"
        if self.spki is not None:
            return f"{named}, as it is known"
        if self._path is None:
            return f"{named}, NOT compared: keep it with --mesh-ca"
        replace_file(self._path, chain_pem((certificate,)))
        return f"{named}, first seen, kept in {self._path}"
