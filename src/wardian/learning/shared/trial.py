"""Every trainer on two small tables that are made up here: does a job's code find what it needs?"""

import io
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from wardian.broker.jobs.merge import OutputTerms
from wardian.broker.jobs.parties import Party, Recipient
from wardian.broker.jobs.plan import Input, JobPlan, Join, Outputs, Train
from wardian.broker.jobs.trainers import TRAINERS
from wardian.broker.tables.content import TableKey
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_stream import seal_stream
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError
from wardian.learning.shared import csv_table, parquet_table
from wardian.learning.shared.extra import extra
from wardian.learning.shared.running import run_job
from wardian.learning.shared.tables import SealedTable

_ROWS: Final = 80
_OWNER: Final = "trial"
_TERMS: Final = OutputTerms(
    model=frozenset(), metrics=frozenset(), aggregates=frozenset(), serving=frozenset(),
    smallest_join=1, smallest_cohort=1, epsilon=None, delta=None, approvals=frozenset(),
)  # fmt: skip


def try_job(place: Path) -> str:
    """Run every trainer once, with tables that lie sealed in `place` while this runs.

    A trainer whose library is not installed is named as such: it is not part of this code.

    Returns:
        What ran.

    Raises:
        WardianError: as `run_job`.
    """
    seal_to = HpkePrivateKey.generate().public.hex()
    party = Party(key="0" * 64, seal_to=seal_to)
    try:
        tables = [_sealed(place, "left", csv_table.MEDIA_TYPE, _csv("x", "y"))]
        if find_spec("pyarrow") is None:
            tables.append(_sealed(place, "right", csv_table.MEDIA_TYPE, _csv("z", "g")))
        else:
            tables.append(_sealed(place, "right", parquet_table.MEDIA_TYPE, _parquet("z", "g")))
        return ", ".join(_tried(name, tables, party) for name in sorted(TRAINERS))
    finally:
        for file in place.glob("trial-*.sealed"):
            file.unlink()


def _tried(algorithm: str, tables: Sequence[SealedTable], party: Party) -> str:
    """Run one trainer; return its name."""
    learns = TRAINERS[algorithm].learns
    plan = JobPlan(
        mesh=_OWNER,
        name=_OWNER,
        purpose=_OWNER,
        parties={_OWNER: party},
        inputs=(
            Input(
                table="left", owner=_OWNER, columns=frozenset({"x"}), identifier="id",
                label="y" if TRAINERS[algorithm].labelled else None,
            ),
            Input(table="right", owner=_OWNER, columns=frozenset({"z", "g"}), identifier="id"),
        ),
        join=Join(kind="inner"),
        train=Train(algorithm=algorithm, parameters={} if learns else {"by": "g"}),
        outputs=Outputs(**{"model" if learns else "aggregates": frozenset({_OWNER})}),
    )  # fmt: skip
    receiver = frozenset({Recipient(key=party.key, seal_to=str(party.seal_to))})
    keys = [
        TableKey(
            owner=party.key, table=each.name, serial=1, rule=_OWNER, pin=each.pin,
            key_id=BrokerKey(each.key).key_id.hex(), key=each.key,
        )
        for each in tables
    ]  # fmt: skip
    terms = replace(_TERMS, model=receiver, aggregates=receiver)
    try:
        run_job(
            plan, keys, terms, tables, job_id=bytes(32), seed=Secret(bytes(32)),
            measurement="0" * 64,
        )  # fmt: skip
    except ConfigError as err:
        return f"not {algorithm}: {err}"
    return algorithm


def _sealed(place: Path, name: str, media_type: str, content: bytes) -> SealedTable:
    key, path = Secret.random(), place / f"trial-{name}.sealed"
    with path.open("wb") as file:
        pin = seal_stream(
            io.BytesIO(content),
            file,
            total_bytes=len(content),
            recipients=[BrokerKey(key)],
            media_type=media_type,
            name=name,
            version=1,
        )
    return SealedTable(owner=_OWNER, name=name, path=path, pin=pin, key=key)


def _columns(*names: str) -> dict[str, list[int]]:
    """Return an identifier and the columns `names`, of which each is 0 and 1 in another rhythm."""
    rhythm = {name: 2 + at for at, name in enumerate(names)}
    return {
        "id": list(range(_ROWS)),
        **{name: [row // each % 2 for row in range(_ROWS)] for name, each in rhythm.items()},
    }


def _csv(*names: str) -> bytes:
    columns = _columns(*names)
    lines = [
        ",".join(columns),
        *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True)),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def _parquet(*names: str) -> bytes:
    found = io.BytesIO()
    extra("pyarrow.parquet").write_table(extra("pyarrow").table(_columns(*names)), found)
    return found.getvalue()
