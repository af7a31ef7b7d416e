"""How state is sealed, for rooms that know nothing of the TEE that does it."""

from typing import Protocol


class Sealing(Protocol):
    """Seals to this code on this machine; see `tee.sealing`, of which a broker room knows nothing.

    `unseal` raises SealError for what this code did not seal, under that label.
    """

    def seal(self, plaintext: bytes, *, label: str) -> bytes:
        """Return `plaintext` sealed under `label`."""

    def unseal(self, sealed: bytes, *, label: str) -> bytes:
        """Return what was sealed under `label`."""
