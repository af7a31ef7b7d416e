"""The example of digits with the Redis dialect agreed, for meshes of whole processes."""

import json
import shutil
from pathlib import Path

import numpy as np

DIGITS = Path(__file__).parents[2] / "examples" / "digits"


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


def digit_record(seed: int) -> bytes:
    """Return a record with an image of noise, as JSON."""
    pixels = np.random.default_rng(seed).random(64, np.float32).round(3)
    return json.dumps({"instances": [{"image": pixels.tolist()}]}).encode()
