"""A role for tests, launched as any role is: its code is what a test writes."""

import dataclasses
import shutil
import sys
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "tee"))

from enclave_directory import AGREED

import wardian
from wardian.attestation.appraisal.policy import AppraisalPolicy, MeasurementIn
from wardian.tee.launch.launcher import launch_simulated
from wardian.tee.launch.reach import Reach
from wardian.tee.launch.simulation import load_platform
from wardian.tee.manifest.builder import Builder
from wardian.tee.manifest.bytecode import bytecode_path
from wardian.tee.role_table import ROLES, RoleSpec


def role_like(role: str) -> dict[str, RoleSpec]:
    """Return a role table with the probe alone: it may import what `role` may."""
    modules = (*ROLES[role].modules, "wardian.roles.probe")
    return {
        "probe": dataclasses.replace(
            ROLES[role], entry="wardian.roles.probe", modules=modules, product_id=99
        )
    }


ROLE = role_like("broker")


def builder_of(package: Path, directory: Path, like: str = "broker") -> Builder:
    """Return a builder of the probe's role, whose other files are read once."""
    shutil.copytree(
        Path(wardian.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    return Builder(directory, deployment=AGREED, package=package, roles=role_like(like))


class Probe:
    """Launches the probe role with some code and collects what it announces."""

    def __init__(self, build_of: tuple[Path, Path, Builder], state: Path) -> None:
        self.package, self.directory, self.builder = build_of
        self.state = state
        self.state.mkdir()
        self.path = self.package / "roles" / "probe.py"
        self.bytecode = self.directory / bytecode_path(self.path)

    def write(self, source: str) -> bytes:
        """Build the role with `source`, and return its measurement."""
        self.path.write_text(textwrap.dedent(source))
        self.builder._known.pop(f"file:{bytecode_path(self.path)}", None)
        return self.builder.build("probe").mr_enclave

    def run(self, source: str | None = None, **reach) -> tuple[int, list[dict]]:
        if source is not None:
            self.write(source)
        announced: list[dict] = []
        status = launch_simulated(
            "probe",
            directory=self.directory,
            state=self.state,
            host_settings=b'{"from": "host"}',
            reach=Reach(**reach),
            announce=lambda event, fields: announced.append({"event": event, **fields}),
            roles=self.builder._roles,
        )
        return status, announced

    def policy(self, measurement: bytes) -> AppraisalPolicy:
        root = load_platform(self.state / "simulation").root_sha256
        return AppraisalPolicy(
            roots=frozenset({root}), rule=MeasurementIn(frozenset({measurement}))
        )
