"""Real processes, started as simulated enclaves: what they are, what they can and cannot do.

Each test copies the package, adds a tiny role to it and launches that.
"""

import hashlib
import json
import os
import py_compile
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from probe import AGREED, ROLE

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian.attestation.evidence import Evidence
from wardian.attestation.verifier import verify_evidence
from wardian.errors import ConfigError, PolicyDenied
from wardian.tee.launch.launcher import launch_simulated
from wardian.tee.launch.lifeline import Lifeline
from wardian.tee.launch.reach import Reach
from wardian.tee.role_table import ROLES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="roles run on Linux")

REPORT_DATA = hashlib.sha512(b"bound").digest()

EVIDENCE_PROBE = """
from wardian._internal import wire
def main(enclave):
    evidence = enclave.evidence(bytes.fromhex("{report_data}"))
    enclave.announce("evidence", json=wire.encode(evidence).decode(), config=enclave.agreed_config().decode())
    return 0
"""


def evidence_of(announced) -> Evidence:
    return wire.decode(announced[0]["json"].encode(), Evidence, what="evidence")


def test_evidence_of_a_real_process_names_its_measurement(probe):
    measurement = probe.write(EVIDENCE_PROBE.format(report_data=REPORT_DATA.hex()))
    status, announced = probe.run()
    assert status == 0
    assert announced[0]["config"] == AGREED.decode()
    result = verify_evidence(
        evidence_of(announced),
        policy=probe.policy(measurement),
        report_data=REPORT_DATA,
        now=unix_time(),
    )
    assert result.claims.simulated
    assert result.claims.report.product_id == 99


def test_one_changed_byte_is_another_enclave(probe):
    reviewed = probe.write(EVIDENCE_PROBE.format(report_data=REPORT_DATA.hex()))
    source = probe.path.read_text()
    status, announced = probe.run(source.replace("return 0", "return 5"))
    assert status == 5
    with pytest.raises(PolicyDenied, match="is not one that the policy names"):
        verify_evidence(
            evidence_of(announced),
            policy=probe.policy(reviewed),
            report_data=REPORT_DATA,
            now=unix_time(),
        )


@pytest.mark.parametrize("which", ["bytecode", "source", "library", "settings", "manifest"])
def test_a_changed_file_stops_the_launch_before_anything_runs(probe, which, tmp_path):
    probe.write("def main(enclave):\n    enclave.announce('ran')\n    return 0\n")
    manifest = probe.directory / "probe.manifest"
    if which == "library":  # any file: the manifest is told of another content
        text = manifest.read_text()
        line = next(line for line in text.splitlines() if "libc.so.6" in line)
        digest = line.partition('sha256 = "')[2][:64]
        manifest.write_text(text.replace(digest, digest[::-1]))
    elif which == "manifest":
        manifest.write_text("not = [a manifest")
    else:
        victim = {
            "bytecode": probe.bytecode,
            "source": probe.package / "tee" / "bootstrap.py",
            "settings": probe.directory / "wardian.toml",
        }[which]
        content = victim.read_bytes()
        victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(ConfigError, match="changed after it was measured|not a manifest"):
            probe.run()
    finally:
        if which not in ("library", "manifest"):
            victim.write_bytes(content)


def test_a_manifest_with_another_argument_or_variable_is_another_enclave(probe):
    """The host may edit the manifest; the launch goes on, and the measurement tells."""
    reviewed = probe.write(EVIDENCE_PROBE.format(report_data=REPORT_DATA.hex()))
    manifest = probe.directory / "probe.manifest"
    text = manifest.read_text()
    for old, new in (
        ('"-X", "utf8"', '"-X", "utf8=1"'),
        ('TZ = "UTC0"', 'TZ = "UTC1"'),
        ("isvsvn = 1", "isvsvn = 2"),
    ):
        assert old in text
        manifest.write_text(text.replace(old, new))
        status, announced = probe.run()
        assert status == 0
        with pytest.raises(PolicyDenied, match="is not one that the policy names"):
            verify_evidence(
                evidence_of(announced),
                policy=probe.policy(reviewed),
                report_data=REPORT_DATA,
                now=unix_time(),
            )


