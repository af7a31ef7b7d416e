"""From files of Cluster Serving to a directory for `wardian up`, and a report of every key."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from wardian._internal import wire
from wardian.compat.zoo.keys import Fate
from wardian.compat.zoo.migration.converting import ReadyModel, ready_model
from wardian.compat.zoo.migration.dialects import Dialects, agree
from wardian.compat.zoo.migration.directory import (
    KEY_SUFFIX,
    SEALED_SUFFIX,
    build_directory,
    demand_free,
    make_directory,
    write_directory,
)
from wardian.compat.zoo.migration.files import Files, read_files
from wardian.compat.zoo.migration.plan import plan
from wardian.compat.zoo.migration.planned import Plan, PlannedModel
from wardian.compat.zoo.migration.record import NAME, Record, inputs_sha256, load_record
from wardian.compat.zoo.migration.stream import redis_of, stream_wanted
from wardian.compat.zoo.migration.wanted import Wanted
from wardian.compat.zoo.report import Report
from wardian.compat.zoo.their_place import TheirPlace
from wardian.errors import ConfigError

_ALWAYS = ("wardian.toml", "operator.toml", "example.toml")

Seal: TypeAlias = Callable[[PlannedModel, Path, Callable[[], TheirPlace]], None]
"""Leaves an encrypted model sealed in a directory: `NAME.sealed`, its pin, and `NAME.key`. The last
argument returns the job's Redis, for who has the secret from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """What came of it.

    Attributes:
        report: of every key; `missing` says what is not served.
        written: the files, none if there was no model at all, or the directory is used again.
        models: names of the models that `wardian up` serves.
        unprotected: what lies in the clear, a line each.
        reused: whether the directory was there, made of the same.
    """

    report: Report
    written: tuple[Path, ...]
    models: tuple[str, ...]
    unprotected: tuple[str, ...]
    reused: bool = False


def migrate(
    wanted: Wanted, *, seal: Seal, visit: Callable[[TheirPlace], None] | None = None
) -> Migrated:
    """Return what was written to `wanted.out`, and what became of each key.

    Args:
        wanted: the files, and what is asked for.
        seal: seals a model that is encrypted, where `wanted.form` says how.
        visit: is called with the Redis of a stream before anything is converted.

    Raises:
        ConfigError: a file cannot be read as what it is, something is in the way at `out`, or was
            made of something else; what `seal` and `visit` raise.
    """
    report = Report()
    if not wanted.reuse:
        demand_free(wanted.out, _ALWAYS, force=wanted.force)  # before minutes of converting
    files = read_files(wanted, report)
    planned = plan(
        files.config,
        files.servables,
        report,
        base=wanted.config.parent,
        threads=wanted.threads,
        stream=stream_wanted(files, wanted),
    )
    dialects = agree(files, planned.job, wanted, report)
    if visit is not None and dialects.redis is not None:
        visit(dialects.redis)
    keystore = b"".join(dialects.files.values())
    digest = inputs_sha256(wanted, files, planned, keystore=keystore)
    if (found := _made_before(wanted, digest)) is not None:
        again = Report(findings=list(found.findings))
        return Migrated(report=again, written=(), models=found.models,
                        unprotected=dialects.unprotected, reused=True)  # fmt: skip
    return _make(wanted, files, planned, dialects, report, digest=digest, seal=seal)


def _made_before(wanted: Wanted, digest: str) -> Record | None:
    """Return the record of `wanted.out`, if it may be used again.

    Raises:
        ConfigError: it was made of something else, or by somebody else.
    """
    if not wanted.reuse or wanted.force:
        return None
    found = load_record(wanted.out)
    if found is not None and found.inputs_sha256 == digest:
        return found
    if found is not None:
        raise ConfigError(
            f"--out {wanted.out}: was made of other files, models or options: --force makes it "
            "anew, another --out leaves it"
        )
    demand_free(wanted.out, _ALWAYS, force=False)
    return None


def _make(
    wanted: Wanted, files: Files, planned: Plan, dialects: Dialects, report: Report,
    *, digest: str, seal: Seal,
) -> Migrated:  # fmt: skip
    """Convert the models, have the encrypted ones sealed, and write the directory."""
    ready, sealed = _ready(wanted, files, planned, report)
    written: Sequence[Path] = ()
    models = (*(each.planned.name for each in ready), *(each.name for each in sealed))
    if models or any(model.found is None for model in planned.models):
        made = build_directory(planned, ready, sealed, dialects)
        if not report.missing:
            record = Record(inputs_sha256=digest, models=models, findings=tuple(report.findings))
            made[NAME] = wire.encode(record)
        names = [each.name + suffix for each in sealed for suffix in (SEALED_SUFFIX, KEY_SUFFIX)]
        demand_free(wanted.out, [*made, *names], force=wanted.force)
        make_directory(wanted.out)
        for each in sealed:
            seal(each, wanted.out, lambda: redis_of(files, wanted))
        written = [*write_directory(wanted.out, made), *(wanted.out / name for name in names)]
    return Migrated(report=report, written=tuple(written), models=models,
                    unprotected=dialects.unprotected if planned.job in models else ())  # fmt: skip


def _ready(
    wanted: Wanted, files: Files, planned: Plan, report: Report
) -> tuple[list[ReadyModel], list[PlannedModel]]:
    """Return the models converted, and those that are encrypted and can be sealed."""
    ready, sealed = [], []
    for model in planned.models:
        if model.found is not None:
            inputs = wanted.shapes if model.numbers is files.config.numbers else ()
            made = ready_model(model, model.found, report, inputs=inputs)
            ready += [made] if made is not None else []
        elif wanted.form is not None:
            told = f"resealed in memory: {model.name}{SEALED_SUFFIX}; the old files stay"
            report.amend(model.numbers.get("modelPath"), Fate.WORKS, told)
            told = "a sealed file is made of the model in memory"
            report.amend(model.numbers.get("modelEncrypted"), Fate.WORKS, told)
            sealed.append(model)
        else:
            _leave(model, report)
    return ready, sealed


def _leave(model: PlannedModel, report: Report) -> None:
    report.amend(
        model.numbers.get("modelPath"), Fate.NOT_NEEDED,
        "the encrypted model stays where it is; `--form` and `--bits` have it resealed",
    )  # fmt: skip
    report.missing.append(
        f"{model.place}: {model.name}: encrypted: say how by --form and --bits, and give secret "
        "and salt; or make a sealed file by `wardian reseal` and put it into the manifest "
        "(own-a-mesh)"
    )
