"""A little of `make fuzz` in every run: each parser, a few hundred almost-right inputs.

The seeds differ from run to run only where keys are made anew, so a failure names its input.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from run import fuzz
from targets import Target, targets

INPUTS = 300


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_a_parser_accepts_or_raises_an_error_of_ours(target: Target) -> None:
    count = INPUTS // target.cost
    accepted, failures = fuzz(target, seed=1, count=count)
    assert not failures, failures[0]
    assert accepted < count  # what accepts everything is no parser


def test_a_parser_that_breaks_is_found() -> None:
    """The harness itself can fail."""

    def broken(raw: bytes) -> int:
        return raw[3]

    _, failures = fuzz(
        Target(name="broken", parse=broken, seeds=(b"abc", b"abcd")), seed=1, count=99
    )
    assert "IndexError" in failures[0]
