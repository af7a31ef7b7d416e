"""Cluster Serving's `servables.yaml`: the models of its HTTP front end."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from wardian.compat.zoo.keys import CLUSTER, IN_PROCESS, SERVABLES, Count, Text, Whole
from wardian.compat.zoo.report import Report
from wardian.compat.zoo.values import Values
from wardian.compat.zoo.yaml_tree import Mapping, Sequence, Tree, parse_mapping
from wardian.errors import ConfigError

_LIST: Final = "modelMetaDataList"
_KEYS: Final = {tag: {key.name.lower(): key for key in keys} for tag, keys in SERVABLES.items()}
MAX_SERVABLES: Final = 256


class ClusterServable(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`!<ClusterServingMetaData>`: a model behind a Redis stream."""

    model_name: Text
    model_version: Text
    redis_input_queue: Text = "serving_stream"
    redis_host: Text | None = None
    redis_port: Whole | None = None
    input_compile_type: Text = ""


class InProcessServable(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`!<InferenceModelMetaData>`: a model in the front end itself."""

    model_name: Text
    model_version: Text
    model_path: Text
    model_type: Text
    weight_path: Text | None = None
    copies: Count = msgspec.field(default=1, name="modelConCurrentNum")


@dataclass(frozen=True, slots=True, kw_only=True)
class Servable:
    """One entry.

    Attributes:
        place: the file's name and the entry's line, for messages.
        settings: its values.
        numbers: of each key's finding in the report, by the key's name.
    """

    place: str
    settings: ClusterServable | InProcessServable
    numbers: dict[str, int]


def parse_servables(raw: bytes, *, name: str, report: Report) -> tuple[Servable, ...]:
    """Return the entries in `raw`; each of their keys is in `report` afterwards.

    Args:
        raw: YAML in UTF-8, untrusted; see `yaml_tree`.
        name: the file's name for messages.
        report: takes the keys.

    Raises:
        ConfigError: not such a file; says the line, and never a value.
    """
    listed: Tree | None = None
    for entry in parse_mapping(raw, name=name, tags=frozenset(SERVABLES)).entries.values():
        if entry.name.lower() == _LIST.lower():
            listed = entry.value
        else:
            report.note(name, entry.line, entry.name, None)
    if not isinstance(listed, Sequence) or not listed.items:
        raise ConfigError(f"{name}: expected {_LIST}, a list of models")
    if len(listed.items) > MAX_SERVABLES:
        raise ConfigError(f"{name}: more than {MAX_SERVABLES} models")
    return tuple(_servable(each, name, report) for each in listed.items)


def _servable(tree: Tree, name: str, report: Report) -> Servable:
    place = f"{name}, line {tree.line}"
    if not isinstance(tree, Mapping) or not tree.tag:
        raise ConfigError(f"{place}: expected !<{CLUSTER}> or !<{IN_PROCESS}> and its keys")
    values = Values(file=name, report=report)
    values.take(tree.entries.values(), _KEYS[tree.tag])
    kind: Any = ClusterServable if tree.tag == CLUSTER else InProcessServable
    try:
        settings = msgspec.convert(values.by_key, kind)
    except msgspec.ValidationError as err:  # a key that is missing: values are of their kinds
        raise ConfigError(f"{place}: {err}") from err
    return Servable(place=place, settings=settings, numbers=values.numbers)
