"""`tritonclient` over gRPC, from PyPI and unmodified, against a whole mesh."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np
import pytest
from mesh import DIGITS, RunningMesh

triton = pytest.importorskip("tritonclient.grpc")


@pytest.fixture
def client(shared_mesh: RunningMesh) -> Iterator[object]:
    with triton.InferenceServerClient(
        url=urlsplit(shared_mesh.url).netloc, ssl=True, root_certificates=str(shared_mesh.ca)
    ) as made:
        yield made


def test_health_and_metadata(client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    metadata = client.get_model_metadata("digits", as_json=True)
    assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": ["-1", "64"]}]
    (listed,) = client.get_model_repository_index(as_json=True)["models"]
    assert (listed["name"], listed["state"]) == ("digits", "READY")


def test_every_held_out_image_in_one_request(client) -> None:
    with np.load(DIGITS / "heldout.npz") as data:
        rows, labels = (data["image"] / 16).astype(np.float32), data["label"]
    image = triton.InferInput("image", list(rows.shape), "FP32")
    image.set_data_from_numpy(rows)
    answer = client.infer("digits", [image], request_id="all of them")
    assert answer.get_response().id == "all of them"
    label = answer.as_numpy("label")
    assert (label == labels).mean() > 0.97
    np.testing.assert_array_equal(answer.as_numpy("probabilities").argmax(axis=1), label)


def test_errors_are_told(client) -> None:
    image = triton.InferInput("image", [1, 3], "FP32")
    image.set_data_from_numpy(np.zeros((1, 3), np.float32))
    with pytest.raises(triton.InferenceServerException, match="64") as caught:
        client.infer("digits", [image])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
