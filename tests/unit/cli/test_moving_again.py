"""A directory that was made of Cluster Serving's files is used again for the same, and for no other."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "compat"))

from zoo_models import make_openvino

from wardian.cli.moving.options import Asked
from wardian.cli.moving.run import ready_to_serve
from wardian.cli.state import StateDir
from wardian.compat.zoo.migration import carry_over
from wardian.compat.zoo.migration.record import load_record
from wardian.compat.zoo.migration.wanted import Wanted
from wardian.errors import ConfigError


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    make_openvino(tmp_path / "model")
    (tmp_path / "config.yaml").write_text(
        "modelPath: model\njobName: job\nimageResize: 1,1\nredisUrl: localhost:1\n"
    )
    wanted = Wanted(config=tmp_path / "config.yaml", out=tmp_path / "out", http=True)
    return Asked(wanted=wanted, secret_file=None, salt_file=None, model_secured=False)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir.open(tmp_path / "state")


def test_the_same_is_not_converted_again_and_its_report_is_the_same(
    asked, state, capsys, monkeypatch
):
    assert not ready_to_serve(asked, state).reused
    first = capsys.readouterr().out
    agreed = asked.wanted.out / "wardian.toml"
    agreed.write_text(agreed.read_text() + "# mine\n")
    monkeypatch.setattr(carry_over, "ready_model", None)  # it would be called
    done = ready_to_serve(asked, state)
    assert (done.reused, done.models, done.written) == (True, ("job",), ())
    again = capsys.readouterr().out
    assert "is used again" in again
    for line in first.splitlines():
        assert line.startswith("wrote ") or line in again
    assert "imageResize" in again
    assert "modelPath" not in again  # it works
    assert agreed.read_text().endswith("# mine\n")


def other_model(asked: Asked, tmp_path: Path) -> Asked:
    (tmp_path / "model" / "model.bin").write_bytes(bytes(160))
    return asked


def other_file(asked: Asked, tmp_path: Path) -> Asked:
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text() + "threadPerModel: 2\n")
    return asked


def with_(**changed: object):
    return lambda asked, _: replace(asked, wanted=replace(asked.wanted, **changed))


@pytest.mark.parametrize(
    "change",
    [other_model, other_file, with_(http=False), with_(flags=("--port", "10020"))],
    ids=["model", "config", "option", "flags"],
)
def test_another_is_refused_with_what_to_do(asked, state, tmp_path, change):
    ready_to_serve(asked, state)
    before = load_record(asked.wanted.out)
    asked = change(asked, tmp_path)
    with pytest.raises(ConfigError, match="--force makes it anew"):
        ready_to_serve(asked, state)
    assert load_record(asked.wanted.out) == before
    asked = replace(asked, wanted=replace(asked.wanted, force=True))
    assert not ready_to_serve(asked, state).reused
    assert load_record(asked.wanted.out) != before


@pytest.mark.parametrize("record", [None, b"", b"{}", b"[" * 100_000, b"x" * 2_000_000])
def test_a_directory_of_somebody_else_is_refused(asked, state, record):
    ready_to_serve(asked, state)
    path = asked.wanted.out / "migrated.json"
    if record is None:
        path.unlink()
    else:
        path.write_bytes(record)
    with pytest.raises(ConfigError, match="there already"):
        ready_to_serve(asked, state)


def test_a_model_that_is_missing_ends_it_before_anything_is_served(asked, state, tmp_path, capsys):
    (tmp_path / "model" / "model.bin").unlink()
    with pytest.raises(SystemExit):
        ready_to_serve(asked, state)
    assert "missing" in capsys.readouterr().out
    assert not (asked.wanted.out / "migrated.json").exists()


def test_a_password_beside_the_state_directory_is_refused(asked, state, tmp_path):
    (tmp_path / "password").write_text("x\n")
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "store.pkcs12").write_text("x")
    flags = ("--httpsEnabled", "true", "--httpsKeyStorePath", str(tmp_path / "store.pkcs12"))
    asked = replace(
        asked,
        wanted=replace(asked.wanted, flags=flags, keystore_password=tmp_path / "password"),
    )
    with pytest.raises(ConfigError, match="a directory of its own"):
        ready_to_serve(asked, state)
