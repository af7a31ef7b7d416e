"""Bytecode of a role's Python files: compiled anew, the same bytes for the same source.

The interpreter takes it from below its bytecode prefix without looking at the sources (PEP 552,
"unchecked hash-based pycs"), so the bytecode is what runs, and it is what is measured. Two things
make it deterministic: marshal version 2, which has no flags that depend on reference counts, and
sorted constant sets, which every supported Python has.
"""

import importlib.util
import marshal
import struct
import sys
from pathlib import Path

from wardian.errors import ConfigError

FOLDER = "bytecode"
"""Below a role's directory: the bytecode prefix."""

_HASH_BASED_UNCHECKED = 0b01
_MARSHAL_VERSION = 2


def compile_file(source: Path) -> bytes:
    """Return the content of the `.pyc` file for `source`.

    Raises:
        ConfigError: it cannot be read or compiled.
    """
    try:
        content = source.read_bytes()
        code = compile(content, str(source), "exec", dont_inherit=True, optimize=0)
    except (OSError, SyntaxError, ValueError) as err:
        raise ConfigError(f"{source}: cannot be compiled: {err}") from err
    flags = struct.pack("<I", _HASH_BASED_UNCHECKED)
    head = importlib.util.MAGIC_NUMBER + flags + importlib.util.source_hash(content)
    return head + marshal.dumps(code, _MARSHAL_VERSION)


def demand_debug_ranges() -> None:
    """Refuse an interpreter that was told to compile otherwise than it does by default.

    Raises:
        ConfigError: positions are left out (PYTHONNODEBUGRANGES, or -X no_debug_ranges).
    """
    positions = compile("f(1)", "", "eval").co_positions()
    if all(column is None for _, _, column, _ in positions):
        raise ConfigError(
            "PYTHONNODEBUGRANGES changes every measurement: unset it to build a manifest"
        )


def bytecode_path(source: Path) -> str:
    """Return where the interpreter looks for the bytecode of `source`, below a role's directory."""
    name = f"{source.stem}.{sys.implementation.cache_tag}.pyc"
    return f"{FOLDER}{source.parent}/{name}"
