"""Analytics Zoo's encryption: what is written is read, and strangers' bytes end in our errors."""

import base64
import hashlib
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardian.crypto.secret import Secret
from wardian.crypto.zoo_formats import (
    ZooForm,
    ZooKeys,
    decrypt_zoo_bytes,
    decrypt_zoo_model,
    decrypt_zoo_text,
    encrypt_zoo_bytes,
    encrypt_zoo_model,
    encrypt_zoo_text,
    open_model_pieces,
)
from wardian.errors import AuthenticationFailed, FormatError

KEYS = ZooKeys(Secret(b"secret"), b"salt")
FORMS = st.sampled_from(list(ZooForm))
WRITTEN = st.sampled_from(
    [form for form in ZooForm if form is not ZooForm.UNAUTHENTICATED_FIXED_IV_256]
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)

pytestmark = pytest.mark.filterwarnings("ignore::wardian.crypto.zoo_formats.ZooFormatWarning")


@given(st.binary(max_size=400), WRITTEN)
def test_bytes_and_models_come_back(data, form):
    assert (
        decrypt_zoo_bytes(encrypt_zoo_bytes(data, keys=KEYS, form=form), keys=KEYS, form=form)
        == data
    )
    assert (
        decrypt_zoo_model(encrypt_zoo_model(data, keys=KEYS, form=form), keys=KEYS, form=form)
        == data
    )


@given(TEXT, WRITTEN)
def test_text_comes_back(text, form):
    assert (
        decrypt_zoo_text(encrypt_zoo_text(text, keys=KEYS, form=form), keys=KEYS, form=form) == text
    )


@given(st.binary(max_size=200), WRITTEN, st.binary(min_size=1, max_size=20), st.binary(max_size=20))
@settings(max_examples=12, deadline=None)
def test_under_other_keys_nothing_authentic_opens(data, form, secret, salt):
    """Each stretches a key, so there are few examples."""
    other = ZooKeys(Secret(b"not " + secret), b"not " + salt)
    sealed = encrypt_zoo_bytes(data, keys=KEYS, form=form)
    try:
        opened = decrypt_zoo_bytes(sealed, keys=other, form=form)
    except AuthenticationFailed:
        return
    assert not form.is_gcm
    assert opened != data or not data


@given(st.binary(max_size=400), FORMS)
def test_strangers_bytes_end_in_our_errors(data, form):
    for sealed in (data, base64.b64encode(data)):
        for latin1 in (True, False):
            pieces = open_model_pieces(
                io.BytesIO(sealed), keys=KEYS, form=form, latin1=latin1, digest=hashlib.sha256()
            )
            try:
                list(pieces)
            except (AuthenticationFailed, FormatError):
                continue
            assert not form.is_gcm


@given(TEXT, FORMS)
def test_strangers_text_ends_in_our_errors(text, form):
    try:
        decrypt_zoo_text(text, keys=KEYS, form=form)
    except (AuthenticationFailed, FormatError):
        return
    assert not form.is_gcm
