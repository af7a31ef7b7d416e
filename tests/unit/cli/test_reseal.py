"""`wardian reseal`: what Analytics Zoo encrypted becomes what `wardian seal` would have made."""

import hashlib
import io
import json
import random
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from simulators.data_plane import onnx_digits
from simulators.zoo_models import SALT, SECRET, encrypted, openvino_digits, write_keys

from wardian.cli.reseal.command import reseal
from wardian.cli.reseal.contents import Contents, Opening, Part, PieceReader
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import Pin, open_bytes
from wardian.crypto.secret import Secret
from wardian.crypto.zoo_formats import ZooForm, ZooKeys
from wardian.errors import AuthenticationFailed, ConfigError, FormatError
from wardian.inference.ir_file import build_ir
from wardian.inference.model import load_model

IR, ONNX = "application/vnd.wardian.openvino-ir", "application/onnx"
FORMS = [
    (form, ("--form", form.value[:3], *(() if form.value == "v09-256" else ("--bits", form.value[-3:]))))
    for form in ZooForm
]  # fmt: skip
CBC, AS_CBC = ZooForm.UNAUTHENTICATED_CBC_128, ("--form", "cbc", "--bits", "128")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return openvino_digits(tmp_path_factory.mktemp("clear"))


def run(*arguments: object, **options):
    return CliRunner().invoke(reseal, [str(each) for each in arguments], **options)


def written_pair(directory: Path, graph: bytes, weights: bytes) -> Path:
    model = directory / "resnet"
    model.mkdir()
    (model / "digits.xml").write_bytes(graph)
    (model / "digits.bin").write_bytes(weights)
    return model


def opened(sealed: Path, key: Path, *, name: str, media_type: str) -> bytes:
    identity = BrokerKey(Secret(bytes.fromhex(key.read_text().strip())))
    pin = Pin.parse(sealed.with_name(sealed.name + ".pin").read_text().strip())
    data = open_bytes(
        io.BytesIO(sealed.read_bytes()), identities=[identity], pin=pin, media_type=media_type,
        name=name, version=1, max_bytes=2**26,
    )  # fmt: skip
    return bytes(data)


@pytest.mark.parametrize(("form", "named"), FORMS, ids=[form.value for form, _ in FORMS])
@pytest.mark.parametrize("load", [True, False])
def test_a_pair_of_openvino_in_each_form(tmp_path, pair, form, named, load):
    graph, weights = pair
    model = written_pair(tmp_path, encrypted(graph, form), encrypted(weights, form))
    sealed, key = tmp_path / "resnet.sealed", tmp_path / "key"
    done = run(
        model, *named, *write_keys(tmp_path), "--new-key", key, *(() if load else ("--no-load",))
    )
    assert done.exit_code == 0, done.output
    data = opened(sealed, key, name="resnet", media_type=IR)
    assert data == build_ir(graph, weights)
    assert f'media_type = "{IR}"' in done.stdout
    assert ('engine = "openvino"' in done.stdout) == load
    assert "warning:" in done.stderr
    answers = load_model(data, media_type=IR, engine="openvino", threads=1).infer(
        {"image": np.zeros((1, 64), np.float32)}
    )
    assert len(answers) >= 1


@pytest.mark.parametrize("clear", ["xml", "bin"])
def test_one_of_a_pair_may_lie_in_the_clear_if_it_is_named(tmp_path, pair, clear):
    graph, weights = pair
    files = (graph, encrypted(weights, CBC)) if clear == "xml" else (encrypted(graph, CBC), weights)
    model, keys = written_pair(tmp_path, *files), write_keys(tmp_path)
    key = tmp_path / "key"
    refused = run(model, *AS_CBC, *keys, "--new-key", key)
    assert isinstance(refused.exception, FormatError), "clear weights in the place of encrypted"
    assert f"digits.{clear}" in str(refused.exception)
    assert not key.exists(), "a second try may name it again"
    done = run(model, *AS_CBC, *keys, "--new-key", key, "--clear", clear)
    assert done.exit_code == 0, done.output
    data = opened(tmp_path / "resnet.sealed", key, name="resnet", media_type=IR)
    assert data == build_ir(graph, weights)


