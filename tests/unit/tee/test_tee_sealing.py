"""Sealed state: only here, only this enclave, only the newest."""

import dataclasses
from types import SimpleNamespace

import pytest

from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError, SealError, StateRolledBack
from wardian.tee.backend import SealTo
from wardian.tee.launch.launcher import _Desk
from wardian.tee.launch.simulation import generate_platform
from wardian.tee.sealing import (
    MAX_VERSION,
    OVERHEAD_BYTES,
    mark_key,
    seal_state,
    sealed_follows,
    sealed_version,
    unseal_state,
)
from wardian.tee.simulated import SealingKeyQuestion


class Enclave:
    """Two keys, as a TEE gives them; the signer's is one for all roles, which is the worst case."""

    def __init__(self, key: bytes = b"k" * 32, signer: bytes = b"s" * 32) -> None:
        self.keys = {SealTo.MEASUREMENT: key, SealTo.SIGNER: signer}

    def sealing_key(self, to: SealTo = SealTo.MEASUREMENT) -> Secret:
        return Secret(self.keys[to])


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
    with pytest.raises(StateRolledBack, match="version 6, but the newest is 7"):
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


def test_a_version_that_is_not_the_newest_yet():
    early = seal_state(ENCLAVE, b"early", label="broker", version=8)
    with pytest.raises(SealError, match="version 8, but the newest is 7") as caught:
        unseal_state(ENCLAVE, early, label="broker", version=7)
    assert not isinstance(caught.value, StateRolledBack)


@pytest.mark.parametrize("to", SealTo)
def test_the_version_is_read_before_it_is_believed(to):
    sealed = seal_state(ENCLAVE, b"state", label="broker", version=7, to=to)
    assert sealed_version(sealed, to=to) == 7
    assert len(sealed) == len(b"state") + OVERHEAD_BYTES
    with pytest.raises(SealError, match="not in a form"):
        sealed_version(b"X" + sealed[1:], to=to)
    with pytest.raises(SealError, match="too short"):
        sealed_version(sealed[: OVERHEAD_BYTES - 1], to=to)


@pytest.mark.parametrize("follows", [0, 1, MAX_VERSION])
def test_what_a_state_follows_is_authentic(follows):
    sealed = seal_state(ENCLAVE, b"state", label="broker", version=7, follows=follows)
    assert sealed_follows(sealed) == follows
    assert unseal_state(ENCLAVE, sealed, label="broker", version=7) == b"state"
    forged = sealed[:16] + (follows ^ 1).to_bytes(8, "big") + sealed[24:]
    assert sealed_follows(forged) == follows ^ 1
    with pytest.raises(SealError, match="altered"):
        unseal_state(ENCLAVE, forged, label="broker", version=7)
    for wrong in (-1, MAX_VERSION + 1):
        with pytest.raises(LocalProtocolError):
            seal_state(ENCLAVE, b"state", label="broker", version=7, follows=wrong)


# To the signer


def test_t6_a_job_does_not_open_the_brokers_state_by_accident():
    """One signer, one key: what still tells the roles apart is the label."""
    sealed = seal_state(ENCLAVE, b"state", label="broker", version=1, to=SealTo.SIGNER)
    job = Enclave(key=b"j" * 32)
    with pytest.raises(SealError, match="another signer or role"):
        unseal_state(job, sealed, label="job", version=1, to=SealTo.SIGNER)


def test_t6_a_malicious_enclave_of_the_signer_opens_what_is_sealed_to_the_signer():
    """Stated, because it is so: only what is sealed to the measurement stays closed to it."""
    thief = Enclave(key=b"t" * 32)
    sealed = seal_state(ENCLAVE, b"state", label="broker", version=1, to=SealTo.SIGNER)
    assert unseal_state(thief, sealed, label="broker", version=1, to=SealTo.SIGNER) == b"state"
    sealed = seal_state(ENCLAVE, b"state", label="broker", version=1)
    with pytest.raises(SealError, match="another measurement"):
        unseal_state(thief, sealed, label="broker", version=1)


def test_one_seal_does_not_pass_for_the_other():
    """Even where both keys were the same, by a flaw."""
    same = Enclave(key=b"k" * 32, signer=b"k" * 32)
    for sealed_to, wanted in ((SealTo.SIGNER, SealTo.MEASUREMENT), tuple(SealTo)):
        sealed = seal_state(same, b"state", label="broker", version=1, to=sealed_to)
        with pytest.raises(SealError, match=f"not sealed to the {wanted.value}"):
            unseal_state(same, sealed, label="broker", version=1, to=wanted)
        magic = seal_state(same, b"", label="broker", version=1, to=wanted)[:8]
        with pytest.raises(SealError, match="altered"):
            unseal_state(same, magic + sealed[8:], label="broker", version=1, to=wanted)


def test_marks_have_a_key_of_their_own():
    keys = [
        mark_key(enclave, label=label, to=to).reveal()
        for enclave in (ENCLAVE, Enclave(b"o" * 32, b"p" * 32))
        for label in ("broker", "job")
        for to in SealTo
    ]
    assert len(set(keys)) == len(keys) == 8
    assert mark_key(ENCLAVE, label="broker") == mark_key(ENCLAVE, label="broker")


def test_t6_the_launcher_gives_the_signers_key_by_product_id():
    """What the manifest says, not what the role asks for."""
    platform = generate_platform()
    fields = dict.fromkeys(field.name for field in dataclasses.fields(_Desk))
    manifest = SimpleNamespace(mr_enclave=b"m" * 32, product_id=9)
    desk = _Desk(**fields | {"platform": platform, "manifest": manifest})
    for question, key in (
        (SealingKeyQuestion(), platform.sealing_key(b"m" * 32)),
        (SealingKeyQuestion(to=SealTo.SIGNER), platform.signer_sealing_key(9)),
    ):
        assert Secret(desk._answer(question).content) == key
