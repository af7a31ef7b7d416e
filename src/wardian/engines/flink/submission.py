"""Submitting a job: a process of Flink's environment does it, and ends."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from wardian.engines.engine import WorkersSpec
from wardian.engines.flink.place import FlinkPlace
from wardian.errors import ConfigError, ConnectionLost, Timeout

SUBMIT_S: Final = 120.0
_SAID_BYTES: Final = 64 * 1024
_JOB: Final = re.compile(rb"^job ([0-9a-f]{32})$", re.MULTILINE)


async def submit(
    place: FlinkPlace, spec: WorkersSpec, *, name: str, replicas: int, savepoint: str | None
) -> str:
    """Submit the job `name` that runs `replicas` workers of `spec`; return its id.

    Raises:
        ConfigError: the environment's Python does not start.
        ConnectionLost: Flink did not take it; what was printed stands in the log.
        Timeout: not in two minutes.
    """
    from wardian.engines.flink.job import write_spec  # noqa: PLC0415 (tries PyFlink when loaded)

    said = {
        "name": name,
        "spec": write_spec(replace(spec, replicas=replicas)),
        "python": str(place.python),
        "jars": [] if place.ports is not None else [jar(place.python).as_uri()],
        "savepoint": savepoint,
    }
    log = place.directory / "logs" / "submit.log"
    with log.open("ab") as sink:
        try:
            process = await asyncio.create_subprocess_exec(
                str(place.python),
                "-P",
                "-m",
                "wardian.engines.flink.job",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env=environment(place, place.directory / "submit"),
                cwd=place.directory / "tmp",
                start_new_session=True,
                limit=_SAID_BYTES,
            )
        except OSError as err:
            raise ConfigError(f"flink: {place.python} does not start: {err.strerror}") from err
        try:
            async with asyncio.timeout(SUBMIT_S):
                printed, _ = await process.communicate(json.dumps(said).encode())
        except TimeoutError as err:
            raise Timeout(f"flink: no job in {SUBMIT_S:.0f} s; see {log}") from err
        finally:
            with contextlib.suppress(ProcessLookupError):  # the JVM that it started is of its group
                os.killpg(process.pid, 9)
            await process.wait()
        sink.write(printed)
    found = _JOB.search(printed)
    if found is None:
        raise ConnectionLost(f"flink: the job was not taken; see {log}")
    return found[1].decode()


def environment(place: FlinkPlace, settings: Path) -> dict[str, str]:
    """Return all that a process of Flink has of an environment, with its settings' directory."""
    home = flink_home(place.python)
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": str(place.directory),
        "FLINK_HOME": str(home),
        "FLINK_CONF_DIR": str(settings),
        "HADOOP_CLASSPATH": str(jar(place.python)),  # how one adds to the class path of a cluster
        "PYTHONSAFEPATH": "1",
    }


def flink_home(python: Path) -> Path:
    """Return where Flink is in the environment of `python`.

    Raises:
        ConfigError: it is not there.
    """
    for found in sorted(python.parent.parent.glob("lib/python3*/site-packages/pyflink")):
        return found
    raise ConfigError(
        f"flink: no apache-flink beside {python} (this is {sys.prefix}): `make flink`"
    )


def jar(python: Path) -> Path:
    """Return the archive by which Flink runs Python.

    Raises:
        ConfigError: it is not there.
    """
    for found in sorted(flink_home(python).glob("opt/flink-python-*.jar")):
        return found
    raise ConfigError(f"flink: no flink-python beside {python}: `make flink`")
