"""Tables of an earlier product's examples, kept outside the repository."""

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).parents[4] / "shared" / "data"


def parsed(values: list[str]) -> np.ndarray:
    """Numbers if all are, "NA" a missing one; else texts, of which "NA" is one."""
    try:
        return np.array([float("nan" if each == "NA" else each) for each in values])
    except ValueError:
        return np.array(values)


@pytest.fixture(scope="session")
def table() -> Callable[[str], dict[str, np.ndarray]]:
    folder = Path(os.environ.get("WARDIAN_SHARED_DATA", SHARED)) / "bigdl"

    def read(name: str) -> dict[str, np.ndarray]:
        if not (folder / name).exists():
            reason = "the tables are kept outside the repository, and are not here"
            if os.environ.get("WARDIAN_REQUIRE_ALL"):
                pytest.fail(reason)
            pytest.skip(reason)
        with (folder / name).open(newline="") as file:
            head, *rows = list(csv.reader(file))
        return {name: parsed([row[at] for row in rows]) for at, name in enumerate(head)}

    return read
