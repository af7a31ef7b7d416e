"""What the room promises as a room."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import wardian
from wardian import attestation


def test_exports_are_sorted_and_exist():
    constants = [name for name in attestation.__all__ if name.isupper()]
    classes = [n for n in attestation.__all__ if n[0].isupper() and not n.isupper()]
    functions = [name for name in attestation.__all__ if name[0].islower()]
    assert attestation.__all__ == sorted(constants) + sorted(classes) + sorted(functions)
    assert len(attestation.__all__) <= 12
    for name in attestation.__all__:
        assert getattr(attestation, name) is not None


def test_no_other_name():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = attestation.nothing


def test_importing_the_room_loads_nothing():
    program = (
        "import sys, wardian.attestation;"
        "print([m for m in sys.modules if m.startswith(('wardian.attestation.', 'dcap_qvl'))])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert ran.stdout.strip() == b"[]"


@pytest.mark.parametrize(
    ("name", "maker"), [("AttestationResult", "verifier.py"), ("Claims", "verifier.py")]
)
def test_only_the_verifier_makes_verified_types(name, maker):
    """The type carries the trust, so nothing else in the source may construct it."""
    makers = set()
    for path in Path(wardian.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == name:
                makers.add(path.name)
    assert makers == {maker}
