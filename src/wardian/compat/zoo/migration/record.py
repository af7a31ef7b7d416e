"""What a directory was made of: a digest of it, so that the same is not made twice."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from wardian._internal import wire
from wardian._internal.settings import read
from wardian.compat.zoo.migration.files import Files
from wardian.compat.zoo.migration.planned import Plan, PlannedModel
from wardian.compat.zoo.migration.wanted import Wanted
from wardian.compat.zoo.report import Finding
from wardian.errors import ConfigError, FormatError

NAME: Final = "migrated.json"
_MAX_BYTES: Final = 1024 * 1024
_FORM: Final = b"wardian-migrated-v1"


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in the directory beside what was made.

    Attributes:
        inputs_sha256: of what it was made of, in hex.
        models: those that are served.
        findings: what became of each key.
    """

    inputs_sha256: str
    models: tuple[str, ...]
    findings: tuple[Finding, ...]


def inputs_sha256(wanted: Wanted, files: Files, plan: Plan, *, keystore: bytes) -> str:
    """Return the digest of all that a directory is made of: files, models, and what is asked for.

    No password and no secret is part of it: a digest of one could be guessed at.

    Raises:
        ConfigError: a model's file cannot be read.
    """
    made = hashlib.sha256(_FORM)
    for part in (*files.raw, keystore, repr(_asked(wanted)).encode()):
        made.update(hashlib.sha256(part).digest())
    for model in plan.models:
        for path in _model_files(model):
            made.update(hashlib.sha256(repr((model.name, path.name)).encode()).digest())
            made.update(_file_digest(path))
    return made.hexdigest()


def _asked(wanted: Wanted) -> tuple[object, ...]:
    paths = (wanted.config, wanted.redis_ca, wanted.redis_password, wanted.keystore_password)
    return (
        [None if path is None else str(path.absolute()) for path in paths],
        wanted.servables is not None,
        list(wanted.flags),
        [(spec.dtype, spec.shape) for spec in wanted.shapes],
        wanted.threads,
        wanted.stream,
        wanted.http,
        wanted.redis_user,
        None if wanted.form is None else wanted.form.value,
        sorted(wanted.clear),
    )


def _model_files(model: PlannedModel) -> Iterator[Path]:
    """Yield the files of `model`, in an order that is always the same."""
    found = model.found
    if found is None:
        roots = [] if model.encrypted is None else [model.encrypted]
    else:
        roots = [found.path, *([] if found.weights is None else [found.weights])]
        roots += [found.path.with_suffix(".bin")] if found.kind == "openvino" else []
        roots += [found.path.with_name("graph_meta.json")] if found.meta is not None else []
    for root in roots:
        if root.is_dir():
            yield from sorted(path for path in root.rglob("*") if path.is_file())
        elif root.is_file():
            yield root


def _file_digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read: {err.strerror}") from err


def load_record(out: Path) -> Record | None:
    """Return the record in the directory `out`; None: there is none that can be read."""
    path = out / NAME
    if not path.is_file():
        return None
    try:
        return wire.decode(read(path, limit_bytes=_MAX_BYTES), Record, what=str(path))
    except (ConfigError, FormatError):
        return None
