"""What confinement costs: start-up and serving, confined against not, in CPU seconds.

The unconfined side runs a copy of the package in which Landlock and the filter of system calls are
taken out; the other side runs an untouched copy. Both meshes are up all the time and loaded in
turn; figures are medians over the rounds.

    python bench/confinement.py [--rounds 12] [--seconds 2]
"""

import argparse
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from processes import free_port, process, wait_for
from serving import DIGITS, PREDICT, Target, measure, requests

import wardian

ROLES = ("broker", "frontend", "worker")
SIDES = ("confined", "unconfined")


def copies(directory: Path) -> dict[str, Path]:
    """Return where the two copies of the package lie; both pass PYTHONPATH on to launchers."""
    found = {}
    for side in SIDES:
        place = directory / side
        shutil.copytree(Path(wardian.__file__).parent, place / "wardian")
        edit(
            place,
            "cli/engines/command_line.py",
            'PASSED_ON: Final = ("PATH",',
            'PASSED_ON: Final = ("PATH", "PYTHONPATH",',
        )
        found[side] = place
    place = found["unconfined"]
    edit(place, "tee/launch/launcher.py", "version = abi()", "version = 0")
    edit(place, "tee/bootstrap.py", '    if tee == "simulated":\n        import_module', "    if False:\n        import_module")  # fmt: skip  # noqa: E501
    return found


def edit(place: Path, name: str, old: str, new: str) -> None:
    """Replace `old` by `new` in a file of a copy, which must hold it."""
    path = place / "wardian" / name
    text = path.read_text()
    if old not in text:
        raise SystemExit(f"{name} does not read as this benchmark expects")
    path.write_text(text.replace(old, new))


def start_cost(package: Path, state: Path, role: str) -> float:
    """Return the CPU seconds of one self-test of `role`, launcher included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "wardian.cli", "enclave", "run", role]
    subprocess.run(
        [*command, "--state", str(state), "--self-test"],
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def start_mesh(stack: ExitStack, package: Path, directory: Path, side: str) -> Target:
    """Start a mesh from `package`; its state directory serves `start_cost` as well."""
    state, port = directory / f"state-{side}", free_port()
    body, _, _ = requests(directory)
    os.environ["PYTHONPATH"] = str(package)
    up = [sys.executable, "-m", "wardian.cli", "up", str(DIGITS), "--state", str(state)]
    mesh = stack.enter_context(process(*up, "--port", str(port)))
    status = state / "run" / "status.json"
    wait_for(lambda: status.exists() and '"serving"' in status.read_text(), side)
    url = f"https://localhost:{port}{PREDICT}"
    return Target(side, url, state / "mesh-ca.pem", body, (), mesh.pid)


def main() -> None:
    """Print one JSON line and a sentence a figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="wardian-") as scratch, ExitStack() as stack:
        directory = Path(scratch)
        packages = copies(directory)
        meshes = {side: start_mesh(stack, packages[side], directory, side) for side in SIDES}
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            order = SIDES if number % 2 else SIDES[::-1]
            for side in order:
                figures = measure(meshes[side], 16, options.seconds)
                for name in ("per_second", "cpu_us"):
                    found[f"{side} {name}"].append(figures[name])
            for role, side in itertools.product(ROLES, order):
                state = directory / f"state-{side}"
                found[f"{side} start {role} s"].append(start_cost(packages[side], state, role))
    medians = {name: statistics.median(values) for name, values in sorted(found.items())}
    print(json.dumps({name: round(value, 4) for name, value in medians.items()}))
    for name in (*(f"start {role} s" for role in ROLES), "cpu_us", "per_second"):
        ratio = medians[f"confined {name}"] / medians[f"unconfined {name}"]
        print(f"{name}: confined / unconfined = {ratio:.3f}")


if __name__ == "__main__":
    main()
