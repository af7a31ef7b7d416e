"""What stands in a directory or a process that goes on changing while one looks."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def files_below(directory: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield every regular file below `directory` with its content, but what is gone meanwhile.

    A `directory` that is not there has none.

    Raises:
        OSError: something in it cannot be read.
    """
    for place, _, names in os.walk(directory, onerror=_but_gone):
        for name in names:
            path = Path(place, name)
            if path.is_file():
                with suppress(FileNotFoundError):
                    yield path, path.read_bytes()


def descriptors(pid: int) -> set[str]:
    """Return what the open descriptors of `pid` stand for; none, if it has ended."""
    found = set()
    with suppress(FileNotFoundError, ProcessLookupError):
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since it was listed
                found.add(str(each.readlink()))
    return found


def comm(pid: int) -> str:
    """Return what the program of `pid` is called; nothing, if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _but_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
