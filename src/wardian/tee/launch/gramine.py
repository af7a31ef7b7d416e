"""Starts a role with Gramine's own tools: `gramine-sgx` on hardware, `gramine-direct` without.

The process gets a run directory of its own: links to what was built, and the two things that are
the operator's and untrusted: the settings as `host.json`, and links to where models and state lie.
gramine-direct runs the same manifest without an enclave. It cannot attest, so no broker gives it a
key: there a role can only test itself.
"""

import os
import select
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wardian._internal.clock import monotonic
from wardian._internal.files import replace_file
from wardian.errors import ConfigError
from wardian.tee.launch.child import GRACE_S, die_with_parent, ended, exit_status, forwarded_signals
from wardian.tee.launch.lifeline import Lifeline

TOOLS: Final = ("gramine-sgx", "gramine-direct")
BUILT: Final = ("wardian.toml", "bytecode")
POLL_S: Final = 0.2
_PASSED_ON: Final = ("PATH", "HOME")


def launch_gramine(
    role: str,
    *,
    tool: str,
    directory: Path,
    run_directory: Path,
    host_settings: bytes,
    files: Mapping[str, Path],
    lifeline: Lifeline | None = None,
) -> int:
    """Run `role` under `tool`; return its exit status once it ended. Signals are passed on.

    Args:
        role: its name; `ROLE.manifest` lies in `directory`, for `gramine-sgx` with `ROLE.sig`.
        tool: one of `TOOLS`.
        directory: the role's, as built.
        run_directory: made for this process, removed at its end.
        host_settings: JSON for the role, unmeasured.
        files: what else the role finds in its directory, by name.
        lifeline: when it is over, the role is told to end.

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
        _fill(run_directory, {name: directory / name for name in (*needed, *BUILT)} | dict(files))
        replace_file(run_directory / "host.json", host_settings)
        return _run([program, role], run_directory, lifeline)
    finally:
        shutil.rmtree(run_directory, ignore_errors=True)


def _fill(run_directory: Path, links: Mapping[str, Path]) -> None:
    try:
        run_directory.mkdir(mode=0o700, parents=True)
        for name, place in links.items():
            (run_directory / name).symlink_to(place)
    except OSError as err:
        raise ConfigError(f"{run_directory}: cannot be made: {err.strerror}") from err


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


def _run(command: list[str], directory: Path, lifeline: Lifeline | None) -> int:
    """Run `command` in the foreground, passing SIGTERM and SIGINT on.

    Gramine keeps host signals from the enclave (a host that injects them is an attacker), so what
    is told to end and does not is killed: a worker's requests are answered by others, and a broker
    commits before it acts.
    """
    env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=env,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 (one system call, and nothing else)
    )
    told: list[float] = []

    def end() -> None:
        process.terminate()
        told.append(monotonic())

    with ended(process), forwarded_signals(end):
        while (code := process.poll()) is None:
            watched = [] if lifeline is None else [lifeline.descriptor]
            select.select(watched, [], [], POLL_S)
            if lifeline is not None and lifeline.over():
                lifeline = None
                end()
            if told and monotonic() - told[0] > GRACE_S:
                process.kill()
    return exit_status(code)
