"""Model files made to harm: each ends in a typed error, and the next model loads and answers."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from simulators.data_plane import onnx_digits, onnx_model

from wardian.errors import ConfigError, FormatError, JobFailed
from wardian.inference import load_model
from wardian.inference.onnx_file import MAX_DEPTH, verify_onnx

REFUSED = (FormatError, ConfigError)


def load(data: bytes, engine: str):
    return load_model(data, media_type="application/onnx", engine=engine, threads=1)


def still_serves(engine: str) -> None:
    model = load(onnx_digits(), engine)
    assert model.infer({"image": np.zeros((2, 64), np.float32)})["label"].shape == (2,)
    model.close()


def with_external(location: str, **extra: str) -> bytes:
    """Return digits with its first weight at `location`, and where that is really a file, there."""
    model = onnx.load_from_string(onnx_digits())
    weight = model.graph.initializer[0]
    raw = weight.raw_data
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **extra}.items():
        weight.external_data.add(key=key, value=value)
    if not location.startswith("*"):
        Path(location).write_bytes(raw)
    return model.SerializeToString()


@pytest.mark.parametrize("place", ["weights.bin", "{}/weights.bin", "./sub/../weights.bin"])
def test_weights_in_a_file_are_not_fetched(engine, tmp_path, monkeypatch, place):
    """Red: both engines open a relative path, from the working directory, and answer with it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    data = with_external(place.format(tmp_path))
    with pytest.raises(FormatError, match="another file"):
        load(data, engine)
    still_serves(engine)


def test_both_engines_would_have_opened_the_file(tmp_path):
    """What the test above defends against is there: without the scan the engines read the file."""
    (tmp_path / "model.onnx").touch()
    script = """
import sys; sys.modules["openvino_telemetry"] = None
import onnxruntime, openvino
data = sys.stdin.buffer.read()
onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
openvino.Core().read_model(model=data)
print("both read it")
"""
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        data = with_external("weights.bin")
    finally:
        os.chdir(before)
    done = subprocess.run(
        [sys.executable, "-c", script], input=data, cwd=tmp_path, capture_output=True, check=False
    )
    assert done.stdout == b"both read it\n", done.stderr[-300:]


def test_weights_at_an_address_in_memory_are_not_read(engine):
    """Red: OpenVINO reads there, and the process ends by a signal."""
    data = with_external("*/_ORT_MEM_ADDR_/*", offset="4096", length=str(64 * 32 * 4))
    with pytest.raises(FormatError, match="another file"):
        load(data, engine)
    still_serves(engine)


def in_attribute() -> bytes:
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [4], np.ones(4, np.float32))
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(tensor)
    add = helper.make_node("Add", ["x", "c"], ["y"])
    return onnx_model(
        [node, add],
        inputs=[("x", TensorProto.FLOAT, ["N", 4])],
        outputs=[("y", TensorProto.FLOAT, ["N", 4])],
    )


def in_branch() -> bytes:
    inner = onnx.load_from_string(in_attribute()).graph
    del inner.input[:]
    return onnx_model(
        [helper.make_node("If", ["b"], ["z"], then_branch=inner, else_branch=inner)],
        inputs=[("b", TensorProto.BOOL, []), ("x", TensorProto.FLOAT, ["N", 4])],
        outputs=[("z", TensorProto.FLOAT, ["N", 4])],
    )


def in_function() -> bytes:
    model = onnx.load_from_string(in_attribute())
    nodes = list(model.graph.node)
    function = helper.make_function("mine", "F", ["x"], ["y"], nodes, model.opset_import)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("F", ["x"], ["y"], domain="mine"))
    return model.SerializeToString()


def in_sparse() -> bytes:
    model = onnx.load_from_string(in_attribute())
    tensor = model.graph.node[0].attribute[0].t
    sparse = model.graph.sparse_initializer.add(dims=[4])
    sparse.values.CopyFrom(tensor)
    del model.graph.node[0]
    return model.SerializeToString()


@pytest.mark.parametrize("make", [in_attribute, in_branch, in_function, in_sparse])
def test_weights_elsewhere_are_found_wherever_they_hide(engine, make):
    with pytest.raises(FormatError, match="another file"):
        load(make(), engine)


