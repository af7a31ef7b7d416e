"""The trial that a built role makes of itself: every trainer, on tables that are gone afterwards."""

import sys
from pathlib import Path

import pytest

from wardian.broker.jobs.trainers import TRAINERS
from wardian.errors import WardianError
from wardian.learning.shared.ready import LIBRARIES
from wardian.learning.shared.trial import try_job


def test_every_trainer_is_tried_and_nothing_stays(tmp_path: Path) -> None:
    (tmp_path / "held.sealed").write_bytes(b"of a job")
    said = try_job(tmp_path)
    assert [each.removeprefix("not ").partition(":")[0] for each in said.split(", ")] == sorted(
        TRAINERS
    )
    assert "not logistic-regression" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["held.sealed"]


def test_a_library_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    said = try_job(tmp_path)
    for name in sorted(name for name, (first, *_) in LIBRARIES.items() if "sklearn" in first):
        assert f"not {name}: sklearn" in said
    assert list(tmp_path.iterdir()) == []


def test_without_pyarrow_both_tables_are_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardian.learning.shared.trial.find_spec", lambda _: None)
    assert "logistic-regression" in try_job(tmp_path).split(", ")


def test_no_directory_for_its_tables(tmp_path: Path) -> None:
    with pytest.raises((OSError, WardianError)):
        try_job(tmp_path / "gone")
    assert list(tmp_path.iterdir()) == []
