"""The same mesh on every engine: one line of the operator's file differs, and nothing else does.

Then each process of the engine is killed under load, and workers are scaled: every request is
answered, and rightly.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from engine_mesh import (
    START_S,
    Load,
    example_with,
    kill,
    need_engine,
    processes_of,
    roles_of_workers,
    serving,
    two_workers,
    until,
)
from mesh import DIGITS, RunningMesh

import wardian
from wardian._internal import wire
from wardian.broker.mesh.manifest import SignedManifest, parse_manifest

KILLS = {
    "flink": ("taskmanager", "flink python", "worker", "jobmanager"),
    "ray": ("actor", "worker", "driver", "agent", "gcs"),
}


def measurements(mesh: RunningMesh) -> dict[str, tuple[str, ...]]:
    signed = wire.decode(
        (mesh.state / "manifest.json").read_bytes(), SignedManifest, what="manifest"
    )
    return {name: role.measurements for name, role in parse_manifest(signed).roles.items()}


def answers(mesh: RunningMesh) -> dict[str, bytes]:
    image = (np.load(DIGITS / "heldout.npz")["image"] * 0.0625).astype(np.float32)
    with wardian.connect(mesh.url, policy=mesh.policy) as client:
        found = client.infer("digits", {"image": image[:64]})
        return {name: found[name].tobytes() for name in ("label",)}


@pytest.fixture(scope="module")
def on_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict, dict]]:
    """A state directory that served on the local engine, and what it measured and answered."""
    directory = tmp_path_factory.mktemp("engines")
    example = example_with(directory / "example", "local")
    mesh = RunningMesh(state=directory / "state", example=example).start()
    try:
        found = measurements(mesh), answers(mesh)
    finally:
        assert mesh.stop() == 0
    return directory, *found


@pytest.mark.timeout(400)
@pytest.mark.parametrize("engine", ["ray", pytest.param("flink", marks=pytest.mark.slow)])
def test_one_line_differs_and_nothing_else(on_local, engine: str) -> None:
    need_engine(engine)
    directory, measured, answered = on_local
    operator = directory / "example" / "operator.toml"
    before = operator.read_text()
    operator.write_text(before.replace('engine = "local"', f'engine = "{engine}"'))
    try:
        mesh = RunningMesh(state=directory / "state", example=directory / "example").start(START_S)
        try:
            assert measurements(mesh) == measured
            assert answers(mesh) == answered
            (worker,) = [
                each for each in mesh.status["processes"] if each["name"] == "worker-digits-1"
            ]
            assert worker["state"] == "ready"
            assert worker["place"]
            held = [pid for pid in mesh.pids() if pid != mesh.process.pid]
        finally:
            assert mesh.stop() == 0, mesh.screen
        assert not [pid for pid in held if Path(f"/proc/{pid}").exists()]
    finally:
        operator.write_text(before)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["local", "ray", "flink"])
async def test_scaling_loses_no_request(tmp_path: Path, engine: str) -> None:
    need_engine(engine)
    example = example_with(tmp_path / "example", engine)
    mesh = RunningMesh(state=tmp_path / "state", example=example).start(START_S)
    operator = mesh.state / "operator.toml"
    try:
        await until(lambda: serving(mesh, 1), "one worker")
        async with Load(mesh) as load:
            for before, after in ((1, 2), (2, 1)):
                began = time.monotonic()
                text = operator.read_text()
                operator.write_text(text.replace(f"replicas = {before}", f"replicas = {after}"))
                took = await until(lambda count=after: serving(mesh, count), f"{after} workers")
                print(
                    f"{engine} {before} to {after}: {took:.1f} s, gap {load.gap_since(began):.2f}"
                )
        print(dict(load.outcomes), f"longest {load.longest_s:.2f} s")
        assert set(load.outcomes) == {"answered"}
    finally:
        assert mesh.stop() == 0, mesh.screen


def of_kind(mesh: RunningMesh, kind: str) -> list[int]:
    return roles_of_workers(mesh) if kind == "worker" else processes_of(mesh, kind)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["ray", "flink"])
async def test_whatever_is_killed_nothing_is_lost(tmp_path: Path, engine: str) -> None:
    need_engine(engine)
    async with two_workers(tmp_path, engine) as mesh, Load(mesh) as load:
        for kind in KILLS[engine]:
            await until(lambda kind=kind: bool(of_kind(mesh, kind)), f"a {kind}, where one died")
            found = of_kind(mesh, kind)
            roles = set(roles_of_workers(mesh))
            began = time.monotonic()
            kill(found[0])
            await until(lambda gone=found[0]: not Path(f"/proc/{gone}").exists(), "its end")
            if kind not in {"worker", "jobmanager", "gcs"}:  # no worker outlives its task
                await until(lambda known=roles: known - set(roles_of_workers(mesh)), "its worker's")
                print(f"{kind}: its worker ended {time.monotonic() - began:.2f} s later")
            if kind in {"jobmanager", "gcs"}:  # what it knew is lost: all workers are placed anew
                await until(
                    lambda known=roles: not known & set(roles_of_workers(mesh)), f"news of {kind}"
                )
            await until(lambda: serving(mesh, 2), f"two workers after {kind}")
            took = time.monotonic() - began
            print(f"{engine} {kind}: {took:.1f} s, gap {load.gap_since(began):.2f} s")
        print(dict(load.outcomes), f"longest {load.longest_s:.2f} s")
    assert set(load.outcomes) == {"answered"}


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("which", ["last", "first"])
def test_a_killed_node_of_ray(tmp_path: Path, which: str) -> None:
    """Two nodes on one machine are for a network namespace: elsewhere Ray listens on all of it."""
    need_engine("ray")
    script = 'ip link set lo up && exec "$@"'
    inside = [sys.executable, str(Path(__file__).with_name("node_killed.py"))]
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script, "sh", *inside, str(tmp_path), which],
        capture_output=True,
        text=True,
        timeout=350,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-3000:]
