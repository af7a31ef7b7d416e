import numpy as np
import pytest

from wardian.errors import RequestError
from wardian.inference.model import FREE, TensorSpec
from wardian.serving.rules import InputRules


def rules(*shapes: tuple[int, ...], batchable: bool = True) -> InputRules:
    inputs = tuple(
        TensorSpec(name=f"x{index}", dtype="FP32", shape=shape)
        for index, shape in enumerate(shapes)
    )
    return InputRules(inputs=inputs, outputs=(), batchable=batchable)


def zeros(*shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {f"x{index}": np.zeros(shape, np.float32) for index, shape in enumerate(shapes)}


def test_requests_to_a_model_of_fixed_rows_all_stack():
    fixed = rules((FREE, 3))
    assert fixed.measure(zeros((2, 3))) == (2, (), 24)
    assert fixed.measure(zeros((5, 3))).key == ()


def test_requests_stack_if_their_free_axes_agree():
    free = rules((FREE, FREE), (FREE, 2))
    one, two = free.measure(zeros((1, 3), (1, 2))), free.measure(zeros((4, 3), (4, 2)))
    assert one.key == two.key == ((3,), (2,))
    assert free.measure(zeros((1, 5), (1, 2))).key != one.key


def test_the_order_in_which_inputs_come_does_not_matter():
    free = rules((FREE, FREE), (FREE, 2))
    inputs = zeros((1, 3), (1, 2))
    swapped = dict(reversed(inputs.items()))
    assert free.measure(swapped) == free.measure(inputs)


def test_vectors_and_scalars_are_told_apart():
    vector = rules((FREE,))
    assert vector.measure(zeros((3,))).rows == 3
    with pytest.raises(RequestError):
        vector.measure(zeros(()))


def test_inputs_of_different_rows_do_not_go_together():
    with pytest.raises(RequestError, match="same number of rows"):
        rules((FREE, 3), (FREE, 2)).measure(zeros((1, 3), (2, 2)))


@pytest.mark.parametrize("batchable", [True, False])
@pytest.mark.parametrize("shape", [(2**40, 0), (1, 0), (0, 2**40), (0, 0)])
def test_rows_that_cost_no_bytes_are_refused(shape, batchable):
    with pytest.raises(RequestError, match="axis"):
        rules((FREE, FREE), batchable=batchable).measure(zeros(shape))


def test_an_inner_axis_of_no_length_is_refused_in_any_input():
    with pytest.raises(RequestError, match="length 0"):
        rules((FREE, 2), (1, FREE, FREE), batchable=False).measure(zeros((1, 2), (1, 10**9, 0)))


def test_without_batching_nothing_stacks_and_rows_may_differ():
    whole = rules((FREE, 3), (), (2,), batchable=False)
    assert whole.measure(zeros((4, 3), (), (2,))) == (1, None, 4 * (12 + 1 + 2))
    with pytest.raises(RequestError, match=r"x2.*\[2\].*got FP32 \[3\]"):
        whole.measure(zeros((4, 3), (), (3,)))
