"""Who is given what, the digest that is approved, and the report."""

import dataclasses
import html
import io
import json

import pytest
from shared_world import (
    IDENTITIES,
    JOB_ID,
    MEASUREMENT,
    A,
    B,
    Owner,
    agreed,
    csv_text,
    plan_of,
    run,
)
from toy_jobs import KEYS, SEALED_TO, WORKER, parties

from wardian.broker.jobs.plan import plan_digest
from wardian.broker.jobs.trainers import TRAINERS
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import open_bytes, read_header
from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError, PolicyDenied
from wardian.learning.shared.outputs import seal_outputs
from wardian.learning.shared.report import as_html, as_json
from wardian.learning.shared.running import run_job
from wardian.learning.shared.trainers.table import FUNCTIONS

RESULTS = {"model": b"a model", "metrics": b"{}", "aggregates": b"never given out"}


@pytest.fixture
def owners(tmp_path) -> list[Owner]:
    ids = [f"CANARY{at:03d}" for at in range(100)]
    a = {"id": ids, "age": range(100), "y": [at % 2 for at in range(100)]}
    b = {"id": ids[::-1], "cost": range(100)}
    return [Owner(A, tmp_path, csv_text(a)), Owner(B, tmp_path, csv_text(b))]


def plan_for(owners, **changes):
    return plan_of(owners, [["age"], ["cost"]], "logistic-regression", **changes)


def test_every_trainer_has_its_code_and_no_other_has() -> None:
    assert FUNCTIONS.keys() == TRAINERS.keys()


def test_each_recipient_has_a_file_of_its_own(owners) -> None:
    plan = plan_for(owners)
    held = seal_outputs(plan, agreed(plan, owners)[1], RESULTS)
    files = held.release(())
    assert sorted(files) == [
        f"metrics.{A}.sealed", f"metrics.{B}.sealed", f"model.{A}.sealed",
    ]  # fmt: skip
    for raw in files.values():
        assert len(read_header(io.BytesIO(raw)).fields.stanzas) == 1
        assert not any(content in raw for content in RESULTS.values())


def test_who_is_not_in_the_terms_is_given_nothing(owners) -> None:
    plan = plan_for(owners)
    terms = agreed(plan, owners)[1]
    for output, rule in (("model", "output-model"), ("metrics", "output-metrics")):
        with pytest.raises(PolicyDenied) as refused:
            seal_outputs(plan, dataclasses.replace(terms, **{output: frozenset()}), RESULTS)
        assert refused.value.rule == rule
    keys = {**parties(), A: {**parties()[A], "seal_to": SEALED_TO[B]}}
    swapped = plan_for(owners, parties={name: keys[name] for name in (A, "hospital-c")} | {
        B: {**parties()[B], "seal_to": SEALED_TO[A]}
    })  # fmt: skip
    with pytest.raises(PolicyDenied) as refused:  # another key under a known name
        seal_outputs(swapped, terms, RESULTS)
    assert refused.value.rule == "output-model"
    with pytest.raises(LocalProtocolError):
        seal_outputs(plan, terms, {"metrics": b""})


def test_a_served_model_is_sealed_to_the_brokers_key(owners) -> None:
    plan = plan_for(owners, outputs={"serving": [WORKER]})
    terms = dataclasses.replace(agreed(plan_for(owners), owners)[1], serving=frozenset((WORKER,)))
    key = Secret.random()
    held = seal_outputs(plan, terms, RESULTS, serving=key)
    ((entry, raw),) = zip(held.outputs, held.release(()).values(), strict=True)
    assert (entry.file_name, entry.to) == ("model.serving.sealed", "serving")
    found = open_bytes(
        io.BytesIO(raw), identities=[BrokerKey(key)], pin=entry.pin,
        media_type="application/onnx", name="study-1.model", version=1, max_bytes=100,
    )  # fmt: skip
    assert bytes(found) == b"a model"
    with pytest.raises(LocalProtocolError):
        seal_outputs(plan, terms, RESULTS)
    with pytest.raises(PolicyDenied) as refused:
        seal_outputs(plan, dataclasses.replace(terms, serving=frozenset()), RESULTS, serving=key)
    assert refused.value.rule == "output-serving"


def test_what_is_approved_is_these_files_of_this_plan(owners) -> None:
    plan, other = plan_for(owners), plan_for(owners, purpose="another")
    terms = agreed(plan, owners)[1]
    held = seal_outputs(plan, terms, RESULTS)
    digests = {held.digest, seal_outputs(plan, terms, RESULTS).digest}
    digests.add(seal_outputs(other, terms, RESULTS).digest)
    assert len(digests) == 3
    assert all(len(each) == 32 for each in digests)


