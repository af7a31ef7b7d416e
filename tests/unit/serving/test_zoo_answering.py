"""One record to one value: what is `NaN`, what waits, and what is asked again; no Redis."""

import asyncio
import logging
from base64 import b64decode, b64encode

import numpy as np
import pytest

from wardian._internal.zoo_redis import ZooJob
from wardian.crypto.secret import Secret
from wardian.crypto.zoo_formats import ZooForm, ZooFormatWarning, ZooKeys, encrypt_zoo_bytes
from wardian.errors import (
    ConnectionLost,
    FormatError,
    JobFailed,
    QueueFull,
    RequestError,
    Timeout,
)
from wardian.inference.spec import FREE, TensorSpec
from wardian.serving.descriptions import Description, ModelInfo
from wardian.serving.packing import Outcome
from wardian.serving.zoo.columns import Dense, Image
from wardian.serving.zoo.results import NAN, encode_result
from wardian.serving.zoo.stream import answering as module
from wardian.serving.zoo.stream.answering import MOST_LATE, Answering
from wardian.serving.zoo.stream.counts import Counts
from wardian.serving.zoo.stream.record_encryption import RecordOpener
from wardian.serving.zoo.stream.window import Window

RECORD = {b"data": b'{"instances":[{"x":[1,2]},{"x":[3,4]}]}', b"serde": b"stream"}
GOOD = Outcome(outputs={"y": np.array([[7.0]], np.float32)}, version=1)
ANSWER = encode_result([np.array([7.0], np.float32)])


class ToyDispatcher:
    """Says what a test told it to, in turn; the last one again and again."""

    def __init__(self, *script: object, served: bool = True) -> None:
        self.script, self.served = list(script), served
        self.asked: list[dict] = []
        output = TensorSpec(name="y", dtype="FP32", shape=(FREE, 1))
        self.described = Description(
            model="m", version=1, engine="toy", max_batch=8, batchable=True,
            inputs=(TensorSpec(name="x", dtype="FP32", shape=(FREE, 2)),), outputs=(output,),
        )  # fmt: skip

    def description(self, model: str, version: int | None) -> Description:
        if isinstance(self.described, Exception):
            raise self.described
        return self.described

    def submit(self, *, done, **asked) -> None:
        self.asked.append(asked)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        outcome = step if isinstance(step, Outcome) else Outcome(error=step())
        asyncio.get_running_loop().call_soon(done, outcome)

    def catalog(self) -> dict[str, ModelInfo]:
        ready = (1,) if self.served else ()
        return {"m": ModelInfo(name="m", versions=(1,), inputs=(), outputs=(), engine="",
                               ready_versions=ready)}  # fmt: skip


class Asked:
    def __init__(self, dispatcher: ToyDispatcher, **job: object) -> None:
        self.counts, self.window = Counts(), Window(most=64, pause_s=0)
        self.values: list[bytes] = []
        self.answering = Answering(
            dispatcher, ZooJob(model="m", **job), deadline_s=1, max_bytes=1000,
            window=self.window, counts=self.counts,
        )  # fmt: skip

    async def answer(self, fields=RECORD, *, turns: int = 60) -> list[bytes]:
        self.answering.answer(fields, self.values.append)
        for _ in range(turns):
            await asyncio.sleep(0)
        return self.values


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0)


async def test_an_answer_and_of_several_instances_the_first() -> None:
    dispatcher = ToyDispatcher(GOOD)
    asked = Asked(dispatcher, version=1)
    assert await asked.answer() == [ANSWER]
    (request,) = dispatcher.asked
    assert (request["model"], request["version"], request["outputs"]) == ("m", 1, None)
    assert request["inputs"]["x"].tolist() == [[1, 2]]
    assert asked.counts.answered == 1


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (RequestError("another shape", status=400), "wrong-shape"),
        (RequestError("too large", status=413), "wrong-shape"),
        (lambda: RequestError("bad input"), "wrong-shape"),
        (lambda: JobFailed("the model failed"), "model-failed"),
        (Outcome(outputs={"y": np.array([[b"a"]], object)}), "unwritable-result"),
    ],
    ids=["shape", "too large", "bad input", "failed", "text"],
)
async def test_what_is_wrong_for_good_is_nan(step, why: str) -> None:
    asked = Asked(ToyDispatcher(step))
    assert await asked.answer() == [NAN]
    assert asked.counts.nan == {why: 1}
    assert not asked.answering.waits


@pytest.mark.parametrize(
    "step",
    [
        QueueFull("full"),
        RequestError("nobody serves it", status=503),
        RequestError("no such version yet", status=404),
        lambda: RequestError("another manifest", status=421),
        lambda: ConnectionLost("stopping"),
    ],
    ids=["full", "unserved", "unknown", "moved", "lost"],
)
async def test_what_passes_is_asked_again_until_it_did(step) -> None:
    asked = Asked(ToyDispatcher(*[step] * 5, GOOD))
    assert await asked.answer() == [ANSWER]
    assert asked.counts.repeated == 5
    assert not asked.counts.nan


async def test_a_model_that_nobody_described_yet() -> None:
    dispatcher = ToyDispatcher(GOOD)
    described = dispatcher.described
    dispatcher.described = RequestError("no worker yet", status=503)
    asked = Asked(dispatcher)
    assert await asked.answer() == []
    assert asked.answering.waits
    dispatcher.described = described
    for _ in range(10):
        await asyncio.sleep(0)
    assert asked.values == [ANSWER]


