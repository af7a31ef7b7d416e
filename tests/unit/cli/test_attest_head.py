"""`wardian attest show --head`: a client that remembers notices a second log."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from attest_cases import attest
from test_attest_show import (
    CA,
    EVIDENCE,
    HEADS,
    PINNED,
    WITH_ANOTHER_WORKER,
    WITNESS,
    ask,
    head,
    shown,
)

from wardian.broker.ca import MeshCa
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.transparency.heads import verify_head
from wardian.cli.audit.files import load_memory
from wardian.crypto.signing import SigningKey

__all__ = ["ask", "attest"]  # fixtures

NOW = 1_800_000_000
POLICY = EVIDENCE + PINNED
WITNESSED = POLICY + HEADS.format(WITNESS.public.hex())
replace = msgspec.structs.replace


def test_the_head_of_an_accepted_mesh_is_remembered(ask: Any, tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    for count in (7, 9, 8):
        done = ask(shown(witnessed=head(count=count)), "--head", memory, policy=POLICY)
        assert done.status == 0, done.err
    known = load_memory(memory).known
    assert [each.audit.count for each in known] == [7, 9, 8]
    assert all(verify_head(each, ca_spki=verify_ca_certificate(CA.certificate)) for each in known)


def test_a_second_log_is_noticed(ask: Any, tmp_path: Path) -> None:
    from wardian.broker.state.audit import AuditHead
    from wardian.broker.transparency.cosigning import WitnessedHead
    from wardian.broker.transparency.heads import sign_head

    memory = tmp_path / "memory.json"
    ask(shown(witnessed=head()), "--head", memory, policy=POLICY)
    before = memory.read_bytes()
    other = sign_head(
        AuditHead(count=7, digest="11" * 32, root="33" * 32),
        mesh="test",
        manifest_digest=b"",
        ca_spki=CA.spki,
        sign=CA.sign,
        now=NOW,
    )
    done = ask(shown(witnessed=WitnessedHead(head=other)), "--head", memory, policy=POLICY)
    assert done.status == 3
    assert "forked" in done.err
    assert memory.read_bytes() == before


def test_a_head_that_is_not_the_ca_s_is_refused_and_forgotten(ask: Any, tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    other = MeshCa.create(mesh="test", simulated=True, now=NOW)
    done = ask(shown(witnessed=head(other)), "--head", memory, policy=POLICY)
    assert done.status == 3
    assert not memory.exists()


def test_a_mesh_that_is_refused_is_not_remembered(ask: Any, tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    listed = "[mesh.roles]\n" + "".join(
        f'{role} = ["{measured[0].hex()}"]\n' for role, measured in WITH_ANOTHER_WORKER.items()
    )
    assert ask(shown(), "--head", memory, policy=EVIDENCE + listed).status == 3
    assert not memory.exists()


@pytest.mark.parametrize("option", ["--head", "--head-threshold"])
def test_without_a_policy_nothing_is_remembered(ask: Any, tmp_path: Path, option: str) -> None:
    done = ask(shown(), option, tmp_path / "x" if option == "--head" else 1)
    assert done.status == 2
    assert "need --policy" in done.err


def test_as_many_witnesses_as_are_asked_for(ask: Any) -> None:
    two = POLICY + HEADS.format(f'{WITNESS.public.hex()}", "{SigningKey.generate().public.hex()}')
    assert ask(shown(), policy=two).status == 0
    assert ask(shown(), "--head-threshold", 1, policy=two).status == 0
    done = ask(shown(), "--head-threshold", 2, policy=two)
    assert done.status == 3
    assert "1 of the 2 witnesses" in done.out + done.err
    assert ask(shown(), "--head-threshold", 3, policy=two).status == 2
    assert ask(shown(), "--head-threshold", 1, policy=POLICY).status == 2
    hidden = replace(head(), cosigned=())
    assert ask(shown(witnessed=hidden), policy=WITNESSED).status == 3
