"""The models that are to be served, before any is converted."""

import re
from dataclasses import dataclass
from pathlib import Path

from wardian.compat.zoo.migration.find_model import FoundModel
from wardian.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedModel:
    """One model that is to be served.

    Attributes:
        name: as `wardian.toml` has it.
        version: from 1 on.
        found: its file; None: it is encrypted.
        encrypted: the directory of an encrypted one; None: it is not.
        threads: of one inference.
        top: how many of its output's largest values are answered; None: all.
        numbers: of the findings that its file, and `top`, have in the report.
        place: where it was said, for messages.
    """

    name: str
    version: int
    found: FoundModel | None
    encrypted: Path | None = None
    threads: int = 1
    top: int | None = None
    numbers: dict[str, int]
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All of it.

    Attributes:
        mesh: its name.
        models: by name, each once.
        job: the name of the model that the stream's records are for; None: it cannot be had.
        replicas: workers of each.
    """

    mesh: str
    models: tuple[PlannedModel, ...]
    job: str | None
    replicas: int


def plain_name(text: str, *, place: str) -> str:
    """Return `text` as a name of `wardian.toml`: lower case, and "-" for what has no place there.

    Args:
        text: the name.
        place: where it stands, for messages.

    Raises:
        ConfigError: nothing is left of it.
    """
    name = re.sub(r"[^a-z0-9._-]", "-", text.lower()).lstrip("._-")[:64]
    if not name:
        raise ConfigError(f"{place}: no name: letters and digits are expected")
    return name
