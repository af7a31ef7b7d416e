"""What runs and attests hardware enclaves: SGX with Gramine, and guests with TDX or SEV-SNP."""

import re
from collections.abc import Sequence
from pathlib import Path

from wardian.cli.doctor.finding import Finding, Group, State, in_bytes, lacking, yes
from wardian.cli.doctor.hardware import cpu_flags
from wardian.cli.doctor.machine import Machine

_GROUP = Group.ENCLAVES
_ENCLAVE, _PROVISION = "/dev/sgx_enclave", "/dev/sgx_provision"
_AESM, _QCNL = "/var/run/aesmd/aesm.socket", "/etc/sgx_default_qcnl.conf"
_REPORTS = "/sys/kernel/config/tsm/report"
_NODES = "/sys/devices/system/node"
_NO_ENCLAVES = "no hardware enclaves, only SIMULATED ones"
_NO_QUOTES = "no quotes, so no broker releases a key"
_NO_TDX_QUOTES = "a TDX guest cannot quote"
_NOTHING = "costs nothing: Wardian verifies SGX alone so far"
_DRIVER = "Linux 5.11 or newer with CONFIG_X86_SGX"
_NEEDED_GRAMINE = (1, 9)
_GRAMINE_VERSION = "import importlib.metadata as m; print(m.version('graminelibos'))"


def examine_enclaves(machine: Machine, enclave_bytes: Sequence[int]) -> tuple[Finding, ...]:
    """Return what this machine has for enclaves that hardware protects.

    Args:
        machine: where to look.
        enclave_bytes: the size of each enclave that shall run here at once.
    """
    flags = cpu_flags(machine)
    sgx = _sgx(flags)
    of_sgx = (_epc(machine, enclave_bytes), _driver(machine), _provision(machine))
    return (
        sgx,
        *(_moot(finding, sgx) for finding in (*of_sgx, _quoting(machine))),
        _gramine(machine),
        *_guests(machine, flags or frozenset()),
    )


def _moot(finding: Finding, needed: Finding) -> Finding:
    """Return `finding` without advice that leads nowhere as long as what it needs is missing."""
    if State.YES in {finding.state, needed.state}:
        return finding
    return lacking(_GROUP, finding.name, finding.detail, cost=f"needs {needed.name}")


def _sgx(flags: frozenset[str] | None) -> Finding:
    name = "SGX"
    if flags is None:
        return lacking(
            _GROUP,
            name,
            "/proc/cpuinfo cannot be read",
            cost=_NO_ENCLAVES,
            remedy="SGX needs Linux on a server processor that has it",
            state=State.UNKNOWN,
        )
    if {"sgx", "sgx_lc"} <= flags:
        return yes(_GROUP, name, "sgx, sgx_lc")
    return lacking(
        _GROUP,
        name,
        "without launch control" if "sgx" in flags else "not shown by the processor",
        cost=_NO_ENCLAVES,
        remedy="a server processor with SGX; switch it and its launch control on in the firmware",
    )


def _epc(machine: Machine, enclave_bytes: Sequence[int]) -> Finding:
    name, asked = "Enclave memory", sum(enclave_bytes)
    nodes = [node for node in machine.names(_NODES) if re.fullmatch(r"node\d+", node)]
    sizes = [machine.number(f"{_NODES}/{node}/x86/sgx_total_bytes") for node in nodes]
    found = [size for size in sizes if size is not None]
    if not found:
        return lacking(
            _GROUP,
            name,
            "the kernel does not tell",
            cost="enclaves may not fit",
            remedy="Linux 5.17 or newer tells; see what is set aside (PRMRR) in the firmware",
            state=State.UNKNOWN,
        )
    detail = f"{in_bytes(sum(found))} EPC on {len(found)} node{'s' if len(found) > 1 else ''}"
    if sum(found) >= asked:
        return yes(_GROUP, name, detail)
    return lacking(
        _GROUP,
        name,
        f"{detail}, {in_bytes(asked)} asked for",
        cost="enclaves page, many times slower",
        remedy="set more aside (PRMRR) in the firmware, or run fewer and smaller enclaves",
        state=State.RISK,
    )


def _driver(machine: Machine) -> Finding:
    name = "SGX driver"
    if not machine.exists(_ENCLAVE):
        return lacking(_GROUP, name, f"no {_ENCLAVE}", cost=_NO_ENCLAVES, remedy=_DRIVER)
    if machine.may_use(_ENCLAVE):
        return yes(_GROUP, name, _ENCLAVE)
    return lacking(
        _GROUP,
        name,
        f"{_ENCLAVE}: no permission",
        cost=_NO_ENCLAVES,
        remedy="join the group that owns the device, and log in again",
    )


