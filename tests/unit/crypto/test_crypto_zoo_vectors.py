"""The frozen vectors of Analytics Zoo's encryption, in both directions."""

import base64
import importlib.util
import json
from functools import cache
from pathlib import Path

import pytest

from wardian import errors
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
)

FOLDER = Path(__file__).parents[2] / "vectors/zoo-encryption"
VECTORS = json.loads((FOLDER / "vectors.json").read_text(encoding="utf-8"))
CASES = VECTORS["cases"]
NAMES = [case["case"] for case in CASES]


@cache
def keys(secret, salt):
    return ZooKeys(Secret(secret.encode()), salt.encode())


def opened(case):
    how = {"keys": keys(case["secret"], case["salt"]), "form": ZooForm(case["form"])}
    if case["kind"] == "text":
        return decrypt_zoo_text(case["sealed"], **how).encode()
    if case["kind"] == "model":
        return decrypt_zoo_model(case["sealed"].encode(), **how)
    return decrypt_zoo_bytes(base64.b64decode(case["sealed"]), **how)


def written(case):
    plaintext, form = base64.b64decode(case["plaintext"]), ZooForm(case["form"])
    iv = base64.b64decode(case["sealed"])[: form.iv_bytes]
    how = {"keys": keys(case["secret"], case["salt"]), "form": form, "iv": iv}
    if case["kind"] == "text":
        return encrypt_zoo_text(plaintext.decode(), **how)
    if case["kind"] == "model":
        return encrypt_zoo_model(plaintext, **how).decode()
    return base64.b64encode(encrypt_zoo_bytes(plaintext, **how)).decode()


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_reading(case):
    if case["expect"] == "ok":
        assert opened(case) == base64.b64decode(case["plaintext"])
        return
    with pytest.raises(errors.WardianError) as refused:
        opened(case)
    assert type(refused.value).__name__ == case["expect"]


@pytest.mark.parametrize(
    "case", [case for case in CASES if case["written"]], ids=lambda case: case["case"]
)
def test_writing(case):
    with pytest.warns(ZooFormatWarning, match="wardian seal"):
        assert written(case) == case["sealed"]


@pytest.mark.parametrize("form", list(ZooForm))
def test_keys(form):
    made = keys("analytics-zoo", "intel-analytics").key(form)
    assert made.reveal().hex() == VECTORS["keys"][form.value[-3:]]


def test_the_script_still_makes_the_vectors():
    """It shares no code with the library, so this also holds the two against each other."""
    spec = importlib.util.spec_from_file_location("zoo_make", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.make() == (FOLDER / "vectors.json").read_text(encoding="utf-8")
    assert not any(name.startswith("wardian") for name in vars(module))


def test_each_outcome_and_form_is_among_the_vectors():
    assert {case["expect"] for case in CASES} == {"ok", "AuthenticationFailed", "FormatError"}
    assert {case["form"] for case in CASES} == {form.value for form in ZooForm}
    assert {case["form"] for case in CASES if not case["written"]} >= {"v09-256"}
