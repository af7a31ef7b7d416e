"""A worker and requests that clients sealed: what it tells the front end, and what it does not."""

import logging
import time

import numpy as np
import pytest
from simulators.data_plane import LANE, ToyModel, fails_on, image, receiver, sender

from wardian.crypto.message_header import RequestHeader
from wardian.crypto.sealed_request import RequestOpener, RequestPlace, SentRequest, seal_request
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, JobFailed, RequestError
from wardian.inference.spec import TensorSpec
from wardian.serving.epochs import EpochCodec
from wardian.serving.queue.seam import Delivered
from wardian.serving.sealed_content import decode_ended, encode_asked
from wardian.serving.sealed_lengths import AnswerLengths
from wardian.serving.sealed_pack import TENSOR, answer_pack, body_of
from wardian.serving.tensors import Failure, Group, Kind, Pack, decode_pack, encode_pack
from wardian.serving.worker import Worker

PLACE = RequestPlace("test", "digits", b"m" * 32, 1)
FRONT = sender()


def opener(place: RequestPlace = PLACE) -> RequestOpener:
    return RequestOpener(Secret(bytes([place.epoch]) * 32), place=place)


class Opener:
    """The keys of one worker."""

    def __init__(self) -> None:
        self.opener = opener()
        self.open_sealed = self.opener.open


class Outbox:
    """A worker's queue that keeps what is written."""

    def __init__(self) -> None:
        self.answers: dict[int, bytes] = {}
        self.refusals: list[int] = []

    def answer(self, answers: list[Delivered]) -> None:
        self.answers.update(answers)

    def grant(self, credit: int) -> None:
        pass

    def refused(self, message: int) -> None:
        self.refusals.append(message)


def asked(inputs, *, version: int = 0, outputs=None, place: RequestPlace = PLACE) -> SentRequest:
    plaintext = encode_asked(inputs, version=version, outputs=outputs, pad=True)
    return seal_request(opener(place).public, plaintext, place=place)


def queued(number: int, body: bytes, *, deadline_ms: int | None = None, kind: Kind = Kind.SEALED):
    """The message as a front end seals it for the queue, and what opens its answer."""
    if deadline_ms is None:
        deadline_ms = int(time.time() * 1000) + 60_000
    header = RequestHeader(version=1, deadline_ms=deadline_ms, request_ids=(number,))
    plaintext = encode_pack(answer_pack(number, body), kind)
    sealed, pending = FRONT.seal_request(plaintext, header=header)
    return Delivered(number, sealed), pending


class Plane:
    """A worker, and a front end that opens what it answers."""

    def __init__(self, model=None, *, keys=True, **options) -> None:
        self.outbox, self.model = Outbox(), model or ToyModel()
        self.worker = Worker(
            model=self.model,
            lane=LANE,
            max_batch=64,
            queue=self.outbox,  # type: ignore[arg-type]
            codec=receiver(),
            sealed=Opener() if keys else None,
            **options,
        )

    def serve(self, *bodies: bytes, **options) -> list[Group]:
        """What the front end sees of each answer."""
        both = [queued(number, body, **options) for number, body in enumerate(bodies, 1)]
        self.worker.serve([delivered for delivered, _ in both])
        groups = []
        for number, (_, pending) in enumerate(both, 1):
            plaintext = pending.open(self.outbox.answers[number])
            (group,) = decode_pack(plaintext, Kind.SEALED).groups
            assert group.ids == [number]
            groups.append(group)
        return groups

    def answer(self, request: SentRequest) -> bytes:
        (group,) = self.serve(request.body)
        assert group.failure is Failure.NONE
        return request.open_answer(body_of({TENSOR: group.parts[TENSOR][0]}))


def test_an_inference_that_only_client_and_worker_see() -> None:
    plane = Plane()
    found = decode_ended(plane.answer(asked(image(3, rows=2), version=1)))
    assert found.keys() == {"doubles", "sum"}
    np.testing.assert_array_equal(found["doubles"], np.full((2, 4), 6, "f4"))
    found = decode_ended(plane.answer(asked(image(3), outputs=("sum",))))
    assert {name: array.tolist() for name, array in found.items()} == {"sum": [12.0]}


BAD = {
    "a name": asked({"imagE": image(1)["image"]}),
    "a type": asked({"image": image(1)["image"].astype("f8")}),
    "a shape": asked({"image": np.ones((1, 5), "f4")}),
    "no rows": asked({"image": np.ones((0, 4), "f4")}),
    "an output": asked(image(1), outputs=("nothing",)),
    "a version": asked(image(1), version=2),
    "no tensors": asked({}),
}


@pytest.mark.parametrize("why", BAD)
def test_t13_bad_input_is_told_inside_alone(why: str) -> None:
    plane = Plane()
    with pytest.raises(RequestError):
        decode_ended(plane.answer(BAD[why]))
    assert plane.model.batches == []


