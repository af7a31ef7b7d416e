"""Cluster Serving's own interfaces, where they are to be served: what is agreed, and where."""

from dataclasses import dataclass

from wardian.compat.zoo.migration.files import Files
from wardian.compat.zoo.migration.http import KEYSTORE, http_tables
from wardian.compat.zoo.migration.stream import (
    redis_of,
    stream_tables,
    stream_wanted,
    tell_no_stream,
)
from wardian.compat.zoo.migration.wanted import Wanted
from wardian.compat.zoo.report import Report
from wardian.compat.zoo.their_place import TheirPlace, read_password


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialects:
    """What the files come to beside models.

    Attributes:
        agreed: tables of wardian.toml.
        operator: tables of operator.toml.
        files: further files of the directory, by name.
        unprotected: what lies in the clear, a line each.
        redis: their Redis, where its stream is served.
    """

    agreed: str = ""
    operator: str = ""
    files: dict[str, bytes]
    unprotected: tuple[str, ...] = ()
    redis: TheirPlace | None = None


def agree(files: Files, model: str | None, wanted: Wanted, report: Report) -> Dialects:
    """Return the tables; what cannot be had is in `report` afterwards.

    Args:
        files: Cluster Serving's.
        model: the name of the job's; None: it is not served, and so is no stream.
        wanted: what is asked for.
        report: takes what becomes of keys.

    Raises:
        ConfigError: something of it cannot be had before a person gives more; says what.
    """
    for secret in filter(None, (wanted.redis_password, wanted.keystore_password)):
        read_password(secret).wipe()
    http = http_tables(files, model, wanted, report)
    agreed, zoo, told, place = http.agreed, http.zoo, http.unprotected, None
    if model is not None and stream_wanted(files, wanted):
        place = redis_of(files, wanted)
        tables, where, said = stream_tables(files, place, model, report)
        agreed = [*agreed, *([""] if agreed else []), *tables]
        zoo, told = [*where, *zoo], [*said, *told]
    else:
        tell_no_stream(files, report)
    operator = [*_table("frontend", http.frontend), *_table("zoo", zoo)]
    return Dialects(
        agreed="\n".join(agreed),
        operator="\n".join(operator),
        files={} if http.keystore is None else {KEYSTORE: http.keystore},
        unprotected=tuple(told),
        redis=place,
    )


def _table(name: str, lines: list[str]) -> list[str]:
    return ["", f"[{name}]", *lines] if lines else []
