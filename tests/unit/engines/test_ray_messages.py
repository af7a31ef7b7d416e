"""The lines between an engine and its driver: one form each, and nothing else gets in."""

from pathlib import Path

import pytest

from wardian.engines import WorkersSpec, WorkerStatus
from wardian.engines.ray.messages import (
    Answer,
    Ask,
    Keep,
    Workers,
    line_of,
    parse_answer,
    parse_order,
)
from wardian.errors import FormatError

SPEC = WorkersSpec(
    name="worker-m", argv=("/w", "{lifeline}"), env={"A": "1"}, logs=Path("/l"), replicas=3
)


def test_orders_and_answers_come_back_as_they_were() -> None:
    keep = Keep(id=1, spec=Workers.of(SPEC), replicas=3)
    assert parse_order(line_of(keep)) == keep
    assert keep.spec.workers(3) == SPEC
    assert parse_order(line_of(Ask(id=2))) == Ask(id=2)
    status = (WorkerStatus(name="worker-m-1", state="ready", place="a", pid=3, starts=1),)
    answer = parse_answer(line_of(Answer.of(4, status)))
    assert (answer.id, answer.status()) == (4, status)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello\n",
        b"[]\n",
        b'{"id": 1}\n',
        b'{"do": "ask"}\n',
        b'{"do": "run", "id": 1}\n',
        b'{"do": "ask", "id": 1, "more": 1}\n',
        b'{"do": "ask", "id": "1"}\n',
        b'{"do": "keep", "id": 1, "replicas": 1, "spec": {"name": "a"}}\n',
    ],
)
def test_what_is_no_order(line: bytes) -> None:
    with pytest.raises(FormatError):
        parse_order(line)


@pytest.mark.parametrize(
    "line",
    [
        b"a warning of Ray\n",
        b'{"workers": []}\n',
        b'{"id": 1, "workers": [{"name": "a"}]}\n',
        b'{"id": 1, "workers": [], "more": 1}\n',
        b'{"id": 1, "workers": [{"name": "a", "state": "well", "place": "", "pid": null, "starts": 0, "exit_status": null, "reason": ""}]}\n',
    ],
)
def test_what_is_no_answer(line: bytes) -> None:
    with pytest.raises(FormatError):
        parse_answer(line)
