"""Our queues in the clear against a mesh with the role `zoo`: plain, with a password, over TLS."""

import base64
import io
import time
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import pytest
from PIL import Image
from simulators.zoo_jobs import JobsMesh, start

from wardian.compat.zoo.unprotected import InputQueue, OutputQueue
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, JobFailed, TransportError

ROW = np.arange(64, dtype=np.float32) / 64


class Queues:
    """Both queues of one stream."""

    def __init__(self, running: JobsMesh, name: str = "serving_stream") -> None:
        settings: dict[str, Any] = {"port": running.redis.port, "name": name}
        if running.ca is not None:
            settings["ca_file"] = running.ca
        if running.password is not None:
            settings["password"] = Secret(running.password.encode())
        self.ask, self.read = InputQueue(**settings), OutputQueue(**settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ask.close()
        self.read.close()

    def __call__(self, uri: str, **data: Any) -> Any:
        """Enqueue, and return what is under `uri` once something is."""
        self.ask.enqueue(uri, **data)
        return self.wait(uri)

    def wait(self, uri: str) -> Any:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            found = self.read.query(uri)
            if not isinstance(found, str) or found != "[]":
                return found
            time.sleep(0.005)
        raise AssertionError(f"{uri} has no result")


SLOW = [pytest.param(way, marks=pytest.mark.slow) for way in ("password", "tls")]


@pytest.fixture(scope="module", params=["plain", *SLOW])
def running(
    request: pytest.FixtureRequest, need_program, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[JobsMesh]:
    made = start(
        request.param,
        program=need_program("redis-server"),
        directory=tmp_path_factory.mktemp(request.param),
    )
    yield made
    made.stop()


def test_one_input(running: JobsMesh) -> None:
    with Queues(running) as queues:
        probabilities, label = queues("u:r i/1", image=ROW)
        assert probabilities.shape == (10,)
        assert np.argmax(probabilities) == label
        rows = queues("rows", any_name=np.stack([ROW, ROW]))
        np.testing.assert_allclose(rows[0], [probabilities] * 2, atol=1e-5)
        sparse = queues("sparse", t=[np.array([[3], [9]]), np.array([1.0, 2.0]), np.array([64])])
        dense = np.zeros(64)
        dense[[3, 9]] = [1, 2]
        np.testing.assert_allclose(sparse[0], queues("dense", t=dense)[0], atol=1e-6)
        assert queues("wrong shape", t=ROW[:63]) == "NaN"
        assert queues("texts", t=["a", "b"]) == "NaN"
        assert queues.read.why("texts")
        assert np.array_equal(queues.read.query_and_delete("u:r i/1")[0], probabilities)
        assert queues.read.query("u:r i/1") == "[]"
        left = queues.read.dequeue()
        assert left.keys() == {"rows", "sparse", "dense", "wrong shape", "texts"}
        assert queues.read.dequeue() == {}


def test_predict(running: JobsMesh) -> None:
    with Queues(running) as queues:
        probabilities, label = queues.ask.predict({"image": ROW}, timeout=20)
        assert np.argmax(probabilities) == label
        with pytest.raises(JobFailed):
            queues.ask.predict(ROW[:3], timeout=20)
        assert queues.read.dequeue() == {}


def test_several_inputs_and_outputs(running: JobsMesh) -> None:
    with Queues(running, "pairs") as queues:
        a, b = np.array([1, 2, 3]), np.array([1.0, 2.0])
        doubled, summed = queues("pair", b=b, a=a)
        assert doubled.tolist() == [2, 4, 6]
        assert summed == 3
        assert queues("half", a=a) == "NaN"


def test_pictures(running: JobsMesh, tmp_path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (30, 20), (255, 0, 0)).save(file, "JPEG")
    path = tmp_path / "red.jpg"
    path.write_bytes(file.getvalue())
    with Queues(running, "pictures") as queues:
        for value in (str(path), {"path": str(path)}, {"b64": base64.b64encode(file.getvalue())}):
            red, green, blue = queues.ask.predict({"img": value}, timeout=20)
            assert red > 240
            assert max(green, blue) < 15
        assert queues("none", img={"b64": "bm8gcGljdHVyZQ=="}) == "NaN"


def test_the_largest_elements_as_a_text(running: JobsMesh) -> None:
    with Queues(running, "top") as queues:
        assert queues("u", t=ROW).startswith("[[")
        assert queues.ask.predict(ROW, timeout=20) == queues.read.query("u")


def test_a_thousand_at_once(running: JobsMesh) -> None:
    rows = np.random.default_rng(5).random((1000, 64), np.float32)
    with Queues(running) as queues:
        queues.read.dequeue()
        queues.ask.enqueue_many({f"b:{n}": {"t": row} for n, row in enumerate(rows)})
        found: dict[str, Any] = {}
        until = time.monotonic() + 60
        while len(found) < 1000 and time.monotonic() < until:
            found |= queues.read.dequeue()
        assert found.keys() == {f"b:{n}" for n in range(1000)}
        label = queues.ask.predict(rows[7], timeout=20)[1]
        assert found["b:7"][1] == label
        assert not any(isinstance(each, str) for each in found.values())


def test_who_may_not_come_in(running: JobsMesh, tmp_path) -> None:
    port = running.redis.port
    if running.password is not None:
        with pytest.raises(TransportError):
            InputQueue(port=port, ca_file=running.ca)
        with pytest.raises(TransportError):
            InputQueue(port=port, ca_file=running.ca, password=Secret(b"wrong"))
    if running.ca is not None:
        with pytest.raises(TransportError, match="certificate"):
            InputQueue(port=port, ca_file=running.ca, redis_name="another.test")
        with pytest.raises(TransportError):
            InputQueue(port=port, timeout_s=2)  # without TLS
    with pytest.raises(ConfigError, match="Secret"):
        InputQueue(port=port, password="in a text")  # type: ignore[arg-type]
