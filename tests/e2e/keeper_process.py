"""A keeper of counters as a user starts it: `wardian keeper`, on a simulated machine of its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from mesh import children_of


class Keeper:
    def __init__(self, state: Path) -> None:
        self.state = state
        self.port = 0
        self.start()

    def start(self) -> None:
        self.state.mkdir(mode=0o700, exist_ok=True)
        if self.port:  # the broker knows it by its address
            (self.state / "operator.toml").write_text(f"[keeper]\nport = {self.port}\n")
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "wardian.cli", "keeper", "--state", str(self.state)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        line = json.loads(self.process.stdout.readline())
        assert line["event"] == "keeper.listening"
        self.port = line["port"]

    @property
    def log(self) -> Path:
        return self.state.parent / f"{self.state.name}.log"

    def kill(self) -> None:
        """Kill the role itself, as a machine that loses power does; its launcher follows."""
        for pid in children_of(self.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.end()

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.stdout.close()
        return self.process.wait(20)

    def show(self, name: str) -> dict[str, Any]:
        command = ("keeper", "show", f"127.0.0.1:{self.port}", "--name", name, "--json")
        done = subprocess.run(
            [sys.executable, "-m", "wardian.cli", *command],
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)
