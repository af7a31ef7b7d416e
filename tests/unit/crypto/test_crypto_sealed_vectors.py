"""The frozen vectors of format version 1: a file sealed once opens for ever, an attack never."""

import base64
import hashlib
import importlib.util
import io
import json
import sys
from pathlib import Path

import pytest

from wardian import errors
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.recipients import BrokerKey, HpkeIdentity, PassphraseIdentity
from wardian.crypto.sealed_file import Pin, SealedReader, open_bytes, open_stream
from wardian.crypto.secret import Secret

FOLDER = Path(__file__).parents[2] / "vectors/sealed-file"
CASES = json.loads((FOLDER / "vectors.json").read_text(encoding="utf-8"))


def identity(entry):
    ((kind, value),) = entry.items()
    if kind == "broker_key":
        return BrokerKey(Secret(bytes.fromhex(value)))
    if kind == "hpke_private":
        return HpkeIdentity(HpkePrivateKey.from_secret(Secret(bytes.fromhex(value))))
    return PassphraseIdentity(Secret(value.encode()))


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_vector(case):
    raw = base64.b64decode(case["sealed"])
    wanted = {
        "identities": [identity(case["identity"])],
        "pin": Pin.parse(case["pin"]),
        "media_type": case["media_type"],
        "name": case["name"],
        "version": case["version"],
    }
    ways = (
        lambda: open_bytes(io.BytesIO(raw), max_bytes=2**20, **wanted),
        lambda: open_stream(io.BytesIO(raw), io.BytesIO(), **wanted),
    )
    if case["expect"] == "ok":
        plaintext, header = (way() for way in ways)
        assert hashlib.sha256(plaintext).hexdigest() == case["plaintext_sha256"]
        assert len(plaintext) == header.total_bytes == case["plaintext_bytes"]
        assert SealedReader(io.BytesIO(raw), **wanted).read(0, 2**20) == plaintext
        return
    for way in ways:
        with pytest.raises(errors.WardianError) as refused:
            way()
        assert type(refused.value).__name__ == case["expect"], refused.value
    reader_refuses_or_reads_only_what_is_authentic(raw, wanted)


def reader_refuses_or_reads_only_what_is_authentic(raw, wanted):
    with pytest.raises(errors.WardianError):
        SealedReader(io.BytesIO(raw), **wanted).read(0, 2**20)


def test_the_script_still_makes_the_vectors(monkeypatch):
    """It shares no code with the library, so this also holds the two against each other."""
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("sealed_file_make", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.make() == (FOLDER / "vectors.json").read_text(encoding="utf-8")
    assert not any(name.startswith("wardian") for name in vars(module))
    sys.modules.pop("hpke_reference", None)


def test_each_outcome_is_among_the_vectors():
    outcomes = {case["expect"] for case in CASES}
    assert outcomes == {
        "ok",
        "AuthenticationFailed",
        "FormatError",
        "UnsupportedAlgorithm",
        "WrongRecipient",
    }
