"""What somebody does to a file that Analytics Zoo encrypted, and what each form notices of it."""

import base64
import io
import itertools
import traceback
from hashlib import sha256

import pytest

from wardian.crypto import zoo_stream
from wardian.crypto.secret import Secret
from wardian.crypto.zoo_formats import (
    ZooForm,
    ZooFormatWarning,
    ZooKeys,
    decrypt_zoo_bytes,
    decrypt_zoo_model,
    decrypt_zoo_text,
    encrypt_zoo_bytes,
    encrypt_zoo_model,
    encrypt_zoo_text,
    open_model_pieces,
)
from wardian.errors import (
    AuthenticationFailed,
    FormatError,
    LocalProtocolError,
    UnsupportedAlgorithm,
    WardianError,
)

KEYS = ZooKeys(Secret(b"a canary secret"), b"a canary salt")
OTHER = ZooKeys(Secret(b"another secret"), b"a canary salt")
GCM, CBC = ZooForm.GCM_256, ZooForm.UNAUTHENTICATED_CBC_128
WRITTEN = [form for form in ZooForm if form is not ZooForm.UNAUTHENTICATED_FIXED_IV_256]
MODEL = b"weights \xff\x00\x80 that nobody is to see" * 3

pytestmark = pytest.mark.filterwarnings("ignore::wardian.crypto.zoo_formats.ZooFormatWarning")


def refusals(sealed, *, keys=KEYS, form=CBC):
    try:
        decrypt_zoo_model(sealed, keys=keys, form=form)
    except WardianError as err:
        return type(err), str(err)
    return None


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("cut", [encrypt_zoo_bytes, encrypt_zoo_model])
def test_truncated_at_each_length(form, cut):
    sealed = cut(MODEL, keys=KEYS, form=form)
    opens = decrypt_zoo_bytes if cut is encrypt_zoo_bytes else decrypt_zoo_model
    for length in range(len(sealed)):
        with pytest.raises((AuthenticationFailed, FormatError)):
            opens(sealed[:length], keys=KEYS, form=form)


@pytest.mark.parametrize("form", [ZooForm.GCM_128, ZooForm.GCM_256])
def test_gcm_altered_at_each_byte_or_bit_is_refused(form):
    sealed = encrypt_zoo_bytes(MODEL, keys=KEYS, form=form)
    for at, bit in itertools.product(range(len(sealed)), range(8)):
        altered = bytearray(sealed)
        altered[at] ^= 1 << bit
        with pytest.raises(AuthenticationFailed):
            decrypt_zoo_bytes(bytes(altered), keys=KEYS, form=form)
    text = encrypt_zoo_model(MODEL, keys=KEYS, form=form)
    for at in range(len(text)):
        altered = text[:at] + (b"A" if text[at : at + 1] != b"A" else b"B") + text[at + 1 :]
        with pytest.raises((AuthenticationFailed, FormatError)):
            decrypt_zoo_model(altered, keys=KEYS, form=form)


def test_cbc_altered_at_each_bit_opens_to_what_the_attacker_chose_or_is_refused():
    """What the pages say of it: all of the first block is his, and most of the rest unnoticed."""
    plaintext = bytes(range(64)) + b"the end"
    sealed = encrypt_zoo_bytes(plaintext, keys=KEYS, form=CBC)
    for at in range(16):
        altered = bytearray(sealed)
        altered[at] ^= 0x40
        chosen = plaintext[:at] + bytes((plaintext[at] ^ 0x40,)) + plaintext[at + 1 :]
        assert decrypt_zoo_bytes(bytes(altered), keys=KEYS, form=CBC) == chosen
    noticed = 0
    for at in range(16, len(sealed)):
        altered = bytearray(sealed)
        altered[at] ^= 0x40
        try:
            assert decrypt_zoo_bytes(bytes(altered), keys=KEYS, form=CBC) != plaintext
        except AuthenticationFailed:
            noticed += 1
    assert 9 <= noticed <= 32, "padding in the last block, and the block before it, alone"


def test_what_depends_on_the_key_is_one_error_with_one_message_and_no_cause():
    sealed = base64.b64decode(encrypt_zoo_model(MODEL, keys=KEYS, form=CBC))
    outcomes = set()
    for at, bit in itertools.product(range(len(sealed)), range(0, 8, 3)):
        altered = bytearray(sealed)
        altered[at] ^= 1 << bit
        outcomes.add(refusals(base64.b64encode(bytes(altered))))
    outcomes |= {refusals(base64.b64encode(sealed), keys=OTHER)}
    outcomes |= {refusals(base64.b64encode(sealed), form=GCM)}
    outcomes -= {None}
    assert len(outcomes) == 1
    assert next(iter(outcomes))[0] is AuthenticationFailed


def test_the_error_comes_after_all_of_it_was_read_whatever_failed(monkeypatch):
    """Where it failed first must not show in how much was read: padding, or the first character."""
    monkeypatch.setattr(zoo_stream, "PIECE_BYTES", 48)
    first = encrypt_zoo_model(b"\xff" * 500, keys=KEYS, form=CBC)
    raw = bytearray(base64.b64decode(first))
    raw[0] ^= 0x80  # the first character is none
    early = base64.b64encode(bytes(raw))
    raw = bytearray(base64.b64decode(first))
    raw[-20] ^= 0x80
    late = base64.b64encode(bytes(raw))
    for sealed in (early, late):
        source = io.BytesIO(sealed)
        pieces = open_model_pieces(source, keys=KEYS, form=CBC, latin1=True, digest=sha256())
        with pytest.raises(AuthenticationFailed):
            list(pieces)
        assert source.tell() == len(sealed)


