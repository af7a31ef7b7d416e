"""An owner at a running mesh: the commands that `wardian up`'s own state directory is enough for."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from mesh import RunningMesh

import wardian
from wardian.cli.main import cli
from wardian.errors import PolicyDenied


def run(*arguments: object) -> str:
    done = CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_an_owner_at_a_running_mesh(tmp_path: Path) -> None:
    state = tmp_path / "state"
    mesh = RunningMesh(state=state).start()
    try:
        with wardian.connect(mesh.url, policy=mesh.policy) as client:
            client.metadata("digits")
            receipt = json.loads(run("mesh", "rotate", "--state", state, "--json"))["receipt"]
            assert receipt["epoch"] == 2
            client.metadata("digits")
        receipt = json.loads(run("mesh", "beacon", "--state", state, "--json"))["receipt"]
        assert receipt["missing"] == []
        with pytest.raises(PolicyDenied) as caught:
            run("mesh", "beacon", "--state", state, "--at", receipt["time"] - 60)
        assert caught.value.rule == "beacon-order"
        (first,) = json.loads(run("mesh", "log", "--state", state, "--json"))
        assert (first["version"], first["digest"]) == (1, receipt["manifest_digest"])
        again = run("mesh", "propose", state / "manifest.json", "--state", state, "--json")
        assert json.loads(again)["receipt"]["epoch"] == 2  # the same manifest begins no epoch
    finally:
        assert mesh.stop() == 0


@pytest.mark.slow
@pytest.mark.slow
def test_a_second_run_follows_the_first(tmp_path: Path) -> None:
    """`wardian up` signs what follows the manifest in force, whatever it signed meanwhile."""
    state = tmp_path / "state"
    for version in (1, 2):
        mesh = RunningMesh(state=state).start()
        try:
            history = json.loads(run("mesh", "log", "--state", state, "--json"))
        finally:
            assert mesh.stop() == 0
        assert [each["version"] for each in history] == list(range(1, version + 1))
    assert history[1]["previous"] == history[0]["digest"]
    said = run("mesh", "verify", state / "manifest.json", "--agreed", state / "wardian.toml")
    assert "version 2" in said
