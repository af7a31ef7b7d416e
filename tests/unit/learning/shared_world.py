"""Owners with tables of the breast-cancer data, sealed; their policies; jobs over them."""

import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))

from toy_jobs import NAMES, NOW, parties, toml

from wardian.broker.jobs.decision import agreements, judge_on_paper
from wardian.broker.jobs.merge import OutputTerms, merge_outputs
from wardian.broker.jobs.plan import JobPlan, load_plan
from wardian.broker.jobs.policy import load_policy
from wardian.broker.jobs.trainers import TRAINERS, settled
from wardian.broker.tables.content import TableKey
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.recipients import BrokerKey, HpkeIdentity
from wardian.crypto.sealed_file import Pin, open_bytes, seal_file
from wardian.crypto.secret import Secret
from wardian.errors import CryptoError
from wardian.learning.shared.joining import Joined
from wardian.learning.shared.outputs import HeldOutputs
from wardian.learning.shared.running import Finished, run_job
from wardian.learning.shared.tables import SealedTable
from wardian.learning.shared.trainers.table import FUNCTIONS
from wardian.learning.shared.trainers.trained import Task, Trained

A, B, C = NAMES
IDENTITIES = {
    name: HpkeIdentity(HpkePrivateKey.from_secret(Secret(name.encode().rjust(32))))
    for name in NAMES
}
SEED = Secret(b"seed of a job".ljust(32))
MEASUREMENT = "e1" * 32
JOB_ID = b"job".ljust(32)
CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"


