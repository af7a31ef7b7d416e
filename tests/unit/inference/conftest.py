import pytest


@pytest.fixture(params=["openvino", "onnxruntime"])
def engine(request) -> str:
    return request.param
