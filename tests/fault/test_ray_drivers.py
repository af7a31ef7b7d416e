"""Drivers that say what is no answer, end, or hang: another one takes over, and is told the same."""

import asyncio
import sys
from pathlib import Path

import pytest
from simulators.placed_workers import PlacedWorkers

from wardian.engines.ray import engine as engine_module
from wardian.engines.ray.engine import RayEngine
from wardian.engines.ray.place import RayPlace, RayTls
from wardian.errors import ConfigError, TransportError

DRIVER = """#!{python}
import json, os, sys, time
starts = os.path.join({notes!r}, "starts")
with open(starts, "a") as sink:
    sink.write("x")
first = os.path.getsize(starts) == 1
mode = {mode!r}
if first and mode == "ends":
    sys.exit(1)
if first and mode == "raves":
    print("a warning of Ray", flush=True)
    time.sleep(60)
print(json.dumps({{"id": 0, "workers": []}}), flush=True)
kept = []
for line in sys.stdin:
    order = json.loads(line)
    if first and mode == "hangs":
        time.sleep(60)
    if order["do"] == "keep":
        kept = [order["spec"]["name"] + "-" + str(n + 1) for n in range(order["replicas"])]
    workers = [
        dict(name=n, state="ready", place="", pid=1, starts=1, exit_status=None, reason="")
        for n in kept
    ]
    print(json.dumps({{"id": order["id"], "workers": workers}}), flush=True)
"""


def place(directory: Path, mode: str) -> RayPlace:
    python = directory / "python"
    python.write_text(DRIVER.format(python=sys.executable, notes=str(directory), mode=mode))
    python.chmod(0o700)
    file = directory / "f"
    tls = RayTls(certificate=file, key=file, trusted=file)
    return RayPlace(python=python, directory=Path("/r"), tls=tls, token=file)


async def ready(engine: RayEngine, count: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                status = await engine.status()
            except TransportError:
                status = ()
            if [each.state for each in status] == ["ready"] * count:
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("mode", ["serves", "ends", "raves", "hangs"])
async def test_another_driver_takes_over(tmp_path: Path, monkeypatch, mode: str) -> None:
    for name, seconds in {"ANSWER_S": 1.0, "SETTLE_S": 1.0, "_EXIT_S": 0.5}.items():
        monkeypatch.setattr(engine_module, name, seconds)
    engine = RayEngine(place(tmp_path, mode))
    await engine.start(PlacedWorkers.under(tmp_path / "w").spec(replicas=2))
    assert [each.state for each in await engine.status()] == ["waiting", "waiting"]
    await ready(engine, 2)
    await engine.scale(3)
    await ready(engine, 3)
    await engine.drain()
    assert await engine.status() == ()
    await engine.stop()
    assert len((tmp_path / "starts").read_text()) == (1 if mode == "serves" else 2)


async def test_without_an_environment_it_says_how_to_install_it(tmp_path: Path) -> None:
    engine = RayEngine(place(tmp_path, "serves"))
    (tmp_path / "python").unlink()
    with pytest.raises(ConfigError, match="make ray"):
        await engine.start(PlacedWorkers.under(tmp_path / "w").spec())
    await engine.stop()
