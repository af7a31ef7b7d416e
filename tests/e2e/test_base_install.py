"""The base install (client, verifier, seal and open) needs nothing of POSIX and none of the servers.

It runs on Windows and macOS; here their absence is played by blocking what they do not have.
"""

import json
import subprocess
import sys
from pathlib import Path

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian.attestation.evidence import Purpose, bind
from wardian.tee.launch.simulation import generate_platform

BLOCKED = (
    "fcntl",
    "uvloop",
    "openvino",
    "httptools",
    "prometheus_client",
    "resource",
    "pwd",
    "grp",
    "termios",
    "wardian.tee",
    "wardian.inference.openvino",
    "wardian.roles",
    "wardian.engines",
)

PROGRAM = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
import json, pathlib
import wardian
from wardian._internal import wire
from wardian.attestation import Evidence, load_policy, verify_evidence
import wardian.crypto.sealed_file, wardian.broker.mesh.manifest
import wardian.serving.client.sync, wardian.serving.client.aio, wardian.serving.client.policy
import wardian.cli.main, wardian.cli.files, wardian.cli.attest, wardian.cli.doctor
case = json.loads(pathlib.Path(sys.argv[1]).read_text())
result = verify_evidence(
    wire.decode(case["evidence"].encode(), Evidence, what="evidence"),
    policy=load_policy(case["policy"].encode()),
    report_data=bytes.fromhex(case["report_data"]),
    now=case["now"],
)
assert callable(wardian.connect)
print(result.claims.measurement.hex(), result.claims.simulated)
"""


def test_it_imports_and_verifies_with_all_of_that_blocked(tmp_path: Path) -> None:
    platform = generate_platform()
    measurement = b"\x17" * 32
    report_data = bind(Purpose.FRONTEND, b"nonce")
    evidence = platform.evidence(mr_enclave=measurement, report_data=report_data)
    case = {
        "evidence": wire.encode(evidence).decode(),
        "policy": (
            f'simulation_root_sha256 = "{platform.root_sha256.hex()}"\n'
            f'measurements = ["{measurement.hex()}"]\n'
        ),
        "report_data": report_data.hex(),
        "now": unix_time(),
    }
    (tmp_path / "case.json").write_text(json.dumps(case))
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM.format(blocked=BLOCKED), str(tmp_path / "case.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.split() == [measurement.hex(), "True"]
