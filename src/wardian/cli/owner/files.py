"""Files with one owner's line in them: read whole and checked, written in their one form."""

from pathlib import Path

from wardian._internal import wire
from wardian._internal.files import replace_file
from wardian._internal.settings import read
from wardian.broker.mesh.draft import MAX_LINE_FILE_BYTES, LineFile, line_file
from wardian.broker.mesh.lines import L, Line
from wardian.errors import ConfigError, FormatError


def read_line_file(path: Path) -> LineFile:
    """Return what is in the line file `path`; nothing in it is believed yet.

    Raises:
        ConfigError: it cannot be read, or is no line file.
    """
    return parse_line_file(read(path, limit_bytes=MAX_LINE_FILE_BYTES), name=str(path))


def parse_line_file(raw: bytes, *, name: str) -> LineFile:
    """Return the line file in `raw`; ConfigError if there is none."""
    try:
        file = wire.decode(raw, LineFile, what="line file")
        _ = file.line
    except (FormatError, ConfigError) as err:
        raise ConfigError(f"{name}: {err}") from err
    return file


def write_line_file(path: Path, line: Line, *, mesh: str) -> None:
    """Write `line`, for `mesh`, in the place of what is in `path`."""
    replace_file(path, wire.encode(line_file(line, mesh=mesh)))


def well_formed(line: L) -> L:
    """Return `line` if every field of it is what a manifest takes.

    Raises:
        ConfigError: one is not; the message says which.
    """
    try:
        return wire.decode(wire.encode(line), type(line), what="the line")
    except FormatError as err:
        raise ConfigError(str(err)) from err
