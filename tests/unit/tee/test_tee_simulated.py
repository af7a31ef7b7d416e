"""The channel between a role and its launcher, with both ends in one process."""

import os
import socket
import struct
import threading

import pytest

from wardian import tee
from wardian.attestation.verifier import verify_quote
from wardian.errors import (
    ConfigError,
    ConnectionLost,
    FormatError,
    LocalProtocolError,
    SealError,
)
from wardian.tee import simulated
from wardian.tee.backend import BACKENDS, enter
from wardian.tee.launch.child import exit_status
from wardian.tee.launch.file_counters import FileCounters
from wardian.tee.launch.launcher import _Desk, launch_simulated, print_announcement
from wardian.tee.launch.reach import Reach
from wardian.tee.launch.simulation import generate_platform
from wardian.tee.launch.verified import VerifiedManifest
from wardian.tee.simulated import Answer, SimulatedEnclave, send_frame

NOW = 1_800_000_000
MANIFEST = VerifiedManifest(
    mr_enclave=bytes(range(32)),
    argv=("python",),
    environment={},
    files=(),
    mounts=(),
    agreed=b"[mesh]",
    product_id=9,
    svn=2,
)


@pytest.fixture
def platform():
    return generate_platform(clock=lambda: NOW)


@pytest.fixture
def announced():
    return []


@pytest.fixture
def channel(platform, announced, tmp_path):
    ours, theirs = socket.socketpair()
    desk = _Desk(
        platform=platform,
        manifest=MANIFEST,
        host_settings=b"{}",
        counters=FileCounters(tmp_path / "counters"),
        announce=lambda event, fields: announced.append((event, dict(fields))),
    )

    def serve() -> None:
        with ours:
            while desk.answer(ours):
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    with theirs:
        yield theirs
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def enclave(channel):
    return SimulatedEnclave(channel)


def test_everything_that_a_role_may_ask(enclave, platform, announced):
    assert (enclave.name, enclave.simulated) == ("simulated", True)
    assert enclave.agreed_config() == b"[mesh]"
    assert enclave.host_settings() == b"{}"
    assert enclave.sealing_key() == platform.sealing_key(MANIFEST.mr_enclave)
    enclave.announce("ready", port=1, name="x", ok=True, nothing=None)
    assert announced == [("ready", {"port": 1, "name": "x", "ok": True, "nothing": None})]
    assert enclave.read_counter("store") == 0
    enclave.advance_counter("store", 3)
    assert enclave.read_counter("store") == 3


def test_evidence_is_about_this_role(enclave, platform):
    evidence = enclave.evidence(b"r" * 64)
    claims = verify_quote(evidence.quote, evidence.collateral, root=platform.root_der, now=NOW)
    assert claims.measurement == MANIFEST.mr_enclave
    assert (claims.report.product_id, claims.report.svn, claims.debug) == (9, 2, False)
    assert claims.report_data == b"r" * 64


def test_refusals_of_the_launcher(enclave):
    with pytest.raises(SealError, match="only goes up"):
        enclave.advance_counter("store", 0)
    with pytest.raises(SealError, match="name"):
        enclave.read_counter("../store")
    assert enclave.read_counter("store") == 0


def test_report_data_of_another_length(enclave):
    with pytest.raises(LocalProtocolError):
        enclave.evidence(bytes(63))


@pytest.mark.parametrize(
    "question", [b"junk", b"{}", b'{"type":"unknown"}', b'{"type":"evidence","report_data":7}']
)
def test_broken_role_is_cut_off(channel, question):
    channel.sendall(struct.pack(">I", len(question)) + question)
    assert channel.recv(1) == b""


def test_evidence_over_a_wrong_length_ends_the_conversation(channel):
    send_frame(channel, simulated.EvidenceQuestion(report_data=b"short"))
    assert channel.recv(1) == b""


def test_frame_that_is_too_long(channel):
    channel.sendall(struct.pack(">I", simulated.MAX_FRAME_BYTES + 1))
    assert channel.recv(1) == b""
    with pytest.raises(LocalProtocolError, match="frame"):
        send_frame(channel, simulated.Announcement(event="x" * 5_000_000, fields={}))


def test_question_that_is_none():
    with pytest.raises(FormatError):
        simulated.parse_question(b"[]")


@pytest.mark.parametrize("reply", [b"", b"\0\0", b"\0\0\0\x09{}", b"\0\0\0\x02", b"\xff" * 4])
def test_launcher_that_goes_away(reply):
    ours, theirs = socket.socketpair()
    with theirs:
        enclave = SimulatedEnclave(theirs)
        with ours:
            ours.sendall(reply)
        with pytest.raises(ConnectionLost):
            enclave.agreed_config()


def test_launcher_that_was_gone_before():
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs, pytest.raises(ConnectionLost, match="gone"):
        SimulatedEnclave(theirs).agreed_config()


def test_launcher_that_answers_something_else():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send_frame(ours, Answer())
        with pytest.raises(ConnectionLost, match="no evidence"):
            SimulatedEnclave(theirs).evidence(bytes(64))


def test_threads_do_not_mix_their_answers(enclave):
    wrong = []

    def ask(number):
        for _ in range(20):
            name = f"c{number}"
            enclave.advance_counter(name, enclave.read_counter(name) + 1)
            if enclave.agreed_config() != b"[mesh]":
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [enclave.read_counter(f"c{number}") for number in range(4)] == [20] * 4


# --- the room ------------------------------------------------------------------------------------


def test_backends_are_a_table():
    assert set(BACKENDS) == {"gramine", "gramine-direct", "simulated", "tsm"}
    with pytest.raises(ConfigError, match="'none'.*gramine, gramine-direct, simulated"):
        enter("none")


def test_process_that_nobody_launched(monkeypatch, tmp_path):
    with (tmp_path / "file").open("w") as file:
        monkeypatch.setattr(simulated, "CHANNEL", file.fileno())
        with pytest.raises(ConfigError, match="wardian up"):
            enter("simulated")
    closed = os.open(os.devnull, os.O_RDONLY)
    os.close(closed)
    monkeypatch.setattr(simulated, "CHANNEL", closed)
    with pytest.raises(ConfigError, match="wardian up"):
        enter("simulated")


def test_exports_are_sorted_and_exist():
    constants = [name for name in tee.__all__ if name.isupper()]
    classes = [n for n in tee.__all__ if n[0].isupper() and not n.isupper()]
    functions = [name for name in tee.__all__ if name[0].islower()]
    assert tee.__all__ == sorted(constants) + sorted(classes) + sorted(functions)
    assert len(tee.__all__) <= 12
    for name in tee.__all__:
        assert getattr(tee, name) is not None
    assert dir(tee) == sorted(tee.__all__)
    with pytest.raises(AttributeError):
        _ = tee.nothing


def test_announcements_are_json_lines(capsys):
    print_announcement("ready", {"port": 8443})
    assert capsys.readouterr().out == '{"event": "ready", "port": 8443}\n'


def test_status_as_shells_give_it():
    assert [exit_status(code) for code in (0, 3, -9, -15)] == [0, 3, 137, 143]


def test_launching_without_a_manifest(tmp_path):
    with pytest.raises(ConfigError, match="no manifest to launch there"):
        launch_simulated(
            "worker", directory=tmp_path, state=tmp_path, host_settings=b"{}", reach=Reach()
        )
