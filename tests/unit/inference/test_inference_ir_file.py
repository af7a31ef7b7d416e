"""OpenVINO IR as one file: read back as it was, and every other file refused before the engine."""

import random
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from simulators.data_plane import onnx_digits

from wardian.errors import ConfigError, FormatError
from wardian.inference import load_model
from wardian.inference.ir_file import MEDIA_TYPE, build_ir, parse_ir

sys.modules.setdefault("openvino_telemetry", None)
import openvino as ov  # noqa: E402


@pytest.fixture(scope="module")
def halves(tmp_path_factory) -> tuple[bytes, bytes]:
    path = tmp_path_factory.mktemp("ir") / "digits.xml"
    ov.save_model(ov.Core().read_model(model=onnx_digits()), str(path), compress_to_fp16=False)
    return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def load(data: bytes | bytearray, precision: str = "f32"):
    return load_model(
        data, media_type=MEDIA_TYPE, engine="openvino", threads=1, precision=precision
    )


def images(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).normal(size=(rows, 64)).astype(np.float32)


def test_both_halves_come_back_and_weights_are_aligned(halves):
    data = build_ir(*halves)
    xml, weights = parse_ir(data)
    assert (xml, bytes(weights)) == halves
    assert (len(data) - len(weights)) % 64 == 0


def test_answers_as_the_onnx_it_was_made_from(halves):
    mine = load(build_ir(*halves))
    source = load_model(onnx_digits(), media_type="application/onnx", engine="openvino", threads=1)
    assert (mine.inputs, mine.outputs) == (source.inputs, source.outputs)
    for rows in (1, 7, 64):
        one, two = mine.infer({"image": images(rows)}), source.infer({"image": images(rows)})
        assert np.allclose(one["probabilities"], two["probabilities"], atol=1e-6)


def test_is_made_from_a_buffer_that_may_be_wiped(halves):
    data = bytearray(build_ir(*halves))
    model = load(data)
    before = model.infer({"image": images(3)})
    data[:] = bytes(len(data))
    assert np.array_equal(before["label"], model.infer({"image": images(3)})["label"])


def test_bf16_is_another_precision_only_where_asked(halves):
    exact, short = load(build_ir(*halves)), load(build_ir(*halves), "bf16")
    one = exact.infer({"image": images(64)})["probabilities"]
    two = short.infer({"image": images(64)})["probabilities"]
    assert np.allclose(one, two, atol=0.05)
    if "avx512_bf16" in Path("/proc/cpuinfo").read_text():
        assert not np.array_equal(one, two)


def test_onnx_runtime_and_onnx_readers_do_not_take_it(halves):
    with pytest.raises(ConfigError, match="onnxruntime"):
        load_model(build_ir(*halves), media_type=MEDIA_TYPE, engine="onnxruntime", threads=1)
    with pytest.raises(FormatError):
        load_model(build_ir(*halves), media_type="application/onnx", engine="openvino", threads=1)
    with pytest.raises(FormatError):
        load(onnx_digits())


def test_every_cut_and_every_changed_head_is_refused_or_answers_nothing_else(halves):
    data = build_ir(*halves)
    for cut in (0, 7, 8, 15, 16, 17, len(halves[0]), len(halves[0]) + 16, len(data) - 1):
        with pytest.raises(FormatError):
            load(data[:cut])
    for length in (0, 1, len(halves[0]) - 1, len(halves[0]) + 1, 2**63, 2**64 - 1):
        with pytest.raises(FormatError):
            load(data[:8] + struct.pack("<Q", length) + data[16:])


def test_padding_that_is_not_zero_is_refused(halves):
    data = bytearray(build_ir(*halves))
    end = 16 + len(halves[0])
    assert end % 64
    data[end] = 1
    with pytest.raises(FormatError, match="do not begin"):
        parse_ir(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda xml: xml.replace(b'offset="0"', b'offset="-1"', 1),
        lambda xml: xml.replace(b'offset="0"', b'offset="9223372036854775807"', 1),
        lambda xml: xml.replace(b'offset="0"', b'offset="18446744073709543424"', 1),
        lambda xml: xml.replace(b'size="8192"', b'size="8193000000"', 1),
        lambda xml: xml.replace(b'shape="64, 32"', b'shape="1048576, 1048576"', 1),
        lambda xml: xml.replace(b'type="ReLU"', b'type="Evil"', 1),
        lambda xml: xml.replace(b"<net", b'<!DOCTYPE x [<!ENTITY a SYSTEM "/etc/passwd">]><net', 1),
        lambda xml: xml.replace(b"</net>", b"<!-- --></net>", 1),
        lambda xml: b"<net>" + b"<body>" * 50 + b"</body>" * 50 + b"</net>",
        lambda xml: b"<net>" + b"<a>" * 500_000 + b"</a>" * 500_000 + b"</net>",
        lambda _: b"<net></net>",
        lambda xml: b"text" + xml,
        lambda xml: xml[: len(xml) // 2],
    ],
    ids=["negative", "far", "wraps", "long", "large", "operator", "entity", "comment", "nested",
         "deep", "empty", "before", "half"],
)  # fmt: skip
def test_graphs_made_to_harm_are_refused(halves, change):
    xml, weights = halves
    changed = change(xml)
    assert changed != xml
    head = struct.pack("<8sQ", b"WRDNIR1\n", len(changed)) + changed
    with pytest.raises((FormatError, ConfigError)):
        load(head + bytes(-len(head) % 64) + weights)


def test_graphs_changed_at_random_end_in_typed_errors(halves):
    rng = random.Random(11)
    xml, weights = halves
    for _ in range(60):
        changed = bytearray(xml)
        for _ in range(rng.randrange(1, 4)):
            changed[rng.randrange(len(xml))] = rng.randrange(32, 127)
        head = struct.pack("<8sQ", b"WRDNIR1\n", len(changed)) + changed
        try:
            load(head + bytes(-len(head) % 64) + weights).close()
        except (FormatError, ConfigError):
            continue
    assert load(build_ir(*halves)).infer({"image": images(2)})["label"].shape == (2,)
