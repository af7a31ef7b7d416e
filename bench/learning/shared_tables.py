"""What sealing costs a job over tables of three owners: time, and memory at its peak.

Three owners have a third each of `--rows` rows of 30 columns and a label, doubles in Parquet that
is not compressed. The sealed job is all of `run_job`: it opens the tables, in every pass anew,
trains and seals the model. *Clear* is the same trainer on the same files in the clear. Opening is
the whole content read once, in pieces as large as a chunk, without decoding: sealed and clear, cold
(the kernel's cache of the file is dropped first) and warm. With `--library` there is also what its
users write with scikit-learn, in the clear and with the whole table in memory.

Each measurement is a process of its own that does nothing else; they are taken in turn, medians are
told. Its peak is the kernel's (VmHWM), and so that of the libraries as well; `rows_mb` is what the
table is in memory.

    python bench/learning/shared_tables.py [--rows 10000000] [--rounds 3] [--folder DIR]
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

BENCH = Path(__file__).parents[1]
sys.path.insert(0, str(BENCH))
from serving import setting  # noqa: E402

from wardian.broker.jobs.decision import agreements, judge_on_paper  # noqa: E402
from wardian.broker.jobs.merge import merge_outputs  # noqa: E402
from wardian.broker.jobs.plan import JobPlan, load_plan  # noqa: E402
from wardian.broker.jobs.policy import load_policy  # noqa: E402
from wardian.broker.jobs.trainers import TRAINERS  # noqa: E402
from wardian.broker.tables.content import TableKey  # noqa: E402
from wardian.crypto.hpke import HpkePrivateKey  # noqa: E402
from wardian.crypto.recipients import BrokerKey  # noqa: E402
from wardian.crypto.sealed_file import Pin, SealedReader, seal_file  # noqa: E402
from wardian.crypto.secret import Secret  # noqa: E402
from wardian.crypto.signing import SigningKey  # noqa: E402
from wardian.learning.shared.columns import Columns, Kind, kinds_of  # noqa: E402
from wardian.learning.shared.extra import extra  # noqa: E402
from wardian.learning.shared.parquet_table import parquet_batches  # noqa: E402
from wardian.learning.shared.rows import SealedRows  # noqa: E402
from wardian.learning.shared.running import run_job  # noqa: E402
from wardian.learning.shared.tables import OpenedTable, SealedTable  # noqa: E402
from wardian.learning.shared.trainers.table import FUNCTIONS  # noqa: E402
from wardian.learning.shared.trainers.trained import Task  # noqa: E402

RESULTS = BENCH / "results" / "learning_shared.jsonl"
OWNERS = ("hospital-a", "hospital-b", "hospital-c")
COLUMNS = tuple(f"c{at:02d}" for at in range(30))
MEDIA_TYPE = "application/vnd.apache.parquet"
GROUP_ROWS = 2**17
OPENINGS = 5
"""As many as one round of a job: they are quick, and disks moody."""
PIECE = 2**18
JOBS: Mapping[str, dict[str, Any]] = {
    "linear-regression": {},
    "logistic-regression": {"max_iterations": 4},
    "k-means": {"clusters": 8, "max_iterations": 4},
    "xgboost": {"trees": 10},
    "dense-network": {"epochs": 1},
}
BY_DEFAULT = ("linear-regression", "logistic-regression", "k-means")
TARGETS = {"time": 1.3, "memory": 1.3, "opening": 1.2}
MEASUREMENT = "e1" * 32


def key_of(owner: str) -> Secret:
    """Return the key of a table: what is measured here is no secret."""
    return Secret(owner.encode().ljust(32))


def write(folder: Path, rows: int) -> None:
    """Leave three tables in `folder`, each in the clear and sealed, and their pins."""
    pa, pq = extra("pyarrow"), extra("pyarrow.parquet")
    chance = np.random.default_rng(1)
    weights = chance.normal(size=len(COLUMNS))
    schema = pa.schema([(name, pa.float64()) for name in (*COLUMNS, "y")])
    pins = {}
    for place, owner in enumerate(OWNERS):
        left = rows // 3 + (rows % 3 if place == 0 else 0)
        clear = folder / f"{owner}.parquet"
        options = {"compression": "none", "use_dictionary": False}
        with pq.ParquetWriter(clear, schema, **options) as writer:
            while left:
                count = min(left, GROUP_ROWS)
                values = chance.normal(size=(len(COLUMNS), count)) * 3 + 1
                label = (weights @ values + chance.logistic(size=count) * 3 > 0).astype(np.float64)
                writer.write_table(pa.table([*values, label], schema=schema))
                left -= count
        pins[owner] = str(
            seal_file(
                clear,
                folder / f"{owner}.sealed",
                recipients=[BrokerKey(key_of(owner))],
                media_type=MEDIA_TYPE,
                name="records",
                version=1,
            )
        )
    (folder / "pins.json").write_text(json.dumps(pins))
    os.sync()


def toml(table: Mapping[str, Any]) -> bytes:
    """Return `table` as TOML: keys with JSON values, which TOML reads, in tables within tables."""

    def inline(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key} = {inline(each)}" for key, each in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(inline, value)) + "]"
        return json.dumps(value)

    return "".join(f"{key} = {inline(value)}\n" for key, value in table.items()).encode()


def parties() -> dict[str, dict[str, str]]:
    return {
        owner: {
            "key": SigningKey.from_secret(key_of(owner)).public.hex(),
            "seal_to": HpkePrivateKey.from_secret(key_of(owner)).public.hex(),
        }
        for owner in OWNERS
    }


def plan_of(algorithm: str) -> JobPlan:
    """Return the plan of the job."""
    label = {"label": "y"} if TRAINERS[algorithm].labelled else {}
    return load_plan(
        toml(
            {
                "mesh": "hospitals",
                "name": "study",
                "purpose": "study",
                "parties": parties(),
                "inputs": [
                    {"table": "records", "owner": owner, "columns": list(COLUMNS), **label}
                    for owner in OWNERS
                ],
                "join": {"kind": "stack"},
                "train": {"algorithm": algorithm, "parameters": JOBS[algorithm]},
                "outputs": {"model": [OWNERS[0]]},
                "seed": 1,
            }
        )
    )


def policy_of(owner: str, algorithm: str, pin: str) -> Any:
    """Return what an owner allows: exactly this."""
    return load_policy(
        toml(
            {
                "mesh": "hospitals",
                "table": "records",
                "owner": owner,
                "serial": 1,
                "pin": pin,
                "uses": 1,
                "parties": parties(),
                "code": {"measurements": [MEASUREMENT], "any_platform": "risk accepted"},
                "allow": [
                    {
                        "name": "study",
                        "purposes": ["study"],
                        "parties": list(OWNERS),
                        "columns": ["*"],
                        "algorithms": {
                            algorithm: {
                                key: {"exact": value} for key, value in JOBS[algorithm].items()
                            }
                        },
                        "expires": 2_000_000_000,
                        "output": {
                            "model": [OWNERS[0]],
                            "smallest_join": 1000,
                            "smallest_cohort": 20,
                            "without_noise": "risk accepted",
                        },
                    }
                ],
            }
        )
    )


def sealed_job(folder: Path, algorithm: str) -> None:
    """Run the job over the sealed tables."""
    pins = json.loads((folder / "pins.json").read_text())
    plan = plan_of(algorithm)
    policies = [policy_of(owner, algorithm, pins[owner]) for owner in OWNERS]
    verdicts = judge_on_paper(plan, policies, time=1)
    tables = [
        SealedTable(
            owner=owner,
            name="records",
            path=folder / f"{owner}.sealed",
            pin=Pin.parse(pins[owner]),
            key=key_of(owner),
        )
        for owner in OWNERS
    ]
    terms = merge_outputs(agreements(verdicts))
    keys = [
        TableKey(
            owner=plan.parties[each.owner].key, table=each.name, serial=1, rule="all",
            pin=each.pin, key_id=BrokerKey(each.key).key_id.hex(), key=each.key,
        )
        for each in tables
    ]  # fmt: skip
    run_job(
        plan, keys, terms, tables, job_id=bytes(32), seed=key_of("seed"), measurement=MEASUREMENT
    )


def clear_job(folder: Path, algorithm: str) -> None:
    """Train the same on the same files in the clear."""
    pins = json.loads((folder / "pins.json").read_text())
    plan = plan_of(algorithm)
    verdicts = judge_on_paper(
        plan, [policy_of(owner, algorithm, pins[owner]) for owner in OWNERS], time=1
    )

    def reading(owner: str) -> Any:
        def batches(kinds: Mapping[str, Kind]) -> Iterator[Columns]:
            with (folder / f"{owner}.parquet").open("rb", buffering=0) as file:
                yield from parquet_batches(file, kinds, key=key_of(owner), table="records")

        return batches

    used = plan.inputs[0]
    tables = [(owner, reading(owner)) for owner in OWNERS]
    rows = SealedRows(used, tables, kinds_of(used), owners=OWNERS)
    FUNCTIONS[algorithm](
        Task(
            rows=rows,
            parameters=plan.train.parameters,
            terms=merge_outputs(agreements(verdicts)),
            privacy=None,
            noise=None,
            seed=1,
            measured=False,
        )
    )


def library_job(folder: Path, algorithm: str) -> None:
    """Train on the same files as users of scikit-learn do."""
    pq, linear = extra("pyarrow.parquet"), extra("sklearn.linear_model")
    tables = [pq.read_table(folder / f"{owner}.parquet") for owner in OWNERS]
    whole = extra("pyarrow").concat_tables(tables)
    rows = np.stack([whole[name].to_numpy() for name in COLUMNS], axis=1)
    scaled = extra("sklearn.preprocessing").StandardScaler(copy=False).fit_transform(rows)
    estimator = {
        "linear-regression": lambda: linear.Ridge(alpha=1.0),
        "logistic-regression": lambda: linear.LogisticRegression(C=1.0),
        "k-means": lambda: extra("sklearn.cluster").KMeans(8, n_init=1, max_iter=4),
    }[algorithm]()
    estimator.fit(scaled, whole["y"].to_numpy())


def read_whole(folder: Path, kind: str, *, cold: bool) -> None:
    """Read the content of all tables once."""
    pins = json.loads((folder / "pins.json").read_text())
    piece = bytearray(PIECE)
    for owner in OWNERS:
        path = folder / (f"{owner}.sealed" if kind == "sealed" else f"{owner}.parquet")
        with path.open("rb", buffering=0) as file:
            source: Any = file
            if kind == "sealed":
                source = OpenedTable(
                    SealedReader(
                        file,
                        identities=[BrokerKey(key_of(owner))],
                        pin=Pin.parse(pins[owner]),
                        media_type=MEDIA_TYPE,
                        name="records",
                        version=1,
                    )
                )
            if cold:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while source.readinto(piece):
                pass


def child(folder: Path, kind: str, what: str) -> None:
    """Print how long one measurement took here, and the most memory that this process had."""
    for library in ("pyarrow.parquet", "sklearn.cluster", "sklearn.linear_model"):
        extra(library)
    began, cpu = time.perf_counter(), time.process_time()
    if what in ("cold", "warm"):
        read_whole(folder, kind, cold=what == "cold")
    else:
        {"sealed": sealed_job, "clear": clear_job, "library": library_job}[kind](folder, what)
    took, used = time.perf_counter() - began, time.process_time() - cpu
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    peak = int(found.group(1)) / 1024 if found else 0.0
    print(json.dumps({"seconds": took, "cpu_s": used, "peak_mb": peak}))


def measure(folder: Path, kind: str, what: str) -> dict[str, float]:
    """Return what a process of its own measures."""
    command = [sys.executable, __file__, "--folder", str(folder), "--child", kind, what]
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # as in a job, which is measured
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **one}
    )
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def compared(folder: Path, what: str, rounds: int, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Return medians of each kind in turn, and how many times the clear the sealed is."""
    measured: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for turn in range(rounds):
        for kind in kinds if turn % 2 == 0 else kinds[::-1]:
            measured[kind].append(measure(folder, kind, what))
    medians = {
        kind: {name: statistics.median(each[name] for each in found) for name in found[0]}
        for kind, found in measured.items()
    }
    times = {
        name: medians["sealed"][name] / max(1e-9, medians["clear"][name])
        for name in medians["clear"]
    }
    least = {kind: min(each["seconds"] for each in found) for kind, found in measured.items()}
    return {"what": what, **medians, "times": times, "least_s": least}


def main() -> None:
    """Print a JSON line of each comparison, and keep them with the other results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", nargs="*", choices=tuple(JOBS), default=list(BY_DEFAULT))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--library", action="store_true")
    parser.add_argument("--child", nargs=2)
    options = parser.parse_args()
    if options.child:
        child(options.folder, *options.child)
        return
    with tempfile.TemporaryDirectory(prefix="wardian-", dir=options.folder) as scratch:
        folder = Path(scratch)
        write(folder, options.rows)
        about = setting(options.rounds, 0) | {
            "rows": options.rows,
            "columns": len(COLUMNS),
            "rows_mb": options.rows * (len(COLUMNS) + 1) * 8 / 1e6,
            "targets": TARGETS,
        }
        for what in ("warm", "cold", *options.jobs):
            kinds: tuple[str, ...] = ("clear", "sealed")
            if options.library and what in BY_DEFAULT:
                kinds += ("library",)
            rounds = options.rounds * (1 if what in JOBS else OPENINGS)
            line = json.dumps(about | compared(folder, what, rounds, kinds) | {"rounds": rounds})
            print(line, flush=True)
            with RESULTS.open("a") as sink:
                sink.write(line + "\n")


if __name__ == "__main__":
    main()
