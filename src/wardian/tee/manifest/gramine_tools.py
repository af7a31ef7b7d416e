"""Runs Gramine's tools, of version 1.9: one result each, or a typed error; nothing is believed.

`gramine-manifest-check` knows every key of a manifest, `gramine-sgx-sign` measures an enclave and
has it signed, `gramine-sgx-gen-private-key` makes a key. The private key stays theirs.

Source: the manual pages of these programs in Gramine's documentation.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final

from wardian._internal.wire import printable
from wardian.errors import ConfigError, Timeout

SCHEMA_CHECK: Final = "gramine-manifest-check"
SIGN: Final = "gramine-sgx-sign"
NEW_KEY: Final = "gramine-sgx-gen-private-key"

SIGN_TIMEOUT_S: Final = 900.0
"""A person may have to touch a token, and an enclave of many gigabytes takes minutes to measure."""
TOOL_TIMEOUT_S: Final = 120.0


def missing_tools(names: Iterable[str]) -> str | None:
    """Return one line that says which of the tools `names` are not installed, or None."""
    missing = [name for name in names if shutil.which(name) is None]
    if not missing:
        return None
    be = "is" if len(missing) == 1 else "are"
    return (
        f"{' and '.join(missing)} {be} not installed: install the package gramine, version 1.9 or "
        "later, from Gramine's own repository (see Gramine's installation guide)"
    )


def demand_schema(manifest: Path, *, cwd: Path) -> None:
    """Refuse what Gramine does not know in a manifest.

    The documentation promises silence for a good one. Early versions ended with status 0 whatever
    they said, so that whatever is said counts.

    Raises:
        ConfigError: the tool says something, fails or is missing.
        Timeout: it does not end.
    """
    said = run_tool([SCHEMA_CHECK, str(manifest)], cwd=cwd, timeout_s=TOOL_TIMEOUT_S)
    if said:
        raise ConfigError(f"{manifest.name}: {SCHEMA_CHECK} refuses it: {said}")


def run_sign(
    source: Path,
    *,
    manifest: Path,
    signature: Path,
    plugin: str,
    arguments: Iterable[str],
    cwd: Path,
) -> None:
    """Have the enclave of the manifest `source` measured and signed.

    Args:
        source: the manifest.
        manifest: where to write the signed manifest; absolute.
        signature: where to write the SIGSTRUCT; absolute.
        plugin: the plug-in of `gramine-sgx-sign` that signs.
        arguments: its options. They stand before the tool's own: of an option that is given twice
            the last one counts.
        cwd: the directory that relative URIs of trusted files are relative to.

    Raises:
        ConfigError: the tool is missing, fails, or does not write both files.
        Timeout: it does not end.
    """
    command = [
        *(SIGN, "--with", plugin, *arguments),
        *("--manifest", str(source), "--output", str(manifest), "--sigfile", str(signature)),
    ]
    run_tool(command, cwd=cwd, timeout_s=SIGN_TIMEOUT_S)
    for path in (manifest, signature):
        if not path.is_file():
            raise ConfigError(f"{SIGN} ended with status 0 and did not write {path.name}")


def run_new_key(path: Path) -> None:
    """Make a new signing key, RSA-3072 with exponent 3, in the new file `path`.

    Raises:
        ConfigError: the file is there already, or the tool is missing or fails.
        Timeout: the tool does not end.
    """
    if path.exists():
        raise ConfigError(f"{path}: is there already; it is never overwritten")
    target = path.absolute()
    run_tool([NEW_KEY, str(target)], cwd=target.parent, timeout_s=TOOL_TIMEOUT_S)


def run_tool(command: list[str], *, cwd: Path, timeout_s: float) -> str:
    """Run a tool to its good end; return the last line that it said, or nothing.

    It gets no standard input, and of the environment only where programs and its user's settings
    lie. What it says goes to a file, so that a child that it left behind cannot block this process.

    Raises:
        ConfigError: it is missing, or ended with another status than 0.
        Timeout: it did not end in time, and was killed.
    """
    program = shutil.which(command[0])
    if program is None:
        raise ConfigError(str(missing_tools([command[0]])))
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(
                [program, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=_environment(),
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as err:
            raise Timeout(f"{command[0]}: no result after {timeout_s:g} s") from err
        except OSError as err:
            raise ConfigError(f"{program}: cannot be started: {err.strerror}") from err
        last = _last_line(said)
    if done.returncode != 0:
        reason = last or f"ended with status {done.returncode}"
        raise ConfigError(f"{command[0]} failed: {reason}")
    return last


def _environment() -> dict[str, str]:
    """Return where programs and the settings of a plug-in lie, and nothing else of this process."""
    kept = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    return kept | {"LC_ALL": "C.UTF-8"}


def _last_line(said: IO[bytes]) -> str:
    """Return the last line of `said` that is not empty, at most 300 characters."""
    end = said.seek(0, os.SEEK_END)
    said.seek(max(0, end - 8192))
    lines = [line.strip() for line in said.read().decode(errors="replace").splitlines()]
    return printable(next((line for line in reversed(lines) if line), ""))[:300]
