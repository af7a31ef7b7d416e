"""One mesh for all tests that only ask it; those that hurt it start their own."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mesh import RunningMesh
from probe import Probe, builder_of

from wardian.tee.manifest.builder import Builder

if TYPE_CHECKING:
    from tables_mesh import TablesMesh


@pytest.fixture(scope="session")
def shared_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    mesh = RunningMesh(state=tmp_path_factory.mktemp("mesh") / "state").start()
    try:
        yield mesh
    finally:
        assert mesh.stop() == 0, mesh.screen


@pytest.fixture(scope="session")
def tables_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator["TablesMesh"]:
    """Return a broker that keeps owners' tables, and whose mesh lists the code of jobs."""
    from tables_mesh import TablesMesh

    mesh = TablesMesh(tmp_path_factory.mktemp("tables"))
    try:
        yield mesh
    finally:
        mesh.end()


@pytest.fixture
def own_mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    mesh = RunningMesh(state=tmp_path / "state").start()
    try:
        yield mesh
    finally:
        mesh.stop()


@pytest.fixture(scope="module")
def build_of(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Builder]:
    """The package with a tiny role added, its directory, and one builder for all tests."""
    package = tmp_path_factory.mktemp("code") / "wardian"
    directory = tmp_path_factory.mktemp("enclave")
    return package, directory, builder_of(package, directory)


@pytest.fixture
def probe(build_of: tuple[Path, Path, Builder], tmp_path: Path) -> Probe:
    return Probe(build_of, tmp_path / "state")
