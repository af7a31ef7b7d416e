"""`wardian migrate`: what is written is what `wardian up` reads, and the report is true."""

import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

from zoo_files import CANARY, FLAT, NESTED, SERVED
from zoo_models import WEIGHTS, make_openvino

from wardian._internal.agreed import Agreed
from wardian._internal.operator import Operator
from wardian._internal.settings import parse
from wardian.cli.migrate import migrate
from wardian.cli.up.example import Source
from wardian.compat.zoo.migration.find_model import find_model, local_path, model_of
from wardian.compat.zoo.migration.plan import plain_name
from wardian.errors import ConfigError
from wardian.inference.model import load_model

TENSORFLOW = Path(__file__).parents[2] / "vectors" / "tensorflow"
IR = "application/vnd.wardian.openvino-ir"
OWNER = bytes(32)


def run(tmp_path: Path, config: str, *options: str, servables: str | None = None):
    (tmp_path / "config.yaml").write_text(config)
    arguments = [str(tmp_path / "config.yaml"), "--out", str(tmp_path / "out"), *options]
    if servables is not None:
        (tmp_path / "servables.yaml").write_text(servables)
        arguments += ["--servables", str(tmp_path / "servables.yaml")]
    return CliRunner().invoke(migrate, arguments)


def written(tmp_path: Path) -> tuple[Source, Agreed, Operator]:
    source = Source.read(tmp_path / "out")
    agreed = parse(source.render_agreed(OWNER), Agreed, name="wardian.toml")
    return source, agreed, parse(source.operator_raw, Operator, name="operator.toml")


def load(tmp_path: Path, file: str):
    data = (tmp_path / "out" / file).read_bytes()
    return load_model(data, media_type=IR, engine="openvino", threads=1)


