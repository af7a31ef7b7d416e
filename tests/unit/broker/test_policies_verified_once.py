"""A policy is verified once while it is in force, however often jobs ask for its table."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import toy_jobs
from toy_exports import ExportBroker, serving_hospitals, statement
from toy_tables import PLACES, A, Ask, B, TableBroker, hospitals, signed_policy

from wardian.broker.jobs.signing import verify_policy
from wardian.broker.tables import kept
from wardian.broker.tables.kept import POLICIES
from wardian.errors import PolicyDenied


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[TableBroker]:
    with closing(TableBroker(hospitals(), tmp_path / "broker.db")) as broker:
        yield broker


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list that the tables of policies go into that are verified out of the state."""
    found: list[str] = []

    def counted(signed: Any, *, mesh: str) -> Any:
        policy = verify_policy(signed, mesh=mesh)
        found.append(policy.policy.table)
        return policy

    monkeypatch.setattr(kept, "verify_policy", counted)
    return found


def test_an_owner_who_asks_in_a_loop_has_its_policies_verified_once(
    broker: TableBroker, verified: list[str]
) -> None:
    for _ in range(3):
        Ask(broker).whole()
    assert sorted(verified) == ["claims", "records"]


def test_releases_and_exports_share_them(tmp_path: Path, verified: list[str]) -> None:
    with closing(ExportBroker(serving_hospitals(), tmp_path / "exports.db")) as broker:
        broker.tell(statement(broker.granted()))
    assert sorted(verified) == ["claims", "records"]


def test_a_newer_policy_counts_at_once_and_alone_is_verified(
    broker: TableBroker, verified: list[str]
) -> None:
    Ask(broker).whole()
    verified.clear()
    broker.consent(A, serial=2, allow=[toy_jobs.allow(A, purposes=["billing"])])
    with pytest.raises(PolicyDenied) as caught:
        Ask(broker).whole()
    assert caught.value.rule == "job-purpose"
    broker.consent(A, serial=3, revoked=True, keys=())
    with pytest.raises(PolicyDenied) as caught:
        Ask(broker).whole()
    assert caught.value.rule == "policy-revoked"
    assert set(verified) == {"records"}


def test_another_row_of_the_state_is_another_policy(
    broker: TableBroker, verified: list[str]
) -> None:
    """Whatever came by it: nothing but the state says which policy is in force."""
    broker.consent(B, serial=2)
    Ask(broker).whole()
    entry = broker.authority.entry(event="order", outcome="granted")
    broker.authority.record([entry], kept.keep_policy(PLACES[B], signed_policy(B, serial=1)))
    with pytest.raises(PolicyDenied) as caught:
        Ask(broker).whole()
    assert caught.value.rule == "policy-serial"
    broker.authority.record([entry], {(POLICIES, PLACES[B]): None})
    with pytest.raises(PolicyDenied) as caught:
        Ask(broker).whole()
    assert caught.value.rule == "no-policy"
