"""What was spent stays spent: the ledger against a host that would have it forget."""

import math
import sys
from dataclasses import dataclass

import msgspec
import pytest

from wardian.errors import ConfigError, FormatError, PolicyDenied, StateRolledBack
from wardian.learning.privacy.accounting import Releases, Sampling
from wardian.learning.privacy.ledger import MOST_ENTRIES, Ledger, Spend, Terms, cohort_digest

TERMS = Terms(run=b"r" * 32, epsilon=10.0, delta=1e-5, parties=100)
A, B = cohort_digest(["a", "b"]), cohort_digest(["a", "c"])


def bound(releases: list[Releases], delta: float) -> float:
    """Return the textbook's bound for Gaussian noise by concentrated divergences (Bun, Steinke)."""
    rho = sum(each.rounds / (2 * each.noise**2) for each in releases)
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def ledger(**changed) -> Ledger:
    return Ledger(msgspec.structs.replace(TERMS, **changed), accountant=bound)


def spend(number: int, *, cohort: bytes = A, inputs: bytes = b"i" * 32, noise=5.0) -> Spend:
    return Spend(round=number, cohort=cohort, inputs=inputs, noise=noise)


def after(rounds: int) -> Ledger:
    found = ledger()
    for number in range(1, rounds + 1):
        found = found.debit(spend(number))
    return found


# The budget


def affordable() -> int:
    return max(n for n in range(1, 1000) if bound([Releases(
        rounds=n, noise=5.0, rate=1.0, parties=100, sampling=Sampling.OPEN
    )], 1e-5) <= 10.0)  # fmt: skip


def test_exactly_as_many_rounds_as_the_budget_has_room_for():
    found = ledger()
    for number in range(1, affordable() + 1):
        found.admit(number, noise=5.0)
        found = found.debit(spend(number))
    assert found.spent() <= 10.0
    one_more = affordable() + 1
    with pytest.raises(PolicyDenied) as caught:
        found.admit(one_more, noise=5.0)
    assert caught.value.rule == "privacy-budget"
    with pytest.raises(PolicyDenied) as caught:
        found.debit(spend(one_more))
    assert caught.value.rule == "privacy-budget"
    assert len(found.spends) == affordable()


def test_rounds_with_other_noise_are_counted_together():
    found = ledger().debit(spend(1)).debit(spend(2, noise=2.0)).debit(spend(3))
    rho = 2 / 50 + 1 / 8
    assert found.spent() == pytest.approx(rho + 2 * math.sqrt(rho * math.log(1e5)))


def test_what_was_entered_may_start_again_even_at_the_end_of_the_budget():
    found = after(affordable())
    found.admit(affordable(), noise=5.0)


@pytest.mark.parametrize("says", [math.nan, math.inf])
def test_an_accountant_that_knows_no_bound_grants_nothing(says):
    found = Ledger(TERMS, accountant=lambda _releases, _delta: says)
    with pytest.raises(PolicyDenied):
        found.admit(1, noise=1.0)


def test_a_budget_of_nothing_grants_nothing():
    with pytest.raises(PolicyDenied):
        ledger(epsilon=1e-9).admit(1, noise=1000.0)


def test_a_ledger_that_is_full_grants_nothing():
    spends = [spend(number) for number in range(1, MOST_ENTRIES + 1)]
    found = Ledger(TERMS, spends=spends, accountant=lambda _releases, _delta: 0.0)
    with pytest.raises(PolicyDenied):
        found.admit(MOST_ENTRIES + 1, noise=1.0)
    assert len(found.encode()) < 1024**2


def test_without_the_accountant_nothing_is_granted(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    found = Ledger(TERMS)
    assert found.spent() == 0
    with pytest.raises(ConfigError, match="dp-accounting"):
        found.admit(1, noise=5.0)
    with pytest.raises(ConfigError, match="dp-accounting"):
        found.debit(spend(1))


# Rerunning a round


def test_the_same_answers_cost_nothing_more():
    found = after(3)
    assert found.debit(spend(2)) is found
    assert found.debit(spend(3)) is found


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"cohort": B}, "privacy-cohort"),
        ({"cohort": B, "inputs": b"j" * 32}, "privacy-cohort"),
        ({"inputs": b"j" * 32}, "privacy-rerun"),
        ({"noise": 6.0}, "privacy-rerun"),
    ],
)
def test_t16_a_round_rerun_with_other_answers(changed, rule):
    found = after(3)
    for number in (2, 3):
        with pytest.raises(PolicyDenied) as caught:
            found.debit(spend(number, **changed))
        assert caught.value.rule == rule
    assert found.head == after(3).head


def test_a_round_that_was_entered_starts_with_no_other_noise():
    with pytest.raises(PolicyDenied) as caught:
        after(3).admit(2, noise=50.0)
    assert caught.value.rule == "privacy-rerun"


@pytest.mark.parametrize("number", [0, -1, 1, 4])
def test_no_round_comes_after_a_later_one(number):
    found = ledger().debit(spend(2)).debit(spend(5))
    with pytest.raises(PolicyDenied) as caught:
        found.admit(number, noise=5.0)
    assert caught.value.rule == "privacy-order"
    with pytest.raises(PolicyDenied):
        found.debit(spend(number))


