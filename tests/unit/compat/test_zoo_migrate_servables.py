"""Servables name the job's model, and bring models of their own."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from zoo_models import make_openvino
from zoo_runs import load, run, written

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


def test_another_job_s_servable_is_said_and_is_no_part_of_this_one(tmp_path):
    make_openvino(tmp_path / "model")
    servables = "modelMetaDataList:" + CLUSTER.format(name="a", version="1", queue="jobs")
    servables += CLUSTER.format(name="b", version="1", queue="others")
    servables += " - !<ClusterServingMetaData> {modelName: c, modelVersion: 1}\n"
    done = run(tmp_path, "modelPath: model\njobName: jobs\n", servables=servables)
    assert done.exit_code == 0, done.output
    for told in ("b: another job's: give that one's config.yaml", "c: another job's"):
        assert told in done.output
    assert set(written(tmp_path)[1].models) == {"a"}


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
