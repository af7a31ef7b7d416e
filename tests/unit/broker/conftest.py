"""Fixtures of the broker's tests; the mesh itself is in `toy_mesh`."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from toy_mesh import ToyBroker, ToyMesh


@pytest.fixture
def mesh() -> ToyMesh:
    return ToyMesh()


@pytest.fixture
def broker(mesh: ToyMesh, tmp_path: Path) -> Iterator[ToyBroker]:
    with closing(ToyBroker(mesh, tmp_path / "broker.db")) as broker:
        yield broker
