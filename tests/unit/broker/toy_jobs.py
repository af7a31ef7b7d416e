"""Two hospitals, their tables, a job over both: files as people write them, and what signs them."""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "attestation"))

from policy_cases import MR_ENCLAVE, NOW, enclave_claims

from wardian.broker.jobs.plan import JobPlan, load_plan
from wardian.broker.jobs.policy import DataPolicy, load_policy
from wardian.broker.jobs.signing import VerifiedPolicy, sign_policy, verify_policy
from wardian.broker.jobs.standing import Standing, TableStanding
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SigningKey

MESH = "hospitals"
NAMES = ("hospital-a", "hospital-b", "hospital-c")
KEYS = {name: SigningKey.from_secret(Secret(name.encode().ljust(32))) for name in NAMES}
SEALED_TO = {
    name: HpkePrivateKey.from_secret(Secret(name.encode().rjust(32))).public.hex() for name in NAMES
}
TABLES = {"hospital-a": "records", "hospital-b": "claims", "hospital-c": "visits"}
COLUMNS = {"hospital-a": ["age", "bmi"], "hospital-b": ["cost"], "hospital-c": ["days"]}
WORKER = "ab" * 32
TRAINED = "logistic-regression"


def parties(*names: str) -> dict[str, Any]:
    return {
        name: {"key": KEYS[name].public.hex(), "seal_to": SEALED_TO[name]}
        for name in names or NAMES
    }


def allow(owner: str = "hospital-a", **changes: Any) -> dict[str, Any]:
    """Return a rule that allows `job()`; `output` changes within."""
    output = {
        "model": ["hospital-a"],
        "metrics": ["hospital-a", "hospital-b"],
        "smallest_join": 1000,
        "smallest_cohort": 20,
        "epsilon": 1.0,
        "delta": 1e-6,
        **changes.pop("output", {}),
    }
    return {
        "name": "study",
        "purposes": ["readmission"],
        "parties": ["hospital-a", "hospital-b"],
        "columns": ["patient", "readmitted", *COLUMNS[owner]],
        "algorithms": {TRAINED: {"l2": {"min": 0.1}}},
        "expires": NOW + 100,
        "output": {key: value for key, value in output.items() if value is not None},
        **changes,
    }


def policy_table(owner: str = "hospital-a", **changes: Any) -> dict[str, Any]:
    table = {
        "mesh": MESH,
        "table": TABLES[owner],
        "owner": owner,
        "serial": 1,
        "pin": f"wardian-pin-v1:{'0' * 64}:{'1' * 32}",
        "uses": 10,
        "max_beacon_age_s": 50,
        "budget": {"epsilon": 3.0, "delta": 1e-5},
        "parties": parties(),
        "code": {"measurements": [MR_ENCLAVE.hex()], "any_platform": "risk accepted"},
        "allow": [allow(owner)],
        **changes,
    }
    return {key: value for key, value in table.items() if value is not None}


def job_table(
    *, owners: tuple[str, ...] = ("hospital-a", "hospital-b"), **changes: Any
) -> dict[str, Any]:
    inputs = [
        {"table": TABLES[owner], "owner": owner, "columns": COLUMNS[owner], "identifier": "patient"}
        for owner in owners
    ]
    inputs[0]["label"] = "readmitted"
    if len(owners) == 1:
        del inputs[0]["identifier"]
    table = {
        "mesh": MESH,
        "name": "readmission-2026",
        "purpose": "readmission",
        "parties": parties(),
        "inputs": inputs,
        "join": {"kind": "inner"} if len(owners) > 1 else None,
        "train": {"algorithm": TRAINED, "parameters": {"l2": 0.5}},
        "outputs": {"model": ["hospital-a"], "metrics": ["hospital-b"]},
        "privacy": {"epsilon": 0.5, "delta": 1e-7},
        **changes,
    }
    return {key: value for key, value in table.items() if value is not None}


def toml(table: dict[str, Any]) -> bytes:
    """Return `table` as TOML: what is a table within it stands inline."""
    return "".join(f"{key} = {_value(value)}\n" for key, value in table.items()).encode()


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {_value(each)}' for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return repr(value) if isinstance(value, float) else json.dumps(value)


def policy(owner: str = "hospital-a", **changes: Any) -> DataPolicy:
    return load_policy(toml(policy_table(owner, **changes)))


def signed(owner: str = "hospital-a", **changes: Any) -> VerifiedPolicy:
    return verify_policy(sign_policy(policy(owner, **changes), KEYS[owner]), mesh=MESH)


def both(**of_a: Any) -> list[VerifiedPolicy]:
    """Return the policies of two owners; `of_a` changes the first one's."""
    return [signed(**of_a), signed("hospital-b")]


def rule_of_a(**changes: Any) -> list[VerifiedPolicy]:
    return both(allow=[allow(**changes)])


def job(**changes: Any) -> JobPlan:
    return load_plan(toml(job_table(**changes)))


def standing(
    plan: JobPlan | None = None, *, a: TableStanding | None = None, **changes: Any
) -> Standing:
    """Return a standing in which all is well; `a` is that of the table of hospital-a."""
    fresh = TableStanding(beacon=NOW - 10)
    places = (plan or job()).places
    mine = policy().place
    tables = {place: a if a is not None and place == mine else fresh for place in places}
    given = {"now": NOW, "claims": enclave_claims(), "tables": tables, "rows": 5000, **changes}
    return Standing(**given)
