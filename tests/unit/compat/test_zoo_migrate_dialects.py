"""`--stream` and `--http`: the tables of both dialects, and that every key's fate stays true."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from zoo_files import CANARY, FLAT, NESTED, SERVED
from zoo_models import make_openvino
from zoo_runs import run, written

from wardian.errors import ConfigError

BOTH = ("--stream", "--http")
JOB = "modelPath: model\njobName: Mobile_Job\npostProcessing: topN( 3 )\n"
SERVABLE = """modelMetaDataList:
 - !<ClusterServingMetaData>
    modelName: first
    modelVersion: "1.0"
    redisHost: {host}
    redisPort: 6379
    redisInputQueue: Mobile_Job
    inputCompileType: {form}
"""
KEYSTORE = "--httpsEnabled true --httpsKeyStorePath {path}"


@pytest.fixture(autouse=True)
def model(tmp_path):
    make_openvino(tmp_path / "model")


def private(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


def fates(done) -> dict[str, tuple[str, str]]:
    return {each["key"]: (each["fate"], each["told"]) for each in json.loads(done.output)["keys"]}


def test_without_them_nothing_is_agreed_to(tmp_path):
    done = run(tmp_path, JOB + "redisUrl: localhost:6379\nrecordEncrypted: true\n", "--json")
    assert done.exit_code == 0, done.output
    _, agreed, operator = written(tmp_path)
    assert (agreed.dialects.zoo, agreed.dialects.zoo_redis) == (None, None)
    assert agreed.models["mobile_job"].post[0].n == 3
    assert operator.zoo.keystore is None
    told = fates(done)
    assert told["redisUrl"][0] == told["recordEncrypted"][0] == "cannot be had"
    assert "--stream" in told["redisUrl"][1]
    assert json.loads(done.output)["unprotected"] == []


def test_both_dialects_of_a_flat_file(tmp_path):
    done = run(tmp_path, JOB + "redisUrl: localhost:6390\nrecordEncrypted: true\n", *BOTH)
    assert done.exit_code == 0, done.output
    _, agreed, operator = written(tmp_path)
    (name,) = agreed.dialects.zoo_redis.jobs
    job = agreed.dialects.zoo_redis.jobs[name]
    assert (name, job.model, job.top_n) == ("Mobile_Job", "mobile_job", "topN(3)")
    assert job.record_encrypted
    assert agreed.models["mobile_job"].post == ()  # the filter is applied once, to the whole output
    assert (agreed.dialects.zoo.enabled, agreed.dialects.zoo.default_model) == (True, "mobile_job")
    assert agreed.dialects.zoo.keystore is False
    assert operator.zoo.redis == "redis://127.0.0.1:6390"
    assert "UNPROTECTED records and results of stream Mobile_Job lie in the clear" in done.output
    assert "UNPROTECTED recordEncrypted hides nothing" in done.output
    assert "cannot be had" not in done.output


def test_the_default_redis_and_no_filter(tmp_path):
    assert run(tmp_path, "modelPath: model\n", "--stream").exit_code == 0
    _, agreed, operator = written(tmp_path)
    (job,) = agreed.dialects.zoo_redis.jobs.values()
    assert (job.top_n, job.record_encrypted) == (None, False)
    assert operator.zoo.redis == "redis://127.0.0.1:6379"
    assert agreed.dialects.zoo is None


def test_the_nested_form_of_0_9(tmp_path):
    config = (
        "model:\n  path: model\n  name: old\ndata:\n  src: 127.0.0.1:6391\n  filter: pickTopN(2)\n"
    )
    done = run(tmp_path, config, *BOTH)
    assert done.exit_code == 0, done.output
    _, agreed, operator = written(tmp_path)
    assert agreed.dialects.zoo_redis.jobs["old"].top_n == "pickTopN(2)"
    assert operator.zoo.redis == "redis://127.0.0.1:6391"


@pytest.mark.parametrize("config", [FLAT, NESTED], ids=["flat", "nested"])
def test_the_redis_of_users_is_refused_with_what_to_give(tmp_path, config):
    config = config.replace("/opt/work/model", "model").replace("ncrypted: true", "ncrypted: false")
    config = config.replace("_encrypted: true", "_encrypted: false")
    done = run(tmp_path, config, *BOTH)
    assert isinstance(done.exception, ConfigError)
    assert "redisSecureEnabled: a Java key store is not read here" in str(done.exception)
    done = run(tmp_path, config.replace("enabled: true", "enabled: false").replace(
        "Enabled: true", "Enabled: false"), *BOTH)  # fmt: skip
    if config.startswith("model:"):
        assert done.exit_code == 0, done.output
    else:
        assert "redisUrl: a user or a password is no part of it" in str(done.exception)
    assert CANARY not in done.output + str(done.exception)


def test_tls_and_a_password(tmp_path):
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    password = private(tmp_path / "secret" / "password", f"{CANARY}\n")
    done = run(
        tmp_path, JOB + "redisSecureEnabled: true\nredisSecureTrustStorePath: /x.jks\n", *BOTH,
        "--redis-ca-file", str(tmp_path / "ca.pem"), "--redis-password-file", str(password),
        "--redis-user", "me", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.exception
    _, _, operator = written(tmp_path)
    zoo = operator.zoo
    assert (zoo.redis, zoo.redis_name) == ("rediss://127.0.0.1:6379", "localhost")
    assert (zoo.ca_file, zoo.username) == (str(tmp_path / "ca.pem"), "me")
    assert zoo.password_file == str(password)
    told = fates(done)
    assert told["redisSecureEnabled"][0] == "works"
    assert told["redisSecureTrustStorePath"][0] == "is not needed"
    assert all(
        CANARY.encode() not in path.read_bytes() for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    )  # fmt: skip


@pytest.mark.parametrize(("content", "mode"), [("\n", 0o600), ("x\n", 0o644)])
def test_a_password_that_is_none_or_everybody_s(tmp_path, content, mode):
    path = private(tmp_path / "secret" / "password", content)
    path.chmod(mode)
    done = run(tmp_path, JOB, "--stream", "--redis-password-file", str(path))
    assert isinstance(done.exception, ConfigError)
    assert not (tmp_path / "out").exists()


def test_without_the_job_s_model_there_is_no_dialect_and_nothing_says_so(tmp_path):
    servables = f"""modelMetaDataList:
 - !<InferenceModelMetaData>
    modelName: own
    modelVersion: "1"
    modelPath: {tmp_path / "model"}
    modelType: OpenVINO
