import pytest
from simulators.masked_round import RUN, signers

from wardian.errors import ConfigError, LocalProtocolError, PolicyDenied
from wardian.learning.masking.plan import MaskingPlan, set_id, verify_maskable

PUBLIC = {name: signer.public for name, signer in signers(6).items()}
PLAIN = {"run": RUN, "parties": PUBLIC, "threshold": 5, "elements": 10}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"run": bytes(31)}, "run"),
        ({"parties": dict(list(PUBLIC.items())[:2]), "threshold": 2}, "3 to 255"),
        ({"parties": {f"p{n}": n.to_bytes(32) for n in range(256)}, "threshold": 200}, "3 to 255"),
        ({"parties": {**PUBLIC, "Party": b"x" * 32}}, "a name"),
        ({"parties": {**PUBLIC, "party\n": b"x" * 32}}, "a name"),
        ({"parties": {**PUBLIC, "last": b"x" * 31}}, "parties.last"),
        ({"parties": {**PUBLIC, "last": PUBLIC["party-001"]}}, "one key twice"),
        ({"threshold": 4}, "5 to 6"),
        ({"threshold": 0}, "5 to 6"),
        ({"threshold": 7}, "5 to 6"),
        ({"elements": 0}, "elements"),
        ({"elements": 2**32 + 1}, "elements"),
    ],
)
def test_plans_that_are_refused(changes, named):
    with pytest.raises(ConfigError, match=named):
        MaskingPlan(**{**PLAIN, **changes})


@pytest.mark.parametrize(("count", "least"), [(3, 3), (4, 3), (5, 4), (6, 5), (9, 7), (100, 67)])
def test_the_least_threshold_is_above_two_thirds(count, least):
    parties = {f"p{place}": place.to_bytes(32) for place in range(count)}
    MaskingPlan(run=RUN, parties=parties, threshold=least, elements=1)
    with pytest.raises(ConfigError, match=f"of {count}, {least} to {count}"):
        MaskingPlan(run=RUN, parties=parties, threshold=least - 1, elements=1)


def test_the_roster_does_not_change_afterwards():
    parties = dict(PUBLIC)
    plan = MaskingPlan(**{**PLAIN, "parties": parties})
    scope = plan.scope(1)
    parties["later"] = b"x" * 32
    assert plan.scope(1) == scope
    with pytest.raises(PolicyDenied):
        plan.index("later")
    with pytest.raises(TypeError):
        plan.parties["later"] = b"x" * 32


def test_shares_have_the_order_of_the_names():
    plan = MaskingPlan(**{**PLAIN, "parties": dict(reversed(PUBLIC.items()))})
    assert [plan.index(name) for name in sorted(PUBLIC)] == [1, 2, 3, 4, 5, 6]
    assert plan.scope(1) == MaskingPlan(**PLAIN).scope(1)


def test_every_part_of_plan_and_round_is_in_the_scope():
    plans = [
        MaskingPlan(**{**PLAIN, **changes})
        for changes in (
            {},
            {"run": bytes(32)},
            {"threshold": 6},
            {"elements": 11},
            {"parties": {**PUBLIC, "party-001": b"x" * 32}},
            {"parties": {f"{name}x": public for name, public in PUBLIC.items()}},
        )
    ]
    scopes = {plan.scope(number) for plan in plans for number in (1, 2)}
    assert len(scopes) == 12
    assert {len(scope) for scope in scopes} == {32}
    named = {
        set_id(scope, dealer, what)
        for scope in scopes
        for dealer in PUBLIC
        for what in ("key", "seed")
    }
    assert len(named) == 12 * 6 * 2


@pytest.mark.parametrize("number", [0, -1, 2**63 + 1])
def test_numbers_that_no_round_has(number):
    with pytest.raises(LocalProtocolError):
        MaskingPlan(**PLAIN).scope(number)


def test_what_needs_single_updates_is_refused_with_masks():
    verify_maskable(strategy="fedavg", robust=False, clips=False)
    with pytest.raises(ConfigError, match="'krum', which compares single updates"):
        verify_maskable(strategy="krum", robust=True, clips=False)
    with pytest.raises(ConfigError, match="let the parties clip"):
        verify_maskable(strategy="fedavg", robust=False, clips=True)
