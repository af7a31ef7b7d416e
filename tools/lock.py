"""Resolve the dependencies anew into the lock files: pinned, with hashes, without an address.

requirements.lock       what `wardian[serve]` runs with, and what builds the package
requirements-dev.lock   what the tests and checks need on top of it
requirements-ray.lock   the environment of the engine Ray: the base install, Ray, and the build
requirements-dp.lock    the environment in which the accountant of differential privacy is tested
requirements-mlflow.lock  the environment in which `wardian fl export` is tested
requirements-shared.lock  what examples/shared-tumours runs with: `serve` and `shared`
requirements-flink.lock what `wardian[flink]` is, in an environment of its own
requirements-flink-build.lock  what builds those of it that come as source
requirements-spark.lock the environment of examples/ray-on-spark, likewise
requirements-mpc.lock   what `bench/compare` asks for computation among parties; no Wardian
requirements-he.lock    what it asks for homomorphic encryption, likewise
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUILD = "hatchling>=1.27\neditables>=0.5\n"
# ONNX Runtime takes any protobuf, the gRPC client that the tests speak with none from 7 on.
BOUNDS = "protobuf<7\n"
# What Flink needs of old comes as source alone, and is built by setuptools of the old kind.
FLINK_BUILD = "setuptools>=75,<81\nwheel>=0.45\n" + BUILD
# Nothing in the package imports these two. SPU takes no numpy of today and no later jax, and has
# wheels for no Python after 3.11.
MPC = "spu==0.9.5; python_version < '3.12'\njax==0.4.34; python_version < '3.12'\n"
HE = "tenseal==0.3.18\nnumpy>=2.1,<3\n"
# OpenVINO runs without it (its own fallback); with it, importing OpenVINO writes files.
LEFT_OUT = ("openvino-telemetry",)


def compile_lock(
    extras: str, target: str, *constraints: str, build: str = BUILD, bounds: str = BOUNDS
) -> None:
    """Write `target` with all that wardian[extras] and its build need; without any: its build."""
    with (
        tempfile.NamedTemporaryFile("w", suffix=".in", dir=ROOT) as built_by,
        tempfile.NamedTemporaryFile("w", suffix=".bounds", dir=ROOT) as bounded,
    ):
        for file, text in ((built_by, build), (bounded, bounds)):
            file.write(text)
            file.flush()
        command = [sys.executable, "-m", "uv", "pip", "compile", built_by.name]
        if extras:
            command += ["pyproject.toml", *(f"--extra={each}" for each in extras.split(","))]
        command += ["--universal", "--python-version", "3.11"]
        command += ["--generate-hashes", "--no-emit-index-url", "--no-emit-find-links"]
        command += ["--no-annotate", "--no-header", "--quiet", "--output-file", target]
        command += [f"--no-emit-package={name}" for name in LEFT_OUT]
        command += [f"--constraints={name}" for name in (bounded.name, *constraints)]
        subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    compile_lock("serve", "requirements.lock")
    compile_lock("dev", "requirements-dev.lock", "requirements.lock")
    compile_lock("ray", "requirements-ray.lock", "requirements.lock")
    compile_lock("dp", "requirements-dp.lock", "requirements.lock")
    compile_lock("mlflow", "requirements-mlflow.lock", "requirements.lock")
    compile_lock("serve,shared", "requirements-shared.lock", "requirements.lock")
    compile_lock("", "requirements-flink-build.lock", build=FLINK_BUILD)
    compile_lock(
        "flink", "requirements-flink.lock", "requirements-flink-build.lock", build="", bounds=""
    )
    compile_lock("spark", "requirements-spark.lock", "requirements.lock")
    compile_lock("", "requirements-mpc.lock", build=MPC, bounds="")
    compile_lock("", "requirements-he.lock", build=HE, bounds="")
