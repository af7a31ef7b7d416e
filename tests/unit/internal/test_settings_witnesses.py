"""`[mesh] witnesses` in `wardian.toml`: who countersigns the audit log, and how many have to."""

import pytest

from wardian._internal.agreed import Agreed
from wardian._internal.settings import parse
from wardian.broker.transparency.cosigning import HeadDemand
from wardian.broker.transparency.following import demand_of
from wardian.errors import ConfigError

KEYS = ("ab" * 32, "02" + "cd" * 32)


def agreed(more: str) -> Agreed:
    text = f'[mesh]\nname = "m"\nowners = ["{"00" * 32}"]\n{more}\n[models.m]\n'
    return parse(text.encode(), Agreed, name="wardian.toml")


def test_nobody_is_demanded_by_default() -> None:
    mesh = agreed("").mesh
    assert (mesh.witnesses, mesh.head_threshold, demand_of(mesh)) == ((), 0, None)
    named = agreed(f'witnesses = ["{KEYS[0]}"]').mesh
    assert demand_of(named) is None


def test_what_is_demanded() -> None:
    mesh = agreed(
        f'witnesses = ["{KEYS[0]}", "{KEYS[1]}"]\nhead_threshold = 2\nhead_max_lines = 7\n'
        "head_max_age_s = 60"
    ).mesh
    assert demand_of(mesh) == HeadDemand(
        witnesses=frozenset(KEYS), threshold=2, max_lines=7, max_age_s=60
    )


@pytest.mark.parametrize(
    "more",
    [
        "head_threshold = 1",
        f'witnesses = ["{KEYS[0]}", "{KEYS[0]}"]\nhead_threshold = 2',
        'witnesses = ["00"]',
        f'witnesses = ["04{KEYS[0]}"]',
        "head_threshold = -1",
        "head_max_lines = 0",
        "head_max_age_s = 59",
        "witnesses = 1",
    ],
)
def test_what_is_refused(more: str) -> None:
    with pytest.raises(ConfigError):
        agreed(more)


def test_no_more_witnesses_than_a_head_can_show() -> None:
    keys = ", ".join(f'"{number:064x}"' for number in range(17))
    with pytest.raises(ConfigError):
        agreed(f"witnesses = [{keys}]")