def test_t13_garbage_inside_a_good_seal_ends_inside_and_the_worker_goes_on() -> None:
    plane = Plane()
    for plaintext in (b"", bytes(5000), b"\xff" * 1024):
        request = seal_request(opener().public, plaintext, place=PLACE)
        with pytest.raises(RequestError, match="sealed request"):
            decode_ended(plane.answer(request))
    assert decode_ended(plane.answer(asked(image(1))))["sum"].tolist() == [4.0]


def test_t13_the_front_end_cannot_tell_outcomes_apart() -> None:
    """An answer, bad input and a failure of the engine: one kind, one group, one length."""
    plane = Plane(ToyModel(fails_on(9)))
    seen = []
    for request in (asked(image(1)), BAD["a name"], asked(image(9))):
        (group,) = plane.serve(request.body)
        array = group.parts[TENSOR][0]
        seen.append((group.failure, group.rows, array.dtype, array.shape, [*group.parts]))
    assert seen[0] == seen[1] == seen[2]
    with pytest.raises(JobFailed):
        decode_ended(plane.answer(asked(image(9))))


@pytest.mark.parametrize("outputs", [None, ("sum",)])
@pytest.mark.parametrize("rows", [1, 40, 200, 5000])
def test_t13_an_answer_without_tensors_is_as_long_as_one_with(rows: int, outputs) -> None:
    """By the request and the model alone: what others ask does not show in anybody's lengths."""
    plane = Plane(ToyModel(fails_on(9)))
    good, failing = (asked(image(value, rows), outputs=outputs) for value in (1, 9))
    bad = asked({"imagE": image(1, rows)["image"]}, outputs=outputs)
    lengths = {len(plane.answer(request)) for request in (bad, failing, good)}
    assert lengths == {len(plane.answer(good))}
    assert len(plane.answer(BAD["a name"])) == 1024


