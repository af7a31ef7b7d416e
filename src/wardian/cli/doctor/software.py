"""Python, the modules of the servers, and the programs that the optional engines need."""

import re

from wardian.cli.doctor.finding import Finding, Group, State, lacking, yes
from wardian.cli.doctor.machine import Machine

_GROUP = Group.SOFTWARE
_OLDEST_PYTHON, _TOO_NEW_PYTHON = (3, 11, 0), (3, 14, 0)
_OLDEST_REDIS, _OLDEST_JAVA = 6, 17
_MODULES = (
    ("openvino", "no workers"),
    ("httptools", "no front ends"),
    ("uvloop", "no front ends and workers"),
)
_SERVERS = ("redis-server", "valkey-server")


def examine_software(machine: Machine) -> tuple[Finding, ...]:
    """Return what is installed of that which Wardian can use."""
    modules = (_module(machine, name, cost) for name, cost in _MODULES)
    return (_python(machine), *modules, _redis(machine), _java(machine))


def _python(machine: Machine) -> Finding:
    version = ".".join(str(number) for number in machine.python)
    if _OLDEST_PYTHON <= machine.python < _TOO_NEW_PYTHON:
        return yes(_GROUP, "Python", version)
    return lacking(
        _GROUP,
        "Python",
        version,
        cost="Wardian is not tested on it",
        remedy="install Python 3.11, 3.12 or 3.13",
        state=State.RISK,
    )


def _module(machine: Machine, name: str, cost: str) -> Finding:
    version = machine.module(name)
    if version is not None:
        return yes(_GROUP, name, version or "installed")
    return lacking(_GROUP, name, "not installed", cost=cost, remedy="pip install 'wardian[serve]'")


def _redis(machine: Machine) -> Finding:
    remedy = f"install {' or '.join(_SERVERS)}, {_OLDEST_REDIS} or newer"
    program = next((name for name in _SERVERS if machine.which(name)), None)
    if program is None:
        return lacking(_GROUP, "Redis", "not installed", cost="no queue in Redis", remedy=remedy)
    told = machine.run([machine.which(program) or program, "--version"]) or ""
    found = re.search(r"\bv=(\d{1,4})((?:\.\d{1,6}){0,3})\b", told)
    return _versioned(
        "Redis",
        program,
        version="".join(found.groups()) if found else None,
        major=int(found[1]) if found else None,
        oldest=_OLDEST_REDIS,
        cost="no queue in Redis",
        remedy=remedy,
    )


def _java(machine: Machine) -> Finding:
    remedy = f"install a Java runtime, {_OLDEST_JAVA} or newer"
    program = machine.which("java")
    if program is None:
        return lacking(_GROUP, "Java", "not installed", cost="no Flink", remedy=remedy)
    told = machine.run([program, "-version"]) or ""
    found = re.search(r'version "(?:1\.)?(\d{1,4})([\d._]{0,20})', told)  # 8 calls itself 1.8
    return _versioned(
        "Java",
        "java",
        version="".join(found.groups()) if found else None,
        major=int(found[1]) if found else None,
        oldest=_OLDEST_JAVA,
        cost="no Flink",
        remedy=remedy,
    )


def _versioned(
    name: str,
    program: str,
    *,
    version: str | None,
    major: int | None,
    oldest: int,
    cost: str,
    remedy: str,
) -> Finding:
    if version is None or major is None:
        return lacking(
            _GROUP,
            name,
            f"{program} does not tell its version",
            cost=f"perhaps {cost}",
            remedy=remedy,
            state=State.UNKNOWN,
        )
    if major < oldest:
        return lacking(_GROUP, name, f"{program} {version} is too old", cost=cost, remedy=remedy)
    return yes(_GROUP, name, f"{program} {version}")