def csv_text(columns: Mapping[str, Sequence[Any]]) -> bytes:
    lines = [",".join(columns)]
    lines += [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    return ("\n".join(lines) + "\n").encode()


def cancer() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """569 rows of 30 numbers, classes 0 and 1, and an identifier of each row."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    return found.data, found.target, [f"p{7919 * at % 100_003:06d}" for at in range(569)]


class Owner:
    """One owner's sealed table, and its policy."""

    def __init__(
        self,
        name: str,
        folder: Path,
        content: bytes,
        *,
        media_type: str = CSV,
        table: str | None = None,
    ) -> None:
        self.name, self.table = name, table or f"table-of-{name}"
        self.key = Secret.random()
        clear, self.path = folder / f"{name}.clear", folder / f"{name}.sealed"
        clear.write_bytes(content)
        self.pin = seal_file(
            clear,
            self.path,
            recipients=[BrokerKey(self.key)],
            media_type=media_type,
            name=self.table,
            version=1,
        )
        clear.unlink()

    def sealed(self, **changes: Any) -> SealedTable:
        return SealedTable(
            **{
                "owner": self.name,
                "name": self.table,
                "path": self.path,
                "pin": self.pin,
                "key": self.key,
                **changes,
            }
        )

    def policy(self, algorithm: str, **output: Any) -> Any:
        given = {
            "smallest_join": 10,
            "smallest_cohort": 5,
            "model": list(NAMES),
            "metrics": list(NAMES),
            "aggregates": list(NAMES),
            "without_noise": "risk accepted",
            **output,
        }
        given = {key: value for key, value in given.items() if value is not None}
        free: dict[str, Any] = {
            key: {"min": 0, "max": 1000}
            for key, default in TRAINERS[algorithm].parameters.items()
            if not isinstance(default, str)
        }
        free |= {
            key: {"one_of": ["", "ward", "g"]}
            for key, default in TRAINERS[algorithm].parameters.items()
            if isinstance(default, str)
        }
        table = {
            "mesh": "hospitals",
            "table": self.table,
            "owner": self.name,
            "serial": 7,
            "pin": str(self.pin),
            "uses": 10,
            "budget": {"epsilon": 100.0, "delta": 1e-3},
            "parties": parties(),
            "code": {"measurements": [MEASUREMENT], "any_platform": "risk accepted"},
            "allow": [
                {
                    "name": "study",
                    "purposes": ["study"],
                    "parties": list(NAMES),
                    "columns": ["*"],
                    "algorithms": {algorithm: free},
                    "expires": NOW + 100,
                    "output": given,
                }
            ],
        }
        return load_policy(toml(table))


def plan_of(
    owners: Sequence[Owner],
    columns: Sequence[Sequence[str]],
    algorithm: str,
    *,
    kind: str = "inner",
    label: str | None = "y",
    parameters: Mapping[str, Any] | None = None,
    **changes: Any,
) -> JobPlan:
    inputs = []
    for at, (owner, names) in enumerate(zip(owners, columns, strict=True)):
        each = {"table": owner.table, "owner": owner.name, "columns": list(names)}
        if kind == "inner" and len(owners) > 1:
            each["identifier"] = "id"
        if label and (at == 0 or kind == "stack"):
            each["label"] = label
        inputs.append(each)
    learns = TRAINERS[algorithm].learns
    outputs = {"model": [A], "metrics": [A, B]} if learns else {"aggregates": [A, B]}
    table = {
        "mesh": "hospitals",
        "name": "study-1",
        "purpose": "study",
        "parties": parties(),
        "inputs": inputs,
        "train": {"algorithm": algorithm, "parameters": dict(parameters or {})},
        "outputs": outputs,
        "seed": 5,
        **changes,
    }
    if len(owners) > 1:
        table["join"] = {"kind": kind}
    return load_plan(toml({key: value for key, value in table.items() if value is not None}))


def stack_of(
    owners: Sequence[Owner], inputs: Sequence[Mapping[str, Any]], algorithm: str, **given: Any
) -> JobPlan:
    """Return a plan that stacks tables, or groups of joined ones: of each what `inputs` say."""
    named = [
        {"table": each.table, "owner": each.name, **used}
        for each, used in zip(owners, inputs, strict=True)
    ]
    none: list[list[str]] = [[]] * len(owners)
    return plan_of(owners, none, algorithm, kind="stack", inputs=named, **given)


def agreed(
    plan: JobPlan, owners: Sequence[Owner], **output: Any
) -> tuple[tuple[TableKey, ...], OutputTerms]:
    policies = [each.policy(plan.train.algorithm, **output) for each in owners]
    verdicts = judge_on_paper(plan, policies, time=NOW)
    assert [each.refusals for each in verdicts] == [()] * len(owners)
    tables = {(each.name, each.table): each for each in owners}
    keys = tuple(
        TableKey(
            owner=said.owner,
            table=said.table,
            serial=said.policy.serial,
            rule=said.allow.name,
            pin=tables[said.who, said.table].pin,
            key_id=BrokerKey(tables[said.who, said.table].key).key_id.hex(),
            key=tables[said.who, said.table].key,
        )
        for said in verdicts
        if said.policy and said.allow
    )
    return keys, merge_outputs(agreements(verdicts))


def run(plan: JobPlan, owners: Sequence[Owner], *, seed: Secret = SEED, **output: Any) -> Finished:
    keys, terms = agreed(plan, owners, **output)
    tables = [each.sealed() for each in owners]
    return run_job(plan, keys, terms, tables, job_id=JOB_ID, seed=seed, measurement=MEASUREMENT)


def trained(
    algorithm: str,
    data: np.ndarray,
    label: np.ndarray | None,
    parameters: Mapping[str, Any] | None = None,
    *,
    measured: bool = True,
    smallest_cohort: int = 5,
    sources: np.ndarray | None = None,
) -> Trained:
    """The same code on a table that lies in memory, in the clear."""
    names = tuple(f"c{at:02d}" for at in range(data.shape[1]))
    terms = OutputTerms(
        model=frozenset(),
        metrics=frozenset(),
        aggregates=frozenset(),
        serving=frozenset(),
        smallest_join=10,
        smallest_cohort=smallest_cohort,
        epsilon=None,
        delta=None,
        approvals=frozenset(),
    )
    pooled = Joined(
        names=names,
        columns={name: data[:, at].astype(np.float64) for at, name in enumerate(names)},
        label=None if label is None else label.astype(np.float64),
        sources=np.zeros(len(data), np.uint8) if sources is None else sources,
        owners=tuple(frozenset({name}) for name in NAMES[: 1 if sources is None else 3]),
        rows=len(data),
    )
    return FUNCTIONS[algorithm](
        Task(
            rows=pooled,
            parameters=settled(algorithm, parameters or {}),
            terms=terms,
            privacy=None,
            noise=None,
            seed=5,
            measured=measured,
        )
    )


def opened(
    held: HeldOutputs, output: str, who: str, *, to: str | None = None, approved: Any = ()
) -> bytes | None:
    """What `who` reads of the file that `to` is given; None: it does not open."""
    (entry,) = (each for each in held.outputs if (each.output, each.to) == (output, to or who))
    raw = held.release(approved)[entry.file_name]
    try:
        return bytes(
            open_bytes(
                io.BytesIO(raw),
                identities=[IDENTITIES[who]],
                pin=Pin.parse(str(entry.pin)),
                media_type=entry.media_type,
                name=entry.name,
                version=1,
                max_bytes=len(raw),
            )
        )
    except CryptoError:
        return None


def metrics(finished: Finished, who: str = A) -> dict[str, Any]:
    raw = opened(finished.held, "metrics", who)
    assert raw is not None
    found: dict[str, Any] = json.loads(raw)
    return found
