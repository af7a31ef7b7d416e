import numpy as np
import pytest
from simulators.data_plane import ToyModel, fails_on, image

from wardian.inference.model import FREE, TensorSpec
from wardian.serving.batcher import Batcher, Work
from wardian.serving.tensors import Failure, Group, Pack, decode_pack, encode_pack


def work(source: int, *values: float, rows: int = 1, tenant: str = "") -> Work:
    stacked = np.concatenate([image(value, rows)["image"] for value in values])
    group = Group(
        ids=[source * 100 + index for index in range(len(values))],
        rows=[rows] * len(values),
        parts={"image": [stacked]},
    )
    return Work(source, tenant, group)


def run(batcher: Batcher, works: list[Work]):
    batches, ran = batcher.plan(works)
    for batch in batches:
        ran += batcher.run(batch)
    return ran


def answers(ran) -> dict[int, object]:
    """Return, by request, the value that its input had, or why it failed."""
    found: dict[int, object] = {}
    for _, group in ran:
        start = 0
        for number, rows in zip(group.ids, group.rows, strict=True):
            stop = start + rows
            if group.failure:
                found[number] = group.failure
            else:
                mine = group.parts["doubles"][0][start:stop]
                assert len(set(mine.ravel())) == 1
                assert len(mine) == len(group.parts["sum"][0][start:stop]) == rows
                found[number] = float(mine[0, 0]) / 2
            start = stop
    return found


def joining(model, max_rows: int) -> Batcher:
    """Return a batcher whose model's owner lets strangers share a batch."""
    return Batcher(model, max_rows=max_rows, batch_across_tenants=True)


def test_what_is_there_becomes_one_batch():
    model = ToyModel()
    ran = run(joining(model, 64), [work(0, 1, 2), work(1, 3), work(2, 4, 5, 6)])
    assert model.batches == [6]
    assert answers(ran) == {0: 1, 1: 2, 100: 3, 200: 4, 201: 5, 202: 6}
    assert [one.source for one in ran] == [0, 1, 2]


def test_batches_stay_within_the_model_s_largest():
    model = ToyModel()
    ran = run(Batcher(model, max_rows=4), [work(n, n + 1, rows=3) for n in range(3)])
    assert model.batches == [3, 3, 3]
    assert answers(ran) == {0: 1, 100: 2, 200: 3}


@pytest.mark.parametrize("rows", [1, 4, 5, 8, 9, 100])
def test_a_request_of_many_rows_is_run_in_slices(rows):
    model = ToyModel()
    ran = run(Batcher(model, max_rows=4), [work(0, 7, rows=rows)])
    assert answers(ran) == {0: 7}
    assert sum(model.batches) == rows
    assert max(model.batches) <= 4


def test_tenants_do_not_share_a_batch():
    model = ToyModel()
    works = [work(0, 1, tenant="a"), work(1, 2, tenant="b"), work(2, 3, tenant="a")]
    assert answers(run(joining(model, 64), works)) == {0: 1, 100: 2, 200: 3}
    assert model.batches == [2, 1]


def test_messages_share_no_batch_unless_the_owner_allows_it():
    model = ToyModel()
    works = [work(0, 1, 2, tenant="a"), work(1, 3, tenant="a"), work(2, 4)]
    expected = {0: 1, 1: 2, 100: 3, 200: 4}
    assert answers(run(Batcher(model, max_rows=64), works)) == expected
    assert model.batches == [2, 1, 1]


def test_a_failing_request_does_not_take_its_neighbours_with_it():
    model = ToyModel(fails_on(13))
    ran = run(Batcher(model, max_rows=64), [work(0, 1, 13, 2), work(1, 3), work(2, 13)])
    assert answers(ran) == {0: 1, 1: Failure.FAILED, 2: 2, 100: 3, 200: Failure.FAILED}


def test_an_engine_that_answers_too_few_rows_is_not_believed():
    class Short(ToyModel):
        def infer(self, inputs):
            return {name: array[:-1] for name, array in super().infer(inputs).items()}

    assert set(answers(run(Batcher(Short(), max_rows=8), [work(0, 1, 2)])).values()) == {
        Failure.FAILED
    }


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"picture": [np.zeros((1, 4), np.float32)]},
        {"image": [np.zeros((1, 5), np.float32)]},
        {"image": [np.zeros((1, 4), np.float64)]},
        {"image": [np.zeros((0, 4), np.float32)]},
        {"image": [np.zeros((), np.float32)]},
    ],
)
def test_inputs_that_are_not_the_model_s_never_reach_it(parts):
    model = ToyModel()
    bad = Work(0, "", Group(ids=[0], rows=[1], parts=parts))
    assert answers(run(Batcher(model, max_rows=8), [bad, work(1, 3)])) == {
        0: Failure.BAD_INPUT,
        100: 3,
    }
    assert model.batches == [1]


def test_a_request_of_no_rows_in_a_stack_is_refused():
    group = Group(ids=[1, 2], rows=[0, 1], parts=work(0, 5).group.parts)
    _, ran = Batcher(ToyModel(), max_rows=8).plan([Work(0, "", group)])
    assert ran[0].group.failure is Failure.BAD_INPUT


class Whole(ToyModel):
    """Its first axis is not a batch."""

    inputs = (TensorSpec(name="image", dtype="FP32", shape=(FREE, FREE)),)
    batchable = False


@pytest.mark.parametrize(("model", "largest"), [(Whole(), 64), (ToyModel(), 1)])
def test_without_batching_each_request_runs_whole_and_alone(model, largest):
    ran = run(Batcher(model, max_rows=largest), [work(0, 1, rows=3), work(1, 2)])
    assert model.batches == [3, 1]
    assert [one.group.parts["sum"][0].tolist() for one in ran] == [[4, 4, 4], [8]]


def test_without_batching_a_stack_is_refused():
    _, ran = Batcher(Whole(), max_rows=64).plan([work(0, 1, 2)])
    assert ran[0].group.failure is Failure.BAD_INPUT


class Ragged(ToyModel):
    """Rows of any length."""

    inputs = (TensorSpec(name="image", dtype="FP32", shape=(FREE, FREE)),)


@pytest.mark.parametrize("model", [Ragged(), Whole()])
def test_rows_that_hold_nothing_never_reach_the_engine(model):
    """Red team: 105 bytes on the wire became 2**34 inferences."""
    empty = Group(ids=[1], rows=[1], parts={"image": [np.zeros((2**40, 0), np.float32)]})
    received = decode_pack(encode_pack(Pack(groups=[empty]))).groups[0]
    ran = run(Batcher(model, max_rows=64), [Work(0, "", received)])
    assert [one.group.failure for one in ran] == [Failure.BAD_INPUT]
    assert model.batches == []


def test_rows_of_different_lengths_do_not_share_a_batch():
    model = Ragged()
    longer = Group(ids=[9], rows=[1], parts={"image": [np.ones((1, 6), np.float32)]})
    ran = run(joining(model, 64), [work(0, 1), Work(1, "", longer), work(2, 2)])
    assert model.batches == [2, 1]
    assert answers(ran) == {0: 1, 9: 1, 200: 2}
