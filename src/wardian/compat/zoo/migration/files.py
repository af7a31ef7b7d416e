"""Cluster Serving's files, read: each of their keys is in the report."""

from dataclasses import dataclass
from pathlib import Path

from wardian._internal.settings import read
from wardian.compat.zoo.config import ConfigFile, parse_config
from wardian.compat.zoo.flags import FlagFile, parse_flags
from wardian.compat.zoo.migration.wanted import Wanted
from wardian.compat.zoo.report import Report
from wardian.compat.zoo.servables import Servable, parse_servables
from wardian.compat.zoo.yaml_tree import MAX_BYTES
from wardian.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What they say.

    Attributes:
        config: of the job.
        servables: of the HTTP front end.
        flags: with which it was started.
        raw: the two YAML files as they lie there.
    """

    config: ConfigFile
    servables: tuple[Servable, ...]
    flags: FlagFile
    raw: tuple[bytes, ...]


def read_files(wanted: Wanted, report: Report) -> Files:
    """Return what the files of `wanted` say.

    Raises:
        ConfigError: one cannot be read as what it is; says the line, and never a value.
    """
    raw = [read(wanted.config, limit_bytes=MAX_BYTES)]
    config = parse_config(raw[0], name=wanted.config.name, report=report)
    flags = parse_flags(wanted.flags, report=report)
    path, named = wanted.servables, flags.settings.servable_manager_conf_path
    if path is not None and named:
        raise ConfigError("--servables and --servableManagerConfPath are one: leave one out")
    path = path or (Path(named) if named else None)
    served: tuple[Servable, ...] = ()
    if path is not None:
        raw.append(read(path, limit_bytes=MAX_BYTES))
        served = parse_servables(raw[1], name=path.name, report=report)
    return Files(config=config, servables=served, flags=flags, raw=tuple(raw))
