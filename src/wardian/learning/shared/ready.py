"""What can be told of a job before it asks for its tables, so that it costs no owner a use.

Which file is the one that an owner pinned is known only once the broker answered. Here a file has
to be there, and sealed as a table of that name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wardian._internal.files import open_regular
from wardian.broker.jobs.plan import JobPlan
from wardian.crypto.sealed_file import read_header
from wardian.errors import ConfigError, CryptoError, FormatError
from wardian.learning.privacy.gaussian import noise_within
from wardian.learning.shared import parquet_table
from wardian.learning.shared.extra import extra
from wardian.learning.shared.tables import MEDIA_TYPES
from wardian.learning.shared.trainers.private import releases_of

LIBRARIES: Final[Mapping[str, tuple[str, ...]]] = {
    "random-forest": ("sklearn.ensemble",),
    "gradient-boosting": ("sklearn.ensemble",),
    "perceptron": ("sklearn.neural_network",),
    "k-means": ("sklearn.cluster", "threadpoolctl"),
    "xgboost": ("xgboost",),
    "dense-network": ("torch",),
}
"""What a trainer imports once it has rows. The rest need no library, or `statistics` by groups."""


def refuse_unready(plan: JobPlan, tables: Mapping[str, Path]) -> None:
    """Return if this code can begin with `plan`, as far as that shows without any key.

    Args:
        plan: the job.
        tables: where the tables of its inputs lie, by `OWNER/TABLE`, as the host says.

    Raises:
        ConfigError: no noise is enough for `[privacy]`, a library is not installed, or a file
            cannot be read. Says which one.
        FormatError, UnsupportedAlgorithm: a file is no sealed table, or of another name.
    """
    _refuse_noise(plan)
    for module in _libraries(plan):
        extra(module)
    for used in plan.inputs:
        place = f"{used.owner}/{used.table}"
        if place not in tables:
            raise ConfigError(f"host settings: where does table {place} lie?")
        _refuse_file(tables[place], name=used.table, where=f"{used.owner}, table {used.table}")


def _refuse_noise(plan: JobPlan) -> None:
    if plan.privacy is not None:
        noise_within(
            epsilon=plan.privacy.epsilon,
            delta=plan.privacy.delta,
            rounds=releases_of(plan.train.parameters, measured=bool(plan.outputs.metrics)),
            parties=1,
        )


def _libraries(plan: JobPlan) -> tuple[str, ...]:
    if plan.privacy is not None:
        return ()
    if plan.train.parameters.get("by"):
        return ("duckdb", "pyarrow")
    return LIBRARIES.get(plan.train.algorithm, ())


def _refuse_file(path: Path, *, name: str, where: str) -> None:
    """Return if `path` is a regular file that begins as a sealed table of this `name`."""
    try:
        with open_regular(path) as file:
            header = read_header(file)
    except OSError as err:
        raise ConfigError(f"{where}: cannot be read: {err.strerror}") from err
    except (FormatError, CryptoError) as err:
        raise type(err)(f"{where}: {err}") from err
    if header.media_type not in MEDIA_TYPES:
        raise FormatError(
            f"{where}: sealed as {header.media_type}, not as {' or '.join(MEDIA_TYPES)}"
        )
    if header.name != name:
        raise FormatError(f"{where}: the file is sealed as {header.name}")
    if header.media_type == parquet_table.MEDIA_TYPE:
        extra("pyarrow.parquet")
