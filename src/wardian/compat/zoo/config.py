"""Cluster Serving's `config.yaml`: flat, or nested as in 0.9; names in any case."""

from dataclasses import dataclass
from typing import Final

import msgspec

from wardian.compat.zoo.keys import CONFIG, Count, Text, Whole
from wardian.compat.zoo.report import Report
from wardian.compat.zoo.their_place import WITHHELD, names_user
from wardian.compat.zoo.values import Values
from wardian.compat.zoo.yaml_tree import Mapping, Scalar, parse_mapping
from wardian.errors import ConfigError

_FLAT: Final = {key.name.lower(): key for key in CONFIG}
_NESTED: Final = {key.nested.lower(): key for key in CONFIG if key.nested}
_GROUPS: Final = frozenset(path.split(".")[0] for path in _NESTED)


class ZooConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What of it has a meaning here, with the defaults of the original."""

    model_path: Text | None = None
    job_name: Text = "serving_stream"
    post_processing: Text = ""
    core_number_per_machine: Whole = -1
    model_parallelism: Count = 1
    thread_per_model: Count = 1
    model_encrypted: bool = False
    record_encrypted: bool = False
    queue_used: Text = "redis"
    redis_url: Text | None = None
    redis_secure_enabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """The file, read.

    Attributes:
        name: the file's.
        settings: its values.
        numbers: of each key's finding in the report, by the key's name.
    """

    name: str
    settings: ZooConfig
    numbers: dict[str, int]


def parse_config(raw: bytes, *, name: str, report: Report) -> ConfigFile:
    """Return the settings in `raw`; each of its keys is in `report` afterwards.

    Args:
        raw: YAML in UTF-8, untrusted; see `yaml_tree`.
        name: the file's name for messages.
        report: takes the keys.

    Raises:
        ConfigError: not such a file; says the line, and never a value.
    """
    values = Values(file=name, report=report)
    for known, entry in parse_mapping(raw, name=name).entries.items():
        group = entry.value
        if known not in _GROUPS:
            values.take((entry,), _FLAT)
        elif isinstance(group, Mapping):
            values.take(group.entries.values(), _NESTED, group=f"{entry.name}.")
        elif not (isinstance(group, Scalar) and group.null):
            raise ConfigError(f"{name}, line {entry.line}: {known}: expected a group of keys")
    if names_user(values.by_key.get("redisUrl", "")):
        values.by_key["redisUrl"] = WITHHELD  # a password of it is not kept
    return ConfigFile(
        name=name,
        settings=msgspec.convert(values.by_key, ZooConfig),
        numbers=values.numbers,
    )
