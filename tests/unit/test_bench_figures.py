"""The parts of the benchmarks that decide what a run has shown; no process, no socket."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
sys.path.insert(0, str(Path(__file__).parents[2] / "bench" / "peers"))
import mlperf
import models
import onnxruntime
import pages
import queue_redis
import serving
import soak
import table
import zoo_page
import zoo_redis
from soak_judge import Happened

from wardian.broker.infrastructure.acl import COMMANDS
from wardian.serving.loadgen.drive import Ended
from wardian.serving.loadgen.load import OpenLoad
from wardian.serving.loadgen.report import Report, Tally, build_report

BENCH = Path(__file__).parents[2] / "bench"


def ended(at: float, kind: str = "Timeout") -> Ended:
    return Ended(due=at - 1, sent=at - 1, asked=at - 1, at=at, kind=kind)


def kill(name: str, at: float) -> Happened:
    return Happened(name, at, until=at)


def test_a_disturbance_belongs_to_the_fault_before_it() -> None:
    faults = [kill("one", 10.0), kill("two", 20.0), kill("three", 30.0)]
    found = soak.recoveries([ended(9.0), ended(11.0), ended(13.5, ""), ended(31.0)], faults)
    assert [each["disturbed"] for each in found] == [2, 0, 1]
    assert [each["recovery_s"] for each in found] == [3.5, 0.0, 1.0]
    assert found[0]["errors"] == ["Timeout"]
    assert soak.recoveries([], faults)[2]["recovery_s"] == 0.0


def test_a_fault_that_lasts_is_recovered_from_after_its_end() -> None:
    cut = Happened("cut", 10.0, until=20.0)
    (found,) = soak.recoveries([ended(12.0), ended(19.0), ended(21.5), ended(26.0)], [cut])
    assert (found["lasted_s"], found["disturbed"], found["recovery_s"]) == (10.0, 4, 1.5)
    (within,) = soak.recoveries([ended(11.0)], [cut])
    assert within["recovery_s"] == 0.0


def test_what_is_slow_long_after_a_fault_does_not_put_off_its_recovery() -> None:
    noise = [ended(at) for at in (24.0, 11.0, 10.5, 13.9, 25.0)]
    (found,) = soak.recoveries(noise, [kill("it", 10.0)])
    assert (found["disturbed"], found["recovery_s"]) == (5, pytest.approx(3.9))
    (late,) = soak.recoveries([ended(14.0)], [kill("it", 10.0)])
    assert late["recovery_s"] == 0.0


def report(**changes: int) -> Report:
    tally = Tally()
    for name in ("started", "unasked"):
        setattr(tally, name, changes.get(name, 0))
    for _ in range(changes.get("answered", 0)):
        tally.answer(0.01, held_s=0.01, within=True)
    for _ in range(changes.get("wrong", 0)):
        tally.fail("WrongAnswer", held_s=0.01)
    return build_report(tally, OpenLoad(rate=1, seconds=1), seconds=1, stopped=False)


@pytest.mark.parametrize(
    ("changes", "overrun_s", "says"),
    [
        ({"started": 3, "answered": 3}, 0.1, None),
        ({"started": 3, "answered": 2, "wrong": 1}, 0, "1 answers were wrong"),
        ({"started": 3, "answered": 3, "unasked": 1}, 0, "twice"),
        ({"started": 3, "answered": 2}, 0, "1 requests had no outcome"),
        ({"started": 3, "answered": 3}, 0.2, "200 ms past"),
        ({}, 0, "nothing was answered"),
    ],
)
def test_a_run_fails_for_each_thing_that_must_not_be(changes, overrun_s, says) -> None:
    said = soak.failures(report(**changes), overrun_s)
    if says is None:
        assert said == []
    else:
        assert any(says in each for each in said)


def test_a_fault_without_effect_fails_the_run() -> None:
    before = {"worker": 1, "broker": 2}
    assert soak.unhurt({"worker": 2}, before, {"worker": 3, "broker": 2}) == []
    assert "killed 2 times" in soak.unhurt({"worker": 2}, before, {"worker": 2})[0]
    assert "worker" in soak.unhurt({"worker": 1}, before, {})[0]


def test_only_disturbed_outcomes_are_kept() -> None:
    observed = soak.Observed()
    for at in range(1000):
        observed.note(Ended(due=at, sent=at, asked=at, at=at + 0.01, kind=""))
    observed.note(Ended(due=5, sent=5, asked=6, at=6 + soak.DEADLINE_S + 0.3, kind="Timeout"))
    observed.note(Ended(due=5, sent=7, asked=7, at=7.01, kind=""))  # began late
    observed.note(Ended(due=5, sent=5, asked=0, at=11, kind="Timeout"))  # never had by a front end
    assert len(observed.disturbed) == 3
    assert observed.overrun_s == pytest.approx(0.3)


def test_only_who_could_hear_nothing_may_be_late() -> None:
    """A cut between others, or one that was over before the request, excuses nobody."""
    late = Ended(due=10, sent=10, asked=10, at=10 + soak.DEADLINE_S + 1, kind="Timeout")
    for fault, excused in (
        (Happened("frozen front end", 11.0, deaf=True), True),
        (Happened("frozen front end", 5.0, deaf=True, until=10.5), True),
        (Happened("frozen front end", 5.0, deaf=True, until=9.0), False),
        (Happened("frozen front end", 14.0, deaf=True), False),
        (Happened("cut of the queue", 9.0, until=19.0), False),
    ):
        observed = soak.Observed(faults=[fault])
        observed.note(late)
        assert (observed.cut_off, observed.overrun_s) == ((1, 0.0) if excused else (0, 1.0))


def test_medians_say_how_far_apart_the_rounds_lay() -> None:
    rounds = [{"per_second": rate, "p50_ms": 1.0} for rate in (90.0, 100.0, 130.0)]
    assert serving.medians(rounds) == {"per_second": 100.0, "p50_ms": 1.0, "spread": 0.4}
    assert serving.medians([{"per_second": 0.0}])["spread"] == 0.0


@pytest.mark.parametrize("form", ["json", "b64", "raw", "v2", "v2-b64", "binary"])
def test_a_request_is_the_same_image_in_every_form(form: str, tmp_path: Path) -> None:
    path, headers = table.write_body(tmp_path, "mlp", form, name="x")
    assert path.stat().st_size > 64 * 4 - 1
    assert headers[0].startswith("Content-Type: ")
    assert ("Inference-Header-Content-Length" in headers[-1]) == (form == "binary")


def test_every_peer_has_a_script_and_a_request_for_both_models() -> None:
    for peer in table.PEERS:
        assert (BENCH / "peers" / f"{peer.script}_peer.py").is_file()
        assert set(peer.asked) == set(table.SHAPES)
        assert peer.package in {name.partition("[")[0] for name in peer.packages}


def test_the_made_models_run_and_are_of_the_size_they_say(tmp_path: Path) -> None:
    models.mlp(tmp_path / "mlp.onnx")
    models.resnet50(tmp_path / "resnet50.onnx")
    assert 98e6 < (tmp_path / "resnet50.onnx").stat().st_size < 104e6  # 25.6 million weights
    for name, shape in table.SHAPES.items():
        model = onnxruntime.InferenceSession(
            str(tmp_path / f"{name}.onnx"), providers=["CPUExecutionProvider"]
        )
        x = np.random.default_rng(1).random(shape, dtype="f4")
        (y,) = model.run(["y"], {"x": x})
        assert np.isfinite(y).all()
        assert y.sum() == pytest.approx(1.0, abs=1e-4)
        assert y.max() < 0.99  # it depends on the weights: nothing is saturated


SUMMARY = """\
================================================
Completed samples per second    : 402.51
Result is : INVALID
50.00 percentile latency (ns)   : 2500000
99.00 percentile latency (ns)   : 12000000
"""


def test_the_generators_own_summary_is_read() -> None:
    assert mlperf.figures(SUMMARY) == {
        "valid": False, "completed": 402.51, "p50_ms": 2.5, "p99_ms": 12.0,
    }  # fmt: skip
    with pytest.raises(KeyError):
        mlperf.figures("nothing")


def test_what_numpy_makes_of_the_records_of_cluster_serving_is_what_the_model_says(
    tmp_path: Path,
) -> None:
    records, expected = zoo_redis.write_example(tmp_path / "example", 6379)
    model = onnxruntime.InferenceSession(
        str(tmp_path / "example" / "mlp.onnx"), providers=["CPUExecutionProvider"]
    )
    (said,) = model.run(["y"], {"x": records})
    assert records.shape == (zoo_redis.DISTINCT, 16)
    assert np.allclose(said, expected, rtol=1e-4, atol=1e-6)
    assert np.ptp(expected, axis=0).max() > 0.01  # a record's answer is its own


def test_the_redis_of_the_benchmark_knows_every_role(tmp_path: Path) -> None:
    """It broke once, and nothing said so: the broker had one role more."""
    conf = queue_redis.write_redis(tmp_path)
    assert "tls-port" in conf.read_text()
    users = (tmp_path / "users.acl").read_text()
    assert all(f"user {role} on" in users for role in COMMANDS)


def test_the_section_of_cluster_serving_names_every_figure() -> None:
    loop = {"p50_ms": 1.234, "p95_ms": 2.345, "p99_ms": 3.456}
    drain = {"per_second": 15432.1, "best": 16543.2, "spread": 0.07, "zoo_us": 61.0,
             "worker_us": 22.0, "redis_us": 13.0}  # fmt: skip
    result = {
        "client": {"bigdl-serving": "2.4.0"}, "rounds": 5, "records": 20_000, "drain": drain,
        "loops": {
            "predict": loop,
            "busy": loop | {"p50_ms": 0.777},
            "alone": loop | {"p50_ms": 0.555},
        },
        "memory_mb": {"zoo": 40.0, "worker": 61.0, "mesh": 222.0, "redis": 9.0},
    }  # fmt: skip
    text = zoo_page.zoo_section(result, "Here.")
    for said in ("15,432", "16,543", "1.23 / 2.35 / 3.46", "0.78 / ", "0.56 / ", "| 101 |", "222", "7 %",
                 "| 61 |", "| 22 |", "| 13 |", "2.4.0", "Here."):  # fmt: skip
        assert said in text


def test_the_page_is_what_the_results_say(monkeypatch, tmp_path: Path) -> None:
    """Nobody edits the page by hand: it is rendered from the newest lines again."""
    monkeypatch.setattr(pages, "PAGE", tmp_path / "page.md")
    page = Path(__file__).parents[2] / "docs" / "reference" / "benchmarks.md"
    assert pages.write_page() == page.read_text()
