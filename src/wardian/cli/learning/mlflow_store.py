"""A run's history in a database of MLflow's, by MLflow's own client (the extra `mlflow`).

What MLflow tells its makers is off before it is imported: nothing here reaches for a network.
"""

import hashlib
import logging
import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from wardian import __version__
from wardian._internal.consortium import Consortium
from wardian.cli.learning.history import encode_line
from wardian.errors import ConfigError
from wardian.learning.messages import RoundLine

DATABASE: Final = "mlflow.db"
RUN_TAG: Final = "wardian.run"
"""By which a run that is written again is found."""
ROUNDS_TAG: Final = "wardian.rounds"
AT_ONCE: Final = 500
"""Metrics of a batch: MLflow takes 1000."""
MAX_VALUE: Final = 500
"""Characters of a parameter or a tag."""


def write(lines: Sequence[RoundLine], plan: Consortium | None, *, place: Path, ended: float) -> str:
    """Return MLflow's id of the run; all its rounds are in the database in `place`.

    A run that is there already goes on where it ended, so that it can be written while it lasts.

    Args:
        lines: every round, in order, one or more.
        plan: what the parties agreed to: the run's parameters, and the experiment's name.
        place: a directory; the database is made in it.
        ended: when the last round did, in Unix seconds; times of rounds are reckoned from it.

    Raises:
        ConfigError: MLflow is not installed, or `place` cannot hold the database.
    """
    client, entities = _client(place)
    name = "wardian" if plan is None else plan.name
    known = client.get_experiment_by_name(name)
    artifacts = (place / "artifacts").resolve().as_uri()
    experiment = known.experiment_id if known else client.create_experiment(name, artifacts)
    digest = _digest(lines[0], plan)
    found = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{digest}'", max_results=1)
    if found:
        run, start_ms = found[0], int(found[0].info.start_time)
    else:
        start_ms = int(1000 * (ended - sum(each.seconds for each in lines)))
        tags = {RUN_TAG: digest, ROUNDS_TAG: "0", "wardian.version": __version__}
        run = client.create_run(experiment, start_ms, tags)
        params = {} if plan is None else parameters(plan)
        client.log_batch(run.info.run_id, params=[entities.Param(*each) for each in params.items()])
    run_id, done = run.info.run_id, int(run.data.tags.get(ROUNDS_TAG, 0))
    metrics, at_ms = [], float(start_ms)
    for line in lines:
        at_ms += 1000 * line.seconds
        if line.round > done:
            metrics += [entities.Metric(*each, int(at_ms), line.round) for each in measured(line)]
    for start in range(0, len(metrics), AT_ONCE):
        client.log_batch(run_id, metrics=metrics[start : start + AT_ONCE])
    for key, value in tags_of(lines).items():
        client.set_tag(run_id, key, value)
    whole = plan is None or lines[-1].round >= plan.run.rounds
    if whole:
        client.set_terminated(run_id, end_time=int(1000 * ended))
    return str(run_id)


def parameters(plan: Consortium) -> dict[str, str]:
    """Return what a plan says, by names such as "run.rounds"; of the parties only how many."""
    tables: dict[str, Mapping[str, Any]] = {"strategy": plan.strategy or {}, "app": plan.app}
    for table, terms in {"run": plan.run, "privacy": plan.privacy, "masking": plan.masking}.items():
        tables[table] = {} if terms is None else msgspec.structs.asdict(terms)
    found = {f"{table}.{key}": value for table, of in tables.items() for key, value in of.items()}
    every = {"name": plan.name, "parties": len(plan.parties), **found}
    return {_name(key): str(value)[:MAX_VALUE] for key, value in every.items()}


def measured(line: RoundLine) -> list[tuple[str, float]]:
    """Return each single number of a round: "train/loss", "evaluation/loss", "round/bytes"."""
    tables: dict[str, Mapping[str, Any]] = {
        "train": line.metrics,
        "evaluation": line.evaluation,
        "round": {
            "parties": len(line.cohort),
            "dropped": len(line.dropped),
            "bytes": line.bytes,
            "seconds": line.seconds,
        },
    }
    return [
        (f"{table}/{_name(key)}", float(value))
        for table, of in tables.items()
        for key, value in of.items()
        if isinstance(value, int | float)
    ]


def tags_of(lines: Sequence[RoundLine]) -> dict[str, str]:
    """Return what is said of a run as a whole: who counted, and who did not in how many rounds."""
    counted = sorted({party for line in lines for party in line.cohort})
    dropped = [party for line in lines for party in line.dropped]
    missed = [f"{party} ({dropped.count(party)})" for party in sorted(set(dropped))]
    return {
        ROUNDS_TAG: str(lines[-1].round),
        "wardian.parties": ", ".join(counted)[:MAX_VALUE],
        "wardian.dropped": ", ".join(missed)[:MAX_VALUE],
    }


def _digest(first: RoundLine, plan: Consortium | None) -> str:
    """Return what names the run: its plan, and what became of its first round."""
    of_plan = b"" if plan is None else msgspec.json.encode(plan)
    return hashlib.sha256(of_plan + b"\n" + encode_line(first)).hexdigest()


def _name(name: str) -> str:
    """Return `name` as MLflow takes it: no other characters, and no path that says another."""
    plain = re.sub(r"[^\w./ -]", "_", name, flags=re.ASCII)[:200]
    if posixpath.normpath(plain) != plain or plain.startswith(("/", ".")):
        plain = re.sub(r"[./]", "_", plain)
    return plain


def _client(place: Path) -> tuple[Any, Any]:
    """Return MLflow's client of the database in `place`, and its kinds of entries."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
    try:
        from mlflow import entities  # noqa: PLC0415
        from mlflow.tracking import MlflowClient  # noqa: PLC0415
    except ImportError as err:
        raise ConfigError("MLflow is not installed: pip install 'wardian[mlflow]'") from err
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    if re.search(r"[?#%]", str(place.resolve())):
        raise ConfigError(f"{place}: an address of MLflow's cannot say ?, # or %")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise ConfigError(f"{place}: {err.strerror}") from err
    return MlflowClient(tracking_uri=f"sqlite:///{place.resolve() / DATABASE}"), entities