def test_operators_of_others_are_refused(engine):
    data = onnx_model(
        [helper.make_node("Run", ["x"], ["y"], domain="evil")],
        inputs=[("x", TensorProto.FLOAT, ["N"])],
        outputs=[("y", TensorProto.FLOAT, ["N"])],
    )
    with pytest.raises(ConfigError, match="'evil'"):
        load(data, engine)
    carrier = onnx_model(
        [helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft", embed_mode=0,
                          ep_cache_context="/etc/passwd")],
        inputs=[("x", TensorProto.FLOAT, ["N"])],
        outputs=[("y", TensorProto.FLOAT, ["N"])],
    )  # fmt: skip
    with pytest.raises(ConfigError, match="EPContext"):
        load(carrier, engine)


def test_functions_of_the_model_itself_are_none_of_those():
    model = onnx.load_from_string(in_function())
    constant = model.functions[0].node[0].attribute[0].t
    constant.ClearField("external_data")
    constant.ClearField("data_location")
    constant.raw_data = np.ones(4, np.float32).tobytes()
    with pytest.raises(REFUSED):  # OpenVINO has no functions
        load(model.SerializeToString(), "openvino")
    mine = load(model.SerializeToString(), "onnxruntime")
    assert mine.infer({"x": np.zeros((1, 4), np.float32)})["y"].tolist() == [[1, 1, 1, 1]]


def test_an_answer_of_a_terabyte_fails_alone(engine):
    data = onnx_model(
        [helper.make_node("ConstantOfShape", ["s"], ["y"])],
        inputs=[("s", TensorProto.INT64, [2])],
        outputs=[("y", TensorProto.FLOAT, [None, None])],
    )
    model = load(data, engine)
    for shape in ([1 << 20, 1 << 18], [-5, 3]):
        with pytest.raises(JobFailed):
            model.infer({"s": np.array(shape, np.int64)})
    assert model.infer({"s": np.array([2, 3], np.int64)})["y"].shape == (2, 3)


def test_lengths_that_overflow_do_not_become_short_ones_in_onnx_runtime():
    data = onnx_model(
        [helper.make_node("ConstantOfShape", ["s"], ["y"])],
        inputs=[("s", TensorProto.INT64, [2])],
        outputs=[("y", TensorProto.FLOAT, [None, None])],
    )
    with pytest.raises(JobFailed):
        load(data, "onnxruntime").infer({"s": np.array([1 << 40, 1 << 40], np.int64)})


def test_onnx_runtime_takes_no_more_memory_than_its_arena():
    data = onnx_model(
        [helper.make_node("ConstantOfShape", ["s"], ["y"])],
        inputs=[("s", TensorProto.INT64, [2])],
        outputs=[("y", TensorProto.FLOAT, [None, None])],
    )
    model = load(data, "onnxruntime")
    with pytest.raises(JobFailed):  # 2.5 GB: this machine has as much
        model.infer({"s": np.array([5 << 17, 1 << 10], np.int64)})
    assert model.infer({"s": np.array([1 << 10, 1 << 10], np.int64)})["y"].shape == (1024, 1024)


def test_a_terabyte_among_the_constants_is_refused(engine):
    data = onnx_model(
        [
            helper.make_node("ConstantOfShape", ["s"], ["c"]),
            helper.make_node("ReduceSum", ["c"], ["r"], keepdims=0),
            helper.make_node("Add", ["x", "r"], ["y"]),
        ],
        inputs=[("x", TensorProto.FLOAT, ["N"])],
        outputs=[("y", TensorProto.FLOAT, ["N"])],
        weights={"s": np.array([1 << 20, 1 << 18])},
    )
    try:
        model = load(data, engine)
    except REFUSED:
        return
    with pytest.raises(JobFailed):
        model.infer({"x": np.zeros(2, np.float32)})


