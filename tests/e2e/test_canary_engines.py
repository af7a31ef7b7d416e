"""The canaries of a mesh whose workers an engine places: what the engine keeps and sends is searched.

Job graphs, pickles, arguments, checkpoints, logs and the links of the engine's own processes: every
byte that they write is in the trace, and every file that they leave is read.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from canaries import (
    INPUT,
    WEIGHT,
    connections,
    contents,
    encodings,
    surroundings,
    traced_bytes,
    traced_mesh,
)
from engine_mesh import START_S, need_engine

import wardian

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
CHECKPOINT_S = 12.0
"""Flink's are ten seconds apart."""


@pytest.mark.parametrize("engine", ["flink", "ray"])
def test_no_canary_reaches_the_engine(
    tmp_path: Path, engine: str, need_program: Callable[[str], str]
) -> None:
    need_engine(engine)
    mesh = traced_mesh(tmp_path, need_program("strace"), engine=engine).start(START_S)
    try:
        rows = np.frombuffer(INPUT, np.float32)[np.newaxis]
        with wardian.connect(mesh.url, policy=mesh.policy) as client:
            for _ in range(3):
                answer = client.infer("canary", {"x": rows})
        expected = rows + np.frombuffer(WEIGHT, np.float32)
        np.testing.assert_allclose(answer["y"], expected, rtol=1e-6)
        time.sleep(CHECKPOINT_S)
        found = {
            "environments": surroundings(mesh.pids()),
            "files": contents(tmp_path),
            **({"what Ray keeps": _of_ray()} if engine == "ray" else {}),
        }
    finally:
        assert mesh.stop() == 0, mesh.screen
    found["files at the end"] = contents(tmp_path)
    found["written"] = traced_bytes(tmp_path / "traces")
    if engine == "flink":  # the search reads what it should: checkpoints, a savepoint
        kept = {path.name for path in (mesh.state / "engines" / "flink").rglob("*")}
        assert "_metadata" in kept
    assert b"worker-canary-1" in found["written"]
    for canary in (WEIGHT, INPUT, expected.tobytes()):
        for form in encodings(canary):
            for where, content in found.items():
                assert form not in content, f"{form!r} found in {where}"
    for address in connections(tmp_path / "traces"):
        local = "AF_UNIX" in address or "AF_NETLINK" in address
        assert local or re.search(r'"((?:::ffff:)?127\.\d+\.\d+\.\d+|::1)"', address), address


def _of_ray() -> bytes:
    """What stands in Ray's session directories, which may lie outside of the state directory."""
    return b"".join(contents(path) for path in Path("/tmp").glob("wardian-ray-*"))
