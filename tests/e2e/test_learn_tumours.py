"""The example of shared learning as `make learn` runs it: three owners, one model, in processes."""

import subprocess
import sys
from pathlib import Path

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
    assert "<script" not in page
