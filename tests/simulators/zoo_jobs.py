"""A mesh that serves five streams of a Redis of Cluster Serving's clients, and ways to that Redis."""

from dataclasses import dataclass
from pathlib import Path

from mesh import RunningMesh
from onnx import TensorProto, helper
from simulators.data_plane import onnx_model
from simulators.redis_server import InfrastructureCa
from simulators.zoo_mesh import zoo_example
from simulators.zoo_redis import PlainRedis

PASSWORD = "5e" * 32
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


@dataclass
class JobsMesh:
    """The Redis, and the mesh that reads it. `ca`: of the Redis, where it has TLS."""

    redis: PlainRedis
    mesh: RunningMesh
    ca: Path | None
    password: str | None

    def stop(self) -> None:
        assert self.mesh.stop() == 0
        self.redis.kill()


def start(way: str, *, program: str, directory: Path) -> JobsMesh:
    """Start both under `directory`; `way` is "plain", "password", or "tls" (with a password)."""
    server = PlainRedis(program, directory / "redis")
    at = server.directory
    at.mkdir(parents=True)
    operator = ""
    if way != "plain":
        state = directory / "state"
        (state / "zoo").mkdir(parents=True)
        state.chmod(0o700)
        secret = state / "zoo" / "password"
        secret.touch(mode=0o600)
        secret.write_text(PASSWORD + "\n")
        server.settings = (f"requirepass {PASSWORD}",)
        operator = 'password_file = "zoo/password"\n'
    if way == "tls":
        ca = InfrastructureCa()
        certificate, key = ca.server(name="localhost")
        files = {"cert.pem": certificate, "key.pem": key, "ca.pem": ca.pem}
        for name, content in files.items():
            (at / name).write_bytes(content)
        server.tls = True
        server.settings += (f"tls-port {server.port}", f"tls-cert-file {at}/cert.pem",
                            f"tls-key-file {at}/key.pem", f"tls-ca-cert-file {at}/ca.pem",
                            "tls-auth-clients no")  # fmt: skip
        operator += f'ca_file = "{at}/ca.pem"\n'
    server.start()
    made = example(directory / "example", port=server.port, operator=operator)
    if way == "tls":
        toml = made / "operator.toml"
        toml.write_text(toml.read_text().replace("redis://127.0.0.1", "rediss://localhost"))
    mesh = RunningMesh(state=directory / "state", example=made).start()
    return JobsMesh(
        redis=server,
        mesh=mesh,
        ca=at / "ca.pem" if way == "tls" else None,
        password=None if way == "plain" else PASSWORD,
    )
