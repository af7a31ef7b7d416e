"""From files of Cluster Serving to a directory for `wardian up`, and a report of every key."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wardian._internal.settings import read
from wardian.compat.zoo.config import parse_config
from wardian.compat.zoo.keys import Fate
from wardian.compat.zoo.migration.converting import ready_model
from wardian.compat.zoo.migration.directory import build_directory, demand_free, write_directory
from wardian.compat.zoo.migration.plan import plan
from wardian.compat.zoo.report import Report
from wardian.compat.zoo.servables import parse_servables
from wardian.compat.zoo.yaml_tree import MAX_BYTES
from wardian.inference.spec import TensorSpec

_ALWAYS = ("wardian.toml", "operator.toml", "example.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """What came of it.

    Attributes:
        report: of every key; `missing` says what is not served.
        written: the files, none if there was no model at all.
        models: names of the models that `wardian up` serves.
    """

    report: Report
    written: tuple[Path, ...]
    models: tuple[str, ...]


def migrate(
    config: Path,
    *,
    out: Path,
    servables: Path | None = None,
    shapes: Sequence[TensorSpec] = (),
    threads: int | None = None,
    force: bool = False,
) -> Migrated:
    """Return what was written to `out`, and what became of each key.

    Args:
        config: a `config.yaml`; paths in both files begin at its directory.
        out: the directory that is written to.
        servables: a `servables.yaml`, if there is one.
        shapes: of the inputs of the job's model, for TorchScript.
        threads: of an inference, in place of what the file says.
        force: whether files that are there are overwritten.

    Raises:
        ConfigError: a file cannot be read as what it is, or something is in the way at `out`.
    """
    report = Report()
    demand_free(out, _ALWAYS, force=force)  # before minutes of converting
    job = parse_config(read(config, limit_bytes=MAX_BYTES), name=config.name, report=report)
    served = (
        ()
        if servables is None
        else parse_servables(
            read(servables, limit_bytes=MAX_BYTES), name=servables.name, report=report
        )
    )
    planned = plan(job, served, report, base=config.parent, threads=threads)
    ready = []
    for model in planned.models:
        if model.found is None:
            report.amend(
                model.numbers.get("modelPath"), Fate.NOT_NEEDED,
                "the encrypted model stays where it is; `wardian reseal` makes a sealed file of it",
            )  # fmt: skip
            report.missing.append(
                f"{model.place}: {model.name}: encrypted: make a sealed file by `wardian reseal`, "
                "and put it into the manifest (own-a-mesh)"
            )
            continue
        inputs = shapes if model.numbers is job.numbers else ()
        made = ready_model(model, model.found, report, inputs=inputs)
        ready += [made] if made is not None else []
    encrypted = any(model.found is None for model in planned.models)
    written: Sequence[Path] = ()
    if ready or encrypted:
        written = write_directory(out, build_directory(planned, ready), force=force)
    names = tuple(each.planned.name for each in ready)
    return Migrated(report=report, written=tuple(written), models=names)
