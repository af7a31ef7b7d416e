"""The example of shared learning as `make learn` runs it: three owners, one model, in processes."""

import json
import subprocess
import sys
from pathlib import Path

from wardian.tee.manifest.candidates import find_candidates

EXAMPLE = Path(__file__).parents[2] / "examples" / "shared-tumours" / "learn_tumours.py"


def test_three_owners_learn_one_model(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), str(tmp_path / "play")],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "the two are the same, byte by byte" in done.stdout
    assert "SIMULATED, as the owners' manifest lists" in done.stdout
    assert "approvals   0 of 2 (nobody)" in done.stdout
    assert "142 tumours asked over HTTPS, after evidence" in done.stdout
    page = (tmp_path / "play" / "report.html").read_text()
    assert "laboratory" in page
    assert "SIMULATED" in page
    assert "<script" not in page
    assert loaded(tmp_path / "play" / "job" / "job.jsonl") == listed() - NOT_LOADED


NOT_LOADED = {  # the main program, and the backends on hardware
    *("wardian.tee.bootstrap", "wardian.tee.gramine", "wardian.tee.gramine_direct"),
}


def loaded(log: Path) -> set[str]:
    """Return the modules that the job's process had loaded when it ended."""
    told = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    (last,) = [each for each in told if each["event"] == "role.stopped"]
    return set(last["modules"].split())


def listed() -> set[str]:
    """Return the modules that the role table has for a job, each package's own among them."""
    names = [name for name in find_candidates("job") if name.startswith("app/")]
    modules = [name.removeprefix("app/").removesuffix(".py") for name in names]
    return {name.removesuffix("/__init__").replace("/", ".") for name in modules}
