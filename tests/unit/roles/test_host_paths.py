"""Paths that a host names lead to no place where a process is shown what is its own."""

from typing import Any

import pytest

from wardian._internal import wire
from wardian.errors import FormatError
from wardian.roles.host import HostSettings

KEY = "/dev/attestation/keys/_sgx_mrenclave"
JOB = {"plan": "job.toml", "tables": {}, "store": "state", "out": "out", "approvals": "in"}
ZOO = {"address": ["127.0.0.1", 6379]}
KEYSTORE = {"keystore": "a.p12", "password_file": "password"}


def decoded(fields: dict[str, Any]) -> HostSettings:
    return wire.decode(wire.encode(fields), HostSettings, what="host settings")


def naming(path: str) -> list[dict[str, Any]]:
    """Return settings that name `path`, in each of the places where there is one."""
    alone = ("store", "traffic_file", "tenants", "backup")
    return [
        *({name: path} for name in alone),
        *({"job": JOB | {name: path}} for name in ("plan", "store", "out", "approvals")),
        {"job": JOB | {"tables": {"a/t": path}}},
        {"sealed_models": {"m:1": path}},
        {"zoo": ZOO | {"password_file": path}},
        *({"zoo_https": KEYSTORE | {name: path}} for name in KEYSTORE),
        {"collateral": {"cache": path}},
    ]


@pytest.mark.parametrize("at", range(len(naming(""))))
def test_no_file_of_a_host_is_a_key_of_the_enclave(at: int) -> None:
    decoded(naming("state/file")[at])
    with pytest.raises(FormatError, match="leads into /dev/attestation"):
        decoded(naming(KEY)[at])


@pytest.mark.parametrize(
    "path",
    [
        f"/{KEY}",
        f"//{KEY}",
        "/wardian/../dev/attestation/keys/default",
        "../" * 40 + KEY[1:],
        "/dev/./attestation//keys/default",
        "/dev/attestation",
        "/proc/self/fd/7",
        "/dev/fd/7",
        "/sys/kernel/config/tsm/report/wardian/outblob",
    ],
)
def test_however_it_is_written(path: str) -> None:
    with pytest.raises(FormatError, match="leads into"):
        decoded({"job": JOB | {"plan": path}})


def test_what_is_only_called_alike_is_a_host_s() -> None:
    for path in ("/dev/shm/state", "/devattestation", "proc", "/processes/x", "sys/x"):
        assert decoded({"store": path}).store == path
