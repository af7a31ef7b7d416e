"""Canaries: a model and an input that can be recognised in whatever form they leak, and a trace of
every byte that any process of a mesh writes."""

import base64
import re
from pathlib import Path

import numpy as np
import onnx
from mesh import RunningMesh
from onnx import TensorProto, helper, numpy_helper
from simulators.what_stands import files_below

WEIGHT = b"WEIGHT-CANARY-4d1f7c0a9e35b826-END-OF-WEIGHT-CANARY-0123456789ab"
INPUT = b"INPUT-CANARY-90c3e7a1-END-OF-INPUT-CANARY-0123456789abcdef-0123!"
KEY = b"HEADER-CANARY-57b2d9e8-END-OF-HEADER-CANARY-0123456789abcdef-012"
WRITES = "write,writev,pwrite64,pwritev,sendto,sendmsg,sendmmsg,memfd_create,execve"
PLACES = "openat,open,creat,mkdir,mkdirat,connect"


def example(directory: Path, *, engine: str = "local") -> Path:
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
    (directory / "operator.toml").write_text(f'log_level = "debug"\nengine = "{engine}"\n')
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


def traced_mesh(directory: Path, strace: str, *, engine: str = "local") -> RunningMesh:
    """A mesh that serves the canary's model, not started yet; each process has a trace."""
    traces = directory / "traces"
    traces.mkdir()
    return RunningMesh(
        state=directory / "state",
        example=example(directory / "example", engine=engine),
        prefix=(
            *(strace, "-ff", "-qq", "-xx", "-s", "4194304"),
            *("-e", f"trace={WRITES},{PLACES}", "-e", "signal=none"),
            *("-o", str(traces / "trace")),
        ),
    )


def surroundings(pids: list[int]) -> bytes:
    """Environment and command line of every process that still runs."""
    found = b""
    for pid in pids:
        for name in ("environ", "cmdline"):
            try:
                found += Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:
                continue
    return found


def contents(directory: Path) -> bytes:
    """All that stands in files below `directory`, but the example and the traces."""
    return b"".join(
        content
        for path, content in files_below(directory)
        if not {"example", "traces"} & set(path.relative_to(directory).parts)
    )
