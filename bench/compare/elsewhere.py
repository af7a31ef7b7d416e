"""A program in another environment that is asked in JSON lines: started, asked, ended."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ENGINES = Path(sys.prefix) / "engines"
"""Where `make` puts environments of their own."""
END_S = 10.0


class Absent(Exception):
    """It cannot be asked; says why."""


class Elsewhere:
    """A program that was started and said what it is."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        """Ask `process`; what it complains of is in `log`."""
        self._process, self._log = process, log
        self.about = self._hear()
        """What it said of itself."""

    def ask(self, **fields: Any) -> dict[str, Any]:
        """Return its answer.

        Raises:
            Absent: it ended.
        """
        if self._process.stdin is None:
            raise Absent("it was started without an input")
        try:
            self._process.stdin.write(json.dumps(fields) + "\n")
            self._process.stdin.flush()
        except OSError as err:
            raise Absent(self._last_words()) from err
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise Absent(self._last_words())
        heard: dict[str, Any] = json.loads(line)
        return heard

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines()]
        said = [line for line in lines if line]
        return f"it ended: {said[-1][:160] if said else 'it said nothing'}"


def python_of(engines: Path, engine: str) -> Path:
    """Return the interpreter of an environment that `make` made below `engines`.

    Raises:
        Absent: it did not.
    """
    python = engines / engine / "bin" / "python"
    if not python.exists() or not (engines / f"{engine}.installed").exists():
        raise Absent(f"not installed here: make {engine}")
    return python


@contextmanager
def elsewhere(python: Path, script: Path, *arguments: str, log: Path) -> Iterator[Elsewhere]:
    """Run `script` by `python` until the block ends.

    Raises:
        Absent: it ended before it said what it is.
    """
    with log.open("w") as sink:
        process = subprocess.Popen(
            [str(python), str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
        )
    try:
        yield Elsewhere(process, log)
    finally:
        if process.stdin:
            with suppress(OSError):  # it is gone, with a question that it never read
                process.stdin.close()  # which ends it
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()
