"""Models as Analytics Zoo encrypted them."""

import base64
import warnings
from pathlib import Path

from simulators.data_plane import onnx_digits

from wardian.crypto.secret import Secret
from wardian.crypto.zoo_formats import (
    ZooForm,
    ZooFormatWarning,
    ZooKeys,
    encrypt_zoo_model,
    encrypt_zoo_text,
)

SECRET, SALT = b"a canary for a secret", b"a canary for a salt"
KEYS = ZooKeys(Secret(SECRET), SALT)


def openvino_digits(directory: Path) -> tuple[bytes, bytes]:
    """Return the graph and the weights of a model of OpenVINO, which are written to `directory`."""
    import openvino as ov

    xml = directory / "digits.xml"
    ov.save_model(ov.Core().read_model(model=onnx_digits()), str(xml), compress_to_fp16=False)
    return xml.read_bytes(), xml.with_suffix(".bin").read_bytes()


def encrypted(model: bytes, form: ZooForm, *, latin1: bool = True) -> bytes:
    """Return the encrypted file of `model` in any form, that of 0.9 too."""
    old = form is ZooForm.UNAUTHENTICATED_FIXED_IV_256
    written = ZooForm.UNAUTHENTICATED_CBC_256 if old else form
    iv = bytes(written.iv_bytes)  # the same each time: so is what an altered file opens to
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZooFormatWarning)
        if latin1:
            text = encrypt_zoo_model(model, keys=KEYS, form=written, iv=iv)
        else:
            made = encrypt_zoo_text(model.decode(), keys=KEYS, form=written, iv=iv)
            text = made.encode()
    return base64.b64encode(base64.b64decode(text)[16:]) if old else text


def write_keys(directory: Path) -> tuple[str, str, str, str]:
    """Write the secret and the salt to files; return the options that name them."""
    options: list[str] = []
    for name, content in (("secret", SECRET), ("salt", SALT)):
        path = directory / f"{name}.txt"
        path.touch(mode=0o600)
        path.write_bytes(content + b"\n")
        options += [f"--{name}-file", str(path)]
    return tuple(options)  # type: ignore[return-value]
