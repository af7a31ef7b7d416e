"""Sealed state: only here, only this enclave, only the newest."""

import pytest

from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError, SealError
from wardian.tee.sealing import MAX_VERSION, seal_state, unseal_state


class Enclave:
    def __init__(self, key: bytes = b"k" * 32) -> None:
        self.key = key

    def sealing_key(self) -> Secret:
        return Secret(self.key)


ENCLAVE = Enclave()


def test_comes_back():
    sealed = seal_state(ENCLAVE, b"state", label="broker", version=7)
    assert unseal_state(ENCLAVE, sealed, label="broker", version=7) == b"state"
    assert b"state" not in sealed
    assert unseal_state(
        ENCLAVE, seal_state(ENCLAVE, b"", label="l", version=MAX_VERSION), label="l", version=MAX_VERSION
    ) == b""  # fmt: skip


def test_same_state_looks_different_each_time():
    assert seal_state(ENCLAVE, b"s", label="l", version=0) != seal_state(
        ENCLAVE, b"s", label="l", version=0
    )


def test_every_bit_flip_and_truncation_is_refused():
    sealed = seal_state(ENCLAVE, b"some state", label="broker", version=7)
    for at in range(len(sealed)):
        for bit in range(8):
            flipped = bytearray(sealed)
            flipped[at] ^= 1 << bit
            with pytest.raises(SealError):
                unseal_state(ENCLAVE, bytes(flipped), label="broker", version=7)
        with pytest.raises(SealError):
            unseal_state(ENCLAVE, sealed[:at], label="broker", version=7)
    with pytest.raises(SealError):
        unseal_state(ENCLAVE, sealed + b"\0", label="broker", version=7)


def test_old_version_put_back():
    old = seal_state(ENCLAVE, b"old", label="broker", version=6)
    with pytest.raises(SealError, match="version 6, but the newest is 7"):
        unseal_state(ENCLAVE, old, label="broker", version=7)
    forged = old[:8] + (7).to_bytes(8, "big") + old[16:]
    with pytest.raises(SealError, match="altered"):
        unseal_state(ENCLAVE, forged, label="broker", version=7)


def test_another_enclave_or_label():
    sealed = seal_state(ENCLAVE, b"state", label="broker", version=7)
    with pytest.raises(SealError, match="another measurement"):
        unseal_state(Enclave(b"o" * 32), sealed, label="broker", version=7)
    with pytest.raises(SealError):
        unseal_state(ENCLAVE, sealed, label="worker", version=7)


@pytest.mark.parametrize("version", [-1, MAX_VERSION + 1])
def test_version_out_of_range_is_our_bug(version):
    with pytest.raises(LocalProtocolError):
        seal_state(ENCLAVE, b"s", label="l", version=version)
