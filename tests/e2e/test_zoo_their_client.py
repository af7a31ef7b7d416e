"""The unmodified client of Cluster Serving 2.4.0 against a mesh: over plain Redis, and with TLS.

`WARDIAN_ZOO_PYTHON` names a Python that has it; its needs are in `their_client.py`.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from simulators.zoo_jobs import start

pytestmark = pytest.mark.slow
TWICE = [0, 2 / 64, 4 / 64]


@pytest.fixture(scope="module")
def python() -> str:
    path = os.environ.get("WARDIAN_ZOO_PYTHON", "")
    if not path:
        pytest.skip("WARDIAN_ZOO_PYTHON names no Python with bigdl-serving 2.4.0")
    return path


def ask(python: str, *arguments: str, ca: Path) -> dict:
    script = Path(__file__).parent / "their_client.py"
    done = subprocess.run(
        [python, str(script), *arguments],
        env=os.environ | {"SSL_CERT_FILE": str(ca)},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(params=["plain", "tls"])
def told(
    request: pytest.FixtureRequest, python: str, need_program, tmp_path: Path
) -> Iterator[dict]:
    running = start(request.param, program=need_program("redis-server"), directory=tmp_path)
    secrets = () if running.ca is None else (str(running.ca), str(running.password))
    mesh = running.mesh
    yield ask(python, str(running.redis.port), str(tmp_path), mesh.url, *secrets, ca=mesh.ca)
    running.stop()


def test_all_that_it_does_is_answered(told: dict) -> None:
    print(json.dumps({name: told[name] for name in ("batch seconds", "top")}))
    probabilities, label = told["one"]
    assert np.shape(probabilities) == (10,)
    assert np.argmax(probabilities) == label
    assert told["any name"] == told["one"]
    assert np.allclose(told["rows"][0], [probabilities] * 2, atol=1e-5)
    assert told["rows"][1] == [label] * 2
    assert told["wrong"] == told["words"] == told["half"] == told["no picture"] == "NaN"
    assert np.allclose(told["sparse"][0], told["as dense"][0], atol=1e-6)
    assert told["deleted"]
    assert told["absent"] == "[]"
    assert told["batch"] == told["batch alike"] == 1000
    assert np.allclose(told["predict"][0], probabilities, atol=1e-5)
    assert told["predict json"] == told["predict"]
    assert told["predict wrong"] == "NaN"
    assert told.get("predict one output", TWICE) == TWICE
    assert told["http"] is None or np.allclose(told["http"][0], probabilities, atol=1e-5)
    assert told["pair"] == [[2, 4, 6], 3]
    red, green, blue = told["picture"]
    assert red > 240
    assert max(green, blue) < 15
    assert told["top"].startswith("[[")
