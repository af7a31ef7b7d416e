"""Loading and running a model writes nothing, makes no anonymous file and calls nobody (I2, I8)."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
data = open(sys.argv[2], "rb").read()
import numpy as np
from wardian.inference import load_model
model = load_model(data, media_type="application/onnx", engine="openvino", threads=1)
for rows in (1, 2, 64):
    model.infer({"image": np.zeros((rows, 64), np.float32)})
model.close()
print("inferred")
"""

CALLS = "open,openat,openat2,creat,memfd_create,connect,sendto,sendmsg,mkdir,mkdirat,rename,link,symlink,unlink,truncate"
WRITES = re.compile(r"\b(?:O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND|O_TMPFILE)\b")
HARMLESS = re.compile(r'"/dev/(?:null|tty)"')


@pytest.mark.strace
def test_nothing_is_written_and_nobody_is_called(tmp_path, need_program):
    from simulators.data_plane import onnx_digits

    model = tmp_path / "digits.onnx"
    model.write_bytes(onnx_digits())
    trace = tmp_path / "trace"
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [
            need_program("strace"), "-f", "-qq", "-o", str(trace), "-e", f"trace={CALLS}",
            sys.executable, "-B", "-c", SCRIPT, str(Path(__file__).parents[3] / "src"), str(model),
        ],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.stdout == "inferred\n", done.stderr
    lines = [line for line in trace.read_text().splitlines() if not HARMLESS.search(line)]
    assert any("openvino" in line for line in lines), "the trace saw the engine being loaded"
    bad = [line for line in lines if is_trace(line)]
    assert bad == []
    assert list(home.iterdir()) == []


def is_trace(line: str) -> bool:
    call = re.search(r"\b([a-z0-9_]+)\(", line)
    if call is None:  # the second half of an interrupted call, or an exit
        return False
    return not call.group(1).startswith("open") or WRITES.search(line) is not None
