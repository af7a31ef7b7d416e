"""The example of digits with the Redis dialect agreed, for meshes of whole processes."""

import json
import shutil
from pathlib import Path

import numpy as np

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
HTTPS = '[dialects.zoo]\nenabled = true\ndefault_model = "digits"\nkeystore = true'


def zoo_example(directory: Path, *, port: int, agreed: str = "", operator: str = "") -> Path:
    """Return a copy of the example whose role `zoo` serves the Redis on `port` of loopback."""
    shutil.copytree(DIGITS, directory)
    toml = directory / "wardian.toml"
    job = 'serving_stream = { model = "digits" }'
    toml.write_text(f"{toml.read_text()}\n[dialects.zoo_redis.jobs]\n{job}\n{agreed}\n")
    place = directory / "operator.toml"
    before = place.read_text() if place.exists() else ""
    place.write_text(f'{before}\n[zoo]\nredis = "redis://127.0.0.1:{port}"\n{operator}\n')
    return directory


def https_example(
    directory: Path, *, port: int, keystore: tuple[Path, Path], agreed: str = "", operator: str = ""
) -> Path:
    """Return a copy of the example whose role `zoo` serves HTTPS on `port` of loopback.

    `keystore` is where it, and its password, lie.
    """
    shutil.copytree(DIGITS, directory)
    toml = directory / "wardian.toml"
    toml.write_text(f"{toml.read_text()}\n{HTTPS}\n{agreed}\n")
    place = directory / "operator.toml"
    before = place.read_text() if place.exists() else ""
    place.write_text(f"{before}\n[zoo]\n{https_place(port, keystore)}\n{operator}\n")
    return directory


def https_place(port: int, keystore: tuple[Path, Path]) -> str:
    """Return the lines of `[zoo]` that say where HTTPS is, and under which keystore."""
    return (
        f'listen = "127.0.0.1:{port}"\nkeystore = "{keystore[0]}"\n'
        f'keystore_password_file = "{keystore[1]}"\n'
    )


def over_https_alone(modules: set[str]) -> set[str]:
    """Return which of the modules of the role `zoo` it loads only where it serves HTTPS."""
    return {
        each
        for each in modules
        if each.startswith(("wardian.serving.api.", "wardian.serving.http.", "wardian.crypto.pkcs"))
    } | {
        "wardian.roles.zoo_https",
        "wardian.roles.zoo_keystore",
        "wardian.serving.dispatch_metrics",
        "wardian.serving.keystore_front",
        "wardian.serving.sealed_types",
        "wardian.serving.tenants.refusals",
        "wardian.serving.zoo.answers",
    }


def digit_record(seed: int) -> bytes:
    """Return a record with an image of noise, as JSON."""
    pixels = np.random.default_rng(seed).random(64, np.float32).round(3)
    return json.dumps({"instances": [{"image": pixels.tolist()}]}).encode()
