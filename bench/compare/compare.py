"""One network and one input through clear text, TEE, MPC and HE: time, bytes, errors, labels.

Everything is up at once and asked in turn, round after round, so that what the machine does
meanwhile falls on all alike; a ratio is that of one round, and the median of them is told. One JSON
line goes to `bench/results/compare.jsonl`, the page and its picture to `docs/explanation/`.

    python bench/compare/compare.py [--rounds 7] [--page]
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "capacity"))
from comparison_page import table, write_comparison
from elsewhere import ENGINES, Absent, Elsewhere, elsewhere, python_of
from inprocess import Clear, Sealed, Took
from measured import cpu_of, machine_s
from nets import Floats, Net, rows_of
from processes import descendants
from rows import (
    ABY3,
    CHEETAH,
    CKKS,
    CLEAR,
    CLEAR_SERVED,
    SEALED,
    SERVED,
    Comparison,
    NetFacts,
    Seen,
    rows_of_run,
)
from served import Mesh, Twin, mesh, twins
from serving import setting
from trained import make_nets

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "compare.jsonl"
BATCHES = (1, 64)
ASKED = {ABY3: 3, CHEETAH: 1, CKKS: 1}
"""Requests of a round, each with inputs of its own."""
NO_COMPARING = "not possible: CKKS adds and multiplies, and ReLU compares"


class Run:
    """What is up, and what has been seen."""

    def __init__(self, folder: Path) -> None:
        """Make the networks."""
        self.folder = folder
        self.made = make_nets(folder)
        self.seen: dict[tuple[str, str, int], list[Seen]] = {}
        self.once: dict[tuple[str, str], int] = {}
        self.absent: dict[tuple[str, str], str] = {}
        self.versions: dict[str, str] = {}
        self._clear = {name: Clear(folder, name) for name in self.made}
        self._sealed = {name: Sealed(folder, name) for name in self.made}
        self._others: dict[str, Elsewhere] = {}
        self._mesh: Mesh | None = None
        self._twins: dict[str, Twin] = {}
        self._next = 0
        self.versions["engine"] = next(iter(self._clear.values())).engine

    def start(self, stack: ExitStack, engines: Path) -> None:
        """Start all that is a process of its own; what cannot be is absent, and says why."""
        names = list(self.made)
        self._mesh = stack.enter_context(mesh(self.folder, names))
        inputs = {name: held[:1] for name, (_, held, _) in self.made.items()}
        policy = self.folder / "mesh-state" / "client-policy.toml"
        self._twins = stack.enter_context(twins(self.folder, inputs, policy))
        batches = [str(batch) for batch in BATCHES]
        for path, engine, script, arguments in (
            (ABY3, "mpc", "mpc.py", ["ABY3", str(self.folder), *batches]),
            (CHEETAH, "mpc", "mpc.py", ["CHEETAH", str(self.folder), *batches]),
            (CKKS, "he", "he.py", [str(self.folder)]),
        ):
            print(f"starting {path}", file=sys.stderr)
            log = self.folder / f"{path.rpartition(' ')[2]}.log"
            try:
                there = elsewhere(python_of(engines, engine), HERE / script, *arguments, log=log)
                other = stack.enter_context(there)
            except Absent as err:
                self.versions[engine] = "absent"
                self._miss(path, str(err), names)
                continue
            self._others[path] = other
            self.versions[engine] = other.about["version"]
            for name, count in other.about["once_bytes"].items():
                self.once[path, name] = count
        if CKKS in self._others:
            self._miss(CKKS, NO_COMPARING, [n for n in names if self._net(n).activation == "relu"])

    def round(self) -> None:
        """Ask every path for every network and batch, once or a few times."""
        for name in self.made:
            for batch in BATCHES:
                self._cell(name, batch)

    def facts(self) -> dict[str, NetFacts]:
        """Return what is known of the networks."""
        return {
            name: NetFacts(
                parameters=net.parameters,
                multiplications=net.multiplications,
                file_bytes=(self.folder / f"{name}.onnx").stat().st_size,
                accuracy=accuracy,
                held_out=len(held),
                largest_score=float(np.abs(self._clear[name].scores(held)).max()),
            )
            for name, (net, held, accuracy) in self.made.items()
        }

    def _cell(self, name: str, batch: int) -> None:
        x, clear = self._rows(name, batch), self._clear[name]
        if self._mesh is None:
            raise SystemExit("nothing was started")
        bare, expected = clear.took(x), clear.scores(x)

        def note(path: str, spent: Took, scores: Any, moved: int, **more: Any) -> None:
            self.seen.setdefault((path, name, batch), []).append(
                Seen(seconds=spent.seconds, cpu_s=spent.cpu_s, clear_s=bare.seconds,
                     clear_cpu_s=bare.cpu_s, scores=np.asarray(scores), bytes=moved,
                     **{"expected": expected, **more})
            )  # fmt: skip

        note(CLEAR, bare, expected, x.nbytes + expected.nbytes)
        scores, moved = self._sealed[name].ask(x)
        note(SEALED, self._sealed[name].took(x), scores, moved)
        twin, up = self._twins[name], self._mesh
        served = twin.took(x)
        self.once[CLEAR_SERVED, name], moved = twin.moved(x)
        note(CLEAR_SERVED, served, twin.scores(x), moved)
        sealed = up.took(name, x)
        self.once[SERVED, name], moved = up.moved(name, x)
        note(SERVED, sealed, up.scores(name, x), moved, served_s=served.seconds)
        for path in self._others:
            if (path, name) not in self.absent:
                self._ask(path, name, batch, served_s=served.seconds, note=note)

    def _ask(
        self, path: str, name: str, batch: int, *, served_s: float, note: Callable[..., None]
    ) -> None:
        for _ in range(ASKED[path]):
            start, x = self._next, self._rows(name, batch)
            try:
                told = self._others[path].ask(net=name, start=start, batch=batch)
            except Absent as err:
                self._miss(path, str(err), list(self.made))
                return
            spent = Took(told["seconds"], told["cpu_s"])
            note(path, spent, told["scores"], told["bytes"], steps=told["steps"],
                 expected=self._clear[name].scores(x), served_s=served_s)  # fmt: skip

    def _rows(self, name: str, batch: int) -> Floats:
        """Return rows that were not taken last time."""
        _, held, _ = self.made[name]
        x = rows_of(held, self._next, batch)
        self._next += batch
        return x

    def _net(self, name: str) -> Net:
        return self.made[name][0]

    def _miss(self, path: str, why: str, names: list[str]) -> None:
        for name in names:
            self.absent.setdefault((path, name), why)


def run(rounds: int, engines: Path) -> Comparison:
    """Return what was found."""
    about, began = setting(rounds, 0.0), time.monotonic()
    del about["seconds"]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        found = Run(Path(folder))
        found.start(stack, engines)
        before, own = machine_s(), cpu_of(descendants(os.getpid()))
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            found.round()
        after, own = machine_s(), cpu_of(descendants(os.getpid())) - own
        return Comparison(
            setting={**about, "tee": "SIMULATED"},
            seconds=time.monotonic() - began,
            others=max(0.0, after[0] - before[0] - own) / (after[2] - before[2]),
            versions=found.versions,
            nets=found.facts(),
            rows=rows_of_run(found.seen, found.once, found.absent, BATCHES, list(found.made)),
        )


def main() -> None:
    """Measure, keep the figures, render the page and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--page", action="store_true", help="only render the newest line anew")
    parser.add_argument(
        "--engines", type=Path, default=ENGINES, help="where `make mpc he` put them"
    )
    parser.add_argument("--dry", action="store_true", help="keep nothing: print the table alone")
    options = parser.parse_args()
    if not options.page:
        found = run(options.rounds, options.engines)
        if options.dry:
            print(table(found))
            return
        with RESULTS.open("ab") as sink:
            sink.write(msgspec.json.encode(found) + b"\n")
    print(table(write_comparison(RESULTS)))


if __name__ == "__main__":
    main()
