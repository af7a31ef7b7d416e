"""Starts a role with Gramine's own tools: `gramine-sgx` on hardware, `gramine-direct` without.

The process gets a run directory of its own: links to what was built, and the two things that are
the operator's and untrusted: the settings as `host.json`, and links to where models and state lie.
gramine-direct runs the same manifest without an enclave. It cannot attest, so no broker gives it a
key: there a role can only test itself.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Final

from wardian._internal.files import replace_file
from wardian.errors import ConfigError

TOOLS: Final = ("gramine-sgx", "gramine-direct")
BUILT: Final = ("wardian.toml", "bytecode")
_PASSED_ON: Final = ("PATH", "HOME")


def launch_gramine(
    role: str,
    *,
    tool: str,
    directory: Path,
    run_directory: Path,
    host_settings: bytes,
    files: Mapping[str, Path],
) -> int:
    """Run `role` under `tool`; return its exit status once it ended. Signals are passed on.

    Args:
        role: its name; `ROLE.manifest` lies in `directory`, for `gramine-sgx` with `ROLE.sig`.
        tool: one of `TOOLS`.
        directory: the role's, as built.
        run_directory: made for this process, removed at its end.
        host_settings: JSON for the role, unmeasured.
        files: what else the role finds in its directory, by name.

    Raises:
        ConfigError: the tool is not installed, the role is not built or not signed, or the run
            directory cannot be made; says what to do.
    """
    program = _program(tool)
    needed = [f"{role}.manifest"]
    if tool == "gramine-sgx":
        needed = [f"{role}.manifest.sgx", f"{role}.sig"]
    for name in needed:
        if not (directory / name).is_file():
            verb = "sign" if tool == "gramine-sgx" else "build"
            raise ConfigError(f"{directory / name}: not there; run `wardian enclave {verb}`")
    try:
        run_directory.mkdir(mode=0o700, parents=True)
        for name in (*needed, *BUILT):
            (run_directory / name).symlink_to(directory / name)
        for name, place in files.items():
            (run_directory / name).symlink_to(place)
        replace_file(run_directory / "host.json", host_settings)
    except OSError as err:
        raise ConfigError(f"{run_directory}: cannot be made: {err.strerror}") from err
    try:
        return _run([program, role], run_directory)
    finally:
        shutil.rmtree(run_directory, ignore_errors=True)


def self_test_direct(role: str, *, directory: Path, host_settings: bytes) -> int:
    """Let `role` test itself under gramine-direct, in a scratch directory; return its status.

    Raises:
        ConfigError: as `launch_gramine`.
    """
    with tempfile.TemporaryDirectory(prefix="wardian-") as scratch:
        state = Path(scratch) / "state"
        state.mkdir()
        return launch_gramine(
            role,
            tool="gramine-direct",
            directory=directory,
            run_directory=Path(scratch) / "run",
            host_settings=host_settings,
            files={"state": state},
        )


def _program(tool: str) -> str:
    if tool not in TOOLS:
        raise ConfigError(f"no tool is called {tool!r}; there are {', '.join(TOOLS)}")
    found = shutil.which(tool)
    if found is None:
        raise ConfigError(
            f"{tool} is not installed: install Gramine 1.9 as its documentation says; "
            "`wardian doctor` shows what else this machine lacks"
        )
    return found


def _run(command: list[str], directory: Path) -> int:
    """Run `command` in the foreground, passing SIGTERM and SIGINT on."""
    env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    process = subprocess.Popen(command, cwd=directory, env=env, start_new_session=True)

    def forward(number: int, _frame: FrameType | None) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        code = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code
