"""What the aggregator's host sees of a run in the clear: nothing that a party measured or made."""

import asyncio
import base64
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from canaries import surroundings
from canary_party import GATE
from consortium_process import Consortium
from learning_canaries import (
    APP,
    EXAMPLES,
    LOSS,
    SECRET,
    TROUBLE,
    Canary,
    leaks,
    private,
)
from mesh import children_of
from simulators.consortium import Consort, Mean, counting_app
from simulators.relay import RelayThread
from simulators.watched_directory import WatchedDirectory

from wardian.errors import JobFailed
from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.content import frames, specs_of
from wardian.learning.message import Message
from wardian.learning.messages import Answer, encode
from wardian.learning.records import MetricRecord, RecordDict
from wardian.learning.replies import Replies

PARTIES = ("a", "b")
ROUNDS = 3


@dataclass(frozen=True)
class Seen:
    """What the host saw, and what it must not have."""

    canaries: dict[str, Canary]
    wire: RelayThread
    files: WatchedDirectory
    told: bytes
    memory: bytes
    """Of party a, on its own disk."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A run through a relay, whose aggregator is killed in between and started again."""
    place = tmp_path_factory.mktemp("seen")
    (place / "state").mkdir(mode=0o700)
    with WatchedDirectory(place / "state", place / "vault") as files:
        run = Consortium(place, *PARTIES, rounds=ROUNDS, app=APP, operator='log_level = "debug"')
        relay = RelayThread(run.port)
        try:
            run.way = relay.port
            for name in PARTIES:
                (place / f"kept-{name}").mkdir()
                run.party(name, secret=SECRET + name, keep=place / f"kept-{name}")
            run.announced("round.done", round=1)
            around = surroundings(
                [run.aggregator.process.pid, *all_below(run.aggregator.process.pid)]
            )
            run.aggregator.kill()
            run.aggregator.start()
            (place / GATE).touch()
            models = run.models()
            around += run.aggregator.log.read_bytes()
        finally:
            run.end()
            relay.stop()
    return Seen(
        canaries=canaries_of(place, models[0]),
        wire=relay,
        files=files,
        told=around,
        memory=(place / "party-a" / "party.state").read_bytes(),
    )


def all_below(pid: int) -> list[int]:
    return [each for child in children_of(pid) for each in (child, *all_below(child))]


def canaries_of(place: Path, model: dict[str, np.ndarray]) -> dict[str, Canary]:
    found: dict[str, Canary] = {"trouble": TROUBLE, "secret": SECRET}
    for array, values in model.items():
        found[f"model/{array}"] = values
    for party in PARTIES:
        found[f"examples/{party}"], found[f"loss/{party}"] = EXAMPLES[party], LOSS[party]
        for number in range(1, ROUNDS + 1):
            for array, values in private(party, number).items():
                found[f"update/{party}/{number}/{array}"] = values
            for array, values in np.load(place / f"kept-{party}" / f"{number}.npz").items():
                found[f"model/{party}/{number}/{array}"] = values
    for line in (place / "party-a" / "history.jsonl").read_text().splitlines():
        told = json.loads(line)
        for what in ("metrics", "evaluation"):
            for name, value in told[what].items():
                found[f"mean/{told['round']}/{what}/{name}"] = value
    return found


def test_nothing_on_the_wire(seen: Seen) -> None:
    assert leaks(seen.wire.relay.seen, seen.canaries) == set()


def test_nothing_in_any_file_that_ever_was_in_the_state(seen: Seen) -> None:
    assert leaks(seen.files.contents(), seen.canaries) == set()


def test_nothing_in_logs_arguments_or_environment(seen: Seen) -> None:
    assert leaks(seen.told, seen.canaries) == set()


def test_all_of_it_was_looked_at(seen: Seen) -> None:
    """The relay carried both parties, the vault has each round's files, and the log is there."""
    wires = seen.wire.relay.wires
    assert len(wires) >= 2 * len(PARTIES)  # before the kill and after it
    updates = sum(array.nbytes for array in private("a", 1).values())
    for way in ("up", "down"):
        carried = sum(len(record) for wire in wires for record in wire.records[way])
        assert carried > updates * ROUNDS * len(PARTIES)
    names = seen.files.names
    contents = {name for name in names if name.startswith("aggregator/content-")}
    assert len(contents) >= 1 + ROUNDS  # and perhaps one on which the aggregator was at work
    assert sum("run.sealed" in name for name in names) >= 1 + ROUNDS
    assert b"PATH=" in seen.told
    assert b"aggregator" in seen.told
    assert b'"round.done"' in seen.told
    assert {"model/w", "mean/3/metrics/loss-canary", "update/b/3/b"} < set(seen.canaries)


def test_a_party_s_own_disk_is_in_the_clear_and_the_search_finds_it(seen: Seen) -> None:
    found = leaks(seen.memory, seen.canaries)
    assert {"model/w", "update/a/3/w"} & found == set()  # its last answer is an evaluation
    assert {"examples/a", "loss/a"} <= found


def test_a_message_in_the_clear_is_found() -> None:
    arrays = private("a", 1)
    content = RecordDict(
        {
            "arrays": ArrayRecord(arrays),
            "metrics": MetricRecord({"num-examples": EXAMPLES["a"], "loss": LOSS["a"]}),
        }
    )
    answer = encode(Answer(number=6, records=specs_of(content)))
    raw = b"".join(frame for group in frames(answer, content) for frame in group)
    wanted: dict[str, Canary] = {
        **arrays, "examples": EXAMPLES["a"], "loss": LOSS["a"], "trouble": TROUBLE
    }  # fmt: skip
    assert leaks(raw, wanted) == set(wanted) - {"trouble"}
    assert leaks(encode(Answer(number=6, error=TROUBLE)), wanted) == {"trouble"}


