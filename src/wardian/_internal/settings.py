"""Settings files: TOML with known keys alone; others are refused, with their line.

What is agreed and measured is in `agreed`, what is the operator's in `operator`.
"""

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from wardian.errors import ConfigError

Name = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9._-]{0,63}\Z")]
"""A model's or a mesh's name: it stands in URLs, metrics and file names."""

PublicKey = Annotated[str, msgspec.Meta(pattern=r"\A(?:0[23])?[0-9a-f]{64}\Z")]
"""An owner's public key in lower-case hex: 32 bytes of Ed25519, or a compressed point of P-256."""

Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
PositiveInt = Annotated[int, msgspec.Meta(ge=1, le=2**40)]
MAX_BYTES = 1024**2
"""Of a settings file."""
S = TypeVar("S", bound="Settings")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table of a settings file."""


def parse(raw: bytes, kind: type[S], *, name: str) -> S:
    """Return the settings in `raw`.

    Args:
        raw: TOML in UTF-8, at most 1 MiB.
        kind: a `Settings` table: `agreed.Agreed`, `operator.Operator` or another.
        name: the file's name for messages.

    Raises:
        ConfigError: not TOML, a wrong value, or an unknown key; says which line.
    """
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{name}: larger than 1 MiB")
    try:
        text = raw.decode()
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as err:  # TOMLDecodeError and UnicodeDecodeError are values
        raise ConfigError(f"{name}: not valid TOML: {err}") from err
    try:
        return msgspec.convert(table, kind, strict=True)
    except msgspec.ValidationError as err:
        raise ConfigError(_explain(str(err), table, kind, text, name)) from err


def load(path: Path, kind: type[S]) -> S:
    """Return the settings in the file `path`; see `parse`."""
    return parse(read(path), kind, name=str(path))


def read(path: Path, *, limit_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes of the file `path`, of which no more than the limit is read.

    Args:
        path: a regular file. A pipe or a device would be waited for, or never end.
        limit_bytes: the most that it may hold; by default what `parse` takes.

    Raises:
        ConfigError: it cannot be read, is no regular file, or holds more.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{path}: is no regular file")
            raw = file.read(limit_bytes + 1)
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read: {err.strerror}") from err
    if len(raw) > limit_bytes:
        raise ConfigError(f"{path}: larger than {limit_bytes:,} bytes")
    return raw


def line_of(path: list[str], raw: bytes) -> int | None:
    """Return the line of the TOML in `raw` that sets the key `path`; None: it cannot be told."""
    text = raw.decode()
    return _line_of(path, tomllib.loads(text), text)


def _explain(
    reason: str, table: dict[str, Any], kind: type["Settings"], text: str, name: str
) -> str:
    """Return msgspec's reason with the line of the key that it is about, where one is named."""
    where = re.search(r"`\$\.?([^`]*)`$", reason)
    path = re.findall(r"\.{3}|[^.\[\]]+", where.group(1)) if where else []
    path = _with_names(path, table, kind, reason)
    unknown = re.search(r"unknown field `([^`]*)`", reason)
    if unknown:
        path.append(unknown.group(1))
    line = _line_of(path, table, text)
    return f"{name}{f', line {line}' if line else ''}: {reason}"


def _with_names(
    path: list[str], table: dict[str, Any], kind: type["Settings"], reason: str
) -> list[str]:
    """Return `path` with the name of a table in place of the first "...", which msgspec says.

    It is the one that is refused for that reason without its neighbours.
    """
    if "..." not in path:
        return path
    at = path.index("...")
    parent: Any = table
    for name in path[:at]:
        parent = parent.get(name) if isinstance(parent, dict) else None
    for name in list(parent) if isinstance(parent, dict) else []:
        alone: Any = {name: parent[name]}
        for outer in reversed(range(at)):
            around: Any = table
            for each in path[:outer]:
                around = around[each]
            alone = {**around, path[outer]: alone}
        try:
            msgspec.convert(alone, kind, strict=True)
        except msgspec.ValidationError as err:
            if str(err) == reason:
                return [*path[:at], name, *path[at + 1 :]]
    return path


def _line_of(path: list[str], table: dict[str, Any], text: str) -> int | None:
    """Return the line on which the last key of `path` is set, as far as a text search tells."""
    names = [part for part in path if part != "..."]
    if not names:
        return None
    leaf = re.compile(
        rf"""^\s*(\[+.*\b{re.escape(names[-1])}\b.*\]+|["']?{re.escape(names[-1])}["']?\s*=)"""
    )
    header = re.compile(r"^\s*\[+([^\]]+)\]+")
    section: list[str] = []
    counts: dict[str, int] = {}
    best = None
    for number, row in enumerate(text.splitlines(), start=1):
        if found := header.match(row):
            section = [part.strip(" \t\"'") for part in found.group(1).split(".")]
            if row.lstrip().startswith("[["):
                counts[section[-1]] = counts.get(section[-1], -1) + 1
            section += [str(counts[part]) for part in section if part in counts]
        if leaf.match(row):
            if all(part in section or part == names[-1] for part in names):
                return number
            best = best or number
    if best is None:  # in a table or list that is written on one line
        return _line_of(names[:-1], table, text)
    return best if _has_key(table, names[-1]) else None


def _has_key(table: dict[str, Any], name: str) -> bool:
    """Return whether `name` is a key anywhere in `table`, however deep a stranger made it."""
    tables: list[Any] = [table]
    while tables:
        each = tables.pop()
        if isinstance(each, dict):
            if name in each:
                return True
            tables += each.values()
        elif isinstance(each, list):
            tables += each
    return False
