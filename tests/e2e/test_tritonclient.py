"""NVIDIA's `tritonclient`, unmodified, speaks HTTPS to the front end."""

import re
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulators.front_end import FrontEnd, digits

httpclient = pytest.importorskip("tritonclient.http")
aio = pytest.importorskip("tritonclient.http.aio")
InferenceServerException = pytest.importorskip("tritonclient.utils").InferenceServerException


@pytest.fixture(scope="module")
def front() -> Iterator[FrontEnd]:
    with FrontEnd() as running:
        yield running


@pytest.fixture(scope="module")
def ca_file(front: FrontEnd, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "mesh-ca.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(front.ca.certificate))
    return path


@pytest.fixture
def client(front: FrontEnd, ca_file: Path) -> Iterator[Any]:
    with httpclient.InferenceServerClient(
        f"localhost:{front.port}",
        ssl=True,
        ssl_options={"ca_certs": str(ca_file)},
        ssl_context_factory=lambda **_: ssl.create_default_context(cafile=str(ca_file)),
    ) as made:
        yield made


@pytest.fixture
async def async_client(front: FrontEnd, ca_file: Path) -> AsyncIterator[Any]:
    context = ssl.create_default_context(cafile=str(ca_file))
    async with aio.InferenceServerClient(
        f"localhost:{front.port}", ssl=True, ssl_context=context
    ) as made:
        yield made


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(1).random((3, 64), dtype="f4")


def tensor(pixels: np.ndarray, *, binary: bool) -> Any:
    made = httpclient.InferInput("pixels", list(pixels.shape), "FP32")
    made.set_data_from_numpy(pixels, binary_data=binary)
    return made


def test_health(client: Any) -> None:
    assert client.is_server_live()
    assert not client.is_server_ready()  # "absent" has no worker
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "2")
    assert not client.is_model_ready("absent")


def test_metadata(client: Any) -> None:
    server = client.get_server_metadata()
    assert server["name"] == "wardian"
    assert "binary_tensor_data" in server["extensions"]
    described = client.get_model_metadata("digits")
    assert described["versions"] == ["1", "2"]
    assert described["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 64]}]
    assert described["outputs"] == [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}]


def test_configuration(client: Any) -> None:
    config = client.get_model_config("digits")
    assert config["max_batch_size"] == 0
    assert config["input"] == [{"name": "pixels", "data_type": "TYPE_FP32", "dims": [-1, 64]}]


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("output", ["unsaid", "binary", "json"])
def test_infer(client: Any, pixels: np.ndarray, *, binary_input: bool, output: str) -> None:
    outputs = None
    if output != "unsaid":
        outputs = [httpclient.InferRequestedOutput("scores", binary_data=output == "binary")]
    result = client.infer(
        "digits", [tensor(pixels, binary=binary_input)], outputs=outputs, request_id="seven"
    )
    np.testing.assert_allclose(result.as_numpy("scores"), digits(pixels), rtol=1e-6)
    response = result.get_response()
    assert (response["id"], response["model_name"]) == ("seven", "digits")


def test_infer_on_a_version(client: Any, front: FrontEnd, pixels: np.ndarray) -> None:
    result = client.infer("digits", [tensor(pixels, binary=True)], model_version="1")
    assert result.get_response()["model_version"] == "1"
    assert front.dispatcher.seen[-1]["version"] == 1


def test_a_timeout_is_a_shorter_deadline(client: Any, front: FrontEnd, pixels: np.ndarray) -> None:
    client.infer("digits", [tensor(pixels, binary=True)], timeout=250_000)
    assert front.dispatcher.seen[-1]["deadline_s"] == 0.25


@pytest.mark.parametrize("binary", [True, False])
def test_every_type_there_and_back(client: Any, *, binary: bool) -> None:
    inputs, arrays = [], {}
    for name, dtype in {
        "BOOL": "?", "UINT8": "u1", "INT32": "i4", "INT64": "i8", "FP16": "f2", "FP32": "f4",
        "FP64": "f8",
    }.items():  # fmt: skip
        array = np.array([[0, 1], [1, 1]]).astype(dtype)
        arrays[name.lower()] = array
        inputs.append(httpclient.InferInput(name.lower(), [2, 2], name))
        inputs[-1].set_data_from_numpy(array, binary_data=binary or name == "FP16")
    outputs = [httpclient.InferRequestedOutput(name, binary_data=binary) for name in arrays]
    result = client.infer("echo", inputs, outputs=outputs)
    for name, array in arrays.items():
        got = result.as_numpy(name)
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)


