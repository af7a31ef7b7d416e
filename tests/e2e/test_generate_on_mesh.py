"""A whole mesh whose model generates: workers in processes of their own, confined."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from mesh import RunningMesh
from simulators.tiny_decoder import decoder

import wardian

pytestmark = pytest.mark.slow

WARDIAN = """
[mesh]
name = "writers"
owners = []

[models.tiny]
engine = "onnxruntime"

[models.tiny.generate]
end = []
most_tokens = 400
most_prompt_tokens = 100
"""
EXAMPLE = '[models.tiny]\nfile = "tiny.onnx"\n'
TEXT = "the owner"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    folder = tmp_path_factory.mktemp("writers")
    example = folder / "example"
    example.mkdir()
    (example / "wardian.toml").write_text(WARDIAN)
    (example / "example.toml").write_text(EXAMPLE)
    (example / "tiny.onnx").write_bytes(decoder())
    running = RunningMesh(state=folder / "state", example=example).start()
    yield running
    running.stop()


def workers(mesh: RunningMesh) -> list[int]:
    names = [each["name"] for each in mesh.status["processes"]]
    return [mesh.role_pid(name) for name in names if name.startswith("worker")]


def test_a_stream_outlives_its_worker(mesh: RunningMesh) -> None:
    with wardian.connect(mesh.url, policy=mesh.policy) as client:
        asked = {"max_tokens": 400, "temperature": 1.0, "seed": 3}
        whole = "".join(part.text for part in client.generate("tiny", TEXT, **asked))
        assert len(whole) > 100
        parts = client.generate("tiny", TEXT, **asked)
        said = next(parts).text
        running = workers(mesh)
        assert running
        for pid in running:
            os.kill(pid, signal.SIGKILL)
        said += "".join(part.text for part in parts)
        assert said == whole


def test_what_the_worker_refuses(mesh: RunningMesh) -> None:
    with wardian.connect(mesh.url, policy=mesh.policy) as client:
        with pytest.raises(wardian.errors.RequestError, match="at most 100"):
            list(client.generate("tiny", "a b" * 100))
        assert len(list(client.generate("tiny", TEXT, max_tokens=1))) == 1


def test_the_log_has_none_of_it(mesh: RunningMesh) -> None:
    for log in Path(mesh.state / "logs").glob("*.jsonl"):
        assert TEXT not in log.read_text()
