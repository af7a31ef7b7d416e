"""`wardian bench serving` against a front end over real TLS, and on a mesh as a user starts it."""

import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mesh import RunningMesh
from simulators.front_end import FrontEnd

from wardian.cli.bench import session
from wardian.cli.bench.screen import LiveLine, line
from wardian.cli.bench.session import Wanted
from wardian.errors import ConfigError, EvidenceInvalid, JobFailed, PolicyDenied, QueueFull
from wardian.serving.client.messages import build_infer, parse_infer
from wardian.serving.client.origin import parse_origin
from wardian.serving.loadgen.alarm import Alarm
from wardian.serving.loadgen.dial import VerifiedDial
from wardian.serving.loadgen.drive import Driver
from wardian.serving.loadgen.load import ClosedLoad, OpenLoad
from wardian.serving.loadgen.payload import build_payload
from wardian.serving.loadgen.report import Tally


@pytest.fixture(scope="module")
def front() -> Iterator[FrontEnd]:
    with FrontEnd() as running:
        yield running


@pytest.fixture
def wanted(front: FrontEnd, monkeypatch, tmp_path: Path) -> Wanted:
    """What a command line would ask; the policy is the test's own."""
    monkeypatch.setattr(session, "load_client_policy", lambda _: front.policy())
    return Wanted(
        url=front.url, policy=tmp_path / "policy.toml", model="digits", version=None, inputs=None,
        rows=1, encoding="binary", rates=(), curve=False, connections=4, seconds=0.4, timeout_s=5,
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["binary", "json"])
def test_a_closed_loop_is_answered(front: FrontEnd, wanted: Wanted, encoding) -> None:
    before = len(front.dispatcher.seen)
    reports, failure = session.run(dataclasses.replace(wanted, encoding=encoding))
    assert failure is None
    (report,) = reports
    assert report.answered == report.started > 10
    assert report.errors == {}
    assert len(front.dispatcher.seen) - before == report.started + 1  # and the one to begin with
    assert front.dispatcher.seen[-1]["deadline_s"] <= 5


def test_open_loops_and_a_curve(wanted: Wanted) -> None:
    reports, _ = session.run(dataclasses.replace(wanted, rates=(50.0, 100.0)))
    assert [report.rate for report in reports] == [50.0, 100.0]
    assert all(report.answered for report in reports)
    reports, _ = session.run(dataclasses.replace(wanted, curve=True, seconds=0.1))
    assert [report.loop for report in reports] == ["closed"] + 8 * ["open"]


def test_inputs_of_a_file(front: FrontEnd, wanted: Wanted, tmp_path: Path) -> None:
    path = tmp_path / "in.npz"
    np.savez(path, pixels=np.ones((3, 64), "f4"))
    (report,), _ = session.run(dataclasses.replace(wanted, inputs=path))
    assert report.answered > 5
    np.savez(path, wrong=np.ones((3, 64), "f4"))
    with pytest.raises(Exception, match="expected the inputs"):
        session.run(dataclasses.replace(wanted, inputs=path))


@pytest.mark.parametrize(
    ("model", "kind"), [("full", QueueFull), ("broken", JobFailed), ("absent", ConfigError)]
)
def test_what_fails_once_is_told_and_not_repeated(
    front: FrontEnd, wanted: Wanted, model: str, kind: type[Exception]
) -> None:
    before = len(front.dispatcher.seen)
    with pytest.raises(kind):
        session.run(dataclasses.replace(wanted, model=model))
    assert len(front.dispatcher.seen) - before <= 1


def test_several_models_need_a_name(wanted: Wanted) -> None:
    with pytest.raises(ConfigError, match="--model: say which one: .*digits"):
        session.run(dataclasses.replace(wanted, model=None))


def test_a_front_end_that_the_policy_refuses_gets_no_request(
    front: FrontEnd, wanted: Wanted, monkeypatch
) -> None:
    other = dataclasses.replace(front.policy(), manifest_digest=b"\x01" * 32)
    monkeypatch.setattr(session, "load_client_policy", lambda _: other)
    before = len(front.dispatcher.seen)
    with pytest.raises((PolicyDenied, EvidenceInvalid)):
        session.run(wanted)
    assert len(front.dispatcher.seen) == before


async def test_every_connection_of_the_generator_is_verified(front: FrontEnd) -> None:
    """Attack: the dial is given a policy that another front end would meet."""
    origin = parse_origin(front.url)
    other = dataclasses.replace(front.policy(), manifest_digest=b"\x01" * 32)
    call = build_infer(
        "digits", {"pixels": np.ones((1, 64), "f4")}, version=None, outputs=None, timeout_s=1
    )
    before = len(front.dispatcher.seen)
    payloads = [build_payload(call, authority=origin.authority)]
    driver = Driver(VerifiedDial(origin, other), payloads, patience_s=2)
    with pytest.raises(PolicyDenied):
        await driver.run(OpenLoad(rate=100, seconds=1, connections=8))
    await driver.close()
    assert len(front.dispatcher.seen) == before


