"""Records as they travel, and answers that lie ready: in memory, and as sealed chunks on disk."""

from pathlib import Path

import numpy as np
import pytest

from wardian.errors import AuthenticationFailed, FormatError, SealError
from wardian.learning.arrays import DTYPES, ArrayRecord
from wardian.learning.content import chunks, content_bytes, frames, rebuild, specs_of
from wardian.learning.messages import CHUNK_BYTES, decode_specs, encode_specs
from wardian.learning.records import ConfigRecord, MetricRecord, RecordDict
from wardian.learning.replies import HeldReplies
from wardian.learning.staging import StagedReplies, Staging


def large(seed: int, *, kind: str = "float32") -> RecordDict:
    """Return records whose arrays end and begin in the middle of chunks."""
    source = np.random.default_rng(seed)
    arrays = {
        "bytes": source.integers(0, 255, 7, np.uint8),
        "w": source.standard_normal((611, 997)).astype(kind),
        "none": np.zeros((0, 3), np.float64),
        "b": source.standard_normal(333_333),
    }
    control = {name: array + np.ones((), array.dtype) for name, array in arrays.items()}
    return RecordDict(
        {
            "arrays": ArrayRecord(arrays),
            "metrics": MetricRecord({"num-examples": seed}),
            "control": ArrayRecord(control),
        }
    )


def staged(content: RecordDict, spill: Path | None) -> Staging:
    found = Staging(specs_of(content), spill=spill)
    for pieces in chunks(content):
        found.space()[:] = b"".join(pieces)
        found.filled()
    return found.finish()


def test_every_kind_comes_back() -> None:
    arrays = {name: np.arange(6).reshape(2, 3).astype(name) for name in DTYPES}
    content = RecordDict(
        {
            "arrays": ArrayRecord({**arrays, "scalar": np.float64(2.5), "none": np.zeros((2, 0))}),
            "metrics": MetricRecord({"nan": float("nan"), "whole": 2**62, "list": [1.0, 2.0]}),
            "config": ConfigRecord({"t": "x", "b": b"\x00y", "f": False, "l": ["a"], "i": -1}),
        }
    )
    specs = decode_specs(encode_specs(specs_of(content)))
    raw = b"".join(b"".join(pieces) for pieces in chunks(content))
    assert len(raw) == content_bytes(specs)
    found = rebuild(specs, raw)
    assert found["arrays"] == content["arrays"]
    assert dict(found["config"]) == dict(content["config"])
    assert type(found["config"]["f"]) is bool
    assert np.isnan(found["metrics"]["nan"])
    assert found["metrics"]["whole"] == 2**62


@pytest.mark.parametrize("change", [-1, 1])
def test_content_of_another_length_is_refused(change: int) -> None:
    specs = specs_of(RecordDict({"a": ArrayRecord({"x": np.zeros(3)})}))
    with pytest.raises(FormatError, match="not as long"):
        rebuild(specs, bytes(24 + change))


def test_a_truth_value_is_one_or_none() -> None:
    specs = specs_of(RecordDict({"a": ArrayRecord({"x": np.zeros(2, bool)})}))
    assert rebuild(specs, b"\x00\x01")["a"]["x"].tolist() == [False, True]
    with pytest.raises(FormatError, match="0 or 1"):
        rebuild(specs, b"\x00\x02")


def test_a_message_and_little_content_are_one_write() -> None:
    content = RecordDict({"a": ArrayRecord({"x": np.zeros(3)})})
    assert list(frames(b"head", content)) == [[b"head", bytes(24)]]
    assert list(frames(b"head")) == [[b"head"]]
    groups = list(frames(b"head", large(1)))
    assert [len(each) for group in groups for each in group][1:-1] == [CHUNK_BYTES] * (
        content_bytes(specs_of(large(1))) // CHUNK_BYTES
    )


@pytest.mark.parametrize("on_disk", [False, True])
def test_staged_replies_are_those_in_memory(tmp_path: Path, *, on_disk: bool) -> None:
    names = ("b", "a", "c")
    contents = {name: large(seed) for seed, name in enumerate(names, 1)}
    answers = {
        name: staged(content, tmp_path / name if on_disk else None)
        for name, content in contents.items()
    }
    shown = StagedReplies(answers)
    held = HeldReplies(
        {n: (each.array_records, each.metric_records["metrics"]) for n, each in contents.items()}
    )
    assert shown.parties == held.parties == ("a", "b", "c")
    assert shown.records() == held.records() == ("arrays", "control")
    assert shown.metrics("a") == MetricRecord({"num-examples": 2})
    for record in shown.records():
        for one, other in zip(shown.blocks(record), held.blocks(record), strict=True):
            assert (one.array, one.start) == (other.array, other.start)
            assert np.array_equal(one.values, other.values)
        assert {n: each.shape for n, each in shown.shapes(record).items()} == {
            n: each.shape for n, each in held.shapes(record).items()
        }
    assert answers["a"].content()["control"] == contents["a"]["control"]
    for each in answers.values():
        each.drop()
    assert list(tmp_path.iterdir()) == []


def test_records_in_another_order_are_told_apart(tmp_path: Path) -> None:
    """Who sends "control" first must not have it taken for the model."""
    one = large(1)
    turned = RecordDict({name: large(2)[name] for name in ("control", "metrics", "arrays")})
    shown = StagedReplies({"a": staged(one, None), "b": staged(turned, tmp_path / "b")})
    for block in shown.blocks("arrays"):
        for place, content in enumerate((one, large(2))):
            flat = content["arrays"][block.array].reshape(-1)
            stop = block.start + block.values.shape[1]
            assert np.array_equal(block.values[place], flat[block.start : stop])


def test_what_lies_on_disk_is_sealed_and_cannot_be_changed(tmp_path: Path) -> None:
    answer = staged(large(1), tmp_path / "a")
    raw = (tmp_path / "a").read_bytes()
    assert large(1)["arrays"]["b"].tobytes()[:64] not in raw
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    with (tmp_path / "a").open("r+b") as file:
        file.seek(len(raw) // 2)
        file.write(bytes([raw[len(raw) // 2] ^ 1]))
    with pytest.raises(AuthenticationFailed):
        answer.content()


@pytest.mark.parametrize("on_disk", [False, True])
def test_an_answer_has_room_for_what_its_records_say_and_no_more(
    tmp_path: Path, *, on_disk: bool
) -> None:
    specs = specs_of(RecordDict({"a": ArrayRecord({"x": np.zeros(CHUNK_BYTES // 8 + 1)})}))
    answer = Staging(specs, spill=tmp_path / "a" if on_disk else None)
    for size in (CHUNK_BYTES, 8):
        assert len(answer.space()) == size
        with pytest.raises(FormatError, match="shorter"):
            answer.finish()
        answer.filled()
    assert len(answer.space()) == 0
    answer.finish().drop()


@pytest.mark.parametrize("at", [0, 611 * 997 - 1])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_number_that_is_none_is_found(tmp_path: Path, at: int, bad: float) -> None:
    content = large(1)
    content["arrays"]["w"].reshape(-1)[at] = bad
    with pytest.raises(FormatError, match="w holds what is no finite number"):
        staged(content, tmp_path / "a")


def test_a_disk_that_cannot_be_written_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(SealError, match="cannot keep an answer"):
        Staging((), spill=tmp_path / "nowhere" / "a")