def test_poisoned_bytecode_beside_the_sources_is_not_run(probe):
    measured = probe.write("def main(enclave):\n    enclave.announce('good')\n    return 0\n")
    poison = probe.path.with_name("poison.txt")
    poison.write_text("def main(enclave):\n    enclave.announce('evil')\n    return 0\n")
    cache = probe.path.parent / "__pycache__" / f"probe.{sys.implementation.cache_tag}.pyc"
    for target in (cache, probe.path.with_suffix(".pyc")):
        py_compile.compile(
            str(poison),
            cfile=str(target),
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    assert probe.builder.build("probe").mr_enclave == measured
    assert probe.run() == (0, [{"event": "good"}])


def test_nothing_beside_the_measured_files_can_be_imported(probe):
    for name in ("sitecustomize.py", "usercustomize.py", "evil.py", "evil.pth"):
        (probe.package.parent / name).write_text("raise SystemExit(66)")
    (probe.package / "evil.py").write_text("raise SystemExit(66)")
    status, announced = probe.run(
        """
        import importlib, os, sys

        def main(enclave):
            for name in ("evil", "sitecustomize", "wardian.evil", "wardian.serving.worker", "wardian.cli.main",
                         "wardian.tee.launch.simulation", "numpy.linalg", "pytest", "unittest.mock"):
                try:
                    importlib.import_module(name)
                    enclave.announce("imported", name=name)
                except ModuleNotFoundError:
                    pass
            enclave.announce("done", hooks=len(sys.path_hooks), path=os.pathsep.join(sys.path))
            return 0
        """
    )
    assert status == 0
    (done,) = announced
    assert (done["event"], done["hooks"]) == ("done", 1)
    assert not [place for place in done["path"].split(os.pathsep) if place.endswith(".zip")]


def test_process_is_closed_and_holds_only_the_measured_environment(probe, monkeypatch):
    monkeypatch.setenv("WARDIAN_CANARY", "secret")
    monkeypatch.setenv("PYTHONPATH", "/evil")
    status, announced = probe.run(
        """
        import ctypes, json, os, resource, sys

        def opened(fd):
            try:
                return bool(os.fstat(fd))
            except OSError:
                return False

        def capabilities():
            data = (ctypes.c_uint32 * 6)()
            ctypes.CDLL(None).capget((ctypes.c_uint32 * 2)(0x20080522, 0), data)
            return any(data)

        def main(enclave):
            enclave.announce(
                "state",
                env=json.dumps(dict(os.environ)),
                cwd=os.getcwd(),
                core=str(resource.getrlimit(resource.RLIMIT_CORE)),
                dumpable=ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
                descriptors=json.dumps([fd for fd in range(64) if opened(fd)]),
                stdin=os.fstat(0).st_rdev == os.stat("/dev/null").st_rdev,
                settings=enclave.host_settings().decode(),
                flags=json.dumps([sys.flags.isolated, sys.flags.no_site, sys.flags.dont_write_bytecode]),
                session=os.getsid(0) == os.getpid(),
                capabilities=capabilities(),
            )
            return 0
        """
    )
    assert status == 0
    (state,) = announced
    assert json.loads(state["env"]) == dict(ROLES["broker"].environment)
    assert state["cwd"] == str(probe.directory)
    assert state["core"] == "(0, 0)"
    assert state["dumpable"] == 0
    assert json.loads(state["descriptors"]) == [0, 1, 2, 3]
    assert state["stdin"] is True
    assert state["settings"] == '{"from": "host"}'
    assert json.loads(state["flags"]) == [1, 1, 1]
    assert state["session"]
    assert state["capabilities"] is False


SEALING_PROBE = """
import os
from wardian.errors import SealError
from wardian.tee.sealing import seal_state, unseal_state
PLACE = {place!r}
def main(enclave):
    version = enclave.read_counter("state")
    if os.path.exists(PLACE):
        with open(PLACE, "rb") as file:
            try:
                state = unseal_state(enclave, file.read(), label="probe", version=version or 2)
            except SealError as err:
                enclave.announce("refused", why=str(err))
                return 3
        enclave.announce("unsealed", state=state.decode())
    enclave.advance_counter("state", version + 1)
    with open(PLACE, "wb") as file:
        file.write(seal_state(enclave, b"version %d" % (version + 1), label="probe", version=version + 1))
    return 0
"""


def test_sealed_state_across_restarts_rollback_and_changed_code(probe, tmp_path):
    place = tmp_path / "kept" / "sealed"
    place.parent.mkdir()
    keep = {"write": (place.parent,)}
    source = SEALING_PROBE.format(place=str(place))
    assert probe.run(source, **keep) == (0, [])
    old = place.read_bytes()
    assert probe.run(**keep) == (0, [{"event": "unsealed", "state": "version 1"}])
    newest = place.read_bytes()
    place.write_bytes(old)
    status, announced = probe.run(**keep)
    assert status == 3
    assert "version 1, but the newest is 2" in announced[0]["why"]
    place.write_bytes(newest)
    # Other code counts for itself, so it is its key that does not open this.
    status, announced = probe.run(source + "# another program\n", **keep)
    assert status == 3
    assert "another measurement" in announced[0]["why"]
    assert probe.run(source, **keep) == (0, [{"event": "unsealed", "state": "version 2"}])


def test_role_that_a_signal_ends(probe):
    source = "import os\ndef main(enclave):\n    os.kill(os.getpid(), 9)\n"
    assert probe.run(source) == (137, [])


def test_role_that_fails(probe, capfd):
    assert probe.run("def main(enclave):\n    raise ValueError('why')\n") == (1, [])
    assert "ValueError" in capfd.readouterr().err


def test_role_that_breaks_the_protocol_is_not_waited_for(probe):
    status, announced = probe.run(
        """
        import os
        def main(enclave):
            os.write(3, b"\\xff\\xff\\xff\\xff")
            return 4 if os.read(3, 1) == b"" else 5
        """
    )
    assert (status, announced) == (4, [])


def test_announcement_that_the_launcher_cannot_take_ends_the_role(probe):
    probe.write(
        "import os, time\n"
        "def main(enclave):\n"
        "    enclave.announce('x', pid=os.getpid())\n"
        "    time.sleep(600)\n"
    )

    class Broken(Exception):
        pass

    def broken(_event, fields):
        raise Broken(fields["pid"])

    with pytest.raises(Broken) as raised:
        launch_simulated(
            "probe",
            directory=probe.directory,
            state=probe.state,
            host_settings=b"{}",
            reach=Reach(),
            announce=broken,
            roles=ROLE,
        )
    with pytest.raises(ProcessLookupError):
        os.kill(raised.value.args[0], 0)


def test_interpreter_that_cannot_be_started(probe, monkeypatch):
    probe.write("def main(enclave):\n    return 0\n")

    def refuse(*_args, **_kwargs):
        raise OSError(8, "Exec format error")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(ConfigError, match="cannot be started confined: .*Exec format error"):
        probe.run()


LAUNCHER = """
import dataclasses, pathlib, sys
from wardian.tee.launch.launcher import launch_simulated
from wardian.tee.launch.reach import Reach
from wardian.tee.role_table import ROLES
modules = (*ROLES["broker"].modules, "wardian.roles.probe")
role = dataclasses.replace(
    ROLES["broker"], entry="wardian.roles.probe", modules=modules, product_id=99
)
sys.exit(launch_simulated("probe", state=pathlib.Path(sys.argv[1]), host_settings=b"{}",
    directory=pathlib.Path(sys.argv[2]), reach=Reach(), roles={"probe": role}))
"""

WAITING_PROBE = """
import os, signal, threading
def main(enclave):
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: told.set())
    enclave.announce("waiting", pid=os.getpid())
    while not told.wait(0.05):
        pass
    enclave.announce("stopping")
    return 21
"""


@pytest.fixture
def waiting(probe):
    probe.write(WAITING_PROBE)
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(probe.state), str(probe.directory)],
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        line = json.loads(process.stdout.readline())
        assert line["event"] == "waiting"
        yield process, line["pid"]
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on(waiting, number):
    process, _ = waiting
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert json.loads(output) == {"event": "stopping"}
    assert process.returncode == 21


