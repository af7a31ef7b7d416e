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
from mesh import RunningMesh
from onnx import TensorProto, helper
from simulators.data_plane import onnx_model
from simulators.redis_server import InfrastructureCa
from simulators.zoo_mesh import zoo_example
from simulators.zoo_redis import PlainRedis

pytestmark = pytest.mark.slow
JOBS = """
one-output = { model = "twice" }
pairs = { model = "pair" }
pictures = { model = "picture" }
top = { model = "digits", top_n = "topN(2)" }
[dialects.zoo]
enabled = true
default_model = "digits"
[models.pair]
engine = "onnxruntime"
[models.twice]
engine = "onnxruntime"
[models.picture]
engine = "onnxruntime"
pre = [{ step = "image", input = "pixels" }]
"""
PASSWORD = "5e" * 32
TWICE = [0, 2 / 64, 4 / 64]


@pytest.fixture(scope="module")
def python() -> str:
    path = os.environ.get("WARDIAN_ZOO_PYTHON", "")
    if not path:
        pytest.skip("WARDIAN_ZOO_PYTHON names no Python with bigdl-serving 2.4.0")
    return path


def pair() -> bytes:
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("Add", ["a", "a"], ["doubled"]),
        helper.make_node("Constant", [], ["axes"], value=axes),
        helper.make_node("ReduceSum", ["b", "axes"], ["summed"], keepdims=0),
    ]
    return onnx_model(
        nodes,
        inputs=[("a", TensorProto.FLOAT, ["N", 3]), ("b", TensorProto.FLOAT, ["N", 2])],
        outputs=[("doubled", TensorProto.FLOAT, ["N", 3]), ("summed", TensorProto.FLOAT, ["N"])],
    )


def twice() -> bytes:
    return onnx_model(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        inputs=[("x", TensorProto.FLOAT, ["N", 3])],
        outputs=[("y", TensorProto.FLOAT, ["N", 3])],
    )


def picture() -> bytes:
    node = helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[2, 3], keepdims=0)
    return onnx_model(
        [node],
        inputs=[("pixels", TensorProto.FLOAT, ["N", 3, 8, 8])],
        outputs=[("mean", TensorProto.FLOAT, ["N", 3])],
    )


def example(directory: Path, *, port: int, operator: str = "") -> Path:
    made = zoo_example(directory, port=port, agreed=JOBS, operator=operator)
    models = ""
    for name, raw in (("pair", pair()), ("picture", picture()), ("twice", twice())):
        (made / f"{name}.onnx").write_bytes(raw)
        models += f'[models.{name}]\nfile = "{name}.onnx"\n'
    toml = made / "example.toml"
    toml.write_text(f"{toml.read_text()}\n{models}")
    return made


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
    settings: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    server = PlainRedis(need_program("redis-server"), tmp_path / "redis")
    operator = ""
    if request.param == "tls":
        ca = InfrastructureCa()
        certificate, key = ca.server(name="localhost")
        secrets = tmp_path / "state" / "zoo"
        secrets.mkdir(parents=True)
        (tmp_path / "state").chmod(0o700)
        (secrets / "password").write_text(PASSWORD + "\n")
        (secrets / "password").chmod(0o600)
        server.directory.mkdir()
        files = {"cert.pem": certificate, "key.pem": key, "ca.pem": ca.pem}
        for name, content in files.items():
            (server.directory / name).write_bytes(content)
        at = server.directory
        settings = (f"tls-port {server.port}", f"tls-cert-file {at}/cert.pem",
                    f"tls-key-file {at}/key.pem", f"tls-ca-cert-file {at}/ca.pem",
                    "tls-auth-clients no", f"requirepass {PASSWORD}")  # fmt: skip
        arguments = (f"{at}/ca.pem", PASSWORD)
        operator = f'ca_file = "{at}/ca.pem"\npassword_file = "zoo/password"\n'
    server.settings, server.tls = settings, bool(settings)
    server.start()
    made = example(tmp_path / "example", port=server.port, operator=operator)
    if settings:
        toml = made / "operator.toml"
        toml.write_text(toml.read_text().replace("redis://127.0.0.1", "rediss://localhost"))
    mesh = RunningMesh(state=tmp_path / "state", example=made).start()
    yield ask(python, str(server.port), str(tmp_path), mesh.url, *arguments, ca=mesh.ca)
    assert mesh.stop() == 0
    server.kill()


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
