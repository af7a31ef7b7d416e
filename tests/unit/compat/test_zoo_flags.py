"""The flags of Cluster Serving's HTTP front ends: each has a fate, and no password is an argument."""

import re

import pytest

from wardian.compat.zoo.flags import FLAGS, MAX_FLAGS, parse_flags, refuse_passwords
from wardian.compat.zoo.keys import Fate
from wardian.compat.zoo.report import Report
from wardian.errors import ConfigError

CANARY = "hunter2-canary"
REFERENCE = {
    "interface", "port", "securePort", "redisHost", "redisPort", "redisInputQueue",
    "redisOutputQueue", "parallelism", "timeWindow", "countWindow", "tokenBucketEnabled",
    "tokensPerSecond", "tokenAcquireTimeout", "httpsEnabled", "httpsKeyStorePath",
    "httpsKeyStoreToken", "redisSecureEnabled", "redissTrustStorePath", "redissTrustStoreToken",
    "servableManagerConfPath",
}  # fmt: skip


def read(*arguments: str):
    report = Report()
    return parse_flags(arguments, report=report), report


def test_every_flag_of_the_original_has_a_fate_and_a_word():
    assert {key.name for key in FLAGS} == REFERENCE
    for key in FLAGS:
        assert key.fate is not Fate.UNKNOWN
        assert len(key.told) > 10
    assert {key.name for key in FLAGS if key.secret} == {
        "httpsKeyStoreToken", "redissTrustStoreToken",
    }  # fmt: skip


def test_flags_are_read_in_both_ways_of_writing_them_and_in_any_case():
    flags, report = read(
        "--interface", "0.0.0.0", "--port=10020", "--SECUREPORT", "10024", "--httpsEnabled:true",
        "--httpsKeyStorePath", "a=b.pkcs12", "--tokenBucketEnabled", "TRUE", "--timeWindow", "0",
    )  # fmt: skip
    said = flags.settings
    assert (said.interface, said.port, said.secure_port) == ("0.0.0.0", 10020, 10024)
    assert (said.https_enabled, said.https_key_store_path) == (True, "a=b.pkcs12")
    assert (said.token_bucket_enabled, said.tokens_per_second) == (True, 100)
    assert [(each.line, each.file) for each in report.findings] == [
        (line, "flags") for line in (1, 3, 4, 6, 7, 9, 11)
    ]


@pytest.mark.parametrize("flag", ["httpsKeyStoreToken", "redissTrustStoreToken"])
@pytest.mark.parametrize("form", ["--{} {}", "--{}={}", "--{}:{}", "-{} {}", "{} {}"])
@pytest.mark.parametrize("case", [str, str.lower, str.upper])
def test_a_password_is_refused_before_anything_else_and_never_shown(flag, form, case):
    arguments = ["--nonsense", *form.format(case(flag), CANARY).split()]
    for refuse in (refuse_passwords, lambda given: read(*given)):
        with pytest.raises(ConfigError, match=flag) as caught:
            refuse(arguments)
        assert CANARY not in str(caught.value)
        assert "-password-file" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([CANARY], "argument 1: expected --FLAG VALUE"),
        (["-p", CANARY], "argument 1: expected --FLAG VALUE"),
        (["--", CANARY], "argument 1: expected --FLAG VALUE"),
        (["--port"], "argument 1: expected a value"),
        (["--interface", "--port", "1"], "argument 1: expected a value"),
        (["--port", CANARY], "flags, line 1: port: expected a whole number"),
        (["--port", "0"], "port: Expected `int` >= 1"),
        (["--port", "65536"], "port: Expected `int` <= 65535"),
        (["--tokensPerSecond", "0"], "tokensPerSecond: Expected `int` >= 1"),
        (["--httpsEnabled", CANARY], "httpsEnabled: expected true or false"),
        (["--port", "1", "--PORT", "2"], "line 3: port: is set already"),
        (["--a"] * (2 * MAX_FLAGS + 1), "more than 256 flags"),
    ],
)
def test_what_is_no_flag_is_refused_with_its_place(arguments, told):
    with pytest.raises(ConfigError, match=re.escape(told)) as caught:
        read(*arguments)
    assert CANARY not in str(caught.value)


def test_an_unknown_flag_is_named_and_its_value_is_not():
    _, report = read("--colour", CANARY)
    (found,) = report.findings
    assert (found.key, found.fate) == ("colour", Fate.UNKNOWN)
    assert CANARY not in repr(report)
