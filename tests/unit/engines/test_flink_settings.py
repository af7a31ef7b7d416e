import json
from pathlib import Path

import pytest

from wardian.engines.flink.place import FlinkMemory, FlinkPlace, FlinkPorts, FlinkTls
from wardian.engines.flink.settings import client_settings, cluster_settings, write_settings, yaml
from wardian.errors import ConfigError

PORTS = FlinkPorts(rpc=1, rest=2, blobs=3)


def place(directory: Path, **fields) -> FlinkPlace:
    tls = FlinkTls(directory=directory, password="secret-password")
    given = {"ports": PORTS} | fields
    return FlinkPlace(python=Path("/p"), directory=directory, tls=tls, address="10.1.2.3", **given)


def test_every_port_is_under_tls_and_on_the_address_alone(tmp_path) -> None:
    settings = cluster_settings(place(tmp_path))
    for key in ("internal.enabled", "rest.enabled", "rest.authentication-enabled"):
        assert settings[f"security.ssl.{key}"] is True
    assert settings["security.ssl.protocol"] == "TLSv1.3"
    for key in ("jobmanager.bind-host", "rest.bind-address", "taskmanager.bind-host"):
        assert settings[key] == "10.1.2.3"
    assert settings["web.submit.enable"] is False
    assert settings["web.cancel.enable"] is False


def test_values_are_one_line_of_yaml_each(tmp_path) -> None:
    text = yaml({"a": 'x: "y"\nb: 1', "c": True, "d": 5})
    assert text == 'a: "x: \\"y\\"\\nb: 1"\nc: true\nd: 5\n'
    for line in yaml(cluster_settings(place(tmp_path))).splitlines():
        key, _, value = line.partition(": ")
        assert key
        assert json.loads(value) is not None


def test_settings_with_a_password_are_for_one_user(tmp_path) -> None:
    directory = tmp_path / "conf"
    write_settings(directory, client_settings(place(tmp_path)))
    write_settings(directory, client_settings(place(tmp_path)))
    assert directory.stat().st_mode & 0o777 == 0o700
    assert all(each.stat().st_mode & 0o777 == 0o600 for each in directory.iterdir())
    assert "secret-password" in (directory / "config.yaml").read_text()


def test_no_password_in_a_repr(tmp_path) -> None:
    assert "secret-password" not in repr(place(tmp_path))


def test_a_place_is_one(tmp_path) -> None:
    assert place(tmp_path).rest_address == ("10.1.2.3", 2)
    assert place(tmp_path, ports=None, rest=("h", 5)).rest_address == ("h", 5)
    for fields in ({"rest": ("h", 5)}, {"ports": None}):
        with pytest.raises(ConfigError):
            place(tmp_path, **fields)
    with pytest.raises(ConfigError):
        cluster_settings(place(tmp_path, ports=None, rest=("h", 5)))
    with pytest.raises(ConfigError, match="100 MiB"):
        FlinkMemory(metaspace=100)


def test_what_cannot_be_written(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError):
        write_settings(tmp_path / "file" / "conf", {})
