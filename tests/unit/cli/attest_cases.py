"""Running `wardian attest` in this process, and the evidence that its tests agree on."""

import hashlib
import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from wardian.cli.main import main
from wardian.tee.launch.simulation import generate_platform

NOW = 1_800_000_000
MEASUREMENT = hashlib.sha256(b"an enclave").digest()
PLATFORM = generate_platform(clock=lambda: NOW)
NAMES_IT = f'measurements = ["{MEASUREMENT.hex()}"]\n'
NAMES_ROOT = f'simulation_root_sha256 = "{PLATFORM.root_sha256.hex()}"\n'


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    status: Any
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


@pytest.fixture
def attest(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return what runs `wardian attest ARGUMENTS`."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["wardian", "attest", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Done(ended.value.code, printed.out, printed.err)

    return run
