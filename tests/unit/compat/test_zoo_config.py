"""`config.yaml` and `servables.yaml` of Cluster Serving: every key has a fate, no secret shows."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from zoo_files import CANARY, FLAT, NESTED, SERVED

from wardian.compat.zoo.config import parse_config
from wardian.compat.zoo.keys import CONFIG, SERVABLES, Fate
from wardian.compat.zoo.keys_page import page_tables
from wardian.compat.zoo.report import Report
from wardian.compat.zoo.servables import ClusterServable, InProcessServable, parse_servables
from wardian.errors import ConfigError

REFERENCE = {
    "modelPath", "jobName", "postProcessing", "imageResize", "inputAlreadyBatched",
    "coreNumberPerMachine", "modelParallelism", "threadPerModel", "performance_mode",
    "flinkRestUrl", "redisUrl", "redisMaxMemory", "redisTimeout", "redisSecureEnabled",
    "redisSecureTrustStorePath", "redisSecureTrustStorePassword", "modelEncrypted",
    "recordEncrypted", "queueUsed", "kafkaUrl",
}  # fmt: skip
REFERENCE_NESTED = {
    "model.path", "model.name", "data.src", "data.filter", "params.core_number",
    "params.model_number", "params.performance_mode", "flink.rest", "redis.maxmem",
    "redis.timeout", "secure.secure_enabled", "secure.secure_trust_store_path",
    "secure.secure_struct_store_password", "secure.model_encrypted",
}  # fmt: skip
REFERENCE_SERVABLES = {
    "ClusterServingMetaData": {
        "modelName", "modelVersion", "redisHost", "redisPort", "redisInputQueue",
        "redisOutputQueue", "timeWindow", "countWindow", "tokenBucketEnabled", "tokensPerSecond",
        "redisSecureEnabled", "redisTrustStorePath", "redisTrustStoreToken", "inputCompileType",
        "features",
    },
    "InferenceModelMetaData": {
        "modelName", "modelVersion", "modelPath", "modelType", "weightPath", "modelConCurrentNum",
        "inputCompileType", "features",
    },
}  # fmt: skip


def read(text: str):
    report = Report()
    return parse_config(text.encode(), name="config.yaml", report=report), report


def served(text: str):
    report = Report()
    return parse_servables(text.encode(), name="servables.yaml", report=report), report


def test_every_key_of_the_original_has_a_fate_and_a_word():
    assert {key.name for key in CONFIG} == REFERENCE
    assert {key.nested for key in CONFIG if key.nested} == REFERENCE_NESTED
    for tag, names in REFERENCE_SERVABLES.items():
        assert {key.name for key in SERVABLES[tag]} == names
    for key in (
        *CONFIG,
        *SERVABLES["ClusterServingMetaData"],
        *SERVABLES["InferenceModelMetaData"],
    ):
        assert key.fate in (Fate.WORKS, Fate.NOT_NEEDED, Fate.CANNOT)
        assert len(key.told) > 10


def test_the_page_has_the_table_of_the_code():
    page = Path(__file__).parents[3] / "docs/reference/cluster-serving-keys.md"
    assert page_tables() in page.read_text()


def test_the_flat_form():
    config, report = read(FLAT)
    said = config.settings
    assert (said.model_path, said.job_name) == ("/opt/work/model", "mobilenet_job")
    assert (said.post_processing, said.queue_used) == ("topN(5)", "redis")
    assert (said.core_number_per_machine, said.model_parallelism, said.thread_per_model) == (
        4,
        2,
        3,
    )
    assert said.model_encrypted is True
    assert {found.key for found in report.findings} == REFERENCE
    assert [found.line for found in report.findings][:3] == [3, 5, 6]
    assert all(found.fate is not Fate.UNKNOWN for found in report.findings)


def test_the_nested_form_of_0_9():
    config, report = read(NESTED)
    said = config.settings
    assert (said.model_path, said.job_name) == ("/opt/work/model", "resnet")
    assert (said.post_processing, said.core_number_per_machine) == ("topN(3)", 8)
    assert (said.model_parallelism, said.model_encrypted) == (2, True)
    assert {found.key for found in report.findings} == REFERENCE_NESTED
    assert all(found.fate is not Fate.UNKNOWN for found in report.findings)


def test_names_in_any_case_are_one_key():
    config, _ = read("MODELPATH: a\njobname: b\nModelParallelism: 7\n")
    assert (config.settings.model_path, config.settings.model_parallelism) == ("a", 7)
    config, _ = read("Model:\n  PATH: a\n")
    assert config.settings.model_path == "a"


def test_what_is_empty_is_the_default():
    config, report = read("modelPath:\nmodelParallelism: ~\ndata:\nmodelEncrypted: null\n")
    assert config.settings.model_path is None
    assert (config.settings.model_parallelism, config.settings.model_encrypted) == (1, False)
    assert len(report.findings) == 3


def test_what_cannot_be_had_and_is_not_asked_for_is_no_trouble():
    _, report = read("imageResize:\nkafkaUrl: ''\n")
    assert {each.fate for each in report.findings} == {Fate.NOT_NEEDED}
    _, report = read("imageResize: 224,224\nkafkaUrl: a:1\n")
    assert {each.fate for each in report.findings} == {Fate.CANNOT}


def test_unknown_keys_are_each_named():
    _, report = read("modelPath: a\nbatchSize: 4\nmodel:\n  shape: 3\n")
    unknown = [(each.line, each.key) for each in report.findings if each.fate is Fate.UNKNOWN]
    assert unknown == [(2, "batchSize"), (4, "model.shape")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"threadPerModel: {CANARY}", "line 1: threadPerModel: expected a whole number"),
        ("threadPerModel: .nan", "expected a whole number"),
        ("threadPerModel: NaN", "expected a whole number"),
        ("threadPerModel: 1.5", "expected a whole number"),
        ("threadPerModel: .inf", "expected a whole number"),
        ("threadPerModel: 0x10", "expected a whole number"),
        ("threadPerModel: 0", ">= 1"),
        ("modelParallelism: 257", "<= 256"),
        ("redisTimeout: 99999999999", "expected a whole number"),
        ("redisTimeout: 9999999999", "<= 2147483647"),
        (f"modelEncrypted: {CANARY}", "expected true or false"),
        ("modelEncrypted: 1", "expected true or false"),
        (f"modelPath: [{CANARY}]", "expected one value"),
        (f"redisSecureTrustStorePassword: {{{CANARY}: 1}}", "expected one value"),
        (f"model: {CANARY}", "expected a group of keys"),
        ("model: [path]", "expected a group of keys"),
        ("modelPath: a\nmodel:\n  path: b\n", "line 3: modelPath: is set already"),
        ("jobName: " + "x" * 5000, "length <= 4096"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_its_line(text, told):
    with pytest.raises(ConfigError, match=re.escape(told)) as info:
        read(text)
    assert CANARY not in str(info.value)


@pytest.mark.parametrize("text", [FLAT, NESTED])
def test_no_secret_is_kept_or_told(text):
    config, report = read(text)
    assert CANARY in text
    assert CANARY not in repr(config)
    assert CANARY not in repr(report)


def test_a_key_that_a_password_slipped_into_is_not_shown():
    _, report = read(f"redisSecureTrustStorePassword:{CANARY}: x\n")
    assert CANARY not in repr(report)
    assert report.findings[0].key == "?"


def test_servables():
    (first, second), report = served(SERVED)
    assert isinstance(first.settings, ClusterServable)
    assert first.settings.redis_input_queue == "serving_stream2"
    assert isinstance(second.settings, InProcessServable)
    assert (second.settings.model_path, second.settings.copies) == ("/models/second.xml", 3)
    assert second.settings.weight_path == "/models/second.bin"
    assert len(report.findings) == 15 + 8
    assert all(each.fate is not Fate.UNKNOWN for each in report.findings)
    assert CANARY not in repr((first, second, report))
    line = report.findings[second.numbers["modelType"]].line
    assert "modelType" in SERVED.splitlines()[line - 1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected modelMetaDataList"),
        ("modelMetaDataList: []", "expected modelMetaDataList"),
        ("modelMetaDataList:\n - modelName: a\n", "line 2: expected !<ClusterServingMetaData>"),
        ("modelMetaDataList:\n - text\n", "line 2: expected !<ClusterServingMetaData>"),
        ("modelMetaDataList:\n - !<Other>\n   modelName: a\n", "a tag that is not known"),
        (
            "modelMetaDataList:\n - !<ClusterServingMetaData>\n   modelName: a\n",
            "missing required field `modelVersion`",
        ),
        (
            "modelMetaDataList:\n - !<InferenceModelMetaData>\n   modelName: a\n   features: b\n",
            "line 4: features: expected a list of names",
        ),
        (
            "modelMetaDataList:\n" + " - !<ClusterServingMetaData> {modelName: a}\n" * 257,
            "more than 256 models",
        ),
    ],
)
def test_servables_of_another_form_are_refused(text, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        served(text)


def test_keys_beside_the_list_are_named():
    _, report = served(SERVED + "listenOn: 80\n")
    assert [each.key for each in report.findings if each.fate is Fate.UNKNOWN] == ["listenOn"]
