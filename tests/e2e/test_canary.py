"""Canaries in the model's weights, an input and a key are found nowhere that the host can look.

The whole mesh runs under strace, which sees every byte that any of its processes writes to a file,
socket or pipe; then every file is searched, and every process's environment and command line.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from canaries import (
    INPUT,
    KEY,
    WEIGHT,
    WRITES,
    connections,
    contents,
    encodings,
    surroundings,
    traced_bytes,
    traced_mesh,
    written_places,
)
from mesh import RunningMesh

import wardian


@pytest.fixture
def traced(tmp_path: Path, need_program: Callable[[str], str]) -> Iterator[RunningMesh]:
    mesh = traced_mesh(tmp_path, need_program("strace")).start(timeout_s=120)
    yield mesh
    mesh.stop()


def test_no_canary_leaves_the_enclaves(traced: RunningMesh, tmp_path: Path) -> None:
    rows = np.frombuffer(INPUT, np.float32)[np.newaxis]
    assert np.isfinite(rows).all()
    with wardian.connect(traced.url, policy=traced.policy) as client:
        for _ in range(3):
            answer = client.infer("canary", {"x": rows})
    expected = rows + np.frombuffer(WEIGHT, np.float32)
    np.testing.assert_allclose(answer["y"], expected, rtol=1e-6)
    metrics = subprocess.run(
        [
            *("curl", "-sS", "--http2", "--cacert", str(traced.ca), f"{traced.url}/metrics"),
            *("-H", f"Authorization: Bearer {KEY.decode()}", "-w", "HTTP/%{http_version}"),
        ],
        capture_output=True,
        check=True,
    ).stdout
    assert b"wardian" in metrics
    assert metrics.endswith(b"HTTP/2")
    pids = traced.pids()
    assert len(pids) >= 7  # strace, up, and launcher and role of broker, front end and worker
    environments = surroundings(pids)
    files = contents(tmp_path)
    assert traced.stop() == 0
    written = traced_bytes(tmp_path / "traces")

    # Nothing is written but below the state directory, and nobody is called but loopback.
    outside = {
        place
        for place in written_places(tmp_path / "traces")
        if not place.startswith((str(traced.state), "/dev/null", "/dev/tty"))
    }
    assert not outside
    for address in connections(tmp_path / "traces"):
        local = "AF_UNIX" in address or "AF_NETLINK" in address
        assert local or re.search(r'"(127\.0\.0\.1|::1)"', address), address

    # The search finds what is there: the mesh's name in files, log events in what was written.
    assert b"worker-canary-1" in written
    assert b"role.admitted" in written
    assert b"role.admitted" in files
    for canary in (WEIGHT, INPUT, KEY, expected.tobytes()):
        for form in encodings(canary):
            for where, content in (
                ("written", written),
                ("files", files),
                ("environments", environments),
                ("metrics", metrics),
            ):
                assert form not in content, f"{form!r} found in {where}"


def test_the_search_would_find_a_leak(tmp_path: Path, need_program: Callable[[str], str]) -> None:
    """A control: the same trace of a program that writes the canary in the clear."""
    (tmp_path / "traces").mkdir()
    code = f"import os; os.write(1, b'..' + bytes.fromhex({WEIGHT.hex()!r}))"
    subprocess.run(
        [
            need_program("strace"),
            "-ff",
            "-qq",
            "-xx",
            "-s",
            "4194304",
            "-e",
            f"trace={WRITES}",
            "-o",
            str(tmp_path / "traces" / "trace"),
            sys.executable,
            "-c",
            code,
        ],
        stdout=subprocess.DEVNULL,
        check=True,
        env=dict(os.environ),
    )
    assert WEIGHT[8:40] in traced_bytes(tmp_path / "traces")