def test_killed_launcher_takes_the_role_with_it(waiting):
    process, role = waiting
    process.kill()
    process.wait()
    for _ in range(600):
        try:
            os.kill(role, 0)
        except ProcessLookupError:
            return
        stat = Path(f"/proc/{role}/stat")
        if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the role outlived its launcher")


def with_manifest(probe, old: str, new: str) -> None:
    manifest = probe.directory / "probe.manifest"
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"-I", ', '"\\u0000", '),
        ("isvprodid = 99", "isvprodid = 70000"),
        ("isvsvn = 1", "isvsvn = -1"),
        ('TZ = "UTC0"', '"T=Z" = "UTC0"'),
        ('TZ = "UTC0"', "TZ = 7"),
        ("[loader.env]", "[loader.environment]"),
        ('entrypoint = "', 'entrypoint = "/bin/sh'),
        ("debug = false", "debug = 1979-05-27"),
    ],
)
def test_a_manifest_that_no_builder_wrote_is_one_clear_error(probe, old, new):
    probe.write("def main(enclave):\n    return 0\n")
    with_manifest(probe, old, new)
    with pytest.raises(ConfigError, match="manifest"):
        probe.run()


def test_a_program_that_is_not_measured_is_not_started(probe, tmp_path):
    """Both places of the manifest agree on it, but no digest stands behind it."""
    probe.write("def main(enclave):\n    return 0\n")
    program = tmp_path / "python"
    program.write_bytes(Path(sys.executable).resolve().read_bytes())
    program.chmod(0o755)
    manifest = probe.directory / "probe.manifest"
    interpreter = str(Path(sys.executable).resolve())
    head, mark, tail = manifest.read_text().partition("trusted_files")
    manifest.write_text(head.replace(f'"{interpreter}"', f'"{program}"') + mark + tail)
    with pytest.raises(ConfigError, match="not a manifest of this release"):
        probe.run()


