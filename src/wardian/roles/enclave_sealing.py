"""State that only this code on this machine reads again."""

from typing import Final

from typing_extensions import override

from wardian.broker.keeping.sealing import Sealing
from wardian.tee.backend import Enclave
from wardian.tee.sealing import seal_state, unseal_state

VERSION: Final = 1
"""Of what is sealed: nothing here says which of two is the newer. Of a keeper's counters a quorum
of keepers does, of a federated run its parties do."""

TRIAL: Final = "self-test: "


class EnclaveSealing(Sealing):
    """Seals to the measurement of this process, on this machine."""

    def __init__(self, enclave: Enclave, *, trial: bool = False) -> None:
        """Seal with the key of `enclave`.

        Args:
            enclave: the TEE that this process runs in.
            trial: whether it is a self-test that seals. A host has one made whenever it likes, and
                keeps what it sealed: in earnest that does not open.
        """
        self._enclave, self._of = enclave, TRIAL if trial else ""

    @override
    def seal(self, plaintext: bytes, *, label: str) -> bytes:
        return seal_state(self._enclave, plaintext, label=f"{self._of}{label}", version=VERSION)

    @override
    def unseal(self, sealed: bytes, *, label: str) -> bytes:
        return unseal_state(self._enclave, sealed, label=f"{self._of}{label}", version=VERSION)
