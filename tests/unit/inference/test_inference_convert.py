"""What is sealed after a conversion answers as the model that it was made from."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from simulators.data_plane import onnx_digits

from wardian.errors import ConfigError, FormatError
from wardian.inference import TensorSpec, load_model
from wardian.inference.convert.source import KINDS, convert
from wardian.inference.model import IR, ONNX

VECTORS = Path(__file__).parents[2] / "vectors" / "tensorflow"
RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 8)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] + X[:, 2] > 0).astype(int) + (X[:, 3] > 1)


def answers(kind: str, path: Path, x: np.ndarray = X, **more) -> dict[str, np.ndarray]:
    """Return what the converted model answers, by the engine that conversion names."""
    made = convert(kind, path, **more)
    model = load_model(made.data, media_type=made.media_type, engine=made.engine, threads=1)
    assert model.batchable, "rows of all of these are independent"
    return model.infer({model.inputs[0].name: x})


def estimators():
    from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "pipeline": make_pipeline(StandardScaler(), LogisticRegression()),
        "forest": RandomForestClassifier(20, random_state=0),
        "boosting": GradientBoostingRegressor(random_state=0),
        "mlp": MLPClassifier((8,), max_iter=400, tol=1e-2, random_state=0),
    }


@pytest.mark.parametrize("name", ["pipeline", "forest", "boosting", "mlp"])
def test_scikit_learn(tmp_path, name):
    import joblib

    estimator = estimators()[name].fit(X, Y)
    path = tmp_path / "model.joblib"
    joblib.dump(estimator, path)
    got = answers("sklearn", path)
    if name == "boosting":
        assert np.allclose(got["variable"][:, 0], estimator.predict(X), atol=1e-5)
        return
    assert np.array_equal(got["label"], estimator.predict(X))
    assert np.allclose(got["probabilities"], estimator.predict_proba(X), atol=1e-5)


def test_names_of_classes_are_answered_as_bytes(tmp_path):
    from sklearn.linear_model import LogisticRegression

    words = np.array(["none", "some", "größt"])[Y]
    estimator = LogisticRegression().fit(X, words)
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(estimator))
    got = answers("sklearn", path)["label"]
    assert [each.decode() for each in got] == estimator.predict(X).tolist()


@pytest.mark.parametrize("form", ["json", "ubj"])
def test_xgboost(tmp_path, form):
    import xgboost

    data = xgboost.DMatrix(X, Y)
    terms = {"objective": "multi:softprob", "num_class": 3, "nthread": 1}
    booster = xgboost.train(terms, data, 10)
    booster.save_model(tmp_path / f"m.{form}")
    got = answers("xgboost", tmp_path / f"m.{form}")["probabilities"]
    assert np.allclose(got, booster.predict(data), atol=1e-5)


def test_lightgbm(tmp_path):
    import lightgbm

    terms = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(terms, lightgbm.Dataset(X, Y), 10)
    booster.save_model(tmp_path / "m.txt")
    got = answers("lightgbm", tmp_path / "m.txt")
    assert np.allclose(got["probabilities"], booster.predict(X), atol=1e-5)
    assert np.array_equal(got["label"], booster.predict(X).argmax(axis=1))


@pytest.mark.parametrize(
    ("kind", "file", "expected"),
    [
        ("tensorflow", "saved_model", "y"),
        ("tensorflow", "frozen.pb", "y"),
        ("tflite", "float.tflite", "m"),
        ("tflite", "int8.tflite", "q"),
    ],
)
def test_tensorflow(kind, file, expected):
    step = 1 / 256 if expected == "q" else 1e-6  # its answer is one of 256
    with np.load(VECTORS / "answers.npz") as made:
        (got,) = answers(kind, VECTORS / file, made["x"]).values()
        assert np.allclose(got, made[expected], atol=step)


def network():
    import torch

    torch.manual_seed(0)
    layers = (torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3), torch.nn.Softmax(1))
    return torch.nn.Sequential(*layers).eval()


ROWS_OF_8 = [TensorSpec(name="", dtype="FP32", shape=(-1, 8))]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch==2.13.0, which is in no lock")
    model = network()
    path = tmp_path / "m.pt"
    torch.jit.save(torch.jit.trace(model, torch.from_numpy(X), check_trace=False), str(path))
    got = answers("torch", path, inputs=ROWS_OF_8)
    assert np.allclose(got["output0"], model(torch.from_numpy(X)).detach().numpy(), atol=1e-6)
    with pytest.raises(ConfigError, match="--shape"):
        convert("torch", path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torch_export(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch==2.13.0, which is in no lock")
    pytest.importorskip("sympy", reason="torch was installed without what it depends on")
    model = network()
    x = torch.from_numpy(X)
    rows = torch.export.Dim("rows", min=1)
    torch.export.save(
        torch.export.export(model, (x,), dynamic_shapes=({0: rows},)), tmp_path / "m.pt2"
    )
    (got,) = answers("torch", tmp_path / "m.pt2", inputs=ROWS_OF_8).values()
    assert np.allclose(got, model(x).detach().numpy(), atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_pickle_of_a_module_is_not_read(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch==2.13.0, which is in no lock")
    path = tmp_path / "m.pt"
    torch.save(Surprise(tmp_path / "it ran"), path)
    with pytest.raises(ConfigError, match=r"torch\.jit\.save"):
        convert("torch", path, inputs=ROWS_OF_8)
    assert not (tmp_path / "it ran").exists()


class Surprise:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_openvino_files(tmp_path):
    import openvino as ov

    path = tmp_path / "digits.xml"
    ov.save_model(ov.Core().read_model(model=onnx_digits()), str(path))
    x = RNG.normal(size=(9, 64)).astype(np.float32)
    source = load_model(onnx_digits(), media_type=ONNX, engine="onnxruntime", threads=1)
    expected = source.infer({"image": x})["probabilities"]
    assert np.allclose(answers("openvino", path, x)["probabilities"], expected, atol=1e-2)
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(ConfigError):
        convert("openvino", path)


def test_onnx_is_only_seen_to_run(tmp_path):
    path = tmp_path / "digits.onnx"
    path.write_bytes(onnx_digits())
    made = convert("onnx", path)
    assert (made.data, made.media_type, made.engine) == (onnx_digits(), ONNX, "openvino")


def test_an_axis_can_be_fixed():
    made = convert(
        "tensorflow",
        VECTORS / "saved_model",
        inputs=[TensorSpec(name="", dtype="FP32", shape=(4, 8))],
    )
    assert made.media_type == IR
    model = load_model(made.data, media_type=IR, engine="openvino", threads=1)
    assert model.inputs[0].shape == (4, 8)
    with pytest.raises(ConfigError, match="2 shapes"):
        convert("tensorflow", VECTORS / "saved_model", inputs=ROWS_OF_8 * 2)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "torch"])
def test_files_of_another_kind_end_in_one_line(tmp_path, kind):
    path = tmp_path / "model.xml"
    path.write_bytes(b"not a model of any kind\n")
    with pytest.raises((ConfigError, FormatError)) as caught:
        convert(kind, path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="no such file"):
        convert(kind, tmp_path / "missing")


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "xgboost", None)
    (tmp_path / "m.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"wardian\[serve,convert\]"):
        convert("xgboost", tmp_path / "m.json")


def test_an_estimator_that_was_not_fitted_is_refused(tmp_path):
    from sklearn.linear_model import LogisticRegression

    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(LogisticRegression()))
    with pytest.raises(ConfigError, match="scikit-learn"):
        convert("sklearn", path)