def test_a_declared_terabyte_is_refused_at_load(engine):
    data = onnx_model(
        [helper.make_node("Relu", ["x"], ["y"])],
        inputs=[("x", TensorProto.FLOAT, ["N", 1 << 20, 1 << 18])],
        outputs=[("y", TensorProto.FLOAT, ["N", 1 << 20, 1 << 18])],
    )
    with pytest.raises(ConfigError, match="2 GiB"):
        load(data, engine)


@pytest.mark.parametrize("dims", [[1 << 20, 1 << 20], [-1], [1 << 62, 4]])
def test_a_weight_that_says_more_than_it_holds_is_refused(engine, dims):
    model = onnx.load_from_string(onnx_digits())
    weight = model.graph.initializer[0]
    del weight.dims[:]
    weight.dims.extend(dims)
    with pytest.raises(FormatError, match="more elements"):
        load(model.SerializeToString(), engine)


def field(number: int, body: bytes) -> bytes:
    length, size = b"", len(body)
    while True:
        length += bytes([size & 0x7F | (0x80 if size > 0x7F else 0)])
        size >>= 7
        if not size:
            return bytes([number << 3 | 2]) + length + body


def disguised(tmp_path: Path) -> bytes:
    """Return digits with a weight in a file, where the field that says so has bit 32 in its tag."""
    os.chdir(tmp_path)
    model = onnx.load_from_string(with_external("weights.bin"))
    weight = model.graph.initializer[0]
    entry, location = weight.external_data[0].SerializeToString(), weight.data_location
    weight.ClearField("external_data")
    weight.ClearField("data_location")
    length = bytes([len(entry)])
    hidden = b"\xea\x80\x80\x80\x10" + length + entry + b"\xf0\x80\x80\x80\x10" + bytes([location])
    plain = weight.SerializeToString()
    del model.graph.initializer[0]
    graph = model.graph.SerializeToString() + field(5, plain + hidden)
    model.ClearField("graph")
    return model.SerializeToString() + field(7, graph)


def test_a_field_in_disguise_is_refused(engine, tmp_path, monkeypatch):
    """Red: protobuf in C++ reads a tag of more than 32 bits as the field of its low bits."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FormatError):
        load(disguised(tmp_path), engine)


def test_graphs_nested_without_end_are_refused():
    body = b""
    for _ in range(10 * MAX_DEPTH):
        body = field(1, field(5, field(6, body)))
    with pytest.raises(FormatError, match="nested deeper"):
        verify_onnx(field(7, body))


@pytest.mark.slow
def test_a_file_of_nothing_but_parts_is_refused():
    with pytest.raises(FormatError, match="more parts"):
        verify_onnx(field(7, b"\x0a\x00" * 4_100_000))  # nodes of 2 bytes each
    with pytest.raises(FormatError, match="more text"):
        verify_onnx(field(7, field(10, bytes(65 * 1024**2))))


def test_a_graph_in_two_halves_is_refused():
    body = onnx.load_from_string(onnx_digits()).graph.SerializeToString()
    verify_onnx(field(7, body))
    with pytest.raises(FormatError, match="several"):
        verify_onnx(field(7, body) + field(7, body))


@pytest.mark.parametrize(
    "data",
    [
        b"\x3a",  # a tag, and no length
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x3a\x05abc",
        b"\x3b",  # groups
        b"\x38\x01",  # the graph is a number
        b"\x00",
        b"ORTM" + bytes(100),  # ONNX Runtime's own form, which it would recognise
        b"PK\x03\x04" + bytes(100),
        b"\x80\x04\x95" + bytes(50),  # a pickle
        b"<?xml version='1.0'?><net/>",
    ],
)
def test_bytes_that_are_no_onnx_reach_no_engine(engine, data):
    with pytest.raises(FormatError):
        load(data, engine)


def test_bytes_changed_at_random_end_in_typed_errors(engine):
    rng = random.Random(5)
    base = onnx_digits()
    loaded = 0
    for _ in range(60):
        data = bytearray(base)
        for _ in range(rng.randrange(1, 4)):
            # The structure, not the weights, which may be anything
            data[rng.randrange(0, 300)] = rng.randrange(256)
        try:
            load(bytes(data), engine).close()
            loaded += 1
        except REFUSED:
            continue
    assert loaded < 60
    still_serves(engine)
