"""Replies of Redis that are almost right: as trees that are changed, and as bytes that lie.

Bytes changed at random hardly ever are a reply any more: their lengths do not fit. So a reply is
changed as what it says, and framed as it should be or, now and then, as it should not.
"""

import random
from collections.abc import Callable
from typing import TypeAlias

from wardian.serving.queue.redis_wire import Refusal


class Status(bytes):
    """A simple string: `+OK`."""


Tree: TypeAlias = "bytes | int | Refusal | list[Tree] | None"

WORDS = (
    "ERR", "NOGROUP", "OOM", "MISCONF", "LOADING", "READONLY", "WRONGTYPE", "BUSYGROUP", "NOAUTH",
    "EXECABORT", "UNKILLABLE", "MOVED", "CLUSTERDOWN", "WRONGPASS", "NOREPLICAS", "TRYAGAIN",
)  # fmt: skip
LENGTHS = (
    b"0", b"-1", b"-2", b"1", b"63", b"65536", b"2147483648", b"9223372036854775807", b"1e3", b"",
    b"99999999999999999999999", b" 5", b"+5", b"0x10", b"5 ", b"-0", b"00000000000000000003",
)  # fmt: skip
FRAMES = (
    b"_\r\n", b"#t\r\n", b",1.5\r\n", b"%1\r\n+a\r\n:1\r\n", b"~1\r\n:1\r\n", b"(99\r\n", b"-\r\n",
    b">2\r\n+message\r\n+x\r\n", b"=5\r\ntxt:x\r\n", b":\r\n", b":x\r\n", b"\r\n", b"\0", b"+\r",
    b"*-1\r\n", b"$-1\r\n", b"*1\r\n" * 3, b"*1\r\n" * 12, b"+" + b"x" * 600 + b"\r\n", b"*19999\r\n",
    b"*20001\r\n", b":18446744073709551616\r\n", b"-MOVED 1 127.0.0.1:1\r\n", b"$5\r\nab",
)  # fmt: skip
LARGEST = 2**64 - 1
FLOODS = (2, 2, 3, 64, 65, 200)


def tampered(tree: Tree, rng: random.Random) -> list[Tree]:
    """Return what is said instead of `tree`: mostly one reply, sometimes none, or several."""
    said: list[Tree] = [_copied(tree)]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        where = said
        while rng.random() < 0.75 and (inner := [each for each in where if type(each) is list]):
            where = rng.choice(inner)
        _CHANGES[rng.randrange(len(_CHANGES))](where, rng)
    return said


def encode(tree: Tree, rng: random.Random | None = None) -> bytes:
    """Return `tree` in RESP2; with `rng`, one value in fifty is framed wrongly."""
    if rng is not None and rng.random() < 0.02:
        return _lie(tree, rng)
    if isinstance(tree, Refusal):
        return b"-%b\r\n" % tree.text
    if isinstance(tree, list):
        return b"*%d\r\n" % len(tree) + b"".join([encode(each, rng) for each in tree])
    if isinstance(tree, Status):
        return b"+%b\r\n" % tree
    if isinstance(tree, bytes):
        return b"$%d\r\n%b\r\n" % (len(tree), tree)
    return b"*-1\r\n" if tree is None else b":%d\r\n" % tree


def pieces(wire: bytes, rng: random.Random) -> list[bytes]:
    """Return `wire` as a network may deliver it."""
    if len(wire) < 2 or rng.random() < 0.5:
        return [wire]
    cuts = sorted(rng.randrange(1, len(wire)) for _ in range(rng.choice((1, 1, 2, 5))))
    return [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True) if a < b]


def _lie(tree: Tree, rng: random.Random) -> bytes:
    honest = encode(tree)
    choice = rng.randrange(4)
    if choice == 0:
        return rng.choice(FRAMES)
    if choice == 1:
        return honest[: -rng.choice((1, 2, 3))]
    if choice == 2:
        return rng.choice(b"$*:+-!=").to_bytes(1, "big") + honest[1:]
    head, _, rest = honest.partition(b"\r\n")
    return head[:1] + rng.choice(LENGTHS) + b"\r\n" + rest


def _copied(tree: Tree) -> Tree:
    return [_copied(each) for each in tree] if type(tree) is list else tree


def _junk(rng: random.Random) -> Tree:
    return rng.choice(_JUNK)(rng)


def _deep(rng: random.Random) -> Tree:
    deep: Tree = []
    for _ in range(rng.randrange(9)):
        deep = [deep]
    return deep


def _refusal(rng: random.Random) -> Refusal:
    word = rng.choice(WORDS)
    return Refusal(word, word.encode() + b" for a reason")


def _noise(rng: random.Random) -> Refusal:
    return Refusal("ERR", rng.randbytes(rng.randrange(40)).replace(b"\r", b"").replace(b"\n", b""))


def _id(rng: random.Random) -> bytes:
    numbers = (0, 1, rng.randrange(50), 2**32, LARGEST, LARGEST + 1, 10**20 - 1)
    return b"%d-%d" % (rng.choice(numbers), rng.choice(numbers))


_NUMBERS = (0, 1, -1, 2**63 - 1, -(2**63), 7, 500)
_TEXTS = (b"", b"\0", b"OK", b"uri", b"data", b"value", b"x" * 5000)
_JUNK: tuple[Callable[[random.Random], Tree], ...] = (
    lambda _: None,
    lambda rng: rng.choice(_NUMBERS),
    lambda rng: rng.choice(_TEXTS),
    lambda rng: Status(rng.choice((b"OK", b"QUEUED", b"PONG", b""))),
    lambda rng: [_junk(rng) for _ in range(rng.randrange(3))],
    _deep,
    _refusal,
    _noise,
    _id,
)


def _replace(where: list[Tree], rng: random.Random) -> None:
    if where:
        where[rng.randrange(len(where))] = _junk(rng)


def _insert(where: list[Tree], rng: random.Random) -> None:
    where.insert(rng.randrange(len(where) + 1), _junk(rng))


def _drop(where: list[Tree], rng: random.Random) -> None:
    if where:
        del where[rng.randrange(len(where))]


def _cut(where: list[Tree], rng: random.Random) -> None:
    del where[rng.randrange(len(where) + 1) :]


def _swap(where: list[Tree], rng: random.Random) -> None:
    if len(where) > 1:
        a, b = rng.randrange(len(where)), rng.randrange(len(where))
        where[a], where[b] = where[b], where[a]


def _wrap(where: list[Tree], rng: random.Random) -> None:
    if where:
        at = rng.randrange(len(where))
        where[at] = [where[at]]


def _unwrap(where: list[Tree], rng: random.Random) -> None:
    inner = [at for at, each in enumerate(where) if type(each) is list]
    if inner:
        at = rng.choice(inner)
        where[at : at + 1] = where[at]


def _repeat(where: list[Tree], rng: random.Random) -> None:
    if where:
        at = rng.randrange(len(where))
        times = rng.choice(FLOODS) if rng.random() < 0.98 else 7000
        where[at : at + 1] = [_copied(where[at]) for _ in range(times)]


def _rename(where: list[Tree], rng: random.Random) -> None:
    """Give an id, or what else stands there, another one."""
    texts = [at for at, each in enumerate(where) if type(each) is bytes]
    if texts:
        where[rng.choice(texts)] = _id(rng)


_CHANGES: tuple[Callable[[list[Tree], random.Random], None], ...] = (
    _replace, _replace, _insert, _drop, _cut, _swap, _wrap, _unwrap, _repeat, _rename,
)  # fmt: skip
