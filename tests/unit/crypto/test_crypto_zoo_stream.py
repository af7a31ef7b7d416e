"""Long files: piece by piece, in bounded memory, with the key stretched once."""

import base64
import hashlib
import io
import random
import tracemalloc

import pytest

from wardian.crypto import zoo_keys
from wardian.crypto.secret import Secret
from wardian.crypto.zoo_formats import ZooForm, ZooKeys, encrypt_zoo_bytes, open_model_pieces
from wardian.crypto.zoo_stream import PIECE_BYTES
from wardian.errors import FormatError

KEYS = ZooKeys(Secret(b"secret"), b"salt")
pytestmark = pytest.mark.filterwarnings("ignore::wardian.crypto.zoo_formats.ZooFormatWarning")


class Trickle(io.RawIOBase):
    """Gives what it has in odd little pieces, as pipes and sockets do."""

    def __init__(self, data):
        self._data, self._rng = io.BytesIO(data), random.Random(5)

    def readable(self):
        return True

    def readinto(self, buffer):
        piece = self._data.read(min(len(buffer), self._rng.randrange(1, 9000)))
        buffer[: len(piece)] = piece
        return len(piece)


def read(source, form, *, latin1=True, digest=None):
    digest = digest or hashlib.sha256()
    return open_model_pieces(source, keys=KEYS, form=form, latin1=latin1, digest=digest)


@pytest.mark.parametrize("form", [ZooForm.GCM_128, ZooForm.UNAUTHENTICATED_CBC_256])
def test_50_mb_in_bounded_memory(tmp_path, form):
    model = random.Random(1).randbytes(25_000_000)
    path = tmp_path / "model.bin"
    with path.open("wb") as file:
        text = model.decode("latin-1").encode()
        file.write(base64.b64encode(encrypt_zoo_bytes(text, keys=KEYS, form=form)))
        del text
    assert path.stat().st_size > 49_000_000
    read_digest, opened = hashlib.sha256(), hashlib.sha256()
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            for piece in read(file, form, digest=read_digest):
                opened.update(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert opened.digest() == hashlib.sha256(model).digest()
    assert read_digest.digest() == hashlib.sha256(path.read_bytes()).digest()
    assert peak < 8 * PIECE_BYTES * 2


@pytest.mark.parametrize("form", [ZooForm.GCM_256, ZooForm.UNAUTHENTICATED_CBC_128])
@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, PIECE_BYTES - 28, PIECE_BYTES - 16, 400_001])
def test_lengths_around_the_pieces_from_a_source_that_trickles(form, length):
    plaintext = random.Random(length).randbytes(length)
    sealed = base64.b64encode(encrypt_zoo_bytes(plaintext, keys=KEYS, form=form))
    assert b"".join(read(Trickle(sealed), form, latin1=False)) == plaintext


def test_characters_across_the_borders_of_pieces():
    model = b"x" + b"\xff" * 300_000
    text = model.decode("latin-1").encode()
    sealed = base64.b64encode(encrypt_zoo_bytes(text, keys=KEYS, form=ZooForm.GCM_128))
    assert b"".join(read(io.BytesIO(sealed), ZooForm.GCM_128)) == model


def test_two_files_in_one_are_none():
    sealed = base64.b64encode(encrypt_zoo_bytes(bytes(300_001), keys=KEYS, form=ZooForm.GCM_128))
    assert sealed.endswith(b"=")
    with pytest.raises(FormatError):
        list(read(io.BytesIO(sealed + sealed), ZooForm.GCM_128))
    piece = base64.b64encode(bytes(PIECE_BYTES - 1))
    with pytest.raises(FormatError, match="after its end"):
        list(read(io.BytesIO(piece + piece), ZooForm.GCM_128, latin1=False))


def test_a_secret_is_stretched_once(monkeypatch):
    calls = []
    stretch = hashlib.pbkdf2_hmac
    monkeypatch.setattr(
        zoo_keys.hashlib, "pbkdf2_hmac", lambda *given: calls.append(given[3]) or stretch(*given)
    )
    keys = ZooKeys(Secret(b"secret"), b"salt")
    for form in (ZooForm.GCM_128, ZooForm.GCM_256, ZooForm.UNAUTHENTICATED_CBC_256) * 5:
        encrypt_zoo_bytes(b"x", keys=keys, form=form)
    assert calls == [65_536]