"""
    (tmp_path / "caffe").mkdir()
    (tmp_path / "caffe" / "frozen.pb").write_text("no graph")
    done = run(tmp_path, "modelPath: caffe\n", *BOTH, servables=servables)
    assert done.exit_code == 1
    _, agreed, _ = written(tmp_path)
    assert set(agreed.models) == {"own"}
    assert (agreed.dialects.zoo, agreed.dialects.zoo_redis) == (None, None)
    assert "UNPROTECTED" not in done.output


def test_a_stream_whose_name_is_none_here(tmp_path):
    done = run(tmp_path, "modelPath: model\njobName: a b\n", "--stream")
    assert "jobName: a stream's name" in str(done.exception)
    assert run(tmp_path, "modelPath: model\njobName: a b\n", "--http").exit_code == 0


def test_a_job_over_kafka_has_no_stream(tmp_path):
    done = run(tmp_path, JOB + "queueUsed: kafka\n", *BOTH)
    assert done.exit_code == 0, done.output
    _, agreed, _ = written(tmp_path)
    assert agreed.dialects.zoo_redis is None
    assert agreed.models["mobile_job"].post[0].n == 3
    assert "there is no queue over Kafka" in done.output


@pytest.mark.parametrize(("host", "fate"), [("localhost", "works"), ("other", "cannot be had")])
def test_servables_name_the_model_and_have_one_redis(tmp_path, host, fate):
    servables = SERVABLE.format(host=host, form="direct")
    done = run(tmp_path, JOB, *BOTH, "--json", servables=servables)
    assert done.exit_code == 0, done.output
    _, agreed, _ = written(tmp_path)
    assert agreed.dialects.zoo_redis.jobs["Mobile_Job"].model == "first"
    assert agreed.dialects.zoo.default_model == "first"
    assert agreed.dialects.zoo.model_answers == "arrow"
    told = fates(done)
    assert told["redisHost"][0] == told["redisPort"][0] == fate
    assert told["inputCompileType"][0] == "works"


def test_instances_are_answered_in_json(tmp_path):
    done = run(tmp_path, JOB, *BOTH, servables=SERVABLE.format(host="localhost", form="instance"))
    assert done.exit_code == 0, done.output
    assert written(tmp_path)[1].dialects.zoo.model_answers == "json"


def test_a_keystore_and_tokens(tmp_path):
    store = private(tmp_path / "their.pkcs12", "PKCS12")
    password = private(tmp_path / "secret" / "password", f"{CANARY}\n")
    flags = KEYSTORE.format(path=store) + (
        " --interface 0.0.0.0 --port 10020 --securePort 10024 --tokenBucketEnabled true"
        " --tokensPerSecond 30 --tokenAcquireTimeout 50 --parallelism 30"
    )
    done = run(
        tmp_path, JOB, "--http", "--keystore-password-file", str(password), "--json", flags=flags
    )
    assert done.exit_code == 0, done.exception
    _, agreed, operator = written(tmp_path)
    assert agreed.dialects.zoo.keystore
    zoo, copied = operator.zoo, tmp_path / "out" / "zoo-keystore" / "keystore.pkcs12"
    assert (zoo.listen, zoo.tokens_per_second, zoo.token_wait_ms) == ("0.0.0.0:10024", 30, 50)
    assert (zoo.keystore, zoo.keystore_password_file) == (str(copied), str(password))
    assert copied.read_text() == "PKCS12"
    assert copied.stat().st_mode & 0o077 == copied.parent.stat().st_mode & 0o077 == 0
    assert (operator.frontend.address, operator.frontend.port) == ("0.0.0.0", 10020)
    told = json.loads(done.output)
    assert [each["fate"] for each in told["keys"] if each["file"] == "flags"] == (
        ["works"] * 8 + ["is not needed"]
    )
    assert "https://0.0.0.0:10024" in told["unprotected"][0]
    assert CANARY not in done.output


def test_without_an_interface_only_this_machine_is_served(tmp_path):
    store = private(tmp_path / "their.pkcs12", "PKCS12")
    password = private(tmp_path / "secret" / "password", "x\n")
    done = run(tmp_path, JOB, "--http", "--keystore-password-file", str(password),
               flags=KEYSTORE.format(path=store))  # fmt: skip
    assert done.exit_code == 0, done.exception
    _, _, operator = written(tmp_path)
    assert (operator.zoo.listen, operator.zoo.tokens_per_second) == ("127.0.0.1:10023", None)


@pytest.mark.parametrize(
    ("flags", "options", "told"),
    [
        ("--httpsEnabled true", ["--http"], "needs --httpsKeyStorePath"),
        ("--httpsEnabled true --httpsKeyStorePath x", ["--http"], "--keystore-password-file"),
        (f"--httpsKeyStoreToken {CANARY}", ["--http"], "other users can read arguments"),
        (f"--redissTrustStoreToken={CANARY}", [], "other users can read arguments"),
    ],
)
def test_what_a_keystore_needs(tmp_path, flags, options, told):
    done = run(tmp_path, JOB, *options, flags=flags)
    assert isinstance(done.exception, ConfigError)
    assert told in str(done.exception)
    assert CANARY not in done.output + str(done.exception)
    assert not (tmp_path / "out").exists()


def test_flags_that_ask_in_vain_are_said(tmp_path):
    flags = KEYSTORE.format(path="x") + " --tokenBucketEnabled true --redisHost other"
    flags += " --redisInputQueue another --securePort 1"
    told = fates(run(tmp_path, JOB, "--json", flags=flags))
    assert {name: fate for name, (fate, _) in told.items() if fate != "works"} == dict.fromkeys(
        ("httpsEnabled", "httpsKeyStorePath", "tokenBucketEnabled", "redisHost", "redisInputQueue",
         "securePort"), "cannot be had",
    )  # fmt: skip
    flags = "--httpsEnabled false --httpsKeyStorePath x --tokensPerSecond 5 --redisHost localhost"
    told = fates(run(tmp_path, JOB, *BOTH, "--json", "--force", flags=flags))
    assert told["httpsKeyStorePath"][0] == told["tokensPerSecond"][0] == "is not needed"
    assert told["redisHost"][0] == "works"
    told = fates(run(tmp_path, JOB, *BOTH, "--json", "--force", flags="--redisPort 1"))
    assert told["redisPort"][0] == "cannot be had"


def test_servables_of_a_flag(tmp_path):
    path = tmp_path / "servables-conf.yaml"
    path.write_text(SERVABLE.format(host="localhost", form="direct"))
    done = run(tmp_path, JOB, *BOTH, flags=f"--servableManagerConfPath {path}")
    assert done.exit_code == 0, done.output
    assert set(written(tmp_path)[1].models) == {"first"}
    done = run(
        tmp_path, JOB, "--force", servables=SERVED, flags=f"--servableManagerConfPath {path}"
    )
    assert "leave one out" in str(done.exception)


def test_a_path_that_no_settings_file_can_hold(tmp_path):
    path = private(tmp_path / os.fsdecode(b"p\xff") / "password", "x\n")
    done = run(tmp_path, JOB, "--stream", "--redis-password-file", str(path))
    assert isinstance(done.exception, ConfigError)
    assert re.search("not UTF-8", str(done.exception))