def test_an_openvino_pair_with_everything_set(tmp_path):
    make_openvino(tmp_path / "model")
    config = (
        "modelPath: model\njobName: mobilenet_job\npostProcessing: topN(3)\n"
        f"modelParallelism: 2\nthreadPerModel: 3\nredisSecureTrustStorePassword: {CANARY}\n"
        f"redisUrl: redis://:{CANARY}@host:6379\nbatchSize: 5\n"
    )
    done = run(tmp_path, config)
    assert done.exit_code == 0, done.output
    source, agreed, operator = written(tmp_path)
    terms = agreed.models["mobilenet_job"]
    assert (terms.media_type, terms.engine, terms.threads) == (IR, "openvino", 3)
    assert [(step.output, step.n) for step in terms.post] == [("scores", 3)]
    assert (agreed.mesh.name, operator.worker.replicas) == ("mobilenet_job", 2)
    assert source.example.models["mobilenet_job"].file == "mobilenet_job.ir"
    with_rows = load(tmp_path, "mobilenet_job.ir").infer({"image": np.ones((1, 4), "<f4")})
    np.testing.assert_allclose(with_rows["scores"][0], WEIGHTS.sum(axis=0), rtol=1e-6)
    assert "config.yaml:8" in done.output
    assert "batchSize" in done.output
    assert "takes image FP32 [-1, 4]; gives scores FP32 [-1, 10]" in done.output
    assert CANARY not in done.output
    assert all(CANARY.encode() not in path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0


def test_the_report_as_json_has_every_key(tmp_path):
    make_openvino(tmp_path / "model")
    done = run(tmp_path, "modelPath: model\nimageResize: 224,224\n", "--json")
    told = json.loads(done.output)
    assert [(each["key"], each["line"], each["fate"]) for each in told["keys"]] == [
        ("modelPath", 1, "works"), ("imageResize", 2, "cannot be had"),
    ]  # fmt: skip
    assert told["missing"] == []
    assert {Path(each).name for each in told["written"]} == {
        "wardian.toml", "operator.toml", "example.toml", "serving_stream.ir",
    }  # fmt: skip


def test_the_nested_form_of_0_9(tmp_path):
    make_openvino(tmp_path / "model")
    config = (
        "model:\n  path: model\n  name: Old Model\nparams:\n  core_number: 4\n  model_number: 2\n"
    )
    done = run(tmp_path, config)
    assert done.exit_code == 0, done.output
    _, agreed, operator = written(tmp_path)
    assert agreed.models["old-model"].threads == 4
    assert operator.worker.replicas == 2
    assert "the model is called old-model" in done.output


@pytest.mark.parametrize("form", ["saved_model", "frozen"])
def test_tensorflow_models(tmp_path, form):
    model = tmp_path / "model"
    if form == "saved_model":
        shutil.copytree(TENSORFLOW / "saved_model", model)
    else:
        model.mkdir()
        shutil.copy(TENSORFLOW / "frozen.pb", model)
    done = run(tmp_path, "modelPath: model\ncoreNumberPerMachine: 3\n")
    assert done.exit_code == 0, done.output
    _, agreed, operator = written(tmp_path)
    assert agreed.models["serving_stream"].threads == 1
    assert operator.worker.replicas == 3  # as the original: copies, for all but OpenVINO
    loaded = load(tmp_path, "serving_stream.ir")
    with np.load(TENSORFLOW / "answers.npz") as made:
        (name,) = (spec.name for spec in loaded.inputs)
        (answer,) = loaded.infer({name: made["x"]}).values()
        assert np.allclose(answer, made["y"], atol=1e-6)


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


def test_an_encrypted_model_is_not_touched_and_the_way_on_is_named(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.xml").write_text("QqCldXGsCnuhwozvevzsGSiNHnyn")
    (model / "model.bin").write_text("KcOwvJDolVyE2+KZ/Px6RceVVjCM")
    done = run(tmp_path, FLAT.replace("/opt/work/model", "model"))
    assert done.exit_code == 1
    assert "wardian reseal" in done.output
    assert CANARY not in done.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["operator.toml", "wardian.toml"]  # fmt: skip


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


def test_without_a_path_there_is_nothing_to_serve(tmp_path):
    done = run(tmp_path, "jobName: a\n")
    assert done.exit_code == 1
    assert "modelPath: is not there" in done.output


def test_nothing_is_overwritten_without_force(tmp_path):
    make_openvino(tmp_path / "model")
    assert run(tmp_path, "modelPath: model\n").exit_code == 0
    mine = tmp_path / "out" / "wardian.toml"
    mine.write_text("# mine\n")
    model = tmp_path / "out" / "serving_stream.ir"
    model.write_text("mine, too")
    done = run(tmp_path, "modelPath: model\n")
    assert isinstance(done.exception, ConfigError)
    assert "wardian.toml" in str(done.exception)
    assert (mine.read_text(), model.read_text()) == ("# mine\n", "mine, too")
    for name in ("wardian.toml", "operator.toml", "example.toml"):
        (tmp_path / "out" / name).unlink()
    done = run(tmp_path, "modelPath: model\n")  # the model's own file alone is in the way
    assert "serving_stream.ir" in str(done.exception)
    assert model.read_text() == "mine, too"
    assert not mine.exists()
    assert run(tmp_path, "modelPath: model\n", "--force").exit_code == 0
    written(tmp_path)


def test_a_link_in_the_way_is_not_followed(tmp_path):
    make_openvino(tmp_path / "model")
    (tmp_path / "out").mkdir()
    victim = tmp_path / "victim"
    victim.write_text("whole")
    (tmp_path / "out" / "wardian.toml").symlink_to(victim)
    assert isinstance(run(tmp_path, "modelPath: model\n").exception, ConfigError)
    assert run(tmp_path, "modelPath: model\n", "--force").exit_code == 0
    assert victim.read_text() == "whole"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("topN(11)", "has 10 values, fewer than 11"),
        ("topN(0)", "expected topN(k)"),
        ("topN(9999)", "expected topN(k)"),
        ("softmax()", "expected topN(k)"),
    ],
)
def test_post_processing_that_cannot_be_had_is_said(tmp_path, asked, told):
    make_openvino(tmp_path / "model")
    done = run(tmp_path, f"modelPath: model\npostProcessing: {asked}\n")
    assert done.exit_code == 0
    assert told in done.output
    _, agreed, _ = written(tmp_path)
    assert agreed.models["serving_stream"].post == ()


def test_pick_top_n_is_the_same(tmp_path):
    make_openvino(tmp_path / "model")
    assert run(tmp_path, "modelPath: model\npostProcessing: pickTopN( 2 )\n").exit_code == 0
    _, agreed, _ = written(tmp_path)
    assert agreed.models["serving_stream"].post[0].n == 2


CLUSTER = """
 - !<ClusterServingMetaData>
    modelName: {name}
    modelVersion: "{version}"
    redisInputQueue: {queue}
"""
IN_PROCESS = """
 - !<InferenceModelMetaData>
    modelName: {name}
    modelVersion: "{version}"
    modelPath: {path}
    modelType: {kind}
    weightPath: {weights}
    modelConCurrentNum: 4
"""


def test_servables_name_the_job_s_model_and_bring_their_own(tmp_path):
    make_openvino(tmp_path / "model")
    make_openvino(tmp_path / "second", xml="net.xml", weights="weights-of-net.bin")
    servables = "modelMetaDataList:" + CLUSTER.format(name="first", version="3.0", queue="jobs")
    servables += IN_PROCESS.format(
        name="second", version="2", path="second/net.xml", kind="OpenVINO",
        weights="second/weights-of-net.bin",
    )  # fmt: skip
    done = run(tmp_path, "modelPath: model\njobName: jobs\n", servables=servables)
    assert done.exit_code == 0, done.output
    source, agreed, operator = written(tmp_path)
    assert set(agreed.models) == {"first", "second"}
    assert (source.example.models["first"].version, source.example.models["second"].version) == (3, 2)  # fmt: skip
    assert operator.worker.replicas == 4
    assert "clients call the model first" in done.output
    load(tmp_path, "second.ir").infer({"image": np.ones((2, 4), "<f4")})


