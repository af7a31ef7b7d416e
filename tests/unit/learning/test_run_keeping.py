"""What a coordinator and a party keep on disk: it comes back, or is refused."""

from pathlib import Path

import numpy as np
import pytest
from simulators.consortium import ToySealing

from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, PolicyDenied, SealError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.coordinator.keeping import RunKeeper, Standing
from wardian.learning.message import MessageType
from wardian.learning.messages import Ask, Over, RoundLine
from wardian.learning.party.memory import Memory, MemoryFile
from wardian.learning.records import MetricRecord, RecordDict

LINE = RoundLine(
    round=1, cohort=("a",), dropped={"b": "late"}, bytes=8, seconds=0.5,
    metrics={"loss": float("inf"), "each": [1, 2]}, evaluation={},
)  # fmt: skip


def standing(number: int) -> Standing:
    model = ArrayRecord({"w": np.full(300_000, number, np.float64), "none": np.zeros(0)})
    state = RecordDict({"moments": model, "counts": MetricRecord({"n": number})})
    return Standing(
        secret=Secret(bytes(range(32))),
        run=bytes(32), round=number, head=bytes([number]) * 32, model=model, strategy=state,
        history=(LINE,) * number,
    )  # fmt: skip


def keeper(place: Path, owner: bytes = b"one") -> RunKeeper:
    return RunKeeper(place, sealing=ToySealing(owner))


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    assert keeper(tmp_path).load() is None
    for number in (0, 1, 1, 2):
        keeper(tmp_path).save(standing(number))
    found = keeper(tmp_path).load()
    assert found is not None
    assert (found.round, found.head, found.history) == (2, bytes([2]) * 32, (LINE, LINE))
    assert found.model == standing(2).model
    assert found.strategy["moments"] == standing(2).model
    assert found.strategy["counts"] == MetricRecord({"n": 2})
    assert len(list(tmp_path.iterdir())) == 2  # nothing of before is left


def test_the_model_lies_there_sealed(tmp_path: Path) -> None:
    keeper(tmp_path).save(standing(7))
    (content,) = tmp_path.glob("content-*")
    assert np.full(8, 7.0).tobytes() not in content.read_bytes()
    assert content.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "of another", "garbage"])
def test_a_run_that_is_not_whole_is_refused(tmp_path: Path, damage: str) -> None:
    keeper(tmp_path).save(standing(1))
    (content,) = tmp_path.glob("content-*")
    raw = content.read_bytes()
    if damage == "cut":
        content.write_bytes(raw[:-1])
    elif damage == "flip":
        content.write_bytes(raw[:100] + bytes([raw[100] ^ 1]) + raw[101:])
    elif damage == "gone":
        content.unlink()
    elif damage == "garbage":
        sealed = ToySealing(b"one").seal(b"no MessagePack", label="wardian federated run v1")
        (tmp_path / "run.sealed").write_bytes(sealed)
    with pytest.raises(SealError):
        keeper(tmp_path, b"other" if damage == "of another" else b"one").load()


def test_the_content_of_an_older_round_does_not_open(tmp_path: Path) -> None:
    keeper(tmp_path).save(standing(1))
    (old,) = tmp_path.glob("content-*")
    kept = old.read_bytes()
    keeper(tmp_path).save(standing(2))
    (new,) = tmp_path.glob("content-*")
    new.write_bytes(kept)
    with pytest.raises(SealError):
        keeper(tmp_path).load()


def ask(number: int, kind: MessageType = MessageType.TRAIN, **changes: object) -> Ask:
    fields = {"run": bytes(32), "round": number, "kind": kind, "number": 4 * number + 1}
    return Ask(
        **{**fields, "head": bytes([number]) * 32, "answer_s": 1.0, "records": (), **changes}
    )


def test_a_party_remembers_what_it_was_told(tmp_path: Path) -> None:
    memory = Memory().seen(ask(1)).seen(ask(2))
    assert (memory.round, memory.head) == (1, bytes([2]) * 32)
    assert memory.seen(ask(2)) is memory
    told = ask(2, MessageType.EVALUATE, head=bytes([3]) * 32)
    memory = memory.seen(told)
    assert memory.round == 2
    MemoryFile(tmp_path).save(memory)
    assert MemoryFile(tmp_path).load() == memory
    over = Over(run=bytes(32), round=3, head=bytes([9]) * 32, failure=None)
    assert memory.seen(over).round == 3


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        (ask(3, run=b"\x01" * 32), "run"),
        (ask(2), "rolled-back"),
        (ask(1), "rolled-back"),
        (ask(3, head=bytes(32)), "forked"),
        (ask(2, MessageType.EVALUATE, head=bytes(32)), "forked"),
        (ask(0, MessageType.QUERY, run=b"\x01" * 32), "run"),
        (Over(run=bytes(32), round=1, head=bytes(32), failure=None), "rolled-back"),
    ],
    ids=[
        "another run",
        "two rounds back",
        "a round back",
        "another head",
        "of the model",
        "no model",
        "over too soon",
    ],
)
def test_another_past_is_refused(message: Ask | Over, rule: str) -> None:
    memory = Memory().seen(ask(1)).seen(ask(2)).seen(ask(3))
    with pytest.raises(PolicyDenied) as err:
        memory.seen(message)
    assert err.value.rule == rule


def test_before_there_is_a_model_there_is_no_past() -> None:
    assert Memory().seen(ask(0, MessageType.QUERY)) == Memory()


def test_a_memory_that_is_damaged_is_not_taken_for_none(tmp_path: Path) -> None:
    MemoryFile(tmp_path).save(Memory().seen(ask(1)))
    path = tmp_path / "party.state"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ConfigError, match="is damaged"):
        MemoryFile(tmp_path).load()