def test_the_report_says_what_was_used_under_whose_rule_and_who_has_what(owners) -> None:
    plan = plan_for(owners)
    finished = run(plan, owners, approvals={"needed": 1, "of": [A]})
    told = json.loads(as_json(finished.report))
    assert told["plan_digest"] == plan_digest(plan).hex()
    assert told["measurement"] == MEASUREMENT
    assert (told["rows"], told["rows_at_least"]) == (None, 10)
    assert told["tables"][1] == {
        "owner": B, "owner_key": KEYS[B].public.hex(), "table": owners[1].table,
        "columns": ["cost"], "identifier": "id", "label": None,
        "policy_serial": 7, "rule": "study", "pin": str(owners[1].pin),
    }  # fmt: skip
    assert [(each["output"], each["to"]) for each in told["outputs"]] == [
        ("model", A), ("metrics", A), ("metrics", B),
    ]  # fmt: skip
    assert told["terms"]["approvals"] == [{"needed": 1, "of": [KEYS[A].public.hex()]}]
    assert told["export_digest"] == finished.held.digest.hex()
    everything = as_json(finished.report) + as_html(finished.report)
    for value in ("CANARY", "accuracy", owners[0].key.reveal().hex()):
        assert value.encode() not in everything


def test_a_name_in_the_report_is_no_html(tmp_path) -> None:
    evil = "<script>alert(1)</script>"
    owner = Owner(A, tmp_path, csv_text({evil: range(100), "y": [0, 1] * 50}))
    plan = plan_of([owner], [[evil]], "logistic-regression")
    page = as_html(run(plan, [owner]).report).decode()
    assert evil not in page
    assert html.escape(evil) in page
    assert "default-src 'none'" in page


def test_a_page_says_that_nobody_verified_it_or_what_was_verified(owners) -> None:
    report = run(plan_for(owners), owners).report
    own = as_html(report).decode()
    assert own.index("Nobody has verified this page yet") < own.index("<table>")
    assert "wardian job report" in own
    page = as_html(report, verified={"platform": "SIMULATED", "by": "<b>"}).decode()
    assert "<tr><th>platform</th><td>SIMULATED</td></tr>" in page.partition("</table>")[0]
    assert "Nobody has verified" not in page
    assert "<b>" not in page


def test_rows_that_are_not_told_are_not_none(owners) -> None:
    report = run(plan_for(owners), owners).report
    for rows, least, shown in (
        (None, 64, "64 or more"),
        (100, 100, "100"),
        (None, None, "not told"),
    ):
        page = as_html({**report, "rows": rows, "rows_at_least": least}).decode()
        assert f"<tr><th>rows</th><td>{shown}</td></tr>" in page
    del report["rows_at_least"]  # an older release made it
    assert "<tr><th>rows</th><td>100</td></tr>" in as_html({**report, "rows": 100}).decode()


@pytest.mark.parametrize("rows", [31, 32, 33])
def test_who_is_given_no_result_is_not_told_whether_one_more_is_there(tmp_path, rows) -> None:
    """The report goes to everybody. Of stacked tables it says how many rows there are."""
    ids = [f"p{at}" for at in range(rows)]
    mine = {"id": ids, "x": range(rows), "y": range(rows)}
    owners = [
        Owner(A, tmp_path, csv_text(mine)),
        Owner(B, tmp_path, csv_text({"id": ids, "z": range(rows)})),
    ]
    told = run(plan_of(owners, [["x"], ["z"]], "linear-regression"), owners).report
    assert (told["rows"], told["rows_at_least"]) == (None, 10)
    told = run(plan_of(owners[:1], [["x"]], "linear-regression"), owners[:1]).report
    assert told["rows"] == told["rows_at_least"] == rows


def test_a_refused_job_leaves_nothing_on_the_disk(owners, tmp_path) -> None:
    plan = plan_for(owners)
    keys, terms = agreed(plan, owners, smallest_join=101)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PolicyDenied):
        run_job(
            plan, keys, terms, [each.sealed() for each in owners],
            job_id=JOB_ID, seed=Secret.random(), measurement=MEASUREMENT,
        )  # fmt: skip
    run(plan, owners)
    assert sorted(tmp_path.rglob("*")) == before
    assert IDENTITIES.keys() >= {A, B}
