"""The files that owners and whoever plans the job write: `wardian.toml`, policies, `job.toml`."""

from collections.abc import Mapping, Sequence

from tumour_tables import IDENTIFIER, LABEL, TABLES, Tumours

from wardian.broker.jobs.trainers import Scalar

MESH, JOB = "tumours", "diagnosis-1"
MODEL = f"{JOB}.model"
"""What the model that is served is called."""
GROUPS = {"clinic": "region", "laboratory": "region"}
"""Whose rows are joined by identifier before they are stacked with others'."""
PARAMETERS: Mapping[str, Scalar] = {"l2": 1.0, "largest": 1.0, "max_iterations": 1000}
"""Of the training; `largest` is as by default."""


def agreed(owners: Mapping[str, str]) -> str:
    """Return `wardian.toml`: the owners' public keys; all of them sign the mesh's manifest."""
    keys = ", ".join(f'"{key}"' for key in owners.values())
    return f"""\
[mesh]
name = "{MESH}"
owners = [{keys}]
threshold = {len(owners)}
[models."{MODEL}"]
"""


def policy(
    owner: str,
    *,
    tumours: Tumours,
    parties: str,
    pin: str,
    measurement: str,
    worker: str,
    root: str,
    names: Sequence[str],
) -> str:
    """Return what `owner` allows to be learnt from its table.

    Its `[code]` accepts the SIMULATED machine with this root; on hardware `platforms` stand there.
    """
    columns = [IDENTIFIER, *tumours.columns[owner], LABEL]
    return f"""\
mesh = "{MESH}"
table = "{TABLES[owner]}"
owner = "{owner}"
serial = 1
pin = "{pin}"
uses = 5
{parties}
[code]
measurements = ["{measurement}"]
simulation_root_sha256 = "{root}"

[[allow]]
name = "diagnosis"
purposes = ["diagnosis"]
parties = {listed(names)}
columns = {listed(columns)}
expires = 2099-01-01T00:00:00Z

[allow.algorithms.logistic-regression]
l2 = {{ min = 0.5 }}
max_iterations = {{ max = 1000 }}

[allow.output]
model = {listed(names)}
metrics = {listed(names)}
serving = ["{worker}"]
smallest_join = 100
smallest_cohort = 10
without_noise = "risk accepted"
approvals = {{ needed = 2, of = {listed(names)} }}
"""


def job(*, tumours: Tumours, parties: str, worker: str, names: Sequence[str]) -> str:
    """Return the plan: the clinic's and the laboratory's rows joined, the hospital's below them."""
    inputs = []
    for owner in names:
        lines = [
            "[[inputs]]",
            f'table = "{TABLES[owner]}"',
            f'owner = "{owner}"',
            f"columns = {listed(tumours.columns[owner])}",
        ]
        if owner in GROUPS:
            lines += [f'group = "{GROUPS[owner]}"', f'identifier = "{IDENTIFIER}"']
        if owner != "laboratory":
            lines.append(f'label = "{LABEL}"')
        inputs.append("\n".join(lines))
    return f"""\
mesh = "{MESH}"
name = "{JOB}"
purpose = "diagnosis"
{parties}
{chr(10).join(inputs)}

[join]
kind = "stack"

[train]
algorithm = "logistic-regression"
parameters = {{ l2 = {PARAMETERS["l2"]}, max_iterations = {PARAMETERS["max_iterations"]} }}

[outputs]
model = {listed(names)}
metrics = {listed(names)}
serving = ["{worker}"]
"""


def parties(keys: Mapping[str, tuple[str, str]]) -> str:
    """Return who the names are: a public key and an X25519 key each."""
    return "\n".join(
        f'[parties.{name}]\nkey = "{key}"\nseal_to = "{seal_to}"'
        for name, (key, seal_to) in keys.items()
    )


def listed(names: Sequence[str]) -> str:
    """Return `names` as TOML."""
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"
