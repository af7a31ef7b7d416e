"""A canary in the model's weights and one in an input are found nowhere that the host can look.

The whole mesh runs under strace, which sees every byte that any of its processes writes to a file,
socket or pipe; then every file is searched, and every process's environment and command line.
"""

import base64
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from mesh import RunningMesh
from onnx import TensorProto, helper, numpy_helper

import wardian

WEIGHT = b"WEIGHT-CANARY-4d1f7c0a9e35b826-END-OF-WEIGHT-CANARY-0123456789ab"
INPUT = b"INPUT-CANARY-90c3e7a1-END-OF-INPUT-CANARY-0123456789abcdef-0123!"
WRITES = "write,writev,pwrite64,pwritev,sendto,sendmsg,sendmmsg,memfd_create,execve"
PLACES = "openat,open,creat,mkdir,mkdirat,connect"


def example(directory: Path) -> Path:
    """A model y = x + w whose weights are the canary's bytes, read as FP32."""
    directory.mkdir()
    weight = np.frombuffer(WEIGHT, np.float32)
    assert np.isfinite(weight).all()
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "canary",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", weight.size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", weight.size])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, directory / "canary.onnx")
    (directory / "wardian.toml").write_text(
        '[mesh]\nname = "canary"\nowners = []\n\n[models.canary]\n'
    )
    (directory / "example.toml").write_text('[models.canary]\nfile = "canary.onnx"\n')
    (directory / "operator.toml").write_text('log_level = "debug"\n')
    return directory


def traced_bytes(traces: Path) -> bytes:
    """Every byte string of the trace, decoded."""
    out = bytearray()
    for trace in traces.glob("trace.*"):
        for line in trace.read_bytes().split(b"\n"):
            for part in line.split(b'"')[1::2]:
                try:
                    out += bytes.fromhex(part.replace(b"\\x", b"").decode())
                except ValueError:
                    out += part
                out += b"\n"
    return bytes(out)


def unescape(text: str) -> str:
    return bytes.fromhex(text.replace("\\x", "")).decode(errors="replace")


def written_places(traces: Path) -> set[str]:
    """Every path that was opened for writing or made."""
    opened = re.compile(r'^(?:openat\([^,]+, |open\(|creat\()"([^"]*)", ([A-Z_|]+)')
    made = re.compile(r'^(?:mkdir\(|mkdirat\([^,]+, )"([^"]*)"')
    places = set()
    for trace in traces.glob("trace.*"):
        for line in trace.read_text(errors="replace").splitlines():
            if " = -1 " in line:
                continue
            if (
                (found := opened.match(line)) and re.search("WRONLY|RDWR|CREAT", found.group(2))
            ) or (found := made.match(line)):
                places.add(unescape(found.group(1)))
    return places


def connections(traces: Path) -> set[str]:
    """Every address that was connected to, as strace prints it."""
    text = "\n".join(trace.read_text(errors="replace") for trace in traces.glob("trace.*"))
    found = set(re.findall(r"^connect\(\d+, (\{.*?\}), ", text, re.MULTILINE))
    return {re.sub(r"(?:\\x[0-9a-f]{2})+", lambda part: unescape(part.group()), a) for a in found}


def encodings(canary: bytes) -> list[bytes]:
    """The forms in which it could leak: as it is, in hex, in base64, and as JSON numbers."""
    numbers = np.frombuffer(canary, np.float32)
    return [
        canary[8:40],
        canary.hex().encode()[16:80],
        *(base64.b64encode(canary[shift:])[4:44] for shift in range(3)),  # at every alignment
        repr(float(numbers[3])).encode()[:12],
        str(numbers[3]).encode()[:8],
    ]


@pytest.fixture
def traced(tmp_path: Path, need_program: Callable[[str], str]) -> Iterator[RunningMesh]:
    strace = need_program("strace")
    (tmp_path / "traces").mkdir()
    mesh = RunningMesh(
        state=tmp_path / "state",
        example=example(tmp_path / "example"),
        prefix=(
            strace,
            "-ff",
            "-qq",
            "-xx",
            "-s",
            "4194304",
            "-e",
            f"trace={WRITES},{PLACES}",
            "-e",
            "signal=none",
            "-o",
            str(tmp_path / "traces" / "trace"),
        ),
    ).start(timeout_s=120)
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
        ["curl", "-sS", "--cacert", str(traced.ca), f"{traced.url}/metrics"],
        capture_output=True,
        check=True,
    ).stdout
    assert b"wardian" in metrics
    environments = b""
    pids = traced.pids()
    assert len(pids) >= 7  # strace, up, and launcher and role of broker, front end and worker
    for pid in pids:
        environments += Path(f"/proc/{pid}/environ").read_bytes()
        environments += Path(f"/proc/{pid}/cmdline").read_bytes()
    files = b"".join(
        path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file() and "example" not in path.parts and "traces" not in path.parts
    )
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
    for canary in (WEIGHT, INPUT, expected.tobytes()):
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
