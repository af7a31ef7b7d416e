"""Which model a directory of Cluster Serving holds, and what is said of one that cannot be had."""

import json
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from zoo_files import CANARY
from zoo_models import TENSORFLOW, make_openvino
from zoo_runs import load, run

from wardian.compat.zoo.migration.find_model import find_model, local_path, model_of
from wardian.compat.zoo.migration.planned import plain_name
from wardian.errors import ConfigError


@pytest.mark.parametrize("end", ["", ":0"])
def test_graph_meta_says_what_a_frozen_graph_takes(tmp_path, end):
    model = tmp_path / "model"
    model.mkdir()
    shutil.copy(TENSORFLOW / "frozen.pb", model)
    plain = run(tmp_path, "modelPath: model\n", "--json")
    told = json.loads(plain.output)["keys"][0]["told"].split()
    takes, gives = told[2], told[told.index("gives") + 1]
    meta = {"input_names": [takes.removesuffix(":0") + end], "output_names": [gives.removesuffix(":0") + end]}  # fmt: skip
    (model / "graph_meta.json").write_text(json.dumps(meta))
    assert run(tmp_path, "modelPath: model\n", "--force").exit_code == 0
    (model / "graph_meta.json").write_text(json.dumps(meta | {"output_names": ["inner:0"]}))
    done = run(tmp_path, "modelPath: model\n", "--force")
    assert done.exit_code == 1
    assert "graph_meta.json means inner: cut it there" in done.output


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (("net.caffemodel", "net.prototxt"), "a Caffe model"),
        (("net.model",), "a BigDL model"),
        (("net.keras",), "a Keras file"),
        (("net.xml",), "without its weights"),
        (("net.bin",), "no model: expected"),
        (("a.pb", "b.pb"), "2 models"),
        (("a.pb", "b.pt"), "2 models"),
        (("net.pt",), "a file of torch.save"),
        ((), "no model: expected"),
        (("net.xml", "net.bin"), "OpenVINO does not read it"),
        (("net.pb",), "OpenVINO does not read it"),
    ],
)
def test_what_cannot_be_converted_is_named_with_what_to_do(tmp_path, files, told):
    (tmp_path / "model").mkdir()
    for name in files:
        (tmp_path / "model" / name).write_bytes(b"not a model at all")
    done = run(tmp_path, "modelPath: model\n")
    assert done.exit_code == 1
    assert told in done.output
    assert "cannot be had" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (f"hdfs://{CANARY}:9000/model", "hdfs: is another machine's"),
        (f"s3://{CANARY}:{CANARY}@bucket/model", "s3: is another machine's"),
        ("file://elsewhere/model", "another machine"),
        ("nowhere", "no such directory here"),
        ("'a\\0b'", "no such directory here"),
        ('"a\\0b"', "no path"),
        ('""', "no path"),
        ("x" * 4000, "File name too long"),
    ],
)
def test_paths_that_lead_nowhere(tmp_path, path, told):
    done = run(tmp_path, f"modelPath: {path}\n")
    assert done.exit_code == 1
    assert told in done.output
    assert CANARY not in done.output


def test_local_paths(tmp_path):
    assert local_path("model", base=tmp_path) == tmp_path / "model"
    for written_as in ("/m", "file:/m", "file:///m", "FILE://localhost/m"):
        assert local_path(written_as, base=tmp_path) == Path("/m")


def test_weights_may_have_another_name_if_there_is_one_alone(tmp_path):
    make_openvino(tmp_path / "model", xml="net.xml", weights="other.bin")
    assert run(tmp_path, "modelPath: model\n").exit_code == 0
    load(tmp_path, "serving_stream.ir")
    (tmp_path / "model" / "third.bin").write_bytes(b"x")
    done = run(tmp_path, "modelPath: model\n", "--force")
    assert "without its weights" in done.output


def test_a_saved_model_is_known_by_its_name(tmp_path):
    shutil.copytree(TENSORFLOW / "saved_model", tmp_path / "model")
    (tmp_path / "model" / "saved_model.pb").rename(tmp_path / "model" / "net.pb")
    done = run(tmp_path, "modelPath: model\n")
    assert "has to be called saved_model.pb" in done.output


def test_torchscript_is_told_from_a_pickle(tmp_path):
    directory = tmp_path / "model"
    directory.mkdir()
    with zipfile.ZipFile(directory / "net.pt", "w") as archive:
        archive.writestr("net/data.pkl", b"x")
    with pytest.raises(ConfigError, match="which is a pickle"):
        find_model(directory)
    with zipfile.ZipFile(directory / "net.pt", "a") as archive:
        archive.writestr("net/constants.pkl", b"x")
    assert find_model(directory).kind == "torch"
    done = run(tmp_path, "modelPath: model\n")
    assert "needs the shapes of its inputs (--shape)" in done.output


def test_models_of_servables_are_files_that_are_there(tmp_path):
    directory = make_openvino(tmp_path)
    for kind, path, weights, told in (
        ("OpenVINO", directory / "none.xml", None, "no such file"),
        ("OpenVINO", directory / "model.xml", directory / "none.bin", "no weights there"),
        ("PyTorch", directory / "model.bin", None, "expected"),
        ("tf.frozenModel", directory / "model.xml", None, "of another kind"),
        ("ONNX", directory / "model.xml", None, "expected OpenVINO, tf.frozenModel"),
        ("BigDL", directory / "model.xml", None, "a BigDL model"),
    ):
        with pytest.raises(ConfigError, match=told):
            model_of(kind, path, weights)


@pytest.mark.parametrize(
    "raw",
    [b"[", b'{"output_names": 3}', b"\xff", b"[" * 5000, b"x" * 70_000, b'{"input_names": [1]}'],
)
def test_a_graph_meta_that_is_none_is_refused(tmp_path, raw):
    shutil.copy(TENSORFLOW / "frozen.pb", tmp_path / "net.pb")
    (tmp_path / "graph_meta.json").write_bytes(raw)
    with pytest.raises(ConfigError, match=r"graph_meta\.json"):
        find_model(tmp_path)


def test_names_become_names():
    assert plain_name("Serving_Stream", place="x") == "serving_stream"
    assert plain_name('a"]\nx = 1', place="x") == "a---x---1"
    assert plain_name("..Ä/b", place="x") == "b"
    with pytest.raises(ConfigError):
        plain_name("___", place="x")
