"""What parties are told of a round: names are names, however many there are."""

import msgspec
import pytest

from wardian.errors import FormatError
from wardian.learning.messages import News, RoundLine, encode, from_coordinator

LINE = RoundLine(
    round=3, cohort=("a", "b-1", "0", "x" * 64), dropped={}, bytes=9, seconds=0.5, metrics={"n": 3}
)


def news(*cohort: object) -> bytes:
    fields = {**msgspec.structs.asdict(LINE), "cohort": cohort}
    return msgspec.msgpack.encode({"say": "news", "line": fields})


@pytest.mark.parametrize("cohort", [(), ("a",), LINE.cohort, [f"p{n}" for n in range(1024)]])
def test_names_are_heard(cohort: tuple[str, ...]) -> None:
    said = from_coordinator(news(*cohort))
    assert isinstance(said, News)
    assert said.line == msgspec.structs.replace(LINE, cohort=tuple(cohort))
    assert from_coordinator(encode(said)) == said


@pytest.mark.parametrize(
    "bad",
    ["", "A", "-a", "a b", "a\n", "\na", "a\nb", "\n", "ä", "a" * 65, "a\0", "a\u2028b", 7, None],
)
def test_what_is_no_name_is_refused_wherever_it_stands(bad: object) -> None:
    for cohort in ([bad], [bad, "a"], ["a", bad], ["a", bad, "b"], [bad, bad]):
        with pytest.raises(FormatError, match="learning message"):
            from_coordinator(news(*cohort))


def test_more_names_than_a_cohort_has_are_refused() -> None:
    with pytest.raises(FormatError, match="length <= 1024"):
        from_coordinator(news(*["a"] * 1025))
