"""`tritonclient`, from PyPI and unmodified, against a whole mesh: it knows TLS and no evidence."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np
import pytest
from mesh import DIGITS, RunningMesh

triton = pytest.importorskip("tritonclient.http")


@pytest.fixture
def client(shared_mesh: RunningMesh) -> Iterator[object]:
    made = triton.InferenceServerClient(
        url=urlsplit(shared_mesh.url).netloc,
        ssl=True,
        ssl_options={"ca_certs": str(shared_mesh.ca)},
    )
    yield made
    made.close()


def test_health_and_metadata(client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert not client.is_model_ready("letters")
    assert client.get_server_metadata()["name"] == "wardian"
    metadata = client.get_model_metadata("digits")
    assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}]
    assert [each["name"] for each in metadata["outputs"]] == ["probabilities", "label"]


@pytest.mark.parametrize("binary", [True, False])
def test_every_held_out_image_in_one_request(client, binary: bool) -> None:
    with np.load(DIGITS / "heldout.npz") as data:
        rows, labels = (data["image"] / 16).astype(np.float32), data["label"]
    image = triton.InferInput("image", list(rows.shape), "FP32")
    image.set_data_from_numpy(rows, binary_data=binary)
    outputs = [
        triton.InferRequestedOutput("label", binary_data=binary),
        triton.InferRequestedOutput("probabilities", binary_data=binary),
    ]
    answer = client.infer("digits", [image], outputs=outputs, request_id="all of them")
    assert answer.get_response()["id"] == "all of them"
    label = answer.as_numpy("label")
    assert label.shape == labels.shape
    assert (label == labels).mean() > 0.97
    np.testing.assert_array_equal(answer.as_numpy("probabilities").argmax(axis=1), label)


def test_errors_are_told(client) -> None:
    image = triton.InferInput("image", [1, 3], "FP32")
    image.set_data_from_numpy(np.zeros((1, 3), np.float32))
    with pytest.raises(triton.InferenceServerException, match=r"\[-1, 64\]|64"):
        client.infer("digits", [image])
