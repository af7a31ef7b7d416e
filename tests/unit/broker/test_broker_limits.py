"""What strangers may cost, and how the room is loaded."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import wardian.broker
from wardian.broker.service import QuoteBudget
from wardian.errors import QueueFull


def test_quotes_are_rationed() -> None:
    budget = QuoteBudget(per_s=2, burst=3, now=0)
    for _ in range(3):
        budget.take(0)
    with pytest.raises(QueueFull, match="ask later"):
        budget.take(0.4)
    budget.take(0.5)
    with pytest.raises(QueueFull):
        budget.take(0.5)
    budget.take(1000)
    budget.take(1000)
    budget.take(1000)
    with pytest.raises(QueueFull):
        budget.take(999)  # a clock that goes back gives nothing


def test_the_room_exports_what_it_names_and_nothing_unsorted() -> None:
    names = wardian.broker.__all__
    assert names == sorted(names)
    assert len(names) <= 12
    assert dir(wardian.broker) == names
    for name in names:
        assert getattr(wardian.broker, name) is not None
    with pytest.raises(AttributeError):
        _ = wardian.broker.nothing  # type: ignore[attr-defined]


def test_the_manifest_loads_no_socket_no_store_and_no_tee() -> None:
    """A client reads manifests on any machine: what that loads is its trusted base."""
    code = (
        "import sys; import wardian.broker.manifest, wardian.broker.certificates;"
        "names = {m for m in sys.modules if m.startswith('wardian.')};"
        "bad = {'wardian.tee', 'wardian.broker.store', 'wardian.broker.service', 'wardian.broker.authority'};"
        "sys.exit(str(names & bad) if names & bad else 0)"
    )
    for blocked in ("fcntl", "uvloop", "openvino", "resource", "pwd", "sqlite3"):
        code = f"import sys; sys.modules[{blocked!r}] = None;" + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


REPOSITORY = Path(__file__).parents[3]


def test_the_reference_names_every_rule_and_every_label() -> None:
    """What the code says on the wire, `docs/reference` explains; a rule that is new is written there."""
    source = "".join(path.read_text() for path in (REPOSITORY / "src/wardian/broker").glob("*.py"))
    protocol = (REPOSITORY / "docs/reference/protocol.md").read_text()
    rules = set(re.findall(r'rule="([a-z-]+)"', source))
    labels = set(re.findall(r'"(wardian [a-z ]+ v1)"', source)) - {
        "wardian broker store v1",  # at rest, in keys.md
        "wardian queue key id v1",
        "wardian broker root v1",
    }
    assert {rule for rule in rules if f"`{rule}`" not in protocol} == set()
    assert {label for label in labels if label not in protocol} == set()
