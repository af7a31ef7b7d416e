"""What the kernel keeps other processes, and the disk, from."""

from wardian.cli.doctor.finding import Finding, Group, State, in_bytes, lacking, yes
from wardian.cli.doctor.machine import Machine

_GROUP = Group.PROTECTIONS
_MINI_LOCK_BYTES = 64 * 1024  # holds the keys of a process, not its models


def examine_protections(machine: Machine) -> tuple[Finding, ...]:
    """Return which protections this kernel has, and which holes are open."""
    return (
        _landlock(machine),
        _seccomp(machine),
        _ptrace(machine),
        _core_dumps(machine),
        _swap(machine),
        _locked_memory(machine),
    )


def _landlock(machine: Machine) -> Finding:
    name = "Landlock"
    version, open_still = machine.landlock
    if version is None:
        return _unknown(name, "cannot be asked here", cost="simulated enclaves may not be confined")
    if version < 1:
        return lacking(
            _GROUP,
            name,
            "not offered by this kernel",
            cost="simulated enclaves are not confined",
            remedy="Linux 5.13 or newer, with landlock in lsm=",
            notes=open_still,
        )
    return yes(
        _GROUP, name, f"version {version}; leaves {len(open_still)} things open", notes=open_still
    )


def _seccomp(machine: Machine) -> Finding:
    name = "seccomp"
    actions = machine.text("/proc/sys/kernel/seccomp/actions_avail")
    if actions is not None and "kill_process" in actions.split():
        return yes(_GROUP, name, "filters system calls, can end a process")
    if machine.text("/proc/self/status") is None:
        return _unknown(name, "/proc cannot be read", cost="system calls may not be filtered")
    return lacking(
        _GROUP,
        name,
        "no filters",
        cost="simulated enclaves may make any system call",
        remedy="Linux 4.14 or newer with CONFIG_SECCOMP_FILTER",
    )


def _ptrace(machine: Machine) -> Finding:
    name = "ptrace scope"
    scope = machine.number("/proc/sys/kernel/yama/ptrace_scope")
    if scope:
        return yes(_GROUP, name, f"{scope}: not every process of a user may read another")
    if machine.text("/proc/self/status") is None:
        return _unknown(name, "/proc cannot be read", cost="your processes may read each other")
    return lacking(
        _GROUP,
        name,
        "no Yama" if scope is None else "0",
        cost="your other processes can read keys from the memory of this command",
        remedy="sysctl kernel.yama.ptrace_scope=1",
        state=State.RISK,
    )


def _core_dumps(machine: Machine) -> Finding:
    """Return where the memory of a crashing process goes (core(5))."""
    name = "Core dumps"
    pattern = machine.text("/proc/sys/kernel/core_pattern")
    limit = machine.soft_limits.get("core")
    if pattern is None or limit is None:
        if limit == 0:
            return yes(_GROUP, name, "off: the limit is 0")
        return _unknown(name, "the pattern cannot be read", cost="a crash may write keys to a disk")
    pattern = pattern.strip()
    piped = pattern.startswith("|")  # a program gets it, whatever the limit
    if not pattern or pattern == "|/bin/false":
        return yes(_GROUP, name, "off")
    if not piped and limit == 0:
        return yes(_GROUP, name, "off: the limit is 0")
    return lacking(
        _GROUP,
        name,
        "a program takes them" if piped else "written to a file",
        cost="a crash of this command may write keys to a disk",
        remedy="sysctl kernel.core_pattern='|/bin/false'",
        state=State.RISK,
    )


def _swap(machine: Machine) -> Finding:
    name = "Swap"
    text = machine.text("/proc/swaps")
    if text is None:
        return _unknown(name, "/proc/swaps cannot be read", cost="secrets may reach a disk")
    areas = [line.split()[0] for line in text.splitlines()[1:] if line.strip()]
    on_disk = [area for area in areas if not area.startswith("/dev/zram")]
    if not on_disk:
        return yes(_GROUP, name, "off" if not areas else "compressed memory only (zram)")
    return lacking(
        _GROUP,
        name,
        f"on: {' '.join(on_disk)}",
        cost="secrets outside hardware enclaves may reach the disk",
        remedy="swapoff -a, or encrypt it",
        state=State.RISK,
    )


def _locked_memory(machine: Machine) -> Finding:
    name = "Locked memory"
    limit = machine.soft_limits.get("memlock")
    if limit is None:
        return _unknown(name, "this system does not tell", cost="pages may not be kept from swap")
    if limit < 0 or limit >= _MINI_LOCK_BYTES:
        return yes(_GROUP, name, f"{in_bytes(limit)} (RLIMIT_MEMLOCK)")
    return lacking(
        _GROUP,
        name,
        f"{in_bytes(limit)} (RLIMIT_MEMLOCK)",
        cost="no page can be kept from swap",
        remedy="raise memlock in limits.conf",
        state=State.RISK,
    )


def _unknown(name: str, detail: str, *, cost: str) -> Finding:
    return lacking(_GROUP, name, detail, cost=cost, state=State.UNKNOWN)
