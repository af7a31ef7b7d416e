"""`job.toml`: what is no plan, and what its digest covers."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from toy_jobs import SEALED_TO, TABLES, TRAINED, WORKER, job, job_table, parties, toml

from wardian.broker.jobs import parties as parties_module
from wardian.broker.jobs.plan import (
    MAX_PLAN_BYTES,
    JobPlan,
    encode_plan,
    load_plan,
    parse_plan,
    plan_digest,
)
from wardian.broker.jobs.trainers import TRAINERS
from wardian.errors import ConfigError, FormatError

A, B = "hospital-a", "hospital-b"


def inputs(
    *, of_a: dict[str, Any] | None = None, of_b: dict[str, Any] | None = None
) -> dict[str, Any]:
    found = job_table()["inputs"]
    for each, changes in zip(found, (of_a, of_b), strict=True):
        each.update(changes or {})
    return {
        "inputs": [
            {key: value for key, value in each.items() if value is not None} for each in found
        ]
    }


def parameters(**given: Any) -> dict[str, Any]:
    return {"train": {"algorithm": TRAINED, "parameters": given}}


THIRD = parties("hospital-c")["hospital-c"]
KEYLESS = {**parties(A), B: {"key": parties(B)[B]["key"]}}


CALLED = {"columns": ["age", f"{B}.{TABLES[B]}.age"]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"code": "import os"}, "unknown field `code`"),
        ({"train": {"algorithm": TRAINED, "script": "train.py"}}, "unknown field `script`"),
        ({"train": {"algorithm": "train.py"}}, "`algorithm` is none of"),
        (parameters(l3=1), "no parameter `l3`"),
        (parameters(l2="1"), "`l2` is expected to be `float`"),
        (parameters(l2=True), "`l2` is expected to be `float`"),
        (parameters(l2=float("nan")), "`l2` is expected to be `float`"),
        (parameters(l2=float("inf")), "`l2` is expected to be `float`"),
        (parameters(max_iterations=1.0), "`max_iterations` is expected to be `int`"),
        (parameters(max_iterations=2**60), "`max_iterations` is expected to be `int`"),
        ({"parties": {**parties(A), B: parties(A)[A]}}, "gives two names one key"),
        ({"parties": parties(A)}, "`inputs` names hospital-b"),
        ({"parties": {**parties(A, B), "serving": THIRD}}, 'no party is called "serving"'),
        ({"parties": KEYLESS}, "hospital-b, which has no `seal_to`"),
        ({"inputs": []}, "length >= 1"),
        ({"inputs": [*job_table()["inputs"], job_table()["inputs"][1]]}, "one table twice"),
        (inputs(of_a={"columns": ["*"]}), "names every column"),
        (inputs(of_a={"columns": ["age", "patient"]}), "share a column"),
        (inputs(of_a={"label": "patient"}), "share a column"),
        (inputs(of_a={"identifier": None}), "`identifier` goes with"),
        (inputs(of_a=CALLED, of_b={"columns": ["age"]}), "called like another one"),
        (inputs(of_a={"label": None}), "`label` goes with learning"),
        (inputs(of_b={"label": "other"}), "`label` goes with learning"),
        ({"join": None}, r"\[join\] goes with two inputs"),
        ({"join": {"kind": "outer"}}, "Invalid enum value"),
        ({"join": {"kind": "stack"}}, "`identifier` goes with"),
        ({"outputs": {}}, "gives nothing to anybody"),
        ({"outputs": {"model": ["elsewhere"]}}, "names elsewhere"),
        ({"outputs": {"serving": ["w"]}}, "matching regex"),
        ({"train": {"algorithm": "random-forest"}}, "adds no noise"),
        ({"seed": 7}, "the seed is"),
        ({"privacy": {"epsilon": 0.5, "delta": 1.0}}, "< 1.0"),
        ({"privacy": {"epsilon": float("nan")}}, "> 0.0"),
        ({"privacy": {"epsilon": 0.5}}, "a delta above 0"),
        ({"purpose": "Anything at all"}, "matching regex"),
    ],
)
def test_what_is_no_plan(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        job(**changes)


def test_statistics_learn_nothing() -> None:
    counted = {"train": {"algorithm": "statistics"}, "outputs": {"aggregates": [A]}}
    assert job(**counted, **inputs(of_a={"label": None})).train.parameters == {
        "by": "",
        "largest": 1.0,
    }
    with pytest.raises(ConfigError, match="`label` goes with learning"):
        job(**counted)
    with pytest.raises(ConfigError, match="makes no model"):
        job(train={"algorithm": "statistics"}, **inputs(of_a={"label": None}))


@pytest.mark.parametrize("others", [{}, {"model": [A]}])
def test_who_learns_counts_nothing_so_that_no_use_is_spent_on_it(others: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="makes a model: no `aggregates`"):
        job(outputs={"aggregates": [A], **others})


def test_groups_are_of_one_column_of_the_plan_and_without_noise() -> None:
    def grouped(by: str, **changes: Any) -> JobPlan:
        train = {"algorithm": "statistics", "parameters": {"by": by}}
        counted = {"train": train, "outputs": {"aggregates": [A]}, "privacy": None}
        return job(**{**counted, **inputs(of_a={"label": None}), **changes})

    assert grouped("bmi").train.parameters["by"] == "bmi"
    for by in ("patient", "ward"):
        with pytest.raises(ConfigError, match="`by` is one of the columns"):
            grouped(by)
    with pytest.raises(ConfigError, match="`by` goes without"):
        grouped("bmi", privacy={"epsilon": 0.5, "delta": 1e-7})


def test_tables_one_below_the_other() -> None:
    same = {"columns": ["age"], "label": "readmitted", "identifier": None}
    stacked = job(join={"kind": "stack"}, **inputs(of_a=same, of_b=same))
    assert len(stacked.places) == 2
    with pytest.raises(ConfigError, match="same columns and label"):
        job(join={"kind": "stack"}, **inputs(of_a=same, of_b={**same, "columns": ["bmi"]}))


def test_the_canonical_form_says_every_parameter() -> None:
    assert plan_digest(job(**parameters())) == plan_digest(
        job(**parameters(**TRAINERS[TRAINED].parameters))
    )
    assert plan_digest(job(**parameters(l2=1))) == plan_digest(job(**parameters(l2=1.0)))
    assert b'"max_iterations":100' in encode_plan(job())
    assert parse_plan(encode_plan(job())) == job()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another"},
        {"mesh": "another"},
        {"purpose": "another"},
        {"parties": {**parties(), A: {**parties(A)[A], "seal_to": "09" * 32}}},
        inputs(of_b={"columns": ["cost", "days"]}),
        inputs(of_b={"table": "other"}),
        parameters(l2=0.6),
        {"outputs": {"model": [A], "metrics": [B], "serving": [WORKER]}},
        {"privacy": {"epsilon": 0.5, "delta": 2e-7}},
        {"privacy": None},
        {"privacy": None, "seed": 7},
    ],
)
def test_t8_whatever_is_swapped_in_a_plan_is_another_digest(changes: dict[str, Any]) -> None:
    assert plan_digest(job(**changes)) != plan_digest(job())


def test_the_order_of_keys_and_names_is_no_matter() -> None:
    turned = dict(reversed(job_table().items()))
    turned["parties"] = dict(reversed(turned["parties"].items()))
    assert plan_digest(load_plan(toml(turned))) == plan_digest(job())


def test_what_stands_twice_in_a_plan_is_refused_before_any_of_it_is_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stranger repeats a party, or all of them, as often as a first message has room for."""
    judged: list[bytes] = []
    good = encode_plan(job())
    monkeypatch.setattr(parties_module, "refuse_unusable", judged.append)
    parse_plan(good)
    assert len(judged) == 3
    parties, rest = good.split(b'"parties":{')[1].split(b'},"privacy"')
    assert good.endswith(rest)
    for raw in (
        good.replace(b'"parties":{', b'"parties":{' + (parties + b",") * 80),
        good.replace(b'"parties":{', b'"parties":{' + parties + b'},"parties":{'),
        good.replace(b'"train":', b'"train":{"algorithm":"statistics"},"train":'),
        b"[" * 20_000,
    ):
        with pytest.raises(FormatError):
            parse_plan(raw)
    assert len(judged) == 3


def test_only_the_canonical_form_is_read() -> None:
    raw = encode_plan(job())
    for wrong in (
        raw + b" ",
        raw.replace(b'"l2":0.5', b'"l2":0.50'),
        raw.replace(b'"max_iterations":100', b'"max_iterations":1e2'),
        raw.replace(b',"max_iterations":100', b""),
        raw.replace(SEALED_TO[A].encode(), SEALED_TO[A].upper().encode()),
        b"[]",
        b" " * (MAX_PLAN_BYTES + 1),
    ):
        assert wrong != raw
        with pytest.raises(FormatError):
            parse_plan(wrong)
