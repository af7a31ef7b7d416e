"""`wardian seal --from`: what is sealed is the model as an enclave opens it."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from wardian.cli.conversion import KINDS, parse_shape, sealable
from wardian.cli.files import seal
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import Pin, open_bytes
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, WardianError
from wardian.inference.convert import source
from wardian.inference.model import load_model
from wardian.inference.spec import TensorSpec

VECTORS = Path(__file__).parents[2] / "vectors" / "tensorflow"
IR = "application/vnd.wardian.openvino-ir"


def run(*arguments: object):
    return CliRunner().invoke(seal, [str(each) for each in arguments])


def opened(sealed: Path, key: Path, *, name: str) -> bytearray:
    identity = BrokerKey(Secret(bytes.fromhex(key.read_text().strip())))
    pin = Pin.parse(sealed.with_name(sealed.name + ".pin").read_text().strip())
    return open_bytes(
        io.BytesIO(sealed.read_bytes()), identities=[identity], pin=pin, media_type=IR,
        name=name, version=1, max_bytes=2**20,
    )  # fmt: skip


def test_a_directory_becomes_one_sealed_file_that_an_enclave_opens(tmp_path):
    sealed, key = tmp_path / "net.sealed", tmp_path / "net.key"
    done = run(
        VECTORS / "saved_model", "--from", "tensorflow", "--name", "net", "-o", sealed,
        "--new-key", key,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert f'media_type = "{IR}"\nengine = "openvino"' in done.stdout
    model = load_model(opened(sealed, key, name="net"), media_type=IR, engine="openvino", threads=1)
    with np.load(VECTORS / "answers.npz") as made:
        assert np.allclose(model.infer({"x": made["x"]})["y"], made["y"], atol=1e-6)
    weights = (VECTORS / "saved_model/variables/variables.data-00000-of-00001").read_bytes()
    assert weights[64:128] not in sealed.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"net.sealed", "net.sealed.pin", "net.key"}


def test_nothing_stays_of_what_was_converted(tmp_path):
    with sealable(
        VECTORS / "float.tflite", kind="tflite", shapes=(), media_type="application/onnx"
    ) as made:
        assert made.media_type == IR
        assert made.path.stat().st_size > 0
        assert made.path.parent.stat().st_mode & 0o077 == 0
    assert not made.path.parent.exists()


def test_a_file_is_sealed_as_it_is_without_from(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("1,2\n")
    done = run(path, "--media-type", "text/csv", "--new-key", tmp_path / "k", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["sealed"].endswith("table.csv.sealed")


@pytest.mark.parametrize(
    "arguments",
    [
        (VECTORS / "saved_model",),
        (VECTORS / "frozen.pb", "--shape", "1,8"),
        (VECTORS / "frozen.pb", "--from", "sklearn"),
        (VECTORS / "frozen.pb", "--from", "tensorflow", "--shape", "1,x"),
        (VECTORS / "frozen.pb", "--from", "tensorflow", "--shape", "0,8"),
    ],
)
def test_what_cannot_be_sealed_leaves_nothing(tmp_path, arguments):
    target = tmp_path / "out.sealed"
    done = run(*arguments, "--new-key", tmp_path / "k", "-o", target)
    assert isinstance(done.exception, WardianError)
    assert not target.exists()


@pytest.mark.parametrize(
    ("text", "dtype", "shape"),
    [
        ("-1,3,224,224", "FP32", (-1, 3, 224, 224)),
        ("-1,128:INT64", "INT64", (-1, 128)),
        ("7:BOOL", "BOOL", (7,)),
    ],
)
def test_shapes_say_lengths_and_type(text, dtype, shape):
    assert parse_shape(text) == TensorSpec(name="", dtype=dtype, shape=shape)


@pytest.mark.parametrize(
    "text", ["", "a", "1,", ",1", "-2", "0", "1:FP99", "1:BYTES", "1 2", "1e3"]
)
def test_shapes_that_are_none_are_refused(text):
    with pytest.raises(ConfigError, match="--shape"):
        parse_shape(text)


def test_the_command_offers_what_can_be_converted():
    assert KINDS == source.KINDS
