import time

import numpy as np
import pytest
from simulators.data_plane import (
    LANE,
    ToyModel,
    image,
    onnx_digits,
    receiver,
    sender,
)

from wardian._internal import wire
from wardian.crypto.message_header import RequestHeader
from wardian.crypto.secret import Secret
from wardian.serving.catalog import Description
from wardian.serving.pace import AHEAD_S, FIRST_AFTER
from wardian.serving.queue.seam import Delivered
from wardian.serving.tensors import (
    Failure,
    Group,
    Kind,
    Pack,
    decode_body,
    decode_pack,
    encode_body,
    encode_pack,
)
from wardian.serving.worker import ANSWER_EVERY_S, Worker


class Outbox:
    """A worker's queue that keeps each write."""

    def __init__(self, *taken) -> None:
        self.writes: list[list[Delivered]] = []
        self.refusals: list[int] = []
        self.grants: list[int] = []
        self.taken = list(taken)
        self.open = True

    def take(self):
        return self.taken.pop(0) if self.taken else None

    def answer(self, answers):
        self.writes.append(answers)

    def refused(self, message):
        self.refusals.append(message)

    def grant(self, credit):
        self.grants.append(credit)

    def stop(self):
        self.taken.clear()

    def close(self):
        self.open = False


FRONT = sender()


def message(number: int, *values: float, version: int = 1, deadline_ms: int | None = None):
    """Return a message that asks for `values`, and what waits for its answer."""
    ids = tuple(number * 100 + index for index in range(len(values)))
    parts = {"image": [image(value)["image"] for value in values]}
    pack = Pack(groups=[Group(ids=list(ids), rows=[1] * len(ids), parts=parts)])
    return seal(number, encode_pack(pack), ids, version, deadline_ms)


def seal(number, plaintext, ids=(0,), version=1, deadline_ms=None):
    if deadline_ms is None:
        deadline_ms = int(time.time() * 1000) + 60_000
    header = RequestHeader(version=version, deadline_ms=deadline_ms, request_ids=ids)
    sealed, pending = FRONT.seal_request(plaintext, header=header)
    return Delivered(number, sealed), pending


def worker(queue=None, model=None, codec=None, **options) -> Worker:
    return Worker(
        model=model or ToyModel(),
        lane=LANE,
        max_batch=options.pop("max_batch", 64),
        queue=queue,
        codec=codec or receiver(),
        **options,
    )


def test_what_was_taken_is_one_batch_and_one_write():
    outbox, model = Outbox(), ToyModel()
    (first, first_pending), (second, second_pending) = message(1, 5, 6), message(2, 7)
    worker(outbox, model, batch_across_tenants=True).serve([first, second])
    assert model.batches == [3]
    ((one, two),) = outbox.writes
    assert (one.message, two.message) == (1, 2)
    (group,) = decode_pack(first_pending.open(one.sealed)).groups
    assert group.ids == [100, 101]
    assert group.parts["sum"][0].tolist() == [20, 24]
    (group,) = decode_pack(second_pending.open(two.sealed)).groups
    assert group.parts["sum"][0].tolist() == [28]


def test_an_answer_that_can_no_longer_be_sealed_is_left_out_and_the_next_one_is_not():
    """The epoch of the first ended while it was run; whoever waits for it has stopped to."""
    outbox, codec = Outbox(), receiver(key=Secret(b"k" * 32))
    first, _ = message(1, 5)
    second, pending = message(2, 7)

    class Erasing(ToyModel):
        def infer(self, inputs):
            if not self.batches:
                codec.erase()
            return super().infer(inputs)

    class Codecs:
        """Opens each message with a receiver of its own."""

        def __init__(self) -> None:
            self.receivers = [codec, receiver()]

        def open_request(self, sealed):
            return self.receivers.pop(0).open_request(sealed)

    worker(outbox, Erasing(), codec=Codecs()).serve([first, second])
    assert outbox.refusals == [1]
    ((answer,),) = outbox.writes
    assert answer.message == 2
    (group,) = decode_pack(pending.open(answer.sealed)).groups
    assert group.ids == [200]


def test_messages_are_not_joined_unless_the_owner_allows_it():
    outbox, model = Outbox(), ToyModel()
    worker(outbox, model).serve([message(1, 5, 6)[0], message(2, 7)[0]])
    assert model.batches == [2, 1]


def test_a_message_is_answered_when_its_own_batch_is_done():
    outbox = Outbox()
    messages = [message(n, *range(1, 4))[0] for n in (1, 2)]
    slow = ToyModel(lambda _: time.sleep(2 * ANSWER_EVERY_S))
    worker(outbox, slow, max_batch=4).serve(messages)
    assert [[answer.message for answer in write] for write in outbox.writes] == [[1], [2]]


def test_answers_of_small_batches_share_a_write(monkeypatch):
    monkeypatch.setattr("wardian.serving.worker.ANSWER_EVERY_S", 60.0)
    outbox, model = Outbox(), ToyModel()
    worker(outbox, model).serve([message(n, n)[0] for n in range(1, 6)])
    assert model.batches == [1] * 5  # strangers' all the same
    assert [[answer.message for answer in write] for write in outbox.writes] == [[1, 2, 3, 4, 5]]


def test_a_quick_worker_takes_more_messages_at_a_time():
    outbox = Outbox()
    quick = worker(outbox)
    number = 0
    while not outbox.grants:
        number += 1
        quick.serve([message(number, 5)[0]])
        assert number < 20_000
    assert outbox.grants[0] > 2
    assert number >= FIRST_AFTER


