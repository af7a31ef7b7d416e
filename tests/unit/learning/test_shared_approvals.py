"""Approvals of an export: one party's signature over one export of one mesh, and nothing else."""

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))

from toy_jobs import KEYS, MESH, NAMES

from wardian._internal import wire
from wardian.broker.jobs.merge import ApprovalTerms
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SigningKey
from wardian.learning.shared.approvals import (
    MAX_APPROVAL_BYTES,
    Approval,
    sign_approval,
    verify_approvals,
)

A, B, C = NAMES
EXPORT = bytes(range(32))
PUBLIC = {name: KEYS[name].public.hex() for name in NAMES}
STRANGER = SigningKey.from_secret(Secret(b"stranger".ljust(32)))
TERMS = (
    ApprovalTerms(needed=1, of=frozenset((PUBLIC[A], PUBLIC[B]))),
    ApprovalTerms(needed=2, of=frozenset((PUBLIC[B], PUBLIC[C]))),
)


def signed(key: SigningKey, export: bytes = EXPORT, mesh: str = MESH) -> bytes:
    return wire.encode(sign_approval(export, key, mesh=mesh))


def verified(*files: bytes, terms: tuple[ApprovalTerms, ...] = TERMS) -> set[str]:
    found = verify_approvals(files, terms, export=EXPORT, mesh=MESH)
    return {name for name, public in PUBLIC.items() if public in found}


def test_each_of_those_who_are_asked_counts_once() -> None:
    assert verified(*(signed(KEYS[name]) for name in NAMES)) == set(NAMES)
    assert verified(signed(KEYS[A]), signed(KEYS[A])) == {A}
    assert verified() == set()


def test_a_stranger_and_a_party_that_nobody_asks_do_not() -> None:
    assert verify_approvals([signed(STRANGER)], TERMS, export=EXPORT, mesh=MESH) == frozenset()
    assert verified(signed(KEYS[C]), terms=TERMS[:1]) == set()
    assert verified(signed(KEYS[A]), terms=()) == set()


@pytest.mark.parametrize(
    "other",
    [
        signed(KEYS[A], export=bytes(32)),
        signed(KEYS[A], mesh="clinics"),
        wire.encode(Approval(approver=PUBLIC[A], export=EXPORT.hex(), signature="00" * 64)),
    ],
    ids=["export", "mesh", "signature"],
)
def test_of_another_export_or_mesh_or_signed_by_nobody(other: bytes) -> None:
    assert verified(other, signed(KEYS[B])) == {B}


def test_the_digest_that_it_shows_is_not_the_one_that_counts() -> None:
    """What was signed counts: a host that writes this export's digest on another one's gains none."""
    theirs = sign_approval(bytes(32), KEYS[A], mesh=MESH)
    shown = Approval(approver=PUBLIC[A], export=EXPORT.hex(), signature=theirs.signature)
    assert verified(wire.encode(shown)) == set()


def test_the_signature_of_one_under_the_name_of_another() -> None:
    theirs = sign_approval(EXPORT, STRANGER, mesh=MESH)
    forged = Approval(approver=PUBLIC[A], export=EXPORT.hex(), signature=theirs.signature)
    assert verified(wire.encode(forged)) == set()


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{}", b"\xff" * 40, b"[" * 100_000, signed(KEYS[A])[:-1], signed(KEYS[A]) + b"{}",
        b" " * MAX_APPROVAL_BYTES + signed(KEYS[A]),
        signed(KEYS[A]).replace(b"approver", b"approved"),
        signed(KEYS[A]).replace(PUBLIC[A].encode(), PUBLIC[A].upper().encode()),
        signed(KEYS[A]).replace(b"approval v1", b"approval v2"),
    ],
)  # fmt: skip
def test_what_is_no_approval_hinders_nobody(raw: bytes) -> None:
    assert verified(raw, signed(KEYS[B]), raw) == {B}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_changed_byte_is_an_approval(data: st.DataObject) -> None:
    whole = bytearray(signed(KEYS[A]))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    shown = whole.replace(b'"export"', b"").split(EXPORT.hex().encode())
    if len(shown) == 2:  # all but the digest that is shown for people
        assert verified(bytes(whole)) == set()


@pytest.mark.parametrize("public", ["00" * 32, "01" + "00" * 31, "02" + "ff" * 32])
def test_a_key_that_is_no_point_or_for_which_anybody_signs(public: str) -> None:
    """An owner that asks for it is asked for more than anybody can give; nothing breaks."""
    terms = (ApprovalTerms(needed=1, of=frozenset((public, PUBLIC[A]))),)
    forged = Approval(approver=public, export=EXPORT.hex(), signature="00" * 64)
    assert verify_approvals(
        [wire.encode(forged), signed(KEYS[A])], terms, export=EXPORT, mesh=MESH
    ) == {PUBLIC[A]}
