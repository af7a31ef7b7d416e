"""Resolve the dependencies anew into the lock files: pinned, with hashes, without an address.

requirements.lock       what `wardian[serve]` runs with, and what builds the package
requirements-dev.lock   what the tests and checks need on top of it
requirements-ray.lock   the environment of the engine Ray: the base install, Ray, and the build
requirements-spark.lock the environment of examples/ray-on-spark, likewise
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUILD = "hatchling>=1.27\neditables>=0.5\n"
# ONNX Runtime takes any protobuf, the gRPC client that the tests speak with none from 7 on.
BOUNDS = "protobuf<7\n"
# OpenVINO runs without it (its own fallback); with it, importing OpenVINO writes files.
LEFT_OUT = ("openvino-telemetry",)


def compile_lock(extra: str, target: str, *constraints: str) -> None:
    """Write `target` with all that wardian[extra] and its build need."""
    with (
        tempfile.NamedTemporaryFile("w", suffix=".in", dir=ROOT) as build,
        tempfile.NamedTemporaryFile("w", suffix=".bounds", dir=ROOT) as bounds,
    ):
        for file, text in ((build, BUILD), (bounds, BOUNDS)):
            file.write(text)
            file.flush()
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", build.name]
        command += ["--extra", extra, "--universal", "--python-version", "3.11"]
        command += ["--generate-hashes", "--no-emit-index-url", "--no-emit-find-links"]
        command += ["--no-annotate", "--no-header", "--quiet", "--output-file", target]
        command += [f"--no-emit-package={name}" for name in LEFT_OUT]
        command += [f"--constraints={name}" for name in (bounds.name, *constraints)]
        subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    compile_lock("serve", "requirements.lock")
    compile_lock("dev", "requirements-dev.lock", "requirements.lock")
    compile_lock("ray", "requirements-ray.lock", "requirements.lock")
    compile_lock("spark", "requirements-spark.lock", "requirements.lock")
