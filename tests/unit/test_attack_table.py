"""The table of attacks in the documentation names tests that exist."""

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TABLE = REPOSITORY / "docs" / "reference" / "attacks.md"
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", TABLE.read_text())


def names_in(path: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {each.name for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, kinds)}


def test_every_attack_has_its_test() -> None:
    missing = [f"{file}::{name}" for file, name in NAMED if name not in names_in(REPOSITORY / file)]
    assert missing == []
    rows = [row for row in TABLE.read_text().splitlines() if row.startswith("| ")]
    assert len(NAMED) >= len(rows) - 1  # all but the heading
