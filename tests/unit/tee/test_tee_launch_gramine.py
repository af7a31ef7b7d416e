"""Starting a role with Gramine's tools: the run directory, signals, what is missing.

The tools here are stand-ins that report how they were called: Gramine cannot be installed from PyPI
or Debian. `tests/e2e/test_self_test.py` runs the real gramine-direct where there is one.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wardian.errors import ConfigError
from wardian.tee.launch.gramine import launch_gramine

STAND_IN = f"""\
#!{sys.executable}
import json, os, pathlib, sys
here = pathlib.Path.cwd()
seen = {{
    "argv": sys.argv[1:],
    "cwd": str(here),
    "mode": oct(here.stat().st_mode & 0o777),
    "files": {{path.name: str(path.resolve()) for path in sorted(here.iterdir())}},
    "settings": (here / "host.json").read_text(),
    "env": sorted(os.environ),
}}
pathlib.Path(os.environ["HOME"], "seen.json").write_text(json.dumps(seen))
sys.exit(7)
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("gramine-sgx", "gramine-direct"):
        (folder / name).write_text(STAND_IN)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WARDIAN_CANARY", "secret")
    return folder


@pytest.fixture
def built(tmp_path: Path) -> Path:
    directory = tmp_path / "enclave"
    (directory / "bytecode").mkdir(parents=True)
    for name in ("worker.manifest", "wardian.toml"):
        (directory / name).write_text(name)
    return directory


def launch(built: Path, tool: str, **files: Path) -> int:
    return launch_gramine(
        "worker",
        tool=tool,
        directory=built,
        run_directory=built.parent / "run" / "worker-1",
        host_settings=b'{"x":1}',
        files=files,
    )


def test_the_run_directory_holds_what_the_manifest_names(tools, built, tmp_path) -> None:
    sealed = tmp_path / "digits-3.sealed"
    sealed.write_bytes(b"sealed")
    assert launch(built, "gramine-direct", **{"model.sealed": sealed}) == 7
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["argv"] == ["worker"]
    assert seen["mode"] == "0o700"
    assert seen["settings"] == '{"x":1}'
    assert seen["files"] == {
        "bytecode": str(built / "bytecode"),
        "host.json": str(built.parent / "run" / "worker-1" / "host.json"),
        "model.sealed": str(sealed),
        "wardian.toml": str(built / "wardian.toml"),
        "worker.manifest": str(built / "worker.manifest"),
    }
    assert "WARDIAN_CANARY" not in seen["env"]
    assert not (built.parent / "run" / "worker-1").exists()


def test_hardware_needs_a_signature(tools, built, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"worker\.manifest\.sgx: not there.*sign"):
        launch(built, "gramine-sgx")
    for name in ("worker.manifest.sgx", "worker.sig"):
        (built / name).write_text(name)
    assert launch(built, "gramine-sgx") == 7
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert {"worker.manifest.sgx", "worker.sig"} <= set(seen["files"])


def test_what_is_missing(built, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="gramine-direct is not installed"):
        launch(built, "gramine-direct")
    with pytest.raises(ConfigError, match="no tool is called 'gramine-magic'"):
        launch(built, "gramine-magic")


def test_a_role_that_is_not_built(tools, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"worker\.manifest: not there.*build"):
        launch(tmp_path / "nothing", "gramine-direct")


def test_a_run_directory_that_cannot_be_made(tools, built) -> None:
    (built.parent / "run").write_text("a file")
    with pytest.raises(ConfigError, match="cannot be made"):
        launch(built, "gramine-direct")


WAITING = f"""#!{sys.executable}
import pathlib, os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
pathlib.Path(os.environ["HOME"], "up").touch()
time.sleep(60)
"""
LAUNCHER = """
import os, pathlib, sys
from wardian.tee.launch.gramine import launch_gramine
from wardian.tee.launch.lifeline import Lifeline
built, run_directory, lifeline = sys.argv[1:]
sys.exit(launch_gramine("worker", tool="gramine-direct", directory=pathlib.Path(built),
    run_directory=pathlib.Path(run_directory), host_settings=b"", files={}, lifeline=Lifeline(int(lifeline)),
))
"""


@pytest.mark.parametrize("how", ["signal", "lifeline"])
def test_the_tool_is_told_to_end(tools, built, tmp_path, how) -> None:
    (tools / "gramine-direct").write_text(WAITING)
    read_end, write_end = os.pipe()
    argv = [sys.executable, "-c", LAUNCHER, str(built), str(tmp_path / "r"), str(read_end)]
    with subprocess.Popen(argv, env=dict(os.environ), pass_fds=(read_end,)) as process:
        os.close(read_end)
        for _ in range(1000):
            if (tmp_path / "up").exists():
                break
            time.sleep(0.02)
        if how == "signal":
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 9
        os.close(write_end)
        assert process.wait(30) == 9
    assert not (tmp_path / "r").exists()
