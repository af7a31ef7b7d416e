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
from wardian._internal.steps import ImageStep, TopStep
from wardian.inference.choice import choose_model
from wardian.inference.steps.image_trial import decode_trials
from wardian.inference.steps.tokens_trial import split_trials
chosen = choose_model(
    data, media_type=sys.argv[3], engine=sys.argv[4], threads=2,
    post=[TopStep(output="probabilities", n=3)],
)
for rows in (1, 2, 64):
    chosen.model.infer({"image": np.zeros((rows, 64), np.float32)})
try:
    chosen.model.infer({"image": np.zeros((1, 3), np.float32)})
except Exception as err:
    assert type(err).__name__ == "JobFailed"
decode_trials()
split_trials()
chosen.model.close()
print("inferred")
"""

CALLS = "open,openat,openat2,creat,memfd_create,connect,sendto,sendmsg,mkdir,mkdirat,rename,link,symlink,unlink,truncate"
WRITES = re.compile(r"\b(?:O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND|O_TMPFILE)\b")
HARMLESS = re.compile(r'"/dev/(?:null|tty)"')


def digits_as(media_type: str, directory: Path) -> bytes:
    from simulators.data_plane import onnx_digits

    if media_type == "application/onnx":
        return onnx_digits()
    import openvino as ov

    from wardian.inference.convert.source import convert

    path = directory / "digits.xml"
    ov.save_model(ov.Core().read_model(model=onnx_digits()), str(path), compress_to_fp16=False)
    return convert("openvino", path).data


@pytest.mark.strace
@pytest.mark.parametrize(
    ("media_type", "engine"),
    [
        ("application/onnx", "openvino"),
        ("application/onnx", "onnxruntime"),
        ("application/onnx", "auto"),
        ("application/vnd.wardian.openvino-ir", "openvino"),
    ],
)
def test_nothing_is_written_and_nobody_is_called(tmp_path, need_program, media_type, engine):
    model = tmp_path / "model"
    model.write_bytes(digits_as(media_type, tmp_path))
    trace = tmp_path / "trace"
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [
            need_program("strace"), "-f", "-qq", "-o", str(trace), "-e", f"trace={CALLS}",
            sys.executable, "-B", "-c", SCRIPT, str(Path(__file__).parents[3] / "src"), str(model),
            media_type, engine,
        ],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.stdout == "inferred\n", done.stderr
    lines = [line for line in trace.read_text().splitlines() if not HARMLESS.search(line)]
    for name in ("openvino", "onnxruntime"):
        loaded = any(f"{name}/" in line and ".so" in line for line in lines)
        assert loaded == (engine in (name, "auto")), "the trace saw which engines were loaded"
    assert any("_imaging" in line for line in lines)
    bad = [line for line in lines if is_trace(line)]
    assert bad == []
    assert list(home.iterdir()) == []


def is_trace(line: str) -> bool:
    call = re.search(r"\b([a-z0-9_]+)\(", line)
    if call is None:  # the second half of an interrupted call, or an exit
        return False
    return not call.group(1).startswith("open") or WRITES.search(line) is not None
