"""`wardian migrate`: what is written is what `wardian up` reads, and the report is true."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from zoo_files import CANARY, FLAT, NESTED, SERVED
from zoo_models import TENSORFLOW, WEIGHTS, make_openvino
from zoo_runs import IR, load, run, written

from wardian.errors import ConfigError


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
        "wardian.toml", "operator.toml", "example.toml", "serving_stream.ir", "migrated.json",
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


def test_a_fixed_batch_is_said_and_opened_by_a_shape(tmp_path):
    make_openvino(tmp_path / "model", rows=4)
    done = run(tmp_path, "modelPath: model\n")
    assert done.exit_code == 0, done.output
    assert "a batch is 4: --shape -1,... may open it" in done.output
    done = run(tmp_path, "modelPath: model\n", "--force", "--shape", "-1,4")
    assert "takes image FP32 [-1, 4]" in done.output
    assert "may open it" not in done.output


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
