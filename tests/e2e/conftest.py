"""One mesh for all tests that only ask it; those that hurt it start their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mesh import RunningMesh


@pytest.fixture(scope="session")
def shared_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    mesh = RunningMesh(state=tmp_path_factory.mktemp("mesh") / "state").start()
    try:
        yield mesh
    finally:
        assert mesh.stop() == 0, mesh.screen


@pytest.fixture
def own_mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    mesh = RunningMesh(state=tmp_path / "state").start()
    try:
        yield mesh
    finally:
        mesh.stop()
