"""Audit lines: any change to any of them shows in the head."""

import pytest
from toy_mesh import NOW

from wardian.broker.audit import EMPTY, AuditEntry, AuditHead, link, verify_chain
from wardian.errors import AuthenticationFailed, FormatError


def chain(count: int) -> tuple[list[bytes], list[AuditHead]]:
    lines, heads = [], [EMPTY]
    for number in range(count):
        entry = AuditEntry(event="release", outcome="granted", model=f"m{number}")
        raw, head = link(entry, head=heads[-1], now=NOW + number)
        lines.append(raw)
        heads.append(head)
    return lines, heads


def test_a_chain_verifies_whole_and_in_part() -> None:
    lines, heads = chain(5)
    read = verify_chain(lines, head=heads[5])
    assert [line.sequence for line in read] == [1, 2, 3, 4, 5]
    assert read[4].entry.model == "m4"
    assert len(verify_chain(lines[2:4], head=heads[4], start=heads[2])) == 2
    assert verify_chain([], head=EMPTY) == ()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lines: [lines[0].replace(b"m0", b"mX"), *lines[1:]],
        lambda lines: [*lines[:-1], lines[-1].replace(b"granted", b"refused")],
        lambda lines: lines[1:],
        lambda lines: lines[:-1],
        lambda lines: [*lines[:2], *lines[3:]],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [*lines, chain(6)[0][5].replace(b"m5", b"mm")],
    ],
    ids=[
        "first changed",
        "last changed",
        "first dropped",
        "last dropped",
        "middle dropped",
        "swapped",
        "repeated",
        "appended",
    ],
)
def test_an_altered_log(spoil) -> None:
    lines, heads = chain(5)
    with pytest.raises(AuthenticationFailed, match=r"audit l"):
        verify_chain(spoil(lines), head=heads[5])


def test_a_line_that_is_none() -> None:
    with pytest.raises(FormatError, match="audit line"):
        verify_chain([b"{}"], head=EMPTY)
