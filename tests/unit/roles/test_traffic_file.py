"""The split of traffic as a front end takes it up: what changes, what is refused, what stays."""

import json
from pathlib import Path

import pytest

from wardian.roles.traffic import TrafficFile


def test_each_change_is_taken_up_once(tmp_path: Path) -> None:
    path, told = tmp_path / "split.json", []
    file = TrafficFile(str(path), divide=told.append)
    file.look()
    assert told == []
    for number, split in enumerate(({"digits": {"1": 9, "22": 1}}, {}), start=1):
        (tmp_path / "new").write_text(json.dumps({"traffic": split}))
        (tmp_path / "new").replace(path)
        file.look()
        file.look()
        assert len(told) == number
    assert told == [{"digits": {1: 9, 22: 1}}, {}]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"traffic": {"digits": {"0": 1}}}',
        b'{"traffic": {"digits": {"1": -1}}}',
        b'{"traffic": {"../x": {"1": 1}}}',
        b'{"traffic": {}, "more": 1}',
        b" " * 2_000_000,
    ],
)
def test_what_is_no_split_is_refused_and_logged_once(tmp_path: Path, raw: bytes, caplog) -> None:
    path, told = tmp_path / "split.json", []
    path.write_bytes(raw)
    file = TrafficFile(str(path), divide=told.append)
    file.look()
    file.look()
    assert told == []
    assert sum("traffic.refused" in each.getMessage() for each in caplog.records) == 1


def test_without_a_file_nothing_changes() -> None:
    TrafficFile(None, divide=pytest.fail).look()
