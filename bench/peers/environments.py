"""An environment for each peer: made once, by pip as it is configured here, bounded in time."""

import subprocess
import sys
from pathlib import Path

INSTALL_S = 600.0
_DONE = "installed"


class NotInstalled(Exception):
    """A peer's environment could not be made; says why."""


def python_of(scratch: Path, name: str) -> Path:
    """Return the interpreter of `name`'s environment below `scratch`."""
    return scratch / name / "bin" / "python"


def install(scratch: Path, name: str, packages: tuple[str, ...]) -> Path:
    """Return the interpreter of an environment that has `packages`, made now if it must be.

    Raises:
        NotInstalled: pip found or built no such package, or took longer than `INSTALL_S`.
    """
    python, done = python_of(scratch, name), scratch / name / _DONE
    if done.exists() and done.read_text() == "\n".join(packages):
        return python
    print(f"installing {name} ...", file=sys.stderr, flush=True)
    log = scratch / f"{name}-install.log"
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages]
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as sink:
            made = [sys.executable, "-m", "venv", str(scratch / name)]
            for command in (made, pip):
                subprocess.run(command, check=True, stdout=sink, stderr=sink, timeout=INSTALL_S)
    except subprocess.TimeoutExpired as err:
        raise NotInstalled(f"pip took longer than {INSTALL_S:.0f} s") from err
    except subprocess.CalledProcessError as err:
        raise NotInstalled(_last_line(log)) from err
    done.write_text("\n".join(packages))
    return python


def version_of(python: Path, package: str) -> str:
    """Return the version of `package` in the environment of `python`."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    asked = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return asked.stdout.strip()


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line] or lines or ["pip failed"]
    return errors[-1].strip()[:200]
