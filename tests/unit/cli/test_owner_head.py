"""An owner keeps the head of every receipt: two logs of one broker are noticed."""

from pathlib import Path

import msgspec
import pytest
from test_mesh import Desk, Desks, desk, desks, in_force, visit

from wardian.broker.transparency.heads import verify_head
from wardian.broker.transparency.memory import AuditMemory
from wardian.cli.audit.files import load_memory, save_record
from wardian.errors import AuthenticationFailed, PolicyDenied

__all__ = ["desk", "desks"]  # fixtures

replace = msgspec.structs.replace


def test_receipts_leave_their_heads(desk: Desk, desks: Desks, tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    in_force(desk)
    for owner in (1, 0):
        visit(desk, "rotate", "--manifest", desk.manifest, "--head", memory, owner=owner)
    first, second = load_memory(memory).known
    spki = desks.broker.authority.ca.spki
    assert verify_head(first, ca_spki=spki).count < verify_head(second, ca_spki=spki).count
    assert second.audit == desks.broker.store.audit_head


def test_a_receipt_of_a_second_log(desk: Desk, desks: Desks, tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    in_force(desk)
    head = desks.broker.authority.transparency.head()
    audit = replace(head.audit, count=head.audit.count + 1, root="00" * 32)
    save_record(memory, AuditMemory(read=None, peaks=(), seen=(replace(head, audit=audit),)))
    with pytest.raises(PolicyDenied, match="forked"):
        visit(desk, "rotate", "--manifest", desk.manifest, "--head", memory)


def test_a_receipt_with_a_head_of_nobody(
    desk: Desk, desks: Desks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_force(desk)
    log = desks.broker.authority.transparency
    forged = replace(log.head(), time=1)
    monkeypatch.setattr(type(log), "head", lambda _: forged)
    with pytest.raises(AuthenticationFailed, match="audit head is not signed"):
        visit(desk, "rotate", "--manifest", desk.manifest)
