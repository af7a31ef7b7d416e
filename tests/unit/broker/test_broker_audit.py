"""Audit lines: any change to any of them shows in the head."""

import pytest
from toy_mesh import NOW

from wardian.broker.state.audit import (
    EMPTY,
    START,
    AuditEntry,
    AuditHead,
    Chain,
    follow_chain,
    link,
    verify_chain,
    verify_tail,
)
from wardian.broker.state.merkle import Tree
from wardian.errors import AuthenticationFailed, FormatError


def chain(count: int) -> tuple[list[bytes], list[AuditHead], list[Chain]]:
    lines, chains = [], [START]
    for number in range(count):
        entry = AuditEntry(event="release", outcome="granted", model=f"m{number}")
        raw, after = link(entry, chain=chains[-1], now=NOW + number)
        lines.append(raw)
        chains.append(after)
    return lines, [each.head for each in chains], chains


def test_a_chain_verifies_whole_and_in_part() -> None:
    lines, heads, chains = chain(5)
    read = verify_chain(lines, head=heads[5])
    assert [line.sequence for line in read] == [1, 2, 3, 4, 5]
    assert read[4].entry.model == "m4"
    assert len(verify_chain(lines[2:4], head=heads[4], start=chains[2])) == 2
    assert follow_chain(lines[2:], head=heads[5], start=chains[2]) == chains[5]
    assert verify_chain([], head=EMPTY) == ()
    assert heads[0] == EMPTY


def test_a_head_is_the_root_of_the_tree_over_the_raw_lines() -> None:
    lines, heads, _ = chain(5)
    assert [head.root for head in heads] == [Tree(lines[:size]).root().hex() for size in range(6)]


def test_the_newest_lines_end_where_the_log_does() -> None:
    lines, heads, _ = chain(5)
    assert [line.sequence for line in verify_tail(lines[2:], head=heads[5])] == [3, 4, 5]
    assert verify_tail([], head=EMPTY) == ()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lines: [],
        lambda lines: lines[:-1],
        lambda lines: [lines[2], lines[4]],
        lambda lines: [lines[3], lines[2], lines[4]],
        lambda lines: [lines[2].replace(b"m2", b"mX"), *lines[3:]],
        lambda lines: [*lines[2:4], lines[4].replace(b"m4", b"mX")],
        lambda lines: [*lines[2:], chain(6)[0][5]],
    ],
    ids=["none", "last dropped", "gap", "swapped", "changed", "last changed", "appended"],
)
def test_altered_newest_lines(spoil) -> None:
    lines, heads, _ = chain(5)
    with pytest.raises(AuthenticationFailed, match="audit line"):
        verify_tail(spoil(lines), head=heads[5])


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
    lines, heads, _ = chain(5)
    with pytest.raises(AuthenticationFailed, match=r"audit l"):
        verify_chain(spoil(lines), head=heads[5])


def test_a_head_with_the_root_of_another_log() -> None:
    lines, heads, _ = chain(5)
    forged = AuditHead(count=5, digest=heads[5].digest, root=heads[4].root)
    with pytest.raises(AuthenticationFailed, match="another state"):
        verify_chain(lines, head=forged)


def test_a_line_that_is_none() -> None:
    for reader in (verify_chain, verify_tail):
        with pytest.raises(FormatError, match="audit line"):
            reader([b"{}"], head=EMPTY)