@pytest.mark.parametrize("lead", [b"", b"x", b"xy"])
@pytest.mark.parametrize("name", ["w", "b", "examples", "loss", "trouble"])
def test_whatever_the_form_it_is_found(name: str, lead: bytes) -> None:
    wanted: dict[str, Canary] = {
        **private("b", 2), "examples": EXAMPLES["b"], "loss": LOSS["b"], "trouble": TROUBLE
    }  # fmt: skip
    canary = wanted[name]
    if isinstance(canary, np.ndarray):
        part = canary.reshape(-1)[8:20]
        raw, text = part.astype(part.dtype.newbyteorder(">")).tobytes(), json.dumps(part.tolist())
    elif isinstance(canary, str):
        raw = text = canary
    else:
        raw, text = np.array([canary]).tobytes(), json.dumps(canary)
    raw = raw.encode() if isinstance(raw, str) else raw
    for seen in (raw, raw.hex().encode(), base64.b64encode(lead + raw + b"zz"), text.encode()):
        assert leaks(b"before" + seen + b"after", wanted) == {name}


def test_why_a_party_gives_no_model_is_not_for_the_host(tmp_path: Path) -> None:
    """A party's app says what it likes in an error: it goes to the parties alone."""
    run = Consortium(tmp_path, *PARTIES, app=APP)
    try:
        for name in PARTIES:
            run.party(name, trouble=1)
        for party in run.parties.values():
            assert party.process.wait(60) == 1
        assert run.aggregator.process.wait(60) == 1
        assert TROUBLE not in run.aggregator.text
        assert "gave no first model" in run.aggregator.text
        assert all(TROUBLE in party.text for party in run.parties.values())
    finally:
        run.end()


async def test_answers_that_lie_on_the_disk_are_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardian.learning.coordinator.run.IN_MEMORY_BYTES", 1024)
    run, large = Consort(tmp_path, *PARTIES, rounds=1, evaluate_every=0), ClientApp()
    updates = {
        name: np.random.default_rng(number).normal(size=(300, 1000)).astype(np.float32)
        for number, name in enumerate(PARTIES)
    }
    large.query()(counting_app((300, 1000)))

    @large.train()
    def train(message: Message, context: Context) -> Message:
        arrays = {"w": updates[context.party], "b": np.ones(3)}
        records = {"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 1})}
        return Message(RecordDict(records), reply_to=message)

    (tmp_path / "answers").mkdir()
    with WatchedDirectory(tmp_path / "answers", tmp_path / "vault") as files:
        await run.whole(lambda: large)
    canaries: dict[str, Canary] = {
        f"{name}/{at}": update.reshape(-1)[at : at + 64]
        for name, update in updates.items()
        for at in (0, 262_112, 299_936)  # the first, those where a chunk ends, the last
    }
    assert len(files.names) == len(PARTIES)
    assert len(files.contents()) > sum(update.nbytes for update in updates.values())
    assert leaks(files.contents(), canaries) == set()
    own = (tmp_path / "party-a" / "party.state").read_bytes()
    assert leaks(own, canaries) == {name for name in canaries if name.startswith("a/")}


class Vain(Mean):
    """Makes no model, and says of whom."""

    def aggregate_train(
        self, number: int, arrays: ArrayRecord, replies: Replies
    ) -> tuple[ArrayRecord, MetricRecord]:
        raise JobFailed(f"a said {TROUBLE}")


async def test_why_no_model_can_be_made_is_not_for_the_host(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Consort(tmp_path, *PARTIES, attempts=1)
    coordinating = asyncio.create_task(run.coordinate(Vain()))
    parties = [asyncio.create_task(run.party(name).attend()) for name in PARTIES]
    assert await asyncio.gather(*parties) == [None, None]
    with pytest.raises(JobFailed) as err:  # what the role logs
        await coordinating
    assert str(err.value) == "round 1: no model can be made of the answers"
    told = [each for each in caplog.records if each.getMessage() == "party.run-failed"]
    assert [each.fields["reason"] for each in told] == [f"round 1: a said {TROUBLE}"] * 2


async def test_what_is_wrong_with_an_answer_is_not_for_the_host(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether an update has a number that is none hangs on records, and arrays have names."""
    run, broken = Consort(tmp_path, *PARTIES, rounds=1, attempts=1), ClientApp()
    broken.query()(counting_app())

    @broken.train()
    def train(message: Message, context: Context) -> Message:
        arrays = {"w": np.full((3, 2), np.nan, np.float32), "b": np.ones(3)}
        records = {"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 1})}
        return Message(RecordDict(records), reply_to=message)

    coordinating = asyncio.create_task(run.coordinate())
    parties = [asyncio.create_task(run.party(name, broken).attend()) for name in PARTIES]
    assert await asyncio.gather(*parties) == [None] * len(PARTIES)
    with pytest.raises(JobFailed) as err:
        await coordinating
    logged = [each for each in caplog.records if ".coordinator." in each.name]
    assert {each.getMessage() for each in logged} >= {"party.refused", "party.cut"}
    assert "no finite number" not in f"{[vars(each) for each in logged]}{err.value}"
    told = [each for each in caplog.records if each.getMessage() == "party.unwanted"]
    assert any("no finite number" in each.fields["reason"] for each in told)
