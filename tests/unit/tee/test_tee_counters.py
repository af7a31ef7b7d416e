"""Counters go up, one at a time, and survive."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from wardian.errors import SealError
from wardian.tee.launch.file_counters import MAX_COUNT, FileCounters


@pytest.fixture
def counters(tmp_path):
    return FileCounters(tmp_path / "counters")


def test_starts_at_zero_without_writing(counters, tmp_path):
    assert counters.read("store") == 0
    assert not (tmp_path / "counters").exists()


def test_goes_up_and_survives(counters, tmp_path):
    counters.advance("store", 1)
    counters.advance("store", 5)
    assert counters.read("store") == 5
    assert FileCounters(tmp_path / "counters").read("store") == 5
    assert counters.read("other") == 0


@pytest.mark.parametrize("to", [5, 4, 0, -1, MAX_COUNT + 1])
def test_only_goes_up(counters, to):
    counters.advance("store", 5)
    with pytest.raises(SealError, match="stands at 5"):
        counters.advance("store", to)
    assert counters.read("store") == 5


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "x" * 65, ".lock", "a.new"])
def test_names(counters, name):
    for use in (lambda: counters.read(name), lambda: counters.advance(name, 1)):
        with pytest.raises(SealError, match="name"):
            use()


@pytest.mark.parametrize("content", ["", "x", "-1", str(MAX_COUNT + 1), "1 2"])
def test_damaged(counters, tmp_path, content):
    counters.advance("store", 1)
    (tmp_path / "counters" / "store").write_text(content)
    with pytest.raises(SealError, match="store"):
        counters.read("store")


def test_no_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SealError, match="cannot be written"):
        FileCounters(tmp_path / "file" / "c").advance("store", 1)


def test_race_has_one_winner_per_value(counters):
    def try_advance(to):
        try:
            counters.advance("store", to)
        except SealError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        won = sum(pool.map(try_advance, [1] * 20))
    assert won == 1
    assert counters.read("store") == 1


def test_two_processes_that_read_the_same_value_do_not_both_advance(counters, tmp_path):
    """Whichever of the two values is the greater one."""
    for first, second in ((7, 5), (8, 9)):
        other = FileCounters(tmp_path / "counters")
        at = counters.read("store")
        assert other.read("store") == at
        counters.advance("store", first)
        with pytest.raises(SealError):
            other.advance("store", second)
        assert (counters.read("store"), other.read("store")) == (first, first)
    other.advance("store", 10)
    with pytest.raises(SealError, match="another process advanced"):
        counters.advance("store", 11)
    counters.read("store")
    counters.advance("store", 11)