async def test_a_model_of_other_inputs_since_is_asked_with_those() -> None:
    """A new version came while the record waited: it is measured by what would answer now."""
    dispatcher = ToyDispatcher(QueueFull("full"), GOOD)
    asked = Asked(dispatcher)
    asked.answering.answer(RECORD, asked.values.append)
    spec = TensorSpec(name="x", dtype="INT64", shape=(2,))
    dispatcher.described = Description(
        model="m", version=2, engine="toy", max_batch=8, batchable=False, inputs=(spec,),
        outputs=dispatcher.described.outputs,
    )  # fmt: skip
    for _ in range(10):
        await asyncio.sleep(0)
    assert dispatcher.asked[-1]["inputs"]["x"].dtype == np.int64
    assert dispatcher.asked[-1]["inputs"]["x"].shape == (2,)


async def test_late_is_nan_after_some_deadlines_and_makes_the_window_smaller() -> None:
    asked = Asked(ToyDispatcher(lambda: Timeout("late")))
    assert await asked.answer() == [NAN]
    assert asked.counts.nan == {"late": 1}
    assert asked.counts.repeated == MOST_LATE - 1
    assert asked.window.size == 64 >> MOST_LATE


async def test_late_while_nobody_serves_the_model_is_not_the_record_s_fault() -> None:
    dispatcher = ToyDispatcher(lambda: Timeout("late"), served=False)
    asked = Asked(dispatcher)
    assert await asked.answer() == []
    assert asked.counts.repeated > 2 * MOST_LATE
    assert asked.window.size == 64
    dispatcher.script = [GOOD]
    for _ in range(10):
        await asyncio.sleep(0)
    assert asked.values == [ANSWER]


async def test_those_that_wait_keep_their_turns_and_room_is_told() -> None:
    dispatcher = ToyDispatcher(QueueFull("full"))
    asked = Asked(dispatcher)
    told = []
    asked.answering.room = lambda: told.append(asked.answering.waits)
    for number in range(3):
        fields = RECORD | {b"data": b'{"instances":[{"x":[%d,0]}]}' % number}
        asked.answering.answer(fields, asked.values.append)
    asked.answering.close()
    assert not asked.answering.waits
    asked = Asked(ToyDispatcher(*[QueueFull("full")] * 6, GOOD))
    asked.answering.room = lambda: told.append(asked.answering.waits)
    for number in range(3):
        fields = RECORD | {b"data": b'{"instances":[{"x":[%d,0]}]}' % number}
        asked.answering.answer(fields, asked.values.append)
    for _ in range(30):
        await asyncio.sleep(0)
    assert asked.values == [ANSWER] * 3
    assert told == [False]


async def test_nothing_of_a_record_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    asked = Asked(ToyDispatcher(lambda: RequestError("said of CANARY")))
    with caplog.at_level(logging.DEBUG):
        await asked.answer({b"data": b"CANARY" * 9, b"serde": b"stream"})
        await asked.answer({b"data": b'{"instances":[{"CANARY":["CANARY"]}]}', b"serde": b"stream"})
        await asked.answer()
    assert asked.values == [NAN] * 3
    assert len(caplog.records) == 2  # the first of each reason
    assert "CANARY" not in repr([record.__dict__ for record in caplog.records])


# Encrypted records


def opened(raw: bytes) -> bytes:
    (column,) = RecordOpener().open({"i": Image(raw)}).values()
    return column.raw


@pytest.mark.parametrize("form", [ZooForm.GCM_128, ZooForm.GCM_256])
@pytest.mark.parametrize("encode", [bytes, b64encode])
def test_an_image_that_was_encrypted_as_they_do(form: ZooForm, encode) -> None:
    keys = ZooKeys(Secret(b"secret"), b"salt")
    with pytest.warns(ZooFormatWarning):
        sealed = encrypt_zoo_bytes(encode(b"\xff\xd8 a picture"), keys=keys, form=form)
    assert opened(sealed) == b"\xff\xd8 a picture"


def test_their_own_vector_and_what_is_none() -> None:
    sealed = b64decode("z1U7lfOM/waKSJszjWF9KDdCtgRQeh00x718yLrz1d4=")
    assert opened(sealed) == bytes.fromhex("000102ff")
    dense = Dense(np.zeros(1, np.float32))
    assert RecordOpener().open({"t": dense}) == {"t": dense}  # tensors are never encrypted
    for at in range(len(sealed)):
        with pytest.raises(FormatError):
            opened(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :])
    for wrong in (b"", b"\xff\xd8", sealed[:-1]):
        with pytest.raises(FormatError):
            opened(wrong)


async def test_a_record_in_the_clear_where_encrypted_ones_were_agreed() -> None:
    fields = {b"data": b'{"instances":[{"x":{"b64":"/9j/"}}]}', b"serde": b"stream"}
    asked = Asked(ToyDispatcher(GOOD), record_encrypted=True)
    assert await asked.answer(fields) == [NAN]
    assert asked.counts.nan == {"undecodable": 1}
    assert await asked.answer() == [NAN, ANSWER]  # tensors as ever
