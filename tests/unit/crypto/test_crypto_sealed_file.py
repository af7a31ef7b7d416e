"""Sealing and opening by path: whole or not at all, and one line when it cannot be done."""

import errno
import io
import os
import stat
from pathlib import Path

import pytest

from wardian.crypto import sealed_file
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import open_file, seal_file
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, ConfigError, FormatError

AS = {"media_type": "application/onnx", "name": "digits", "version": 1}


@pytest.fixture
def key():
    return BrokerKey(Secret.random())


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights" * 10000)
    return path


def test_round_trip(model, key, tmp_path):
    sealed, clear = tmp_path / "model.sealed", tmp_path / "clear.onnx"
    pin = seal_file(model, sealed, recipients=[key], **AS)
    header = open_file(sealed, clear, identities=[key], pin=pin, **AS)
    assert clear.read_bytes() == model.read_bytes()
    assert header.digest == pin.header_digest
    assert sealed.stat().st_size == header.sealed_bytes
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "clear.onnx",
        "model.onnx",
        "model.sealed",
    ]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_the_plaintext_is_the_owners_alone(model, key, tmp_path):
    sealed, clear = tmp_path / "s", tmp_path / "c"
    pin = seal_file(model, sealed, recipients=[key], **AS)
    open_file(sealed, clear, identities=[key], pin=pin, **AS)
    assert stat.S_IMODE(clear.stat().st_mode) == 0o600


def test_what_was_there_is_replaced(model, key, tmp_path):
    target = tmp_path / "s"
    target.write_bytes(b"before")
    seal_file(model, target, recipients=[key], **AS)
    assert target.read_bytes()[:7] == b"wardian"


def test_a_refused_file_leaves_nothing(model, key, tmp_path):
    sealed, clear = tmp_path / "s", tmp_path / "c"
    pin = seal_file(model, sealed, recipients=[key], chunk_bytes=4096, **AS)
    raw = bytearray(sealed.read_bytes())
    raw[-20] ^= 1
    sealed.write_bytes(raw)
    clear.write_bytes(b"before")
    with pytest.raises(AuthenticationFailed):
        open_file(sealed, clear, identities=[key], pin=pin, **AS)
    assert clear.read_bytes() == b"before"
    sealed.write_bytes(raw[:-1])
    with pytest.raises(FormatError):
        open_file(sealed, clear, identities=[key], pin=pin, **AS)
    assert {p.name for p in tmp_path.iterdir()} == {"model.onnx", "s", "c"}


class FullDisk(io.BytesIO):
    """A file on a disk with room for some bytes."""

    def __init__(self, code):
        super().__init__()
        self._code = code

    def write(self, data):
        if self.tell() + len(data) > 10000:
            raise OSError(self._code, os.strerror(self._code))
        return super().write(data)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "no space left; it needs about 70000 bytes"),
        (errno.EDQUOT, "no space left"),
        (errno.EIO, "cannot be completed: Input/output error"),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(model, key, monkeypatch, code, message):
    def full(descriptor, _mode):
        os.close(descriptor)
        return FullDisk(code)

    monkeypatch.setattr(sealed_file.os, "fdopen", full)
    target = model.with_name("s")
    with pytest.raises(ConfigError, match=message) as refused:
        seal_file(model, target, recipients=[key], chunk_bytes=4096, **AS)
    assert str(refused.value).startswith(str(target))
    assert "\n" not in str(refused.value)
    assert [p.name for p in model.parent.iterdir()] == ["model.onnx"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_as_the_kernel_tells_it(model, key, tmp_path, monkeypatch):
    real = os.fdopen

    def full(descriptor, mode):
        os.close(descriptor)
        return real(os.open("/dev/full", os.O_WRONLY), mode)

    monkeypatch.setattr(sealed_file.os, "fdopen", full)
    with pytest.raises(ConfigError, match="no space left"):
        seal_file(model, tmp_path / "s", recipients=[key], **AS)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_an_interrupt_leaves_nothing(model, key, tmp_path):
    def interrupt(_done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seal_file(model, tmp_path / "s", recipients=[key], progress=interrupt, **AS)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("name", ["missing.onnx", "."])
def test_a_source_that_cannot_be_read(key, tmp_path, name):
    with pytest.raises(ConfigError, match="cannot be read: "):
        seal_file(tmp_path / name, tmp_path / "s", recipients=[key], **AS)
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_cannot_be_written(model, key, tmp_path):
    with pytest.raises(ConfigError, match="cannot be written: No such file or directory"):
        seal_file(model, tmp_path / "missing" / "s", recipients=[key], **AS)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="cannot be completed"):
        seal_file(model, tmp_path / "folder", recipients=[key], **AS)
    assert {p.name for p in tmp_path.iterdir()} == {"model.onnx", "folder"}


def test_a_file_that_grows_meanwhile_is_refused(model, key, tmp_path):
    def grow(_done):
        with model.open("ab") as file:
            file.write(b"more")

    with pytest.raises(ConfigError, match="more than 70000 bytes"):
        seal_file(model, tmp_path / "s", recipients=[key], chunk_bytes=4096, progress=grow, **AS)


def test_memory_is_bounded(key, tmp_path):
    """64 MiB pass through two chunks of 64 KiB."""
    import tracemalloc

    source = tmp_path / "big"
    with source.open("wb") as file:
        file.truncate(64 * 2**20)
    tracemalloc.start()
    try:
        pin = seal_file(source, tmp_path / "s", recipients=[key], chunk_bytes=65536, **AS)
        open_file(tmp_path / "s", tmp_path / "c", identities=[key], pin=pin, **AS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * 2**20


def test_elsewhere_directories_are_not_synced(model, key, tmp_path, monkeypatch):
    class Windows:
        name = "nt"

        def __getattr__(self, attribute):
            return getattr(os, attribute)

        def open(self, *_args):
            pytest.fail("a directory cannot be opened there")

    monkeypatch.setattr(sealed_file, "os", Windows())
    seal_file(model, tmp_path / "s", recipients=[key], **AS)
    assert (tmp_path / "s").exists()
