"""Copies and backups of a broker's state: no bit of them is the carrier's to choose."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))

from test_broker_replica import ENTRY, Pair
from toy_mesh import MASTER_KEY, NOW, Counter

from wardian.broker.recovery.backup import back_up_files, restore_files, write_backup
from wardian.broker.state.contents import encode_commit
from wardian.broker.state.store import Store
from wardian.crypto.secret import Secret
from wardian.crypto.shamir import combine, split
from wardian.errors import FormatError, SealError, WardianError

QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Followed:
    """A standby's copy, and the commit that it is about to get."""

    def __init__(self, directory: Path) -> None:
        self.pair = Pair(directory)
        self.pair.put(a=b"1", b=b"2")
        self.copy = self.pair.follow()
        self.raw = encode_commit(self.pair.put(a=b"3", b=None, c=b"4"))

    def close(self) -> None:
        self.copy.close()
        self.pair.store.close()


@pytest.fixture(scope="module")
def followed() -> Iterator[Followed]:
    with tempfile.TemporaryDirectory() as directory:
        followed = Followed(Path(directory))
        yield followed
        followed.close()


@QUICK
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_commit_with_one_bit_flipped_is_refused(
    followed: Followed, where: float, bit: int
) -> None:
    raw = bytearray(followed.raw)
    raw[int(where * len(raw))] ^= 1 << bit
    mark = followed.copy.mark
    with pytest.raises((SealError, FormatError)):
        followed.copy.apply(bytes(raw))
    assert followed.copy.mark == mark


def test_the_commit_itself_is_taken(followed: Followed) -> None:
    """Last in this file's order: else the test above would prove nothing."""
    followed.copy.apply(followed.raw)
    assert followed.copy.get("t", "c") == b"4"


class BackedUp:
    """A backup file of a state, and its counter."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.counter = directory, Counter()
        path = directory / "broker.db"
        with contextlib.closing(
            Store(path, master_key=MASTER_KEY, counter=self.counter.seam)
        ) as store:
            store.commit({("t", "a"): b"1"}, audit=[ENTRY], now=NOW)
        self.file = directory / "x.backup"
        write_backup(self.file, back_up_files(path))
        self.raw = self.file.read_bytes()


@pytest.fixture(scope="module")
def backed_up() -> Iterator[BackedUp]:
    with tempfile.TemporaryDirectory() as directory:
        yield BackedUp(Path(directory))


@QUICK
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_backup_with_one_bit_flipped_does_not_open(
    backed_up: BackedUp, where: float, bit: int
) -> None:
    raw = bytearray(backed_up.raw)
    raw[int(where * len(raw))] ^= 1 << bit
    with tempfile.TemporaryDirectory() as name:
        there = Path(name) / "broker.db"
        file = Path(name) / "x.backup"
        file.write_bytes(raw)
        with pytest.raises(WardianError):
            restore_files(file, there)
            Store(there, master_key=MASTER_KEY, counter=backed_up.counter.seam).close()


@QUICK
@given(
    secret=st.binary(min_size=32, max_size=32),
    numbers=st.integers(2, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(n, 20))),
    order=st.randoms(use_true_random=False),
)
def test_enough_shares_in_any_order_give_the_secret(
    secret: bytes, numbers: tuple[int, int], order: "object"
) -> None:
    threshold, shares = numbers
    share_set, dealt = split(Secret(secret), threshold=threshold, shares=shares)
    chosen = order.sample(dealt, threshold)  # type: ignore[attr-defined]
    assert combine(chosen, share_set).reveal() == secret
