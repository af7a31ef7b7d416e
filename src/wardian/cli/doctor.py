"""`wardian doctor`: what this machine can do, and what is missing, on one screen."""

import ctypes
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from wardian._internal import wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked for: whether it is here, and what it is needed for."""

    name: str
    found: bool
    detail: str
    needed_for: str


def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = (
        line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))
    )
    return frozenset(next(flags, []))


def _device(path: str, needed_for: str, name: str) -> Finding:
    there = Path(path).exists()
    usable = there and os.access(path, os.R_OK | os.W_OK)
    detail = path if usable else f"{path}: no permission" if there else f"no {path}"
    return Finding(name=name, found=usable, detail=detail, needed_for=needed_for)


def _program(name: str, needed_for: str) -> Finding:
    path = shutil.which(name)
    return Finding(
        name=name, found=bool(path), detail=path or "not installed", needed_for=needed_for
    )


def _module(name: str, needed_for: str) -> Finding:
    found = importlib.util.find_spec(name) is not None
    detail = "installed" if found else "missing: pip install 'wardian[serve]'"
    return Finding(name=name, found=found, detail=detail, needed_for=needed_for)


def _flag(name: str, *flags: str, needed_for: str) -> Finding:
    present = [flag for flag in flags if flag in _cpu_flags()]
    return Finding(
        name=name, found=bool(present), detail=" ".join(present) or "no", needed_for=needed_for
    )


def _landlock() -> Finding:
    """Ask the kernel which version of Landlock it offers (landlock_create_ruleset(2))."""
    version = -1
    if sys.platform == "linux":
        query_version = 1  # LANDLOCK_CREATE_RULESET_VERSION
        version = ctypes.CDLL(None).syscall(444, None, 0, query_version)
    return Finding(
        name="Landlock",
        found=version > 0,
        detail=f"version {version}" if version > 0 else "not offered by this kernel",
        needed_for="confinement of simulated enclaves",
    )


def _python() -> Finding:
    supported = (3, 11) <= sys.version_info < (3, 14)
    return Finding(
        name="Python",
        found=supported,
        detail=f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        needed_for="everything (3.11 to 3.13)",
    )


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    lambda: _module("openvino", "workers"),
    lambda: _module("httptools", "front ends"),
    lambda: _module("uvloop", "front ends and workers"),
    lambda: _flag("AES instructions", "aes", needed_for="sealing at several GB/s"),
    lambda: _flag("AMX / AVX-512", "amx_tile", "avx512f", needed_for="fast inference"),
    lambda: _flag("SGX instructions", "sgx", needed_for="hardware enclaves"),
    lambda: _device("/dev/sgx_enclave", "hardware enclaves", "SGX driver"),
    lambda: _device("/dev/sgx_provision", "hardware quotes", "SGX provisioning"),
    lambda: _program("gramine-sgx", "hardware enclaves"),
    lambda: _program("gramine-direct", "manifest checks without hardware"),
    _landlock,
    lambda: _program("redis-server", "the Redis queue"),
    lambda: _program("java", "Flink"),
)


def examine() -> tuple[Finding, ...]:
    """Return every finding, in the order in which they are shown."""
    return tuple(check() for check in CHECKS)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(*, as_json: bool) -> None:
    """Say what this machine can do, and what is missing.

    A missing line is no error: it says which part of Wardian this machine cannot run. Without SGX,
    `wardian up` runs with SIMULATED enclaves, which protect nobody from this machine.
    """
    findings = examine()
    if as_json:
        click.echo(wire.encode([asdict(finding) for finding in findings]))
        return
    for finding in findings:
        mark = click.style("yes", fg="green") if finding.found else click.style(" no", fg="yellow")
        click.echo(f"{mark}  {finding.name:<18} {finding.detail:<44} {finding.needed_for}")
    hardware = all(f.found for f in findings if f.name in {"SGX driver", "gramine-sgx"})
    tee = "SGX hardware" if hardware else click.style("SIMULATED", fg="yellow", bold=True)
    click.echo(f"\nEnclaves on this machine: {tee}")
