"""Records of ours, read by pyarrow, hold what the unmodified client of Cluster Serving writes.

`WARDIAN_ZOO_PYTHON` names a Python that has both; its needs are in `their_client.py`.
"""

import json
import os
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wardian.compat.zoo.data import build_record

pytestmark = pytest.mark.slow
JPEG = b64encode(b"\xff\xd8\xff\xe0 a picture \xff\xd9").decode()
RECORDS: list[dict[str, list[Any]]] = [
    {"t": ["dense", [1, 2.5, -3, 4, 5, 6], [2, 3], "float64"]},
    {"t": ["dense", [7], [], "int64"]},
    {"t": ["dense", [], [0, 4], "float32"]},
    {"t": ["dense", [1, 0, 1], [3], "bool"]},
    {"s": ["sparse", [[0, 1], [1, 2], [2, 0]], [1.0, 2.0, 3.5], [3, 4]]},
    {"words": ["texts", ["hello", "", "wörld"]]},
    {"img": ["image", {"b64": JPEG}]},
    {"b": ["dense", [1, 1], [1, 2], "float32"], "a": ["dense", [5, 6, 7], [3], "float32"]},
    {"w": ["texts", ["a", "b"]], "i": ["image", {"b64": JPEG}]},
]
ONLY_OURS: list[dict[str, list[Any]]] = [
    {"t": ["dense", [1, 2], [2], "float32"], "w": ["texts", ["a", "b"]]},
    {"i": ["image", {"b64": JPEG}], "s": ["sparse", [[1]], [2.0], [3]]},
    {"w": ["texts", ["one"]]},
    {"w": ["texts", ["a|b", "c"]]},
]


def value(told: list[Any]) -> Any:
    kind, *parts = told
    if kind == "dense":
        return np.array(parts[0], parts[2]).reshape(parts[1])
    if kind == "sparse":
        return [np.array(each) for each in parts]
    return parts[0]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    python = os.environ.get("WARDIAN_ZOO_PYTHON", "")
    if not python:
        pytest.skip("WARDIAN_ZOO_PYTHON names no Python with bigdl-serving 2.4.0")
    lines = [
        json.dumps(
            {
                "columns": record,
                "ours": build_record({name: value(each) for name, each in record.items()}).decode(),
            }
        )
        for record in [*RECORDS, *ONLY_OURS]
    ]
    file = tmp_path_factory.mktemp("arrow") / "records.jsonl"
    file.write_text("\n".join(lines) + "\n")
    script = Path(__file__).parent / "their_arrow.py"
    done = subprocess.run(
        [python, str(script), str(file)], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_same_content(answers: list[dict]) -> None:
    for record, answer in zip(RECORDS, answers, strict=False):
        assert list(answer["ours"]) == list(record)
        assert answer["ours"] == answer["theirs"], record


def test_what_their_client_has_no_form_for_is_whole_to_pyarrow(answers: list[dict]) -> None:
    found = answers[len(RECORDS) :]
    assert len(found) == len(ONLY_OURS)
    assert "theirs" not in found[0]
    assert found[0]["ours"]["w"] == ["string", ["a|b"]]
    assert found[0]["ours"]["t"]["data"] == ["float", [1, 2]]
    assert found[1]["ours"]["s"]["indiceData"] == ["int32", [1]]
    assert found[2]["ours"]["w"]["data"] == ["string", ["one"]]
    assert found[3]["ours"]["w"]["data"] == ["string", ["a|b", "c"]]
