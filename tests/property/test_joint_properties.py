"""Whatever owners say later of a table, a model that was made of it is never given to more."""

import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))

import toy_jobs
from toy_exports import FILE

from wardian.broker.jobs.policy import DataPolicy
from wardian.broker.joint.record import JointModel, TableTerms, narrowed
from wardian.broker.mesh.lines import ReleaseTerms

CODES = tuple(f"{number:02}" * 32 for number in range(4))
OWNERS = ("hospital-a", "hospital-b")
NOW = toy_jobs.NOW

codes = st.lists(st.sampled_from(CODES), unique=True, max_size=4)
ages = st.none() | st.integers(1, 100)
rules = st.lists(st.tuples(codes, st.integers(1, 200)), max_size=3)


@st.composite
def policies(draw: st.DrawFn) -> DataPolicy:
    owner = draw(st.sampled_from(OWNERS))
    allow = [
        {**toy_jobs.allow(owner, output={"serving": serving}), "name": f"r{at}", "expires": end}
        for at, (serving, end) in enumerate(draw(rules))
    ]
    revoked = draw(st.booleans()) and draw(st.booleans())
    return toy_jobs.policy(owner, allow=allow, revoked=revoked, max_beacon_age_s=draw(ages))


def model() -> JointModel:
    places = (toy_jobs.policy(owner).place for owner in OWNERS)
    return JointModel(
        file=FILE,
        measurements=CODES,
        tables=tuple(
            TableTerms(place=place, terms=ReleaseTerms(not_after=100, max_beacon_age_s=None))
            for place in sorted(places)
        ),
        job="0" * 64,
        export="1" * 64,
    )


def no_looser(later: ReleaseTerms, before: ReleaseTerms) -> bool:
    """Return whether every term of `before` holds where those of `later` do."""
    return all(
        old is None or (new is not None and new <= old)
        for new, old in (
            (later.not_after, before.not_after),
            (later.max_beacon_age_s, before.max_beacon_age_s),
        )
    )


@settings(max_examples=80, deadline=None)
@given(st.lists(policies(), max_size=6))
def test_words_of_owners_only_narrow(words: list[DataPolicy]) -> None:
    held = model()
    for word in words:
        left = narrowed(held, word)
        if left is None:
            listed = {code for rule in word.allow for code in rule.output.serving}
            assert word.revoked or not listed.intersection(held.measurements)
            return
        assert set(left.measurements) <= set(held.measurements)
        assert (left.file, left.job, left.export) == (held.file, held.job, held.export)
        for now, before in zip(left.tables, held.tables, strict=True):
            assert now.place == before.place
            assert no_looser(now.terms, before.terms)
            assert now == before or now.place == word.place
        assert narrowed(left, word) == left  # the same word again takes nothing more
        held = left