async def test_answers_are_those_of_the_model(front: FrontEnd) -> None:
    origin = parse_origin(front.url)
    images = np.random.default_rng(1).random((3, 1, 64), dtype="f4")
    payloads = [
        build_payload(
            build_infer("digits", {"pixels": row}, version=None, outputs=None, timeout_s=1),
            authority=origin.authority, number=number,
        )
        for number, row in enumerate(images)
    ]  # fmt: skip
    seen: set[int] = set()

    def judge(payload, answer) -> None:
        from simulators.front_end import digits

        np.testing.assert_allclose(
            parse_infer(answer)["scores"], digits(images[payload.number]), rtol=1e-5
        )
        seen.add(payload.number)

    driver = Driver(VerifiedDial(origin, front.policy()), payloads, patience_s=2, judge=judge)
    report = await driver.run(ClosedLoad(connections=2, seconds=0.3))
    await driver.close()
    assert seen == {0, 1, 2}
    assert report.errors == {}


async def test_the_alarm_rings_once_for_each_time_and_not_after_it_is_closed() -> None:
    rung: list[float] = []
    came = asyncio.Event()
    alarm = Alarm(lambda: (rung.append(time.monotonic()), came.set()))
    due = time.monotonic() + 0.02
    alarm.at(due + 30)
    alarm.at(due)  # the later time is forgotten
    await came.wait()
    assert rung[0] >= due - 0.001
    came.clear()
    alarm.at(0.0)  # long past: at once
    await came.wait()
    alarm.at(time.monotonic() + 0.01)
    alarm.close()
    await asyncio.sleep(0.05)
    assert len(rung) == 2


class Terminal:
    def __init__(self, tty: bool) -> None:
        self.tty, self.text = tty, ""

    def isatty(self) -> bool:
        return self.tty

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def test_the_live_line_is_one_line_and_plain_without_a_terminal() -> None:
    tally = Tally(not_started=12)
    tally.answer(0.002, held_s=0.002, within=True)
    tally.fail("Timeout", held_s=1)
    load = OpenLoad(rate=1000, seconds=10)
    shown = line(load, 3.2, tally)
    for words in ("open loop, 1,000/s", "3/10 s", "1 answered", "p50 2.0", "1 errors", "12 not"):
        assert words in shown
    assert len(line(OpenLoad(rate=1e6, seconds=86400), 1e9, tally)) <= 100
    for tty in (True, False):
        terminal = Terminal(tty)
        with LiveLine(load, stream=terminal) as live:
            for number in range(100):
                live.show(number / 50, tally)
        assert ("\x1b" in terminal.text) == tty
        assert terminal.text.count("\n") == (0 if tty else 1)
        assert terminal.text.count("answered") == (8 if tty else 0)  # four a second


def bench(*argv: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wardian.cli", "bench", "serving", *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("http://localhost:1",), "https://HOST"),
        (("https://localhost:1/path",), "and no more"),
        (("https://localhost:1", "--rate", "0"), "rate: requests a second"),
        (("https://localhost:1", "--rate", "nan"), "rate: requests a second"),
        (("https://localhost:1", "--rate", "x"), "not a valid float"),
        (("https://localhost:1", "--seconds", "-1"), "seconds: above 0"),
        (("https://localhost:1", "--connections", "0"), "connections: 1 to"),
        (("https://localhost:1", "--timeout", "nan"), "--timeout: seconds"),
        (("https://localhost:1", "--plot", "no/such/x.svg"), "no directory"),
        (("https://localhost:1",), "policy.toml"),  # which is empty
    ],
)
def test_bad_input_is_one_clear_line(argv, says: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("")
    done = bench(*argv, "--policy", str(policy))
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_on_a_mesh(shared_mesh: RunningMesh, tmp_path: Path) -> None:
    plot = tmp_path / "curve.svg"
    asked = (shared_mesh.url, "--policy", str(shared_mesh.policy))
    done = bench(*asked, "--seconds", "0.5", "--json", "--plot", str(plot))
    assert done.returncode == 0, done.stderr
    loads = json.loads(done.stdout)["loads"]
    assert loads[0]["answered"] > 0
    assert [each["loop"] for each in loads] == ["closed"] + 8 * ["open"]
    assert ET.parse(plot).getroot().tag.endswith("svg")
    table = bench(*asked, "--seconds", "0.5", "--rate", "50")
    assert "50/s" in table.stdout
    refused = bench("https://localhost:1", "--policy", str(shared_mesh.policy))
    assert refused.returncode == 1
    assert "error:" in refused.stderr


def test_ctrl_c_prints_what_was_measured(shared_mesh: RunningMesh) -> None:
    asked = ("--policy", str(shared_mesh.policy), "--seconds", "600", "--rate", "50", "--json")
    command = [sys.executable, "-m", "wardian.cli", "bench", "serving", shared_mesh.url, *asked]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "open loop" in running.stderr.readline()  # it has begun
    time.sleep(1.0)
    os.kill(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "Traceback" not in err
    (load,) = json.loads(out)["loads"]
    assert load["stopped"] is True
    assert load["answered"] > 0
