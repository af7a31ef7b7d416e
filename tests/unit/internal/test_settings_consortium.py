"""`consortium.toml`: what parties can agree to, and what they cannot."""

import pytest

from wardian._internal import settings
from wardian._internal.consortium import Consortium
from wardian.errors import ConfigError

A, B = "ab" * 32, "cd" * 32
GOOD = f"""\
name = "two"
[run]
rounds = 3
quorum = 2
[strategy]
name = "fedavg"
[parties.a]
key = "{A}"
[parties.b]
key = "02{B}"
"""


def parse(text: str) -> Consortium:
    return settings.parse(text.encode(), Consortium, name="consortium.toml")


def test_the_smallest_that_says_it_all() -> None:
    plan = parse(GOOD)
    assert plan.run.quorum == 2
    assert plan.run.sample == 1.0
    assert plan.app == {}
    assert list(plan.parties) == ["a", "b"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("quorum = 2", "quorum = 3", "above the number of parties"),
        ("quorum = 2", "quorum = 0", ">= 1"),
        (f"02{B}", A, "names one key twice"),
        (f"02{B}", f"03{A}", "names one key twice"),
        (f"02{B}", B[:-1], "pattern|regex"),
        ('name = "fedavg"', 'nam = "fedavg"', "strategy.name"),
        ('name = "fedavg"', 'name = "scaffold"\nparties = 3', "strategy.parties"),
        ("rounds = 3", "rounds = 3\nsample = 0.0", "> 0"),
        ("rounds = 3", "rounds = 3\nbudget = 1", "budget"),
        ('name = "two"', 'name = "two"\ninitial = "z"', "none of `parties`"),
        ('name = "two"', 'name = "Two"', "pattern|regex"),
        ("[parties.a]", "[parties.A]", "pattern|regex"),
    ],
)
def test_what_nobody_can_mean_is_refused(old: str, new: str, reason: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=reason):
        parse(GOOD.replace(old, new, 1))