def test_the_cohort_s_order_does_not_matter_and_its_names_do():
    assert cohort_digest(["b", "a"]) == A
    assert (
        len({A, B, cohort_digest(["ab"]), cohort_digest([]), cohort_digest(["a", "b", "c"])}) == 5
    )


# The chain


def opened(raw: bytes, head: bytes) -> Ledger:
    found = Ledger.decode(raw, terms=TERMS, accountant=bound)
    found.verify_head(head)
    return found


def test_it_opens_as_it_was():
    found = after(5)
    again = opened(found.encode(), found.head)
    assert (again.spends, again.head, again.terms) == (found.spends, found.head, TERMS)
    assert opened(ledger().encode(), ledger().head).spent() == 0
    assert again.debit(spend(6)).head == after(6).head


@pytest.mark.parametrize("old", range(5))
def test_t16_an_older_ledger(old):
    with pytest.raises(StateRolledBack):
        opened(after(old).encode(), after(5).head)


def test_t16_a_forked_ledger():
    told = after(4).debit(spend(5))
    fork = after(4).debit(spend(5, cohort=B))
    shorter = after(3).debit(spend(4, inputs=b"j" * 32)).debit(spend(5))
    for other in (fork, shorter):
        with pytest.raises(StateRolledBack):
            opened(other.encode(), told.head)


def test_each_field_of_each_entry_is_in_the_head():
    heads = {after(3).head}
    for place in range(3):
        for changed in (
            {"cohort": B},
            {"inputs": b"j" * 32},
            {"noise": 5.5},
            {"round": 2**40 + place},
        ):
            spends = list(after(3).spends)
            spends[place] = msgspec.structs.replace(spends[place], **changed)
            spends.sort(key=lambda each: each.round)
            heads.add(Ledger(TERMS, spends=spends, accountant=bound).head)
    assert len(heads) == 13


def test_each_term_is_in_the_head():
    changes = [
        {"run": b"s" * 32},
        {"epsilon": 11.0},
        {"delta": 1e-6},
        {"parties": 99},
        {"rate": 0.5},
        {"sampling": Sampling.POISSON},
        {"method": "pld"},
    ]
    assert len({ledger().head, *(ledger(**change).head for change in changes)}) == 8


def test_a_budget_that_was_raised_in_the_file():
    richer = Ledger(msgspec.structs.replace(TERMS, epsilon=100.0), accountant=bound)
    with pytest.raises(PolicyDenied) as caught:
        Ledger.decode(richer.encode(), terms=TERMS, accountant=bound)
    assert caught.value.rule == "privacy-terms"


def test_a_ledger_of_another_run():
    other = ledger(run=b"s" * 32).debit(spend(1))
    with pytest.raises(PolicyDenied):
        Ledger.decode(other.encode(), terms=TERMS, accountant=bound)


def test_every_bit_of_it_counts():
    found = after(2)
    raw = found.encode()
    for place in range(len(raw) * 8):
        altered = bytearray(raw)
        altered[place // 8] ^= 1 << place % 8
        with pytest.raises((FormatError, PolicyDenied, StateRolledBack)):
            opened(bytes(altered), found.head)


def test_cut_anywhere_or_longer():
    raw = after(2).encode()
    for length in range(len(raw)):
        with pytest.raises(FormatError):
            opened(raw[:length], after(2).head)
    with pytest.raises(FormatError):
        opened(raw + b"\0", after(2).head)


def test_another_form_of_the_same():
    found = after(2)
    backwards = {"spends": list(found.spends), "terms": TERMS}
    with pytest.raises(FormatError, match="one form"):
        Ledger.decode(msgspec.msgpack.encode(backwards), terms=TERMS, accountant=bound)


@pytest.mark.parametrize("order", [[2, 1], [1, 1], [3, 3]])
def test_entries_out_of_order(order):
    with pytest.raises(FormatError):
        Ledger(TERMS, spends=[spend(number) for number in order], accountant=bound)


# Numbers that are none


@dataclass
class Written:
    terms: Terms
    spends: list[Spend]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 0.0, -1.0])
def test_noise_that_is_none(bad):
    found = after(1)
    with pytest.raises(ConfigError, match="noise"):
        found.admit(2, noise=bad)
    with pytest.raises(ConfigError, match="noise"):
        found.debit(spend(2, noise=bad))
    raw = msgspec.msgpack.encode(Written(TERMS, [spend(1, noise=bad)]))
    with pytest.raises(FormatError):
        Ledger.decode(raw, terms=TERMS, accountant=bound)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
@pytest.mark.parametrize("name", ["epsilon", "delta", "rate"])
def test_terms_that_are_none(name, bad):
    with pytest.raises(ConfigError):
        ledger(**{name: bad})


@pytest.mark.parametrize("changed", [{"delta": 1.0}, {"parties": 0}, {"run": b"r"}, {"rate": 1.1}])
def test_terms_out_of_range(changed):
    with pytest.raises(ConfigError):
        ledger(**changed)


def test_a_digest_of_another_length():
    for changed in ({"cohort": b"c"}, {"inputs": b""}):
        with pytest.raises(FormatError):
            ledger().debit(spend(1, **changed))
