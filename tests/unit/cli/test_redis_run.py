"""A server as a child: what it prints is told, it ends when it is told to, and says how."""

import os
import signal
from pathlib import Path

import pytest

from wardian.cli.redis import command
from wardian.cli.redis import server as server_module
from wardian.cli.redis.server import READY, Server
from wardian.tee.launch.lifeline import Lifeline


def program(directory: Path, script: str) -> str:
    path = directory / "redis-server"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


def run(path: str) -> tuple[int, list[str]]:
    told: list[str] = []
    status = Server(path, Path("/x/redis.conf"), told=told.append, lifeline=None).run()
    return status, told


def test_its_lines_its_settings_and_its_status(tmp_path: Path) -> None:
    path = program(tmp_path, "echo \"$1\"; echo two >&2; printf 'no end'; exit 7")
    assert run(path) == (7, ["/x/redis.conf", "two", "no end"])


def test_it_sees_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDIAN_SECRET", "canary")
    status, told = run(program(tmp_path, "/usr/bin/env"))
    assert status == 0
    assert not [line for line in told if "canary" in line]


def test_a_signal_is_a_status_as_shells_give_it(tmp_path: Path) -> None:
    assert run(program(tmp_path, "kill -9 $$"))[0] == 128 + signal.SIGKILL


def test_it_ends_with_its_lifeline(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    path = program(tmp_path, "trap 'echo bye; exit 0' TERM; echo up; while :; do :; done")
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if line == "up":
            os.close(write_end)  # as when the engine dies, however it dies

    status = Server(path, Path("/x"), told=tell, lifeline=Lifeline(read_end)).run()
    os.close(read_end)
    assert (status, told) == (0, ["up", "bye"])


def test_who_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "GRACE_S", 0.1)
    read_end, write_end = os.pipe()
    path = program(tmp_path, "trap '' TERM; echo up; while :; do :; done")

    def tell(_: str) -> None:
        os.close(write_end)

    status = Server(path, Path("/x"), told=tell, lifeline=Lifeline(read_end)).run()
    os.close(read_end)
    assert status == 128 + signal.SIGKILL


def test_a_line_without_end_is_not_kept(tmp_path: Path) -> None:
    path = program(tmp_path, "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo last")
    status, told = run(path)
    assert status == 0
    assert told[-1] == "last"
    assert len(told[0]) <= 2 * 65536


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 1", 1), ("exit 3", 1)])
def test_no_status_of_its_own_is_final_for_the_engine(
    tmp_path: Path, script: str, status: int
) -> None:
    """2 and 3 are ours: wrong settings, and refused. A Redis that ends with them starts again."""
    path = program(tmp_path, script)
    assert command._run(path, Path("/x"), port=1, lifeline=None) == status


def test_it_says_when_it_is_ready_and_why_it_never_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = program(tmp_path, f"echo '1:M * {READY} tls'; printf 'bad\\033[2J port\\n'; exit 1")
    command._run(path, Path("/x"), port=6380, lifeline=None)
    out, err = capsys.readouterr()
    assert out == '{"event": "redis.ready", "port": 6380}\n'
    assert "error: bad?[2J port" in err
    assert "\033" not in err
