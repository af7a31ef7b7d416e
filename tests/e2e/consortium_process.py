"""An aggregator and parties as users start them: `wardian aggregator`, `wardian party`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from mesh import children_of

from wardian.cli.owner.keys import read_owner_key

APP = Path(__file__).parents[2] / "examples" / "federated-digits" / "app.py"
PLAN = """\
name = "digits"

[run]
rounds = {rounds}
quorum = {quorum}
{run}

[strategy]
{strategy}

[app]
alpha = 0.5
batch = 32
epochs = 1
lr = 0.1
seed = 0
num-partitions = {parties}
"""


def wardian(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "wardian.cli", *map(str, arguments)]


class Process:
    def __init__(self, log: Path, *arguments: object) -> None:
        self.arguments, self.log = arguments, log
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(wardian(*self.arguments), stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill the process and what it started, as a machine that loses power does."""
        for pid in (*children_of(self.process.pid), self.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.process.wait(20)

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")


class Consortium:
    """One consortium on this machine; the parties' files lie apart."""

    def __init__(
        self,
        place: Path,
        *names: str,
        rounds: int = 3,
        strategy: str = 'name = "fedavg"',
        run: str = "",
        app: Path = APP,
        plan: str | None = None,
        operator: str = "",
    ) -> None:
        """Start the aggregator of `names`.

        Args:
            place: where all files lie.
            names: of the parties.
            rounds: of the plan, as are `strategy` and `run`.
            strategy: its table.
            run: more of the table `[run]`.
            app: what each party runs.
            plan: in place of all that, but for `[parties]`.
            operator: more of `operator.toml`.
        """
        self.place, self.names, self.app = place, names, app
        self.state, self.plan = place / "state", place / "consortium.toml"
        self.state.mkdir(mode=0o700, exist_ok=True)
        text = plan or PLAN.format(
            rounds=rounds, quorum=len(names), run=run, strategy=strategy, parties=len(names)
        )
        for name in names:
            command = wardian("owner", "keygen", "--out", self.key(name))
            subprocess.run(command, check=True, capture_output=True)
            public = read_owner_key(self.key(name)).public.hex()
            text += f'\n[parties.{name}]\nkey = "{public}"\n'
        self.plan.write_text(text)
        (self.state / "operator.toml").write_text(operator)
        self.aggregator = Process(
            place / "aggregator.log",
            *("aggregator", "--state", self.state, "--consortium", self.plan),
        )
        self.port = self.announced("aggregator.listening")["port"]
        (self.state / "operator.toml").write_text(f"{operator}\n[aggregator]\nport = {self.port}\n")
        self.way = self.port
        """The port by which parties reach the aggregator."""
        self.parties: dict[str, Process] = {}

    def key(self, name: str) -> Path:
        return self.place / f"{name}.key"

    def model(self, name: str) -> Path:
        return self.place / f"{name}.npz"

    def party(self, name: str, **settings: object) -> Process:
        self.parties[name] = Process(
            self.place / f"{name}.log",
            *("party", name, "--app", self.app, "--aggregator", f"127.0.0.1:{self.way}"),
            *("--consortium", self.plan, "--policy", self.state / "party-policy.toml"),
            *("--key", self.key(name), "--state", self.place / f"party-{name}"),
            *("--set", f"partition-id={self.names.index(name)}", "-o", self.model(name)),
            *(part for each in settings.items() for part in ("--set", "{}={}".format(*each))),
        )
        return self.parties[name]

    def said(self) -> list[dict[str, Any]]:
        """Return what the aggregator told its host."""
        whole, _, _ = self.aggregator.text.rpartition("\n")
        lines = whole.splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if "time" not in line]

    def announced(self, event: str, **fields: object) -> dict[str, Any]:
        """Return what the aggregator says with these fields, once it has said it."""
        until = time.monotonic() + 120
        while time.monotonic() < until:
            for line in self.said():
                if line["event"] == event and fields.items() <= line.items():
                    return line
            assert self.aggregator.process.poll() is None, self.aggregator.text[-2000:]
            time.sleep(0.02)
        raise AssertionError(f"no {event}: {self.aggregator.text[-2000:]}")

    def models(self) -> list[dict[str, np.ndarray]]:
        """Return what each party wrote once the run is over, with status 0 everywhere."""
        for name, party in self.parties.items():
            assert party.process.wait(120) == 0, party.text[-2000:]
            assert name in self.names
        assert self.aggregator.process.wait(90) == 0, self.aggregator.text[-2000:]
        return [dict(np.load(self.model(name))) for name in self.names]

    def end(self) -> None:
        for each in (self.aggregator, *self.parties.values()):
            if each.process.poll() is None:
                each.kill()
