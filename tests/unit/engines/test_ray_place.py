"""What each process of Ray is told."""

import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from wardian.engines.ray.place import (
    LONGEST_DIRECTORY,
    RayPlace,
    RayTls,
    cluster_processes,
    environment,
    short_directory,
    write_token,
)
from wardian.errors import ConfigError

PLACE = RayPlace(
    python=Path("/env/bin/python"),
    directory=Path("/r"),
    tls=RayTls(certificate=Path("/c.pem"), key=Path("/k.pem"), trusted=Path("/c.pem")),
    token=Path("/t"),
    nodes=2,
)


def options(place: RayPlace) -> list[dict[str, str]]:
    found = []
    for process in cluster_processes(place, logs=Path("/l")):
        parts = process.argv[process.argv.index("start") + 1 :]
        found.append({name: value for name, _, value in (part.partition("=") for part in parts)})
    return found


def test_a_head_and_a_node_with_every_port_fixed_and_none_twice() -> None:
    head, node = options(PLACE)
    assert "--head" in head
    assert node["--address"] == "127.0.0.1:24000" == PLACE.cluster_address()
    ports = [int(v) for each in (head, node) for k, v in each.items() if k.endswith("port")]
    assert len(ports) == len(set(ports)) == 18
    assert min(ports) == 24000
    assert max(ports) < 24200
    for each in (head, node):
        assert "--disable-usage-stats" in each
        assert each["--num-cpus"] == "2"


def test_in_a_cluster_that_exists_this_machine_is_one_node_without_workers() -> None:
    (node,) = options(replace(PLACE, address="10.0.0.1:6379", nodes=1, node_address="10.0.0.2"))
    assert node["--address"] == "10.0.0.1:6379"
    assert node["--num-cpus"] == "0"
    assert "--head" not in node


def test_no_process_has_a_secret_or_more_of_an_environment_than_this(monkeypatch) -> None:
    monkeypatch.setenv("WARDIAN_SECRET", "x")
    told = environment(PLACE)
    assert told["RAY_USE_TLS"] == "1"
    assert told["RAY_TLS_CA_CERT"] == "/c.pem"
    assert told["RAY_AUTH_MODE"] == "token"
    assert told["RAY_AUTH_TOKEN_PATH"] == "/t"
    assert told["RAY_USAGE_STATS_ENABLED"] == "0"
    assert told["RAY_USAGE_STATS_REPORT_URL"].startswith("http://127.0.0.1:")
    assert not {"WARDIAN_SECRET", "RAY_AUTH_TOKEN"} & set(told)
    assert all(process.env == told for process in cluster_processes(PLACE, logs=Path("/l")))


def test_loopback_stays_loopback_where_it_can() -> None:
    setting = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    assert environment(replace(PLACE, nodes=1))[setting] == "0"
    assert setting not in environment(PLACE)  # further nodes could not join
    assert setting not in environment(replace(PLACE, nodes=1, node_address="10.0.0.2"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"directory": Path("r")},
        {"directory": Path("/" + "r" * LONGEST_DIRECTORY)},
        {"nodes": 0},
        {"first_port": 80},
        {"first_port": 65500},
        {"cpus": 80},
    ],
)
def test_what_ray_would_fail_over_later_is_refused(wrong) -> None:
    with pytest.raises(ConfigError, match="engine 'ray'"):
        replace(PLACE, **wrong)


def test_directory_and_token_are_for_their_owner_alone(tmp_path: Path) -> None:
    long = short_directory(tmp_path / ("x" * LONGEST_DIRECTORY))
    assert len(str(long)) <= LONGEST_DIRECTORY
    assert stat.S_IMODE(long.stat().st_mode) == 0o700
    assert "provider" in (long / "ray_bootstrap_config.yaml").read_text()
    shutil.rmtree(long)
    write_token(tmp_path / "token")
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert len((tmp_path / "token").read_text()) == 64
    with pytest.raises(FileExistsError):
        write_token(tmp_path / "token")
