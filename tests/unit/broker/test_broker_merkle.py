"""The Merkle tree: known roots and proofs, every proof of small trees, and what must not pass."""

import hashlib
import itertools

import pytest

from wardian.broker.state.merkle import (
    EMPTY_ROOT,
    Peaks,
    Tree,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)
from wardian.errors import AuthenticationFailed, LocalProtocolError

# The sample of Google's certificate-transparency code, which other logs test against too.
SAMPLE = [
    bytes.fromhex(each)
    for each in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES_2 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"  # of lines 3 and 4
LEAVES_4 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"  # of lines 5 to 8
LEAF_2 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
LEAF_5 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
LEAVES_7 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"  # of lines 7 and 8
LEAVES_5 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"  # of lines 5 and 6


def lines(count: int) -> list[bytes]:
    return [f"line {number}".encode() for number in range(count)]


def root_by_definition(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, as it stands there."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = max(1 << bit for bit in range(20) if 1 << bit < len(leaves))
    left, right = root_by_definition(leaves[:k]), root_by_definition(leaves[k:])
    return hashlib.sha256(b"\x01" + left + right).digest()


@pytest.mark.parametrize("size", range(9))
def test_the_known_roots(size: int) -> None:
    assert Tree(SAMPLE[:size]).root().hex() == ROOTS[size]
    assert Tree(SAMPLE).root(size).hex() == ROOTS[size]


@pytest.mark.parametrize(
    ("leaf", "size", "path"),
    [
        (1, 1, []),
        (1, 8, [LEAF_2, LEAVES_2, LEAVES_4]),
        (6, 8, [LEAF_5, LEAVES_7, ROOTS[4]]),
        (3, 3, [ROOTS[2]]),
    ],
)
def test_the_known_inclusion_proofs(leaf: int, size: int, path: list[str]) -> None:
    found = Tree(SAMPLE).inclusion(leaf - 1, size=size)
    assert [each.hex() for each in found] == path
    verify_inclusion(
        SAMPLE[leaf - 1],
        index=leaf - 1,
        size=size,
        path=found,
        root=bytes.fromhex(ROOTS[size]),
    )


@pytest.mark.parametrize(
    ("first", "second", "proof"),
    [
        (1, 1, []),
        (1, 8, [LEAF_2, LEAVES_2, LEAVES_4]),
        (6, 8, [LEAVES_5, LEAVES_7, ROOTS[4]]),
        (2, 5, [LEAVES_2, LEAF_5]),
    ],
)
def test_the_known_consistency_proofs(first: int, second: int, proof: list[str]) -> None:
    assert [each.hex() for each in Tree(SAMPLE).consistency(first, second)] == proof


def test_roots_are_those_of_the_definition_also_where_levels_are_left_out() -> None:
    tree, peaks = Tree(), Peaks()
    for size, line in enumerate(lines(300), start=1):
        tree.append(line)
        peaks = peaks.appended(line)
        assert tree.size == peaks.size == size
        assert tree.root() == peaks.root == root_by_definition(lines(size))
    assert all(tree.root(size) == root_by_definition(lines(size)) for size in range(0, 300, 7))
    assert Peaks().root == EMPTY_ROOT


def test_every_line_of_every_size_is_proved() -> None:
    all_lines = lines(37)
    tree = Tree(all_lines)
    for size in range(1, 38):
        for index in range(size):
            path = tree.inclusion(index, size=size)
            verify_inclusion(
                all_lines[index], index=index, size=size, path=path, root=tree.root(size)
            )


def test_every_two_sizes_are_consistent() -> None:
    tree = Tree(lines(37))
    for first, second in itertools.combinations_with_replacement(range(38), 2):
        verify_consistency(
            first=first,
            first_root=tree.root(first),
            second=second,
            second_root=tree.root(second),
            proof=tree.consistency(first, second),
        )


# Attacks


def included(**changes: object) -> None:
    tree = Tree(lines(21))
    good: dict[str, object] = {
        "line": b"line 12",
        "index": 12,
        "size": 21,
        "path": tree.inclusion(12, size=21),
        "root": tree.root(),
    }
    verify_inclusion(**(good | changes))  # type: ignore[arg-type]


PATH = Tree(lines(21)).inclusion(12, size=21)


@pytest.mark.parametrize(
    "changes",
    [
        {"line": b"line 13"},
        {"index": 13},
        {"index": 21},
        {"index": -1},
        {"size": 40},
        {"size": 12},
        {"size": 0, "index": 0},
        {"root": Tree(lines(20)).root()},
        {"path": ()},
        {"path": PATH[:-1]},
        {"path": PATH[1:]},
        {"path": (*PATH, bytes(32))},
        {"path": (bytes(32), *PATH)},
        {"path": tuple(reversed(PATH))},
        {"path": PATH * 20},
    ],
    ids=repr,
)
def test_a_proof_of_something_else_shows_nothing(changes: dict[str, object]) -> None:
    included()
    with pytest.raises(AuthenticationFailed, match="does not show"):
        included(**changes)


def test_a_node_does_not_pass_for_a_line() -> None:
    # Without the two prefixes, the concatenation of two hashes would be a line of a smaller tree
    # that has the same root: a second preimage.
    tree = Tree(lines(4))
    inner = leaf_hash(b"line 0") + leaf_hash(b"line 1")
    right = node_hash(leaf_hash(b"line 2"), leaf_hash(b"line 3"))
    for forged in (inner, b"\1" + inner):
        assert Tree([forged, b"x"]).root() != tree.root()
        with pytest.raises(AuthenticationFailed):
            verify_inclusion(forged, index=0, size=2, path=(right,), root=tree.root())
    assert leaf_hash(b"\1" + inner) != node_hash(inner[:32], inner[32:])


def consistent(**changes: object) -> None:
    tree = Tree(lines(21))
    good: dict[str, object] = {
        "first": 12,
        "first_root": tree.root(12),
        "second": 21,
        "second_root": tree.root(),
        "proof": tree.consistency(12, 21),
    }
    verify_consistency(**(good | changes))  # type: ignore[arg-type]


PROOF = Tree(lines(21)).consistency(12, 21)
FORK = Tree([*lines(12), *(b"other" for _ in range(9))])
REWRITTEN = Tree([b"other", *lines(21)[1:]])


@pytest.mark.parametrize(
    "changes",
    [
        {"first": 13},
        {"first": 11},
        {"first": 8},
        {"first": 0},
        {"first": 22},
        {"first": -1},
        {"first": 21},
        {"second": 16},
        {"second": 40},
        {"second": 12},
        {"first_root": bytes(32)},
        {"second_root": FORK.root()},
        {"second_root": REWRITTEN.root(), "proof": REWRITTEN.consistency(12, 21)},
        {"first": 8, "first_root": FORK.root(8), "second_root": bytes(32)},
        {"proof": ()},
        {"proof": PROOF[:-1]},
        {"proof": PROOF[1:]},
        {"proof": (*PROOF, bytes(32))},
        {"proof": (bytes(32), *PROOF)},
        {"proof": PROOF * 20},
        {"first": 0, "first_root": EMPTY_ROOT},  # a proof where none is needed
        {"first": 0, "first_root": bytes(32), "proof": ()},
        {"first": 21, "first_root": Tree(lines(21)).root()},
        {"first": 21, "first_root": bytes(32), "proof": ()},
    ],
    ids=str,
)
def test_another_log_is_not_the_continuation(changes: dict[str, object]) -> None:
    consistent()
    with pytest.raises(AuthenticationFailed, match="forked"):
        consistent(**changes)


def test_a_fork_is_consistent_up_to_where_it_forked_and_no_further() -> None:
    honest = Tree(lines(21))
    fork_proof = FORK.consistency(12, 21)
    consistent(second_root=FORK.root(), proof=fork_proof)
    with pytest.raises(AuthenticationFailed):
        consistent(first=13, first_root=honest.root(13), second_root=FORK.root(), proof=fork_proof)


@pytest.mark.parametrize("size", [-1, 6])
def test_there_is_no_root_beyond_the_tree(size: int) -> None:
    with pytest.raises(LocalProtocolError):
        Tree(lines(5)).root(size)


@pytest.mark.parametrize(("index", "size"), [(5, 5), (-1, 5), (0, 6), (0, 0)])
def test_there_is_no_line_beyond_the_tree(index: int, size: int) -> None:
    with pytest.raises(LocalProtocolError):
        Tree(lines(5)).inclusion(index, size=size)


@pytest.mark.parametrize(("first", "second"), [(3, 6), (4, 3), (-1, 3)])
def test_there_is_no_continuation_beyond_the_tree(first: int, second: int) -> None:
    with pytest.raises(LocalProtocolError):
        Tree(lines(5)).consistency(first, second)
