"""`InferenceModel`: a model in this process."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from wardian.compat.zoo import InferenceModel
from wardian.crypto.secret import Secret
from wardian.crypto.zoo_formats import ZooFormatWarning, encrypt_zoo_model
from wardian.crypto.zoo_keys import ZooForm, ZooKeys
from wardian.errors import AuthenticationFailed, ConfigError, FormatError, RequestError
from wardian.inference.convert.source import convert
from wardian.inference.ir_file import parse_ir

DIGITS = Path(__file__).parents[3] / "examples" / "digits" / "digits.onnx"
ROWS = np.random.default_rng(5).random((3, 64), dtype="f4")
SALT = b"intel-analytics"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The digits model as OpenVINO's two files."""
    openvino = pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("ir")
    read = openvino.Core().read_model(str(DIGITS))
    openvino.save_model(read, str(folder / "m.xml"), compress_to_fp16=False)
    return folder / "m.xml", folder / "m.bin"


def scores(model: InferenceModel, inputs: object = ROWS) -> np.ndarray:
    """Return the first of the two outputs of the digits model: the second is the digit itself."""
    outputs = model.predict(inputs)
    assert isinstance(outputs, list)
    found, digit = outputs
    np.testing.assert_array_equal(digit, found.argmax(axis=1))
    return found


@pytest.fixture
def expected() -> np.ndarray:
    with InferenceModel() as model:
        model.load_onnx(DIGITS)
        return scores(model)


def test_onnx_and_openvino_agree(pair: tuple[Path, Path], expected: np.ndarray) -> None:
    with InferenceModel() as model:
        model.load_openvino(*pair)
        np.testing.assert_allclose(scores(model), expected, atol=1e-5)
        np.testing.assert_allclose(scores(model, [ROWS.tolist()]), expected, atol=1e-5)


@pytest.mark.parametrize("form", [ZooForm.UNAUTHENTICATED_CBC_128, ZooForm.GCM_256])
def test_an_encrypted_pair(
    pair: tuple[Path, Path], expected: np.ndarray, tmp_path: Path, form: ZooForm
) -> None:
    files = []
    for path in pair:
        keys = ZooKeys(Secret(b"analytics-zoo"), SALT)
        with pytest.warns(ZooFormatWarning):
            sealed = encrypt_zoo_model(path.read_bytes(), keys=keys, form=form)
        (tmp_path / path.name).write_bytes(sealed)
        files.append(tmp_path / path.name)
    with InferenceModel() as model:
        model.load_openvino_encrypted(*files, secret=Secret(b"analytics-zoo"), salt=SALT, form=form)
        np.testing.assert_allclose(scores(model), expected, atol=1e-5)
    with pytest.raises((AuthenticationFailed, FormatError)), InferenceModel() as model:
        model.load_openvino_encrypted(*files, secret=Secret(b"wrong"), salt=SALT, form=form)


def test_as_many_copies_as_may_run_at_a_time(expected: np.ndarray) -> None:
    with InferenceModel(3) as model, ThreadPoolExecutor(12) as threads:
        model.load_onnx(DIGITS)
        for got in threads.map(scores, [model] * 50):
            np.testing.assert_array_equal(got, expected)


def test_another_model_takes_the_place_of_the_first(expected: np.ndarray) -> None:
    with InferenceModel() as model:
        model.load_onnx(DIGITS)
        model.load_onnx(DIGITS)
        np.testing.assert_array_equal(scores(model), expected)


@pytest.mark.parametrize("inputs", [ROWS[:, :5], ROWS[0], [ROWS, ROWS], [], [[[1.0], [2.0, 3.0]]]])
def test_inputs_that_do_not_fit(inputs: object) -> None:
    with InferenceModel() as model:
        model.load_onnx(DIGITS)
        with pytest.raises(RequestError):
            model.predict(inputs)
        assert scores(model).shape == (3, 10)  # and the copy is free again


def test_what_cannot_be_had(tmp_path: Path) -> None:
    for number in (0, 65):
        with pytest.raises(ConfigError):
            InferenceModel(number)
    with InferenceModel() as model:
        with pytest.raises(ConfigError, match="no model is loaded"):
            model.predict(ROWS)
        with pytest.raises(ConfigError, match="cannot be read"):
            model.load_openvino(tmp_path / "none.xml", tmp_path / "none.bin")
        (tmp_path / "bad").write_bytes(b"no model")
        with pytest.raises(FormatError):
            model.load_openvino(tmp_path / "bad", tmp_path / "bad")
        for load in (model.load_onnx, model.load_tf, model.load_torch):
            with pytest.raises((ConfigError, FormatError)):
                load(tmp_path / "none")


def test_the_converted_pair_is_what_is_served(pair: tuple[Path, Path]) -> None:
    xml, weights = parse_ir(convert("openvino", pair[0]).data)
    assert b"<net" in xml
    assert len(weights) == pair[1].stat().st_size