def test_a_fixed_batch_is_said_and_opened_by_a_shape(tmp_path):
    make_openvino(tmp_path / "model", rows=4)
    done = run(tmp_path, "modelPath: model\n")
    assert done.exit_code == 0, done.output
    assert "a batch is 4: --shape -1,... may open it" in done.output
    done = run(tmp_path, "modelPath: model\n", "--force", "--shape", "-1,4")
    assert "takes image FP32 [-1, 4]" in done.output
    assert "may open it" not in done.output


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


def test_of_several_outputs_the_user_says_which(tmp_path):
    make_openvino(tmp_path / "model", twice=True)
    done = run(tmp_path, "modelPath: model\npostProcessing: topN(2)\n")
    assert done.exit_code == 0
    assert "the model has 2 outputs: name the one in `post`" in done.output


def test_kafka_is_said_not_to_be_there(tmp_path):
    make_openvino(tmp_path / "model")
    done = run(tmp_path, "modelPath: model\nqueueUsed: kafka\n", "--json")
    assert [each["fate"] for each in json.loads(done.output)["keys"]] == ["works", "cannot be had"]


def test_what_stands_in_the_way_is_said_before_anything_is_written(tmp_path):
    make_openvino(tmp_path / "model")
    (tmp_path / "out").write_text("a file")
    assert "is a file" in str(run(tmp_path, "modelPath: model\n").exception)
    (tmp_path / "out").unlink()
    (tmp_path / "out" / "operator.toml").mkdir(parents=True)
    done = run(tmp_path, "modelPath: model\n", "--force")
    assert "is a directory" in str(done.exception)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["operator.toml"]


@pytest.mark.parametrize("form", ["flat", "nested", "servables"])
def test_the_files_of_users_are_read_whole(tmp_path, form):
    """All keys of the original at once; their model is not here, which is all that is missing."""
    config = NESTED if form == "nested" else FLAT
    config = config.replace("modelEncrypted: true", "modelEncrypted: false")
    config = config.replace("model_encrypted: true", "model_encrypted: false")
    done = run(tmp_path, config, servables=SERVED if form == "servables" else None)
    assert done.exit_code == 1
    assert "modelPath: no such directory here" in done.output
    assert "is unknown" not in done.output
    assert CANARY not in done.output


def test_no_old_example_stays_beside_an_encrypted_model(tmp_path):
    make_openvino(tmp_path / "model")
    assert run(tmp_path, "modelPath: model\n").exit_code == 0
    assert run(tmp_path, "modelPath: model\nmodelEncrypted: true\n", "--force").exit_code == 1
    assert not (tmp_path / "out" / "example.toml").exists()


def test_what_servables_cannot_bring_is_named(tmp_path):
    make_openvino(tmp_path / "model")
    servables = "modelMetaDataList:"
    servables += CLUSTER.format(name="first", version="1.0", queue="serving_stream")
    servables += CLUSTER.format(name="first", version="2.0", queue="serving_stream")
    servables += CLUSTER.format(name="third", version="1.5", queue="another")
    servables += IN_PROCESS.format(name="c", version="1.5", path="model", kind="Caffe", weights="")
    servables += IN_PROCESS.format(name="d", version="1", path="model", kind="PyTorch", weights="")
    servables += IN_PROCESS.format(name="e", version="1.5", path="model", kind="OpenVINO", weights="")  # fmt: skip
    servables += IN_PROCESS.format(name="E", version="1", path="model", kind="OpenVINO", weights="")
    done = run(tmp_path, "modelPath: model\n", servables=servables)
    assert done.exit_code == 1
    for told in (
        "e version 1 is there already: rename one",
        "first is there twice; version 2 is taken, and 1 is",
        "third: another job's",
        "a Caffe model",
        "of another kind than modelType says",
        "versions here are whole numbers",
    ):
        assert told in done.output
    source, agreed, _ = written(tmp_path)
    assert set(agreed.models) == {"first", "e"}
    assert {name: each.version for name, each in source.example.models.items()} == {"first": 2, "e": 1}  # fmt: skip


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


def test_a_name_without_a_letter_is_refused_with_its_place(tmp_path):
    make_openvino(tmp_path / "model")
    servables = "modelMetaDataList:" + CLUSTER.format(
        name="'_'", version="1", queue="serving_stream"
    )
    done = run(tmp_path, "modelPath: model\n", servables=servables)
    assert "servables.yaml, line 2: modelName: no name" in str(done.exception)
    done = run(tmp_path, "modelPath: model\njobName: '?'\n")
    assert "config.yaml: jobName: no name" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_names_become_names():
    assert plain_name("Serving_Stream", place="x") == "serving_stream"
    assert plain_name('a"]\nx = 1', place="x") == "a---x---1"
    assert plain_name("..Ä/b", place="x") == "b"
    with pytest.raises(ConfigError):
        plain_name("___", place="x")