def test_a_slow_worker_does_not():
    outbox, worked = Outbox(), [0.0]

    def run(_):
        worked[0] += AHEAD_S

    slow = worker(outbox, ToyModel(run), work_clock=lambda: worked[0])
    for number in range(1, 2 * FIRST_AFTER):
        slow.serve([message(number, 5)[0]])
    assert outbox.grants == []


def test_describes_its_model_to_who_holds_the_key():
    outbox = Outbox()
    asked, pending = seal(0, encode_body(Kind.DESCRIBE, b""))
    worker(outbox).serve([asked])
    body = decode_body(pending.open(outbox.writes[0][0].sealed), Kind.DESCRIBE)
    description = wire.decode(body, Description, what="description")
    assert (description.model, description.version) == LANE
    assert description.inputs == ToyModel.inputs
    assert description.batchable


def test_forged_repeated_and_foreign_messages_are_passed_over():
    outbox, model = Outbox(), ToyModel()
    serving = worker(outbox, model)
    good, _ = message(1, 5)
    other_key = sender(key=Secret(b"x" * 32))
    header = RequestHeader(version=1, deadline_ms=2**60, request_ids=(1,))
    foreign, _ = other_key.seal_request(encode_pack(Pack(groups=[])), header=header)
    flipped = good.sealed[:-1] + bytes((good.sealed[-1] ^ 1,))
    serving.serve([
        Delivered(2, b""),
        Delivered(3, b"garbage" * 100),
        Delivered(4, flipped),
        Delivered(5, foreign),
        good,
        good,
        Delivered(6, good.sealed),
    ])  # fmt: skip
    assert [[answer.message for answer in write] for write in outbox.writes] == [[1]]
    assert outbox.refusals == [2, 3, 4, 5, 1, 6]
    assert model.batches == [1]


def test_another_version_and_malformed_plaintext_are_passed_over():
    outbox, model = Outbox(), ToyModel()
    bad = [
        message(1, 5, version=2)[0],
        seal(2, b"")[0],
        seal(3, b"\x01\0\0\0\xff\xff\xff\xff")[0],
        seal(4, encode_body(Kind.DESCRIBE, b"") + b"!")[0],
    ]
    worker(outbox, model).serve(bad)
    assert outbox.writes == []
    assert model.batches == []


def test_what_nobody_waits_for_is_not_run():
    outbox, model = Outbox(), ToyModel()
    late, pending = message(1, 5, 6, deadline_ms=999_999)
    timely, _ = message(2, 7, deadline_ms=1_000_001)
    worker(outbox, model, wall_clock=lambda: 1000.0).serve([late, timely])
    assert model.batches == [1]
    answers = {answer.message: answer.sealed for write in outbox.writes for answer in write}
    (group,) = decode_pack(pending.open(answers[1])).groups
    assert (group.ids, group.failure) == ([100, 101], Failure.EXPIRED)


def test_an_engine_that_breaks_its_word_fails_its_batch_only():
    def explode(batch: np.ndarray) -> None:
        if (batch == 13).any():
            raise ZeroDivisionError

    outbox, model = Outbox(), ToyModel(explode)
    (bad, bad_pending), (good, good_pending) = message(1, 13), message(2, 5)
    serving = worker(outbox, model)
    serving.serve([bad])
    serving.serve([good])
    (group,) = decode_pack(bad_pending.open(outbox.writes[0][0].sealed)).groups
    assert group.failure is Failure.FAILED
    (group,) = decode_pack(good_pending.open(outbox.writes[1][0].sealed)).groups
    assert not group.failure


def test_an_answer_larger_than_the_queue_carries_is_a_failure(monkeypatch):
    monkeypatch.setattr("wardian.serving.worker.MAX_ANSWER_BYTES", 100)
    outbox = Outbox()
    asked, pending = message(1, 5, 6)
    worker(outbox).serve([asked])
    (group,) = decode_pack(pending.open(outbox.writes[0][0].sealed)).groups
    assert (group.ids, group.failure) == ([100, 101], Failure.FAILED)


def test_runs_until_the_queue_ends():
    good, _ = message(1, 5)
    outbox = Outbox([good], [message(2, 6)[0]])
    worker(outbox).run()
    assert len(outbox.writes) == 2
    assert not outbox.open


def test_stops_when_told():
    outbox = Outbox([message(1, 5)[0]])
    serving = worker(outbox)
    serving.stop()
    serving.run()
    assert outbox.writes == []


@pytest.mark.parametrize("size", [1, 2, 5, 16, 64])
def test_predictions_in_batches_equal_the_model_run_alone(size):
    from wardian.inference import load_model

    def load():
        return load_model(
            onnx_digits(), media_type="application/onnx", engine="openvino", threads=1
        )

    images = np.random.default_rng(3).normal(size=(size, 64)).astype(np.float32)
    parts = {"image": [images[row : row + 1] for row in range(size)]}
    pack = Pack(groups=[Group(ids=list(range(size)), rows=[1] * size, parts=parts)])
    sealed, pending = seal(1, encode_pack(pack), tuple(range(size)))
    outbox = Outbox()
    worker(outbox, load()).serve([sealed])
    (group,) = decode_pack(pending.open(outbox.writes[0][0].sealed)).groups
    alone = load()
    for row in range(size):
        expected = alone.infer({"image": images[row : row + 1]})
        assert group.parts["label"][0][row] == expected["label"][0]
        assert np.allclose(
            group.parts["probabilities"][0][row], expected["probabilities"], atol=1e-6
        )
