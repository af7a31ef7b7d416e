"""Workers of one version may have measured different engines; what clients see must be one."""

import msgspec
import pytest

from wardian.inference.spec import TensorSpec
from wardian.serving.catalog import Description

X = TensorSpec(name="x", dtype="FP32", shape=(-1, 4))
MINE = Description(
    model="digits", version=1, engine="openvino 2026.4.1 (auto: 10 us)", max_batch=64,
    batchable=True, inputs=(X,), outputs=(X,),
)  # fmt: skip


@pytest.mark.parametrize(
    "change", [{"engine": "onnxruntime 1.32.0 (auto: 4 us)"}, {"max_batch": 8}]
)
def test_what_was_measured_may_differ(change):
    assert MINE.agrees(msgspec.structs.replace(MINE, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"model": "faces"},
        {"version": 2},
        {"batchable": False},
        {"inputs": ()},
        {"outputs": (TensorSpec(name="x", dtype="FP32", shape=(-1, 5)),)},
    ],
)
def test_what_clients_rely_on_may_not(change):
    assert not MINE.agrees(msgspec.structs.replace(MINE, **change))
