"""What two files of Cluster Serving come to here: which models, run how, and what is left over."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from wardian.compat.zoo.config import ConfigFile, ZooConfig
from wardian.compat.zoo.keys import Fate
from wardian.compat.zoo.migration.find_model import FoundModel, find_model, local_path, model_of
from wardian.compat.zoo.migration.planned import Plan, PlannedModel, plain_name
from wardian.compat.zoo.report import Report
from wardian.compat.zoo.servables import ClusterServable, InProcessServable, Servable
from wardian.errors import ConfigError

T = TypeVar("T")
MOST: Final = 256
"""Threads of an inference, and workers of a model."""
MAX_VERSION: Final = 2**31 - 1
_TOP = re.compile(r"\A(pick)?topn\(\s*([0-9]{1,4})\s*\)\Z", re.IGNORECASE)
_VERSION = re.compile(r"\A([0-9]{1,10})(?:\.0+)*\Z")


def _model_name(each: Servable) -> str:
    return plain_name(each.settings.model_name, place=f"{each.place}: modelName")


def plan(
    config: ConfigFile,
    servables: tuple[Servable, ...],
    report: Report,
    *,
    base: Path,
    threads: int | None = None,
    stream: bool = False,
) -> Plan:
    """Return what the files come to; what cannot be had is in `report` afterwards.

    Args:
        config: of the job.
        servables: of the HTTP front end.
        report: has the files' keys, and takes what becomes of their values.
        base: where paths begin that are not absolute.
        threads: of an inference, in place of what the file says.
        stream: whether the job's stream is served, which then has the post-processing.
    """
    mesh = plain_name(config.settings.job_name, place=f"{config.name}: jobName")
    job, replicas = _job(config, report, base, threads, stream=stream)
    models = {} if job is None else {job.name: job}
    called = None
    for each in servables:
        if isinstance(each.settings, InProcessServable):
            made = _in_process(each, each.settings, report, base)
            replicas = max(replicas, each.settings.copies)
        else:
            made = _renamed(each, each.settings, config.settings, job, report)
            if made is not None and job is not None:
                models.pop(job.name, None)
                called = called or made.name
        if made is not None:
            _add(models, made, report)
    return Plan(
        mesh=mesh,
        models=tuple(models.values()),
        job=called or (None if job is None else job.name),
        replicas=replicas,
    )


def _add(models: dict[str, PlannedModel], made: PlannedModel, report: Report) -> None:
    """Add a model; of two versions the newer one stays, as one directory starts one of each."""
    before = models.get(made.name)
    if before is not None and before.version == made.version:
        report.missing.append(
            f"{made.place}: {made.name} version {made.version} is there already: rename one"
        )
        return
    if before is not None:
        older, made = sorted((before, made), key=lambda each: each.version)
        report.missing.append(
            f"{older.place}: {made.name} is there twice; version {made.version} is taken, and "
            f"{older.version} is for its owner to seal and to put into the manifest"
        )
    models[made.name] = made


def _job(
    config: ConfigFile, report: Report, base: Path, threads: int | None, *, stream: bool
) -> tuple[PlannedModel | None, int]:
    """Return the model of `config.yaml`, None if it cannot be had, and its number of workers."""
    said, numbers = config.settings, config.numbers
    path = said.model_path
    if path is None:
        report.missing.append(f"{config.name}: modelPath: is not there; it names the model")
        return None, 1
    place = f"{config.name}: modelPath"
    directory = _found(
        partial(local_path, path, base=base), report, numbers.get("modelPath"), place
    )
    if directory is None:
        return None, 1
    found: FoundModel | None = None
    if not said.model_encrypted:
        found = _found(partial(find_model, directory), report, numbers.get("modelPath"), place)
        if found is None:
            return None, 1
    openvino = found is None or found.kind == "openvino"
    name = plain_name(said.job_name, place=f"{config.name}: jobName")
    if name != said.job_name:
        report.amend(numbers.get("jobName"), Fate.WORKS, f"the model is called {name}: lower case")
    if said.queue_used.lower() != "redis":
        report.amend(numbers.get("queueUsed"), Fate.CANNOT, "there is no queue over Kafka")
    model = PlannedModel(
        name=name,
        version=1,
        found=found,
        encrypted=None if found is not None else directory,
        threads=threads or _threads(said, openvino=openvino),
        top=_top(config, report, stream=stream, encrypted=found is None),
        numbers=numbers,
        place=config.name,
    )
    return model, _replicas(said, openvino=openvino)


def _threads(said: ZooConfig, *, openvino: bool) -> int:
    """Return the threads of one inference; the original gives engines but OpenVINO one."""
    if said.core_number_per_machine > 0:
        return min(said.core_number_per_machine, MOST) if openvino else 1
    return said.thread_per_model


def _replicas(said: ZooConfig, *, openvino: bool) -> int:
    if said.core_number_per_machine > 0 and not openvino:
        return min(said.core_number_per_machine, MOST)
    return said.model_parallelism


def _top(config: ConfigFile, report: Report, *, stream: bool, encrypted: bool) -> int | None:
    """Return the `n` of the step `top`; None: there is none, or the stream has it."""
    asked = filter_of(config)
    number = config.numbers.get("postProcessing")
    if asked is not None and stream:
        report.amend(
            number, Fate.WORKS,
            f"`top_n` of the stream is {asked}; over HTTPS all values are answered",
        )  # fmt: skip
    elif asked is not None and encrypted:
        report.amend(
            number, Fate.CANNOT,
            "the outputs of an encrypted model are not known here: write `post` to wardian.toml",
        )  # fmt: skip
    elif asked is not None:
        return int(asked.partition("(")[2][:-1])
    elif config.settings.post_processing.strip():
        report.amend(
            number, Fate.CANNOT,
            "expected topN(k) or pickTopN(k), k 1 to 1000; other steps: `post` in wardian.toml",
        )  # fmt: skip
    return None


def filter_of(config: ConfigFile) -> str | None:
    """Return `postProcessing` as [dialects.zoo_redis] writes it; None: there is none, or wrong."""
    asked = _TOP.match(config.settings.post_processing.strip())
    if asked is None or not 1 <= int(asked[2]) <= 1000:
        return None
    return f"{'pickTopN' if asked[1] else 'topN'}({int(asked[2])})"


def _found(find: Callable[[], T], report: Report, number: int | None, place: str) -> T | None:
    """Return what `find` finds; None: it cannot be had, and the report says why."""
    try:
        return find()
    except (ConfigError, OSError) as err:
        why = str(err) if isinstance(err, ConfigError) else str(err.strerror)
        report.amend(number, Fate.CANNOT, why)
        report.missing.append(f"{place}: {why}")
        return None


def _in_process(
    each: Servable, said: InProcessServable, report: Report, base: Path
) -> PlannedModel | None:
    """Return the model of an `!<InferenceModelMetaData>`."""

    def find() -> FoundModel:
        weights = said.weight_path
        return model_of(
            said.model_type,
            local_path(said.model_path, base=base),
            None if not weights else local_path(weights, base=base),
        )

    place = f"{each.place}: modelPath"
    found = _found(find, report, each.numbers.get("modelPath"), place)
    if found is None:
        return None
    return PlannedModel(
        name=_model_name(each),
        version=_version(each, report),
        found=found,
        numbers=each.numbers,
        place=each.place,
    )


def _renamed(
    each: Servable, said: ClusterServable, config: ZooConfig, job: PlannedModel | None,
    report: Report,
) -> PlannedModel | None:  # fmt: skip
    """Return the job's model under the name that the HTTP front end gave it; None: another's."""
    if said.redis_input_queue != config.job_name:
        why = (
            f"{_model_name(each)}: another job's: give that one's config.yaml with these servables"
        )
        number = each.numbers.get("redisInputQueue", each.numbers["modelName"])
        report.amend(number, Fate.CANNOT, why)  # the job of this config.yaml is whole without it
        return None
    if job is None:
        return None
    name = _model_name(each)
    report.amend(
        job.numbers.get("jobName"), Fate.WORKS, f"the mesh's name; clients call the model {name}"
    )
    return PlannedModel(
        name=name,
        version=_version(each, report),
        found=job.found,
        encrypted=job.encrypted,
        threads=job.threads,
        top=job.top,
        numbers=job.numbers,
        place=each.place,
    )


def _version(each: Servable, report: Report) -> int:
    """Return the version as a whole number, 1 for one that has none."""
    text = each.settings.model_version.strip()
    found = _VERSION.match(text)
    if found is not None and 1 <= int(found[1]) <= MAX_VERSION:
        return int(found[1])
    report.amend(
        each.numbers.get("modelVersion"), Fate.CANNOT,
        "versions here are whole numbers from 1 on; 1 is taken",
    )  # fmt: skip
    return 1