def spec(name: str, dtype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


@pytest.mark.parametrize(
    ("outputs", "batchable", "known"),
    [
        ((spec("y", "FP32", -1, 4),), True, True),
        ((spec("y", "FP32", 1, 4),), False, True),
        ((spec("y", "FP32", -1, -1),), True, False),
        ((spec("y", "FP32", -1, 4),), False, False),
        ((spec("y", "BYTES", -1),), True, False),
    ],
)
def test_lengths_that_the_model_s_shapes_do_not_say(outputs, batchable, known) -> None:
    inputs = (spec("x", "FP32", -1, 4), spec("t", "BYTES", -1))
    lengths = AnswerLengths(inputs=inputs, outputs=outputs, batchable=batchable, most_bytes=100_000)
    assert (lengths.length(3, None) > 0) is known
    assert (lengths.length(3, ("y", "nothing")) > 0) is known
    assert lengths.length(10**9, None) == (0 if batchable or not known else 1024)
    assert lengths.rows_of({}) == 1
    assert lengths.rows_of({"any": np.zeros((5, 100), "u1")}) == 25


def test_t13_lengths_tell_no_more_than_a_bucket() -> None:
    plane = Plane()
    requests = [asked(image(1, rows=rows)) for rows in range(1, 41)]
    assert len({len(request.body) for request in requests}) == 1
    assert len({len(plane.answer(request)) for request in requests}) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"wdsr",
        bytes(2000),
        asked(image(1)).body[:-1],
        asked(image(1), place=PLACE._replace(epoch=2)).body,
        asked(image(1), place=PLACE._replace(model="faces")).body,
        asked(image(1), place=PLACE._replace(manifest_digest=b"n" * 32)).body,
    ],
)
def test_t13_what_does_not_open_is_a_failure_and_no_reason_to_stop(
    body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    plane = Plane()
    with caplog.at_level(logging.WARNING):
        (group,) = plane.serve(body)
    assert group.failure is Failure.UNOPENED
    assert plane.model.batches == []
    assert [record.message for record in caplog.records] == ["sealed.unopened"]
    assert decode_ended(plane.answer(asked(image(1))))["sum"].tolist() == [4.0]


def test_without_request_keys_nothing_opens() -> None:
    (group,) = Plane(keys=False).serve(asked(image(1)).body)
    assert group.failure is Failure.UNOPENED


def test_a_deadline_that_has_passed_is_not_opened_for() -> None:
    plane = Plane()
    (group,) = plane.serve(asked(image(1)).body, deadline_ms=1)
    assert group.failure is Failure.EXPIRED
    assert plane.model.batches == []


def test_t19_sealed_requests_share_no_batch_unless_the_owner_says_so() -> None:
    bodies = [asked(image(value)).body for value in (1, 2, 3)]
    alone, joined = Plane(), Plane(batch_across_tenants=True)
    alone.serve(*bodies)
    joined.serve(*bodies)
    assert (alone.model.batches, joined.model.batches) == ([1, 1, 1], [3])


def test_t13_joined_answers_go_to_their_own_clients() -> None:
    plane = Plane(batch_across_tenants=True)
    requests = [asked(image(value)) for value in (1, 2, 3)]
    groups = plane.serve(*[request.body for request in requests])
    bodies = [body_of({TENSOR: group.parts[TENSOR][0]}) for group in groups]
    for request, body, value in zip(requests, bodies, (1, 2, 3), strict=True):
        assert decode_ended(request.open_answer(body))["sum"].tolist() == [4.0 * value]
        for other in bodies:
            if other is not body:
                with pytest.raises(AuthenticationFailed):
                    request.open_answer(other)


def test_one_that_fails_in_a_shared_batch_fails_alone() -> None:
    plane = Plane(ToyModel(fails_on(2)), batch_across_tenants=True)
    requests = [asked(image(value)) for value in (1, 2, 3)]
    groups = plane.serve(*[request.body for request in requests])
    answers = [
        request.open_answer(body_of({TENSOR: group.parts[TENSOR][0]}))
        for request, group in zip(requests, groups, strict=True)
    ]
    assert decode_ended(answers[0])["sum"].tolist() == [4.0]
    with pytest.raises(JobFailed):
        decode_ended(answers[1])
    assert decode_ended(answers[2])["sum"].tolist() == [12.0]


def test_an_answer_too_large_for_the_queue_is_told_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    plane = Plane()
    monkeypatch.setattr(plane.worker._sealed, "_most_bytes", 2000)
    with pytest.raises(JobFailed, match="larger than 2000 bytes"):
        decode_ended(plane.answer(asked(image(1, rows=200))))


def test_a_malformed_pack_of_a_front_end_is_refused() -> None:
    """Of ours none comes; what is not one sealed request is passed over, not answered."""
    plane = Plane()
    body = np.zeros(100, "u1")
    for parts, ids in (
        ({"other": [body]}, [1]),
        ({TENSOR: [body], "more": [body]}, [1]),
        ({TENSOR: [body.view("<f4")]}, [1]),
        ({TENSOR: [body.reshape(10, 10)]}, [1]),
        ({TENSOR: [body]}, [1, 2]),
    ):
        rows = [50] * len(ids)
        plaintext = encode_pack(Pack(groups=[Group(ids=ids, rows=rows, parts=parts)]), Kind.SEALED)
        header = RequestHeader(version=1, deadline_ms=2**40, request_ids=(1,))
        sealed, _ = FRONT.seal_request(plaintext, header=header)
        plane.worker.serve([Delivered(7, sealed)])
    assert plane.outbox.refusals == [7] * 5
    assert plane.outbox.answers == {}


class Codec:
    """An `EpochCodec` whose time is a test's."""

    def __init__(self) -> None:
        self.now = 0.0
        self.codec = EpochCodec(model="digits", keep_s=40, ask=lambda: None, ticks=lambda: self.now)
        self.openers: dict[int, RequestOpener] = {}

    def take_up(self, epoch: int) -> RequestOpener:
        made = self.openers[epoch] = opener(PLACE._replace(epoch=epoch))
        self.codec.take_up(
            Secret(bytes([epoch]) * 32),
            epoch=epoch,
            certificate_digest=b"w" * 32,
            opener=made,
        )
        return made

    def opens(self, epoch: int) -> bool:
        try:
            self.codec.open_sealed(asked(image(1), place=PLACE._replace(epoch=epoch)).body)
        except AuthenticationFailed:
            return False
        return True


def is_erased(opener: RequestOpener) -> bool:
    return repr(opener._secret) == "Secret(wiped)"


def test_t13_the_key_of_before_opens_for_a_while_and_is_erased() -> None:
    codec = Codec()
    assert not codec.opens(1)
    first = codec.take_up(1)
    assert codec.opens(1)
    codec.take_up(2)
    codec.now = 39
    assert (codec.opens(1), codec.opens(2)) == (True, True)
    codec.now = 40
    codec.codec.erase_over()  # while no message comes, too
    assert is_erased(first)
    assert (codec.opens(1), codec.opens(2)) == (False, True)


def test_a_second_copy_of_a_request_key_is_erased() -> None:
    codec = Codec()
    first = codec.take_up(1)
    second = codec.take_up(1)
    assert (is_erased(first), is_erased(second)) == (False, True)
    assert codec.opens(1)


def test_another_key_of_one_epoch_takes_its_place() -> None:
    """Of a broker that was set back: one of the two holds."""
    codec = Codec()
    first = codec.take_up(1)
    other = RequestOpener(Secret(b"o" * 32), place=PLACE)
    codec.codec.take_up(Secret(b"q" * 32), epoch=1, certificate_digest=b"w" * 32, opener=other)
    assert (is_erased(first), is_erased(other)) == (True, False)
    assert not codec.opens(1)


@pytest.mark.parametrize("end", ["close", "erase"])
def test_a_worker_that_leaves_opens_nothing_more(end: str) -> None:
    codec = Codec()
    first = codec.take_up(1)
    getattr(codec.codec, end)()
    assert is_erased(first)
    assert not codec.opens(1)
    assert is_erased(codec.take_up(2))
    assert not codec.opens(2)
