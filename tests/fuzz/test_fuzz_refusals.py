"""A little of `make fuzz-refusals` in every run, and whether it finds what it looks for."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from refusals import TOLD, attempt

from wardian.learning.shared import running

CASES = 60
FOUND_WITHIN = 400
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # scikit-learn's: so few iterations


def test_how_a_job_ends_does_not_tell_who_is_in_another_s_table() -> None:
    endings: set[str] = set()
    for at in range(CASES):
        _, ended, wrong = attempt(f"every run/{at}")
        assert not wrong
        endings |= {*ended}
    assert any(each.startswith(TOLD) for each in endings)
    assert len(endings) > 5  # there are refusals, and not of one kind


@pytest.mark.parametrize("defence", ["are_matched", "refuse_unsound"])
def test_without_a_defence_it_does(monkeypatch: pytest.MonkeyPatch, defence: str) -> None:
    """The harness itself can fail."""
    monkeypatch.setattr(running, defence, lambda *_: False)
    assert any(attempt(f"every run/{at}")[2] for at in range(FOUND_WITHIN))
