"""A whole mesh for tests: `wardian up` as a user starts it, in processes of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
DIGITS = REPOSITORY / "examples" / "digits"


def children_of(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
    return found


@dataclass
class RunningMesh:
    state: Path
    example: Path = DIGITS
    options: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    """What serves, in place of `wardian up` of the example."""
    process: subprocess.Popen[str] | None = None

    def start(self, timeout_s: float = 90.0) -> "RunningMesh":
        self.state.parent.mkdir(parents=True, exist_ok=True)
        self.screen_path = self.state.parent / f"{self.state.name}.screen"
        with self.screen_path.open("w") as screen:
            self.process = subprocess.Popen(
                [
                    *self.prefix,
                    sys.executable,
                    "-m",
                    "wardian.cli",
                    *(self.command or ("up", str(self.example))),
                    "--state",
                    str(self.state),
                    "--port",
                    "0",
                    *self.options,
                ],
                stdout=screen,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self.env},
                text=True,
            )
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(
                    f"wardian up ended with {self.process.returncode}:\n{self.screen}"
                )
            if self.status.get("state") == "serving":
                return self
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"wardian up is not serving after {timeout_s} s:\n{self.screen}")

    def start_once(self, timeout_s: float = 90.0) -> str:
        """Run what ends by itself, `--once`, and return what it showed."""
        with contextlib.suppress(RuntimeError):
            self.start(timeout_s)
        assert self.process is not None
        assert self.process.wait(timeout_s) == 0, self.screen
        return self.screen

    @property
    def screen(self) -> str:
        return self.screen_path.read_text()

    @property
    def status(self) -> dict[str, Any]:
        path = self.state / "run" / "status.json"
        try:
            return json.loads(path.read_text())
        except (OSError, json.JSONDecodeError):
            return {}

    @property
    def url(self) -> str:
        return self.status["url"]

    @property
    def policy(self) -> Path:
        return self.state / "client-policy.toml"

    @property
    def ca(self) -> Path:
        return self.state / "mesh-ca.pem"

    def role_pid(self, process: str) -> int:
        """The pid of the role itself: the child of the launcher that the engine watches."""
        (status,) = [each for each in self.status["processes"] if each["name"] == process]
        return children_of(status["pid"])[0]

    def pids(self) -> list[int]:
        """Every process of the mesh, the prefix's first."""
        found = [self.process.pid]
        for pid in found:
            found += children_of(pid)
        return found

    def stop(self) -> int:
        """End it as Ctrl-C does and return its exit status."""
        if self.process is None or self.process.poll() is not None:
            return self.process.returncode if self.process else 0
        up = children_of(self.process.pid)[0] if self.prefix else self.process.pid
        os.kill(up, signal.SIGINT)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
