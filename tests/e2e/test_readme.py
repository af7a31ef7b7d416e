"""What the README and the tutorial say works as they say it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mesh import REPOSITORY, RunningMesh

from wardian.cli.main import COMMANDS

README = (REPOSITORY / "README.md").read_text()
TUTORIAL = (REPOSITORY / "docs" / "tutorials" / "first-sealed-answer.md").read_text()


@pytest.mark.parametrize(("page", "block"), [("readme", README), ("tutorial", TUTORIAL)])
def test_the_python_block_runs(shared_mesh: RunningMesh, page: str, block: str) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", block, re.DOTALL)
    code = "\n".join(line.removeprefix("   ") for line in code.splitlines())
    code = code.replace("https://localhost:8443", shared_mesh.url)
    code = code.replace(".wardian/client-policy.toml", str(shared_mesh.policy))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\[\d\]\n", done.stdout), page


def test_every_command_is_in_the_readme() -> None:
    for command in COMMANDS:
        assert re.search(rf"`(wardian )?{command}\b", README), command


def test_the_two_commands_are_in_the_makefile() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"^\$ make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (REPOSITORY / link).exists(), link


def test_lock_files_hold_hashes_and_no_address() -> None:
    for lock in REPOSITORY.glob("requirements*.lock"):
        text = lock.read_text()
        assert "://" not in text
        assert "--hash=sha256:" in text


def test_the_package_carries_its_types() -> None:
    assert (Path(REPOSITORY) / "src" / "wardian" / "py.typed").exists()
