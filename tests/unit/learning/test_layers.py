"""Dense layers as ONNX, made without a framework: answers are those of the arithmetic."""

from itertools import pairwise

import numpy as np
import pytest

from wardian.errors import FormatError
from wardian.inference.model import ONNX, load_model
from wardian.inference.onnx_file import verify_onnx
from wardian.learning.layers import classifier, regressor

ROWS = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


def layers(*sizes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    source = np.random.default_rng(sizes)
    return [
        (source.standard_normal(pair), source.standard_normal(pair[1])) for pair in pairwise(sizes)
    ]


def computed(of: list[tuple[np.ndarray, np.ndarray]], hidden: str = "relu") -> np.ndarray:
    value = ROWS.astype(np.float64)
    for place, (weight, bias) in enumerate(of):
        value = value @ weight + bias
        if place < len(of) - 1:
            value = ACTIVATIONS[hidden](value)
    return value


def answers(raw: bytes, engine: str, name: str = "input") -> dict[str, np.ndarray]:
    model = load_model(raw, media_type=ONNX, engine=engine, threads=1)
    try:
        return model.infer({name: ROWS})
    finally:
        model.close()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("hidden", list(ACTIVATIONS))
def test_a_network_names_the_class_that_the_arithmetic_names(engine, hidden):
    of = layers(6, 5, 4, 3)
    raw = classifier(of, input_name="image", hidden=hidden, labels=[7, -1, 2**31 - 1])
    assert verify_onnx(raw) == {"image", "probabilities", "label"}
    found = answers(raw, engine, "image")
    odds = np.exp(computed(of, hidden))
    np.testing.assert_allclose(found["probabilities"], odds / odds.sum(1, keepdims=True), rtol=1e-4)
    assert found["label"].tolist() == np.array([7, -1, 2**31 - 1])[odds.argmax(1)].tolist()
    assert found["label"].dtype == np.int64


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_one_output_is_the_odds_of_the_second_of_two_classes(engine):
    of = layers(6, 1)
    found = answers(classifier(of), engine)
    right = 1 / (1 + np.exp(-computed(of)[:, 0]))
    np.testing.assert_allclose(found["probabilities"][:, 1], right, rtol=1e-5)
    assert found["label"].tolist() == (right > 0.5).astype(int).tolist()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_numbers_are_those_of_the_arithmetic(engine):
    of = layers(6, 4, 2)
    found = answers(regressor(of, hidden="tanh"), engine)
    np.testing.assert_allclose(found["value"], computed(of, "tanh"), rtol=1e-4, atol=1e-5)


def test_it_is_onnx_to_the_library_of_onnx():
    onnx = pytest.importorskip("onnx")
    for raw in (classifier(layers(6, 4, 3)), classifier(layers(6, 1)), regressor(layers(6, 2))):
        onnx.checker.check_model(onnx.load_from_string(raw), full_check=True)


GOOD = (np.zeros((3, 2)), np.zeros(2))


@pytest.mark.parametrize(
    ("of", "why"),
    [
        ([], "none"),
        ([(np.zeros(3), np.zeros(3))], "were expected"),
        ([(np.zeros((3, 2)), np.zeros(3))], "were expected"),
        ([(np.zeros((3, 0)), np.zeros(0))], "were expected"),
        ([GOOD, GOOD], "1 does not take"),
        ([(np.full((3, 2), np.nan), np.zeros(2))], "0 holds what is no finite number"),
        ([(np.full((3, 2), 1e300), np.zeros(2))], "0 holds what is no finite number"),
    ],
    ids=["none", "flat", "bias", "empty", "next", "nan", "large"],
)
def test_layers_that_are_none(of, why):
    for build in (classifier, regressor):
        with pytest.raises(FormatError, match=why):
            build(of)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"hidden": "step"}, "hidden is one of relu, tanh, sigmoid"),
        ({"input_name": "label"}, "like an output"),
        ({"input_name": "/weight0"}, "a name is"),
        ({"labels": [1]}, "2 classes need as many whole numbers"),
        ({"labels": [0.5, 1.0]}, "2 classes need as many whole numbers"),
        ({"labels": [0, 2**31]}, "2 classes need as many whole numbers"),
        ({"labels": ["a", "b"]}, "2 classes need as many whole numbers"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_settings_that_are_none(settings, why):
    with pytest.raises(FormatError, match=why):
        classifier([GOOD], **settings)