def test_a_file_in_json(tmp_path):
    path, key = tmp_path / "net.onnx", tmp_path / "key"
    path.write_bytes(encrypted(onnx_digits(), ZooForm.GCM_256))
    done = run(
        path, "--form", "gcm", "--bits", "256", *write_keys(tmp_path), "--new-key", key, "--json",
        "--name", "net", "-o", tmp_path / "out",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["sources"] == {"net.onnx": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert told["pin"] == (tmp_path / "out.pin").read_text().strip()
    assert opened(tmp_path / "out", key, name="net", media_type=ONNX) == onnx_digits()


def test_a_file_that_was_encrypted_as_text(tmp_path):
    path, key, text = tmp_path / "words.txt", tmp_path / "key", "Ā, ž\n".encode()
    path.write_bytes(encrypted(text, ZooForm.GCM_128, latin1=False))
    how = ("--form", "gcm", "--bits", "128", "--media-type", "text/plain", *write_keys(tmp_path))
    refused = run(path, *how, "--new-key", key)
    assert isinstance(refused.exception, FormatError)
    done = run(path, *how, "--new-key", key, "--encoding", "utf-8")
    assert done.exit_code == 0, done.output
    sealed = tmp_path / "words.txt.sealed"
    assert opened(sealed, key, name="words", media_type="text/plain") == text


@pytest.mark.parametrize(("form", "named"), FORMS, ids=[form.value for form, _ in FORMS])
@pytest.mark.parametrize("wrong", ["secret", "salt", "form", "bits", "end", "altered"])
def test_what_does_not_open_leaves_nothing_and_says_one_thing(tmp_path, form, named, wrong):
    path = tmp_path / "net.bin"
    text = bytearray(encrypted(random.Random(3).randbytes(5000), form))
    keys = write_keys(tmp_path)
    if wrong == "end":
        del text[-4:]
    elif wrong == "altered":
        text[-30] ^= 1 if text[-30] not in b"AZaz09+/" else 2
    elif wrong in ("secret", "salt"):
        (tmp_path / f"{wrong}.txt").write_bytes(b"another\n")
    elif wrong == "form":
        named = ("--form", "cbc" if form.is_gcm else "gcm", "--bits", form.value[-3:])
    else:
        named = (*named[:3], "256" if form.value.endswith("128") else "128")
        if form.value == "v09-256":
            named = AS_CBC
    path.write_bytes(bytes(text))
    before = set(tmp_path.iterdir())
    done = run(path, *named, *keys, "--new-key", tmp_path / "key", "--media-type", "a/b")
    assert isinstance(done.exception, (AuthenticationFailed, FormatError)), done.output
    assert set(tmp_path.iterdir()) == before
    for told in (done.output, str(done.exception)):
        assert "canary" not in told


def test_weights_short_of_their_first_bytes_do_not_load(tmp_path, pair):
    """A pair of 0.9 named as CBC: no form notices, the engine does."""
    old = ZooForm.UNAUTHENTICATED_FIXED_IV_256
    weights = bytes(32) + pair[1][32:]  # no character ends or begins across the 16th byte
    model = written_pair(tmp_path, pair[0], encrypted(weights, old))
    done = run(
        model, "--form", "cbc", "--bits", "256", "--clear", "xml", *write_keys(tmp_path),
        "--new-key", tmp_path / "key",
    )  # fmt: skip
    assert isinstance(done.exception, FormatError), done.output
    assert not (tmp_path / "resnet.sealed").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--form", "cbc"), "--bits"),
        (("--form", "v09", "--bits", "128"), "--bits"),
        ((*AS_CBC, "--clear", "xml"), "--clear"),
        ((*AS_CBC, "-o", "net.bin"), "--output"),
        ((*AS_CBC, "--media-type", "a/b"), "recipient"),
    ],
)
def test_wrong_use(tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net.bin"
    path.write_bytes(encrypted(b"x", CBC))
    done = run(path, *arguments, *write_keys(tmp_path))
    assert isinstance(done.exception, ConfigError), done.output
    assert says in str(done.exception)
    assert path.read_bytes()


@pytest.mark.parametrize("names", [(), ("a.xml",), ("a.xml", "a.bin", "b.bin"), ("a.bin",)])
def test_a_directory_that_is_no_pair(tmp_path, names):
    directory = tmp_path / "model"
    directory.mkdir()
    for name in names:
        (directory / name).touch()
    done = run(directory, *AS_CBC, *write_keys(tmp_path))
    assert isinstance(done.exception, ConfigError)
    assert "one .xml" in str(done.exception)


def test_a_pair_in_the_clear_is_not_for_this_command(tmp_path):
    model = written_pair(tmp_path, b"<net/>", b"")
    done = run(model, *AS_CBC, "--clear", "xml", "--clear", "bin", *write_keys(tmp_path))
    assert isinstance(done.exception, ConfigError)
    assert "wardian seal" in str(done.exception)


@pytest.mark.parametrize("name", ["secret", "salt"])
def test_files_that_others_may_read_are_refused(tmp_path, name):
    path, keys = tmp_path / "net.bin", write_keys(tmp_path)
    path.write_bytes(encrypted(b"x", CBC))
    (tmp_path / f"{name}.txt").chmod(0o640)
    done = run(path, *AS_CBC, *keys)
    assert isinstance(done.exception, ConfigError)
    assert "chmod 600" in str(done.exception)


@pytest.mark.parametrize("name", ["secret", "salt"])
def test_an_empty_line_is_no_secret_and_no_salt(tmp_path, name):
    path, keys = tmp_path / "net.bin", write_keys(tmp_path)
    path.write_bytes(encrypted(b"x", CBC))
    (tmp_path / f"{name}.txt").write_bytes(b"\nsecond line\n")
    done = run(path, *AS_CBC, *keys)
    assert isinstance(done.exception, ConfigError)
    assert f"which is the {name}, is empty" in str(done.exception)


def test_a_salt_that_is_too_long(tmp_path):
    path, keys = tmp_path / "net.bin", write_keys(tmp_path)
    path.write_bytes(encrypted(b"x", CBC))
    (tmp_path / "salt.txt").write_bytes(b"s" * 70_000)
    done = run(path, *AS_CBC, *keys)
    assert isinstance(done.exception, ConfigError)
    assert "65,536" in str(done.exception)


def test_without_files_and_a_terminal_nobody_is_asked(tmp_path):
    path = tmp_path / "net.bin"
    path.write_bytes(encrypted(b"x", CBC))
    done = run(path, *AS_CBC, input=f"{SECRET.decode()}\n{SALT.decode()}\n")
    assert isinstance(done.exception, ConfigError)
    assert "--secret-file" in str(done.exception)


def test_a_file_that_changes_while_it_is_read(tmp_path):
    path = tmp_path / "net.bin"
    path.write_bytes(encrypted(b"one", CBC))
    opening = Opening(keys=ZooKeys(Secret(SECRET), SALT), form=CBC, latin1=True)
    contents = Contents([Part(path=path)], opening)
    assert b"".join(contents.pieces()) == b"one"
    path.write_bytes(encrypted(b"two", CBC))
    with pytest.raises(ConfigError, match="changed"):
        PieceReader(contents.pieces()).readall()


def test_a_file_that_is_gone():
    opening = Opening(keys=ZooKeys(Secret(SECRET), SALT), form=CBC, latin1=True)
    with pytest.raises(ConfigError, match=r"gone\.bin: cannot be read"):
        list(Contents([Part(path=Path("gone.bin"))], opening).pieces())


def test_pieces_as_a_file():
    reader = io.BufferedReader(PieceReader(iter([b"ab", b"", b"cdef", b""])), 3)
    assert (reader.read(1), reader.read(3), reader.read(), reader.read(1)) == (
        b"a", b"bcd", b"ef", b"",
    )  # fmt: skip


def test_without_engines_the_command_says_what_to_do(tmp_path, monkeypatch):
    path, key = tmp_path / "net.onnx", tmp_path / "key"
    path.write_bytes(encrypted(onnx_digits(), CBC))
    monkeypatch.setitem(sys.modules, "wardian.inference.convert.source", None)
    refused = run(path, *AS_CBC, *write_keys(tmp_path), "--new-key", key)
    assert isinstance(refused.exception, ConfigError)
    assert "--no-load" in str(refused.exception)
    done = run(path, *AS_CBC, *write_keys(tmp_path), "--new-key", key, "--no-load")
    assert done.exit_code == 0, done.output
    sealed = tmp_path / "net.onnx.sealed"
    assert opened(sealed, key, name="net", media_type=ONNX) == onnx_digits()


def test_a_graph_that_is_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr("wardian.cli.reseal.contents.MAX_XML_BYTES", 1000)
    model = written_pair(tmp_path, encrypted(b"<net>" + b" " * 996, CBC), encrypted(b"", CBC))
    done = run(model, *AS_CBC, *write_keys(tmp_path))
    assert isinstance(done.exception, FormatError)
    assert "digits.xml" in str(done.exception)


def test_50_mb_in_bounded_memory(tmp_path):
    data = random.Random(2).randbytes(25_000_000)
    path, key = tmp_path / "net.bin", tmp_path / "key"
    path.write_bytes(encrypted(data, CBC))
    keys = write_keys(tmp_path)
    tracemalloc.start()
    try:
        done = run(path, *AS_CBC, *keys, "--new-key", key, "--media-type", "a/b")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert done.exit_code == 0, done.output
    assert path.stat().st_size > 49_000_000
    assert peak < 16 * 2**20
    sealed = tmp_path / "net.bin.sealed"
    assert opened(sealed, key, name="net", media_type="a/b") == data