def test_a_file_with_two_digests_is_refused(probe):
    probe.write("def main(enclave):\n    return 0\n")
    line = '  { uri = "file:wardian.toml", sha256 = "' + "0" * 64 + '" },\n'
    with_manifest(probe, "trusted_files = [\n", "trusted_files = [\n" + line)
    with pytest.raises(ConfigError, match="not a manifest of this release"):
        probe.run()


def test_what_a_role_prints_goes_through_the_launcher(probe, capfd):
    """Neither the launcher's terminal nor its log file is the role's to read or to rewrite."""
    status, announced = probe.run(
        """
        import os, stat
        def main(enclave):
            for number in (1, 2):
                if not stat.S_ISFIFO(os.fstat(number).st_mode):
                    enclave.announce("no pipe", number=number)
                os.write(number, b"printed %d\\n" % number)
            return 0
        """
    )
    assert (status, announced) == (0, [])
    assert {"printed 1", "printed 2"} <= set(capfd.readouterr().err.splitlines())


STUBBORN = """
import os, signal, time
def main(enclave):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    enclave.announce("waiting", pid=os.getpid())
    {then}
    time.sleep(600)
"""


@pytest.mark.parametrize(
    "then",
    [
        "pass",
        "os.write(3, b'half')",
        "os.write(3, b'\\xff\\xff\\xff\\xff')",
        "os.close(3)",
        "os.close(1); os.close(2)",
    ],
)
def test_a_role_that_does_not_end_is_killed_when_its_engine_is_gone(probe, monkeypatch, then):
    from wardian.tee.launch import attendance

    monkeypatch.setattr(attendance, "GRACE_S", 0.5)
    monkeypatch.setattr(attendance, "CHANNEL_TIMEOUT_S", 0.5)
    probe.write(STUBBORN.format(then=then))
    read_end, write_end = os.pipe()
    told: list[int] = []

    def announce(_event, fields):
        told.append(fields["pid"])
        os.close(write_end)

    try:
        status = launch_simulated(
            "probe",
            directory=probe.directory,
            state=probe.state,
            host_settings=b"{}",
            reach=Reach(),
            announce=announce,
            lifeline=Lifeline(read_end),
            roles=ROLE,
        )
    finally:
        os.close(read_end)
    assert status == 137
    with pytest.raises(ProcessLookupError):
        os.kill(told[0], 0)
