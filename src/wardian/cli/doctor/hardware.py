"""The processor and the memory."""

from collections.abc import Mapping, Sequence

from wardian.cli.doctor.finding import Finding, Group, State, in_bytes, lacking, yes
from wardian.cli.doctor.machine import Machine, decimal

_GROUP = Group.MACHINE
_VECTORS = ("amx_tile", "avx512f", "avx512_vnni", "avx512_bf16", "avx2", "sve", "i8mm", "bf16")
_FAST_VECTORS = frozenset({"amx_tile", "avx512f", "sve", "i8mm"})
_NO_PROCESSOR = "/proc/cpuinfo cannot be read"


def examine_hardware(machine: Machine, enclave_bytes: Sequence[int]) -> tuple[Finding, ...]:
    """Return what the processor and the memory are good for.

    Args:
        machine: where to look.
        enclave_bytes: the size of each enclave that shall run here at once.
    """
    flags = cpu_flags(machine)
    return (_processor(machine), _aes(flags), _vectors(flags), _memory(machine, enclave_bytes))


def cpu_flags(machine: Machine) -> frozenset[str] | None:
    """Return the processor's flags as Linux names them; None if they cannot be read."""
    flags = _cpu_field(machine, "flags", "Features")
    return None if flags is None else frozenset(flags.split())


def memory(machine: Machine) -> Mapping[str, int]:
    """Return the lines of `/proc/meminfo` in bytes; without it at most `MemTotal`."""
    found = {}
    for line in (machine.text("/proc/meminfo") or "").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        number = decimal(words[0]) if words else None
        if number is not None:
            found[name] = number * (1024 if words[1:] == ["kB"] else 1)
    if "MemTotal" not in found and machine.memory_bytes is not None:
        found["MemTotal"] = machine.memory_bytes
    return found


def _cpu_field(machine: Machine, *names: str) -> str | None:
    """Return the first of the fields that `/proc/cpuinfo` has."""
    for line in (machine.text("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return None


def _processor(machine: Machine) -> Finding:
    model = _cpu_field(machine, "model name", "Model", "Hardware") or machine.architecture
    cores = f"{machine.cores} core{'s' if machine.cores > 1 else ''}"
    return yes(_GROUP, "Processor", f"{model}, {cores}, {machine.system} {machine.architecture}")


def _aes(flags: frozenset[str] | None) -> Finding:
    name = "AES"
    if flags is None:
        return _unreadable(name)
    if "aes" in flags:
        return yes(_GROUP, name, "instructions of the processor")
    return lacking(
        _GROUP, name, "no instructions for it", cost="sealing runs at 0.1 GB/s instead of several"
    )


def _vectors(flags: frozenset[str] | None) -> Finding:
    name = "AMX / AVX-512"
    if flags is None:
        return _unreadable(name)
    present = [flag for flag in _VECTORS if flag in flags]
    if _FAST_VECTORS & flags:
        return yes(_GROUP, name, " ".join(present))
    detail = f"only {' '.join(present)}" if present else "none of them"
    return lacking(_GROUP, name, detail, cost="inference takes several times as long")


def _unreadable(name: str) -> Finding:
    return lacking(
        _GROUP, name, _NO_PROCESSOR, cost="speed cannot be foretold", state=State.UNKNOWN
    )


def _memory(machine: Machine, enclave_bytes: Sequence[int]) -> Finding:
    name, found = "Memory", memory(machine)
    if "MemTotal" not in found:
        return lacking(_GROUP, name, "unknown", cost="enclaves may not fit", state=State.UNKNOWN)
    total = found["MemTotal"]
    available = found.get("MemAvailable", total)
    asked = sum(enclave_bytes)
    detail = (
        f"{in_bytes(total)}, {in_bytes(available)} of it available; "
        f"{len(enclave_bytes)} enclaves ask for {in_bytes(asked)}"
    )
    if asked <= available:
        return yes(_GROUP, name, detail)
    return lacking(
        _GROUP,
        name,
        detail,
        cost="they will not all start",
        remedy="smaller or fewer enclaves, or more memory",
        state=State.RISK,
    )