def _provision(machine: Machine) -> Finding:
    """Return whether quoting has its device: Intel's service opens it, not this user."""
    name = "SGX provision"
    if machine.exists(_PROVISION):
        return yes(_GROUP, name, _PROVISION)
    return lacking(_GROUP, name, f"no {_PROVISION}", cost=_NO_QUOTES, remedy=_DRIVER)


def _quoting(machine: Machine) -> Finding:
    name = "SGX quoting"
    if not machine.exists(_AESM):
        return lacking(
            _GROUP,
            name,
            f"no {_AESM}",
            cost=_NO_QUOTES,
            remedy="install and start Intel's aesmd with its plugin for ECDSA quotes",
        )
    if not machine.exists(_QCNL):
        return lacking(
            _GROUP,
            name,
            f"aesmd runs; no {_QCNL}",
            cost="quotes may fail",
            remedy="name a provisioning cache (PCCS) in it, unless your cloud has its own provider",
            state=State.RISK,
        )
    return yes(_GROUP, name, f"aesmd runs, {_QCNL}")


def _gramine(machine: Machine) -> Finding:
    name = "Gramine"
    programs = [p for p in ("gramine-sgx", "gramine-direct") if machine.which(p)]
    if "gramine-sgx" not in programs:
        return lacking(
            _GROUP,
            name,
            f"only {programs[0]}" if programs else "not installed",
            cost=_NO_ENCLAVES if programs else "no enclaves, no tests of manifests",
            remedy="install the package gramine, 1.9 or newer",
        )
    version = _gramine_version(machine)
    detail = f"{version or 'of unknown version'}: {' '.join(programs)}"
    found = re.match(r"(\d{1,6})\.(\d{1,6})", version or "")
    if found and (int(found[1]), int(found[2])) < _NEEDED_GRAMINE:
        return lacking(
            _GROUP,
            name,
            detail,
            cost="manifests are written for 1.9",
            remedy="install the package gramine, 1.9 or newer",
            state=State.RISK,
        )
    return yes(_GROUP, name, detail)


def _gramine_version(machine: Machine) -> str | None:
    """Return the version, which no tool of Gramine prints: it is that of its Python library.

    The library belongs to the interpreter that Gramine's own tools name in their first line.
    """
    tool = machine.which("gramine-manifest")
    if tool is None:
        return None
    try:
        with Path(tool).open("rb") as file:
            first = file.readline(256).decode(errors="replace").strip()
    except OSError:
        return None
    if not first.startswith("#!"):
        return None
    told = machine.run([*first[2:].split(), "-I", "-c", _GRAMINE_VERSION]) or ""
    found = re.fullmatch(r"\d{1,4}\.\d{1,4}[\w.+~-]{0,20}", told.strip())
    return found[0] if found else None


def _guests(machine: Machine, flags: frozenset[str]) -> tuple[Finding, Finding, Finding]:
    is_tdx = "tdx_guest" in flags or machine.exists("/dev/tdx_guest")
    hosts_tdx = (machine.text("/sys/module/kvm_intel/parameters/tdx") or "").strip() == "Y"
    tdx = _guest("TDX guest", here=is_tdx, hosts=hosts_tdx)
    snp = _guest("SEV-SNP guest", here=machine.exists("/dev/sev-guest"), hosts="sev_snp" in flags)
    reports = _reports(machine)
    return tdx, snp, reports if is_tdx else _moot(reports, tdx)


def _guest(name: str, *, here: bool, hosts: bool) -> Finding:
    if here:
        return lacking(
            _GROUP,
            name,
            "this is one",
            cost="but Wardian's verifier does not read its evidence yet",
            state=State.RISK,
        )
    detail = "none, but this host can start some" if hosts else "none"
    return lacking(_GROUP, name, detail, cost=_NOTHING)


def _reports(machine: Machine) -> Finding:
    name = "configfs-tsm"
    if not machine.exists(_REPORTS):
        return lacking(
            _GROUP,
            name,
            f"no {_REPORTS}",
            cost=_NO_TDX_QUOTES,
            remedy="Linux 6.7 or newer in the guest, configfs mounted, the module tdx_guest loaded",
        )
    if machine.may_use(_REPORTS):
        return yes(_GROUP, name, _REPORTS)
    return lacking(
        _GROUP,
        name,
        f"{_REPORTS}: no permission",
        cost=_NO_TDX_QUOTES,
        remedy="run the role as root of the guest",
    )
