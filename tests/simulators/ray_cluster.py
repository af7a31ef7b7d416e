"""Ray in a network namespace of its own, which has loopback alone: Ray listens on what it finds."""

import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from simulators.infrastructure_files import write_node_files
from simulators.what_stands import comm

from wardian.engines import Supervisor
from wardian.engines.environment import find_python
from wardian.engines.ray.place import (
    RayPlace,
    RayTls,
    cluster_processes,
    short_directory,
    write_token,
)
from wardian.errors import ConfigError


def ray_python() -> Path:
    """The interpreter with Ray; skips (fails in CI) where there is none, or no such namespace."""
    try:
        python = find_python("ray", os.environ.get("WARDIAN_RAY_PYTHON"))
    except ConfigError as err:
        _missing(str(err))
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        _missing("no network namespace of one's own")
    return python


def _missing(reason: str) -> None:
    if os.environ.get("WARDIAN_REQUIRE_ALL"):
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass
class RayCluster:
    """A cluster that is up, and what is in its namespace."""

    place: RayPlace
    files: Path
    namespace: int
    supervisor: Supervisor
    lines: list[str] = field(default_factory=list)

    def inside(self, *argv: str, env: dict[str, str] | None = None, seconds: float = 60):
        """Run `argv` in the namespace."""
        enter = ("nsenter", f"--net=/proc/{self.namespace}/ns/net")
        return subprocess.run(
            [*enter, *argv], env=env, capture_output=True, text=True, timeout=seconds, check=False
        )

    def pid(self, name: str) -> int:
        (found,) = (each.pid for each in self.supervisor.status() if each.name == name)
        assert found is not None
        return found

    def joined(self) -> int:
        """How many nodes said that they are up."""
        return sum("Ray runtime started" in line for line in self.lines)

    def programs(self, node: str, program: str) -> list[int]:
        """The processes below the supervised `node` whose program's name begins with `program`."""
        return [pid for pid in below(self.pid(node)) if comm(pid).startswith(program)]


def below(parent: int) -> list[int]:
    found, parents = [], {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    level = [parent]
    while level:
        level = [pid for pid, above in parents.items() if above in level]
        found += level
    return found


@asynccontextmanager
async def ray_cluster(
    directory: Path,
    *,
    nodes: int = 1,
    cpus: int = 2,
    trusted: str = "node.pem",
    setup: str = "",
) -> AsyncIterator[RayCluster]:
    """Run a cluster until it is left; nothing of it is left behind."""
    python = ray_python()
    files = directory / "ray"
    files.mkdir()
    write_node_files(files, names=("localhost", "127.0.0.1"))
    write_token(files / "token")
    script = f"ip link set lo up; {setup or ':'}; echo up; exec cat"
    holder = subprocess.Popen(  # noqa: ASYNC220 - it answers in a moment
        ["unshare", "--net", "sh", "-c", script],
        stdin=subprocess.PIPE,  # it ends when this process does
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"up\n"
    inside = files / "python"
    inside.write_text(f'#!/bin/sh\nexec nsenter --net=/proc/{holder.pid}/ns/net {python} "$@"\n')
    inside.chmod(0o700)
    place = RayPlace(
        python=inside,
        directory=short_directory(files / ("x" * 99)),
        tls=RayTls(certificate=files / "node.pem", key=files / "node.key", trusted=files / trusted),
        token=files / "token",
        nodes=nodes,
        cpus=cpus,
    )
    lines: list[str] = []
    supervisor = Supervisor(
        on_line=lambda name, line: lines.append(f"{name}: {line}"),
        on_ended=lambda _: None,
        on_failed=lambda _: None,
    )
    try:
        for process in cluster_processes(place, logs=files):
            supervisor.start(process)
        yield RayCluster(place, files, holder.pid, supervisor, lines)
    finally:
        await supervisor.stop()
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()
        shutil.rmtree(place.directory, ignore_errors=True)


def until(condition, seconds: float = 60.0) -> float:
    """Wait until `condition`; return how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.05)
    return time.monotonic() - began