def test_values_that_json_has_no_number_for(client: Any, pixels: np.ndarray) -> None:
    exact = client.infer("strange", [tensor(pixels, binary=True)]).as_numpy("scores")
    np.testing.assert_array_equal(exact[0, :3], [np.nan, np.inf, -np.inf])
    outputs = [httpclient.InferRequestedOutput("scores", binary_data=False)]
    told = client.infer("strange", [tensor(pixels, binary=True)], outputs=outputs)
    assert np.isnan(told.as_numpy("scores")[0, :3]).all()


def test_asynchronous_requests_of_the_synchronous_client(client: Any, pixels: np.ndarray) -> None:
    waiting = [client.async_infer("digits", [tensor(pixels, binary=True)]) for _ in range(8)]
    for request in waiting:
        np.testing.assert_allclose(
            request.get_result().as_numpy("scores"), digits(pixels), rtol=1e-6
        )


@pytest.mark.parametrize(
    ("model", "shape", "says"),
    [
        ("nobody", (3, 64), "no model"),
        ("digits", (3, 63), "expected FP32 [-1, 64]"),
        ("full", (3, 64), "4096 requests are waiting"),
        ("broken", (3, 64), "the model failed"),
        ("late", (3, 64), "no answer within"),
        ("absent", (3, 64), "no worker"),
    ],
)
def test_errors_say_why(client: Any, model: str, shape: tuple[int, int], says: str) -> None:
    with pytest.raises(InferenceServerException, match=re.escape(says)):
        client.infer(model, [tensor(np.zeros(shape, "f4"), binary=True)])


def test_a_compressed_request_is_refused(client: Any, pixels: np.ndarray) -> None:
    with pytest.raises(InferenceServerException, match="compressed"):
        client.infer("digits", [tensor(pixels, binary=True)], request_compression_algorithm="gzip")


@pytest.mark.parametrize("binary", [True, False])
def test_texts_there_and_back(client: Any, *, binary: bool) -> None:
    texts = np.array(["", "a, b", "[ä]", "\0"], object)
    made = httpclient.InferInput("texts", [4], "BYTES")
    made.set_data_from_numpy(texts, binary_data=binary)
    output = httpclient.InferRequestedOutput("texts", binary_data=binary)
    got = client.infer("texts", [made], outputs=[output]).as_numpy("texts")
    assert [each if isinstance(each, str) else each.decode() for each in got] == texts.tolist()


def test_bytes_that_are_no_text(client: Any) -> None:
    made = httpclient.InferInput("texts", [1], "BYTES")
    made.set_data_from_numpy(np.array([b"\xff\xd8 a picture"], object))
    assert client.infer("texts", [made]).as_numpy("texts").tolist() == [b"\xff\xd8 a picture"]
    output = httpclient.InferRequestedOutput("texts", binary_data=False)
    with pytest.raises(InferenceServerException, match="ask for binary_data_output"):
        client.infer("texts", [made], outputs=[output])


def test_bfloat16_in_binary(client: Any) -> None:
    made = httpclient.InferInput("halves", [3], "BF16")
    values = np.array([1.0, -2.5, 3e38], pytest.importorskip("ml_dtypes").bfloat16)
    made.set_data_from_numpy(values)
    np.testing.assert_array_equal(client.infer("halves", [made]).as_numpy("halves"), values)


def test_the_model_repository(client: Any) -> None:
    listed = client.get_model_repository_index()
    states = {(each["name"], each["version"]): each["state"] for each in listed}
    assert states["digits", "2"] == "READY"
    assert states["absent", ""] == "UNAVAILABLE"
    for action in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="by the mesh manifest"):
            action("digits")


async def test_the_asynchronous_client(async_client: Any, pixels: np.ndarray) -> None:
    assert await async_client.is_server_live()
    assert (await async_client.get_model_metadata("digits"))["name"] == "digits"
    result = await async_client.infer("digits", [tensor(pixels, binary=True)])
    np.testing.assert_allclose(result.as_numpy("scores"), digits(pixels), rtol=1e-6)