@pytest.mark.parametrize("form", list(ZooForm))
@pytest.mark.parametrize("text", [True, False])
def test_no_error_tells_of_plaintext_or_secret(form, text):
    plaintext = b"a plain canary\xff" if text else "Āa plain canary".encode()
    old = form is ZooForm.UNAUTHENTICATED_FIXED_IV_256
    written = ZooForm.UNAUTHENTICATED_CBC_256 if old else form
    raw = encrypt_zoo_bytes(plaintext, keys=KEYS, form=written, iv=bytes(written.iv_bytes))
    sealed = base64.b64encode(raw[16:] if old else raw)
    with pytest.raises(WardianError) as refused:
        if text:
            decrypt_zoo_text(sealed.decode(), keys=KEYS, form=form)
        else:
            decrypt_zoo_model(sealed, keys=KEYS, form=form)
    assert "canary" not in "".join(traceback.format_exception(refused.value))
    at = refused.value
    while at is not None:
        assert not isinstance(at, UnicodeError), "its `object` is the plaintext"
        at = at.__cause__ or at.__context__
    assert "canary" not in repr(KEYS)
    assert "canary" not in repr(KEYS.key(form))


def test_a_file_of_09_read_as_cbc_opens_short_of_its_beginning():
    """Why the form is never found by trying."""
    sealed = encrypt_zoo_model(MODEL, keys=KEYS, form=ZooForm.UNAUTHENTICATED_CBC_256, iv=bytes(16))
    old = base64.b64encode(base64.b64decode(sealed)[16:])
    as_v09 = ZooForm.UNAUTHENTICATED_FIXED_IV_256
    assert decrypt_zoo_model(old, keys=KEYS, form=as_v09) == MODEL
    as_cbc = decrypt_zoo_model(old, keys=KEYS, form=ZooForm.UNAUTHENTICATED_CBC_256)
    assert MODEL.endswith(as_cbc)
    assert 0 < len(as_cbc) < len(MODEL)


def test_the_form_of_09_is_never_written():
    for encrypt in (encrypt_zoo_bytes, encrypt_zoo_model):
        with pytest.raises(UnsupportedAlgorithm):
            encrypt(b"x", keys=KEYS, form=ZooForm.UNAUTHENTICATED_FIXED_IV_256)
    with pytest.raises(UnsupportedAlgorithm):
        encrypt_zoo_text("x", keys=KEYS, form=ZooForm.UNAUTHENTICATED_FIXED_IV_256)


@pytest.mark.parametrize("form", WRITTEN)
def test_an_iv_is_fresh_and_has_its_length(form):
    made = {encrypt_zoo_bytes(b"x", keys=KEYS, form=form)[: form.iv_bytes] for _ in range(20)}
    assert len(made) == 20
    with pytest.raises(LocalProtocolError):
        encrypt_zoo_bytes(b"x", keys=KEYS, form=form, iv=bytes(form.iv_bytes - 1))


def test_writing_warns(recwarn):
    encrypt_zoo_bytes(b"x", keys=KEYS, form=GCM)
    with pytest.warns(ZooFormatWarning):
        encrypt_zoo_text("x", keys=KEYS, form=GCM)


def test_limits_on_sizes(monkeypatch):
    monkeypatch.setattr("wardian.crypto.zoo_formats.MAX_BYTES", 100)
    monkeypatch.setattr(zoo_stream, "MAX_BYTES", 100)
    with pytest.raises(FormatError, match="above"):
        encrypt_zoo_bytes(bytes(101), keys=KEYS, form=GCM)
    with pytest.raises(FormatError, match="above"):
        decrypt_zoo_bytes(bytes(101), keys=KEYS, form=GCM)
    with pytest.raises(FormatError, match="above"):
        decrypt_zoo_text("A" * 104, keys=KEYS, form=GCM)
    with pytest.raises(FormatError, match="above"):
        decrypt_zoo_model(b"A" * 104, keys=KEYS, form=GCM)


@pytest.mark.parametrize("salt", [b"", bytes(2**16 + 1)])
def test_a_salt_has_a_length(salt):
    with pytest.raises(LocalProtocolError, match="salt"):
        ZooKeys(Secret(b"x"), salt)


def test_the_longest_salt_stretches():
    assert len(ZooKeys(Secret(b"x"), bytes(2**16)).key(GCM)) == 32


def test_text_that_is_none_is_refused():
    with pytest.raises(FormatError, match="UTF-8"):
        encrypt_zoo_text("\ud800", keys=KEYS, form=GCM)
    sealed = base64.b64encode(encrypt_zoo_bytes(b"\xff", keys=KEYS, form=GCM)).decode()
    with pytest.raises(FormatError, match="authentic"):
        decrypt_zoo_text(sealed, keys=KEYS, form=GCM)
    sealed = base64.b64encode(encrypt_zoo_bytes(b"\xff", keys=KEYS, form=CBC)).decode()
    with pytest.raises(AuthenticationFailed):
        decrypt_zoo_text(sealed, keys=KEYS, form=CBC)
    with pytest.raises(FormatError, match="base64"):
        decrypt_zoo_text("ÄÄÄÄ", keys=KEYS, form=CBC)


def test_wiped_keys_open_nothing():
    keys = ZooKeys(Secret(b"x"), b"y")
    keys.wipe()
    with pytest.raises(LocalProtocolError):
        keys.key(GCM)
