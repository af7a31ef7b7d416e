"""examples/ray-on-spark, in a network namespace of its own."""

import os
import subprocess
from pathlib import Path

import pytest
from simulators.infrastructure_files import write_node_files

from wardian.engines.environment import find_python
from wardian.engines.ray.place import write_token
from wardian.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray-on-spark" / "cluster.py"


@pytest.fixture
def spark_python(need_program) -> Path:
    need_program("java")
    inside = [need_program("unshare"), "--net", "true"]
    try:
        python = find_python("spark", os.environ.get("WARDIAN_SPARK_PYTHON"))
    except ConfigError as err:
        reason = str(err)
    else:
        if subprocess.run(inside, capture_output=True, check=False).returncode == 0:
            return python
        reason = "no network namespace of one's own"
    if os.environ.get("WARDIAN_REQUIRE_ALL"):
        pytest.fail(reason)
    pytest.skip(reason)


def run(python: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    script = f"ip link set lo up; exec {python} {EXAMPLE}"
    inside = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "sh", "-c", script]
    return subprocess.run(
        inside, env=env, input="", capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_ray_runs_on_an_executor_of_spark(spark_python: Path, tmp_path: Path) -> None:
    write_node_files(tmp_path, names=("localhost", "127.0.0.1"))
    write_token(tmp_path / "token")
    env = {
        "PATH": f"{spark_python.parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(tmp_path),
        "PYSPARK_PYTHON": str(spark_python),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": str(tmp_path / "node.pem"),
        "RAY_TLS_SERVER_KEY": str(tmp_path / "node.key"),
        "RAY_TLS_CA_CERT": str(tmp_path / "node.pem"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"),
    }
    unprotected = {name: value for name, value in env.items() if name != "RAY_AUTH_MODE"}
    refused = run(spark_python, unprotected)
    assert refused.returncode == 2
    assert "RAY_AUTH_MODE=token" in refused.stderr
    done = run(spark_python, env)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert any(line.startswith("ray 127.0.0.1:") and line.endswith(" 2 nodes") for line in lines)
