"""`wardian fl`: a plan tried in one process, and the page about a run."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from click.testing import CliRunner

from wardian.cli.learning.history import encode_line, read_history
from wardian.cli.learning.pictures import draw
from wardian.cli.learning.report import all_series, page
from wardian.cli.learning.telling import told
from wardian.cli.main import cli
from wardian.errors import ConfigError, FormatError
from wardian.learning.messages import RoundLine

APP = """\
import numpy as np
from wardian.learning.app import ClientApp
from wardian.learning.arrays import ArrayRecord
from wardian.learning.message import Message
from wardian.learning.records import MetricRecord, RecordDict

app = ClientApp()


@app.query()
def first(message, context):
    return Message(RecordDict({"arrays": ArrayRecord({"w": np.zeros(3)})}), reply_to=message)


@app.train()
def train(message, context):
    w = message.content["arrays"]["w"] + context.run_config["step"]
    metrics = MetricRecord({"num-examples": 1 + context.node_config["partition-id"], "loss": 0.5})
    return Message(RecordDict({"arrays": ArrayRecord({"w": w}), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message, context):
    return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1, "error": 0.25})}),
                   reply_to=message)
"""
PLAN = f"""\
name = "three"
run = {{ rounds = 4, quorum = 1 }}
strategy = {{ name = "fedavg" }}
app = {{ step = 2.0 }}
parties = {{ a = {{ key = "{"ab" * 32}" }} }}
"""


def line(number: int, **changes: object) -> RoundLine:
    fields = {"round": number, "cohort": ("a", "b"), "dropped": {}, "bytes": 10, "seconds": 0.5}
    return RoundLine(**{**fields, "metrics": {"loss": 1 / number}, **changes})


def run(*arguments: object) -> object:
    return CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=True)


def test_a_plan_is_tried_and_shown(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "plan.toml").write_text(PLAN)
    tried = run(
        *("fl", "simulate", "--app", tmp_path / "app.py", "--consortium", tmp_path / "plan.toml"),
        *("--parties", 5, "-o", tmp_path / "out"),
    )
    assert tried.exit_code == 0, tried.output
    assert "4 rounds of 5 parties" in tried.output
    assert "round 4: 5 parties, loss 0.5, 120 bytes" in tried.output
    assert np.load(tmp_path / "out" / "model.npz")["w"].tolist() == [8.0, 8.0, 8.0]
    lines = read_history(tmp_path / "out" / "history.jsonl")
    assert [each.round for each in lines] == [1, 2, 3, 4]
    assert lines[0].cohort == tuple(f"party-{number}" for number in range(5))
    assert lines[0].evaluation["error"] == 0.25
    shown = run("fl", "report", tmp_path / "out")
    assert shown.exit_code == 0, shown.output
    text = (tmp_path / "out" / "report.html").read_text()
    assert "evaluation: error" in text
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", text)  # it asks nothing of a network
    assert "<script" not in text


def private(number: int, **changes: float) -> RoundLine:
    spent = {"epsilon": 0.5 * number, "delta": 1e-5, "clip": 1.0, "noise": 3.0, "budget": 8.0}
    return line(number, metrics={**spent, **changes})


def test_a_line_says_what_people_look_for_first() -> None:
    measured = {"num-examples": 7, "train_loss": 0.25, "each": [1.0]}
    evaluation = {"accuracy": 0.75, "loss": 0.5}
    dropped = {"c": "no time"}
    found = told(
        line(3, metrics=measured, evaluation=evaluation, dropped=dropped, bytes=12345), rounds=50
    )
    assert found == [
        "round 3 of 50: 2 parties, loss 0.5, train_loss 0.25, accuracy 0.75, 12,345 bytes, 0.50 s  num-examples 7",
        "  c does not count: no time",
    ]


def test_a_private_round_says_what_was_spent_of_what() -> None:
    (found,) = told(private(3))
    assert found == (
        "round 3: 2 parties, 10 bytes, 0.50 s, epsilon 1.5 of 8 at delta 1e-05  clip 1  noise 3"
    )
    (found,) = told(line(1, metrics={"epsilon": 2.0}))
    assert found.endswith("epsilon 2")


def test_what_privacy_was_spent_is_a_picture_of_its_own() -> None:
    text = page([private(1), private(2), private(4)], title="private")
    assert "After round 4: 2 parties, privacy spent: epsilon 2 of 8 at delta 1e-05." in text
    (picture,) = re.findall(r"<svg.*?</svg>", text[: text.index("epsilon spent") + 3000])[:1]
    assert "epsilon spent at delta 1e-05" in picture
    drawn = ET.fromstring(picture)
    (limit,) = [each for each in drawn.iter("line") if each.attrib["class"] == "limit"]
    (points,) = [each.attrib["points"] for each in drawn.iter("polyline")]
    heights = [float(each.split(",")[1]) for each in points.split()]
    assert heights == sorted(heights, reverse=True)  # it grows: up the page, from 0
    top, bottom = float(limit.attrib["y1"]), 168
    shares = [(bottom - each) / (bottom - top) for each in heights]
    assert shares == pytest.approx([0.5 / 8, 1 / 8, 2 / 8], abs=0.01)
    assert "<th>epsilon</th>" in text
    assert "delta by round" not in text
    assert "budget by round" not in text
    assert "clip by round" in text


def test_a_page_has_the_columns_that_there_are() -> None:
    text = page([line(1), line(2, evaluation={"accuracy": 0.5})], title="t")
    heads = re.findall(r"<th>(.*?)</th>", text)
    assert heads == [
        "round", "parties", "loss", "accuracy", "bytes", "seconds", "who did not count, and why",
    ]  # fmt: skip
    assert "epsilon" not in text
    assert "<td>2</td><td>2</td><td>0.5</td><td>0.5</td>" in text


def test_a_plan_for_scaffold_says_nowhere_how_many_there_are(tmp_path: Path) -> None:
    app = APP.replace(
        '{"arrays": ArrayRecord({"w": w}),',
        '{"arrays": ArrayRecord({"w": w}), "control": ArrayRecord({"w": 0 * w}),',
    )
    (tmp_path / "app.py").write_text(app)
    plan = tmp_path / "plan.toml"
    for strategy in ('"scaffold"', '"scaffold", parties = 1'):
        plan.write_text(PLAN.replace('"fedavg"', strategy))
        tried = run(
            *("fl", "simulate", "--app", tmp_path / "app.py", "--consortium", plan),
            *("--parties", 5, "-o", tmp_path / "out"),
        )
        assert tried.exit_code == 0, tried.output
        assert "4 rounds of 5 parties" in tried.output
    plan.write_text(PLAN.replace('"fedavg"', '"scaffold", parties = 2'))
    refused = run(
        *("fl", "simulate", "--app", tmp_path / "app.py", "--consortium", plan),
        *("-o", tmp_path / "out"),
    )
    assert refused.exit_code != 0
    assert "`strategy.parties` is not the number of `parties`" in str(refused.exception)


def test_a_reason_that_a_party_gave_is_text() -> None:
    text = page([line(1, dropped={"c": "<script>alert(1)</script>"})], title="<b>")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "<h1>&lt;b&gt;</h1>" in text


def test_what_is_drawn_is_what_was_measured() -> None:
    series = all_series([line(1), line(2, evaluation={"accuracy": 0.5}), line(3)])
    assert series["loss"] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert series["evaluation: accuracy"] == [(2, 0.5)]
    assert series["parties"] == [(1, 2.0), (2, 2.0), (3, 2.0)]
    picture = ET.fromstring(draw("loss", series["loss"]))
    (drawn,) = picture.iter("polyline")
    places = [tuple(map(float, each.split(","))) for each in drawn.attrib["points"].split()]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [y for _, y in places] == sorted(y for _, y in places)  # falling: down the page


@pytest.mark.parametrize("values", [[float("nan")], [float("inf"), float("-inf")], []])
def test_what_is_no_number_is_not_drawn(values: list[float]) -> None:
    assert draw("loss", list(enumerate(values, 1))) == ""


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0, 2.0], [0.0, 0.0], [float("nan"), 1.0]])
def test_a_line_without_height_is_drawn_all_the_same(values: list[float]) -> None:
    ET.fromstring(draw("loss", list(enumerate(values, 1))))


def test_the_last_word_on_a_round_counts(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    said = [line(2), line(1), line(2, bytes=99)]
    path.write_bytes(b"".join(map(encode_line, said)))
    assert [(each.round, each.bytes) for each in read_history(path)] == [(1, 10), (2, 99)]


def test_a_history_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run was taken part in here"):
        read_history(tmp_path / "history.jsonl")
    path = tmp_path / "history.jsonl"
    path.write_text("")
    with pytest.raises(ConfigError, match="no round is done"):
        read_history(path)
    path.write_text('{"round": "one"}\n')
    with pytest.raises(FormatError, match="a round"):
        read_history(path)


def test_a_loss_that_is_no_number_leaves_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    measured = {"loss": float("nan"), "each": [1.0, float("inf")], "accuracy": 0.5}
    path.write_bytes(encode_line(line(1, metrics=measured, evaluation={"loss": float("inf")})))
    (found,) = read_history(path)
    assert (found.metrics, found.evaluation) == ({"accuracy": 0.5}, {})
