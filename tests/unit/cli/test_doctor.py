"""`wardian doctor` on machines that are not this one: directories in the place of /proc and /sys."""

import json
import os
import platform
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from wardian.cli.doctor import command, doctor
from wardian.cli.doctor.command import ROLE_SIZES, examine
from wardian.cli.doctor.finding import Finding, Group, State, in_bytes
from wardian.cli.doctor.machine import Machine, module_version, run_bounded, this_machine
from wardian.cli.doctor.screen import MAX_COLUMNS, MAX_LINES, render, verdict

GIB = 1024**3
OPEN_STILL = tuple(f"It may do the thing number {n}, which no kernel prevents." for n in range(8))
ADVICE = (State.NO, State.RISK, State.UNKNOWN)

XEON = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8592+
flags\t\t: fpu aes avx2 avx512f avx512_vnni amx_tile amx_int8 sgx sgx_lc
"""
XEON_GUEST = XEON.replace("sgx sgx_lc", "hypervisor tdx_guest")
LAPTOP = """processor\t: 0
model name\t: Intel(R) Celeron(R) N2840 @ 2.16GHz
flags\t\t: fpu sse2 ssse3
"""
GRAVITON = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes sha1 i8mm bf16 sve\n"
MEMORY = "MemTotal:       {total} kB\nMemFree:        1 kB\nMemAvailable:   {available} kB\n"
NO_SWAP = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
PROTECTED = {
    "/proc/self/status": "Name:\tpython\n",
    "/proc/swaps": NO_SWAP,
    "/proc/sys/kernel/core_pattern": "core\n",
    "/proc/sys/kernel/seccomp/actions_avail": "kill_process kill_thread trap errno allow\n",
    "/proc/sys/kernel/yama/ptrace_scope": "1\n",
}
SGX_SERVER = PROTECTED | {
    "/proc/cpuinfo": XEON,
    "/proc/meminfo": MEMORY.format(total=256 * 1024**2, available=200 * 1024**2),
    "/sys/devices/system/node/node0/x86/sgx_total_bytes": f"{64 * GIB}\n",
    "/sys/devices/system/node/node1/x86/sgx_total_bytes": f"{64 * GIB}\n",
    "/sys/devices/system/node/online": "0-1\n",
    "/dev/sgx_enclave": "",
    "/dev/sgx_provision": "",
    "/var/run/aesmd/aesm.socket": "",
    "/etc/sgx_default_qcnl.conf": '{"pccs_url": "secret"}',
}
PROGRAMS = {
    "gramine-sgx": "/usr/bin/gramine-sgx",
    "gramine-direct": "/usr/bin/gramine-direct",
    "redis-server": "/usr/bin/redis-server",
    "java": "/usr/bin/java",
}
OUTPUTS = {
    "/usr/bin/redis-server": "Redis server v=7.2.4 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64\n",
    "/usr/bin/java": 'openjdk version "21.0.4" 2024-07-16\nOpenJDK Runtime Environment\n',
    "/usr/bin/python3": "1.9\n",
}
NOTHING_INSTALLED = {
    "programs": {},
    "module": lambda _: None,
    "python": (3, 14, 0),
    "soft_limits": {"core": -1, "memlock": 0},
    "landlock": (0, OPEN_STILL),
}


@pytest.fixture
def build(tmp_path):
    """Return a function that makes a machine of files, programs and what these print."""

    def build_machine(files, *, programs=PROGRAMS, outputs=OUTPUTS, **changes) -> Machine:
        root = tmp_path / "root"
        for name, content in files.items():
            path = root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        tool = tmp_path / "gramine-manifest"
        tool.write_text("#!/usr/bin/python3\nimport graminelibos\n")
        if "gramine-sgx" in programs:
            programs = {"gramine-manifest": str(tool)} | programs
        machine = Machine(
            root=root,
            system="Linux",
            architecture="x86_64",
            python=(3, 11, 7),
            cores=64,
            memory_bytes=None,
            soft_limits={"core": 0, "memlock": 8 * 1024**2},
            landlock=(7, OPEN_STILL[:2]),
            which=programs.get,
            run=lambda arguments: outputs.get(arguments[0]),
            module={"openvino": "2026.2.0", "httptools": "0.7.1", "uvloop": ""}.get,
            usable=lambda path: path.exists(),
        )
        return replace(machine, **changes)

    return build_machine


@pytest.fixture
def sgx_server(build):
    return build(SGX_SERVER)


@pytest.fixture
def tdx_guest(build):
    files = PROTECTED | {
        "/proc/cpuinfo": XEON_GUEST,
        "/proc/meminfo": MEMORY.format(total=16 * 1024**2, available=15 * 1024**2),
        "/dev/tdx_guest": "",
        "/sys/kernel/config/tsm/report/.keep": "",
    }
    return build(files, programs={"java": "/usr/bin/java"})


@pytest.fixture
def laptop(build):
    """A small one with nothing installed and everything switched off."""
    files = {
        "/proc/cpuinfo": LAPTOP,
        "/proc/meminfo": MEMORY.format(total=4 * 1024**2, available=2 * 1024**2),
        "/proc/self/status": "Name:\tpython\n",
        "/proc/swaps": NO_SWAP + "/dev/sda2   partition\t4194300\t0\t-2\n",
        "/proc/sys/kernel/core_pattern": "|/usr/lib/systemd/systemd-coredump %P %u\n",
        "/proc/sys/kernel/yama/ptrace_scope": "0\n",
    }
    return build(files, **NOTHING_INSTALLED)


@pytest.fixture
def mac(build):
    return build(
        {},
        programs={},
        system="Darwin",
        architecture="arm64",
        cores=8,
        memory_bytes=16 * GIB,
        soft_limits={"core": 0, "memlock": -1},
        landlock=(None, ()),
    )


@pytest.fixture
def windows(build):
    changes = {"system": "Windows", "soft_limits": {}, "landlock": (None, ())}
    return build({}, **(NOTHING_INSTALLED | changes))


@pytest.fixture
def walled(build):
    """A container in which /proc is a file and everything in /sys is of the wrong kind."""
    machine = build({"/proc": "not for you", "/dev": "", "/etc": "", "/sys": "", "/var": ""})
    return replace(machine, landlock=(None, ()), soft_limits={})


@pytest.fixture
def worst(build):
    """SGX in the processor, and everything that can be missing beside it is."""
    files = {
        "/proc/cpuinfo": LAPTOP.replace("fpu", "fpu sgx sgx_lc"),
        "/proc/meminfo": MEMORY.format(total=4 * 1024**2, available=2 * 1024**2),
        "/proc/self/status": "",
        "/proc/swaps": NO_SWAP + "/swapfile file 1 0 -2\n",
        "/proc/sys/kernel/core_pattern": "/var/crash/core.%p\n",
        "/sys/devices/system/node/node0/x86/sgx_total_bytes": f"{64 * 1024**2}\n",
    }
    return build(files, **NOTHING_INSTALLED)


MACHINES = ("sgx_server", "tdx_guest", "laptop", "mac", "windows", "walled", "worst")


@pytest.fixture(params=MACHINES)
def any_machine(request):
    return request.getfixturevalue(request.param)


def found(machine, sizes=ROLE_SIZES) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(machine, sizes)}


def states(machine) -> dict[str, State]:
    return {name: finding.state for name, finding in found(machine).items()}


def lines(machine) -> list[str]:
    return [click.unstyle(line) for line in render(examine(machine, ROLE_SIZES))]


# --- what every machine gets ---------------------------------------------------------------------


def test_one_screen(any_machine):
    shown = lines(any_machine)
    assert len(shown) <= MAX_LINES
    assert max(len(line) for line in shown) <= MAX_COLUMNS
    assert not any(line.endswith("...") for line in shown)  # nothing had to be cut
    assert shown[-1].startswith("Enclaves on this machine: ")


def test_every_finding_is_on_the_screen_and_every_remedy(any_machine):
    text = "\n".join(lines(any_machine))
    for finding in examine(any_machine, ROLE_SIZES):
        assert f" {finding.name} " in text
        assert finding.detail in text
        assert finding.cost in text
        assert not finding.remedy or f"get it: {finding.remedy}" in text


def test_findings_are_well_formed(any_machine):
    findings = examine(any_machine, ROLE_SIZES)
    assert len({finding.name for finding in findings}) == len(findings)
    for finding in findings:
        assert len(finding.name) <= 15
        assert finding.detail
        assert bool(finding.cost) == (finding.state in ADVICE), finding
        assert finding.state in ADVICE or not finding.remedy
        assert "://" not in finding.remedy


def test_all_machines_are_asked_the_same(build):
    names = [f.name for f in examine(build({}), ROLE_SIZES)]
    assert names == [f.name for f in examine(build(SGX_SERVER), ROLE_SIZES)]
    assert {"Python", "SGX driver", "Landlock", "openvino"} <= set(names)


# --- whole machines ------------------------------------------------------------------------------


def test_sgx_server_has_everything(sgx_server):
    missing = {name for name, state in states(sgx_server).items() if state is not State.YES}
    assert missing == {"TDX guest", "SEV-SNP guest", "configfs-tsm"}
    here = found(sgx_server)
    assert "Xeon(R) Platinum 8592+, 64 cores" in here["Processor"].detail
    assert here["AMX / AVX-512"].detail == "amx_tile avx512f avx512_vnni avx2"
    assert here["Enclave memory"].detail == "128.0 GiB EPC on 2 nodes"
    assert here["Memory"].detail.startswith("256.0 GiB, 200.0 GiB of it available; 3 enclaves")
    assert here["Gramine"].detail == "1.9: gramine-sgx gramine-direct"
    assert here["Redis"].detail == "redis-server 7.2.4"
    assert here["Java"].detail == "java 21.0.4"
    assert here["uvloop"].detail == "installed"
    assert here["Landlock"].notes == OPEN_STILL[:2]
    assert lines(sgx_server)[-1] == "Enclaves on this machine: SGX hardware"


def test_configuration_of_the_provisioning_cache_is_not_shown(sgx_server):
    assert "secret" not in "\n".join(lines(sgx_server))


def test_tdx_guest(tdx_guest):
    here = found(tdx_guest)
    assert here["TDX guest"].state is State.RISK
    assert "does not read its evidence yet" in here["TDX guest"].cost
    assert here["configfs-tsm"].state is State.YES
    assert here["SGX driver"].cost == "needs SGX"
    assert "SIMULATED" in lines(tdx_guest)[-1]


def test_bare_laptop(laptop):
    here = states(laptop)
    assert State.YES not in {state for name, state in here.items() if name != "Processor"}
    assert {n for n, s in here.items() if s is State.RISK} == {
        "Memory", "ptrace scope", "Core dumps", "Swap", "Locked memory", "Python",
    }  # fmt: skip
    text = "\n".join(lines(laptop))
    assert text.count("pip install 'wardian[serve]'") == 1  # said once for three modules
    assert "get it: Linux 5.11" not in text  # no driver helps a processor without SGX
    assert "SIMULATED, which protect nobody" in lines(laptop)[-1]


def test_worst_machine_uses_the_screen_up(worst):
    shown = lines(worst)
    assert len(shown) == MAX_LINES
    assert "leaves" not in "\n".join(shown)
    assert OPEN_STILL[0] not in "\n".join(shown)  # notes are the first to go


def test_mac_without_proc(mac):
    here = found(mac)
    assert here["Processor"].detail == "arm64, 8 cores, Darwin arm64"
    assert here["Memory"].detail.startswith("16.0 GiB, 16.0 GiB of it available")
    assert here["openvino"].state is State.YES
    unknown = {name for name, finding in here.items() if finding.state is State.UNKNOWN}
    assert unknown == {
        "AES", "AMX / AVX-512", "SGX", "Landlock", "seccomp", "ptrace scope", "Swap",
    }  # fmt: skip
    assert here["Core dumps"].state is State.YES
    assert here["Locked memory"].detail == "no limit (RLIMIT_MEMLOCK)"


def test_walls_everywhere(walled):
    here = states(walled)
    assert here["Memory"] is State.UNKNOWN
    assert here["Core dumps"] is State.UNKNOWN
    assert here["Locked memory"] is State.UNKNOWN
    assert here["SGX driver"] is State.NO
    assert "SIMULATED" in lines(walled)[-1]


def test_directories_in_the_place_of_files(build):
    machine = build({f"{name}/x": "" for name in SGX_SERVER if name.startswith("/proc")})
    assert states(machine)["Memory"] is State.UNKNOWN


# --- the processor and the memory ----------------------------------------------------------------


def test_arm(build):
    machine = build({"/proc/cpuinfo": GRAVITON}, architecture="aarch64", cores=1)
    here = found(machine)
    assert here["Processor"].detail == "aarch64, 1 core, Linux aarch64"
    assert here["AES"].state is State.YES
    assert here["AMX / AVX-512"].detail == "sve i8mm bf16"


@pytest.mark.parametrize(("flags", "detail"), [("avx2", "only avx2"), ("sse2", "none of them")])
def test_slow_vectors(build, flags, detail):
    here = found(build({"/proc/cpuinfo": f"flags : {flags}\n"}))["AMX / AVX-512"]
    assert (here.state, here.detail) == (State.NO, detail)


@pytest.mark.parametrize(
    ("sizes", "state"),
    [((2 * GIB,), State.YES), ((GIB, GIB), State.YES), ((GIB, 2 * GIB), State.RISK)],
)
def test_memory_is_held_against_all_enclaves_together(build, sizes, state):
    text = MEMORY.format(total=64 * 1024**2, available=2 * 1024**2)
    here = found(build({"/proc/meminfo": text}), sizes)["Memory"]
    assert here.state is state
    assert f"{len(sizes)} enclaves ask for {in_bytes(sum(sizes))}" in here.detail


@pytest.mark.parametrize(
    "text",
    ["", "MemTotal", "MemTotal:\n", "MemTotal: many kB\n", "MemTotal: -5 kB\n", "\0\xff"]
    + [f"MemTotal: {number} kB\n" for number in ("²", "9" * 5000, "١٢")],
)
def test_broken_meminfo(build, text):
    assert found(build({"/proc/meminfo": text}))["Memory"].state is State.UNKNOWN


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (8 * 1024**2, "8.0 MiB"), (-1, "no limit"),
     (4 * GIB, "4.0 GiB"), (3 * 1024 * GIB, "3.0 TiB")],
)  # fmt: skip
def test_sizes_for_a_person(count, text):
    assert in_bytes(count) == text


# --- hardware enclaves ---------------------------------------------------------------------------


def without(*names: str) -> dict[str, str]:
    return {name: content for name, content in SGX_SERVER.items() if name not in names}


@pytest.mark.parametrize(
    ("name", "finding", "remedy"),
    [
        ("/dev/sgx_enclave", "SGX driver", "CONFIG_X86_SGX"),
        ("/dev/sgx_provision", "SGX provision", "CONFIG_X86_SGX"),
        ("/var/run/aesmd/aesm.socket", "SGX quoting", "aesmd"),
    ],
)
def test_each_part_of_sgx_is_needed(build, name, finding, remedy):
    machine = build(without(name))
    here = found(machine)[finding]
    assert here.state is State.NO
    assert name in here.detail
    assert remedy in here.remedy
    assert "SIMULATED" in lines(machine)[-1]


def test_cache_of_the_cloud_is_no_reason_to_deny_sgx(build):
    machine = build(without("/etc/sgx_default_qcnl.conf"))
    assert states(machine)["SGX quoting"] is State.RISK
    assert lines(machine)[-1].endswith("SGX hardware")


def test_driver_without_permission(sgx_server):
    machine = replace(sgx_server, usable=lambda path: path.name != "sgx_enclave")
    here = found(machine)["SGX driver"]
    assert (here.state, here.detail) == (State.NO, "/dev/sgx_enclave: no permission")
    assert "group" in here.remedy
    assert "SIMULATED" in lines(machine)[-1]


def test_sgx_without_launch_control(build):
    machine = build(SGX_SERVER | {"/proc/cpuinfo": XEON.replace("sgx_lc", "")})
    assert found(machine)["SGX"].detail == "without launch control"
    assert found(machine)["SGX driver"].state is State.YES  # what is there is told
    assert "SIMULATED" in lines(machine)[-1]


def test_too_little_enclave_memory(build):
    files = without("/sys/devices/system/node/node1/x86/sgx_total_bytes")
    files["/sys/devices/system/node/node0/x86/sgx_total_bytes"] = f"{93 * 1024**2}\n"
    here = found(build(files))["Enclave memory"]
    assert here.state is State.RISK
    assert here.detail == "93.0 MiB EPC on 1 node, 6.0 GiB asked for"


@pytest.mark.parametrize("text", ["", "-1\n", "many\n", "١٢\n", "²\n", "9" * 5000])
def test_enclave_memory_that_is_no_number(build, text):
    files = without("/sys/devices/system/node/node1/x86/sgx_total_bytes")
    files["/sys/devices/system/node/node0/x86/sgx_total_bytes"] = text
    assert found(build(files))["Enclave memory"].state is State.UNKNOWN


@pytest.mark.parametrize(
    ("printed", "state", "detail"),
    [
        ("1.9\n", State.YES, "1.9: "),
        ("1.10\n", State.YES, "1.10: "),
        ("2.0~rc1\n", State.YES, "2.0~rc1: "),
        ("1.8\n", State.RISK, "1.8: "),
        ("1.6.2\n", State.RISK, "1.6.2: "),
        (None, State.YES, "of unknown version: "),
        ("Traceback (most recent call last):\n", State.YES, "of unknown version: "),
        ("1.9\n\x1b[2J", State.YES, "of unknown version: "),
    ],
)
def test_version_of_gramine(build, printed, state, detail):
    here = found(build(SGX_SERVER, outputs=OUTPUTS | {"/usr/bin/python3": printed}))["Gramine"]
    assert here.state is state
    assert here.detail.startswith(detail)


def test_gramines_library_is_asked_through_gramines_own_interpreter(sgx_server, tmp_path):
    asked = []
    machine = replace(sgx_server, run=lambda arguments: asked.append(list(arguments)))
    (tmp_path / "gramine-manifest").write_text("#!/usr/bin/env python3.12 -s\n")
    examine(machine, ROLE_SIZES)
    (gramine,) = [arguments for arguments in asked if "-c" in arguments]
    assert gramine[:5] == ["/usr/bin/env", "python3.12", "-s", "-I", "-c"]


@pytest.mark.parametrize("content", [b"", b"\x7fELF\xff\xff", b"import os\n"])
def test_gramine_manifest_that_is_no_script_is_not_run(sgx_server, tmp_path, content):
    asked = []
    machine = replace(sgx_server, run=lambda arguments: asked.append(list(arguments)))
    (tmp_path / "gramine-manifest").write_bytes(content)
    assert found(machine)["Gramine"].detail.startswith("of unknown version")
    (tmp_path / "gramine-manifest").unlink()
    assert found(machine)["Gramine"].detail.startswith("of unknown version")
    machine = replace(machine, which={"gramine-sgx": "/usr/bin/gramine-sgx"}.get)
    assert found(machine)["Gramine"].detail.startswith("of unknown version")
    assert not [arguments for arguments in asked if "-c" in arguments]


def test_gramine_direct_alone(build):
    here = found(build(SGX_SERVER, programs={"gramine-direct": "/usr/bin/gramine-direct"}))
    assert here["Gramine"].state is State.NO
    assert here["Gramine"].detail == "only gramine-direct"


def test_hosts_of_guests(build):
    files = {
        "/proc/cpuinfo": "flags : sev_snp\n",
        "/sys/module/kvm_intel/parameters/tdx": "Y\n",
    }
    here = found(build(files))
    assert here["TDX guest"].detail == here["SEV-SNP guest"].detail
    assert "can start some" in here["TDX guest"].detail


def test_snp_guest(build):
    machine = build({"/proc/cpuinfo": LAPTOP, "/dev/sev-guest": ""})
    assert found(machine)["SEV-SNP guest"].state is State.RISK
    assert "SIMULATED" in lines(machine)[-1]


def test_reports_without_permission(tdx_guest):
    here = found(replace(tdx_guest, usable=lambda _: False))["configfs-tsm"]
    assert here.state is State.NO
    assert "root" in here.remedy


def test_tdx_guest_without_reports(build):
    here = found(build({"/dev/tdx_guest": "", "/proc/cpuinfo": LAPTOP}))["configfs-tsm"]
    assert here.state is State.NO
    assert "6.7" in here.remedy


# --- protections ---------------------------------------------------------------------------------


def test_landlock_tells_what_it_leaves_open(sgx_server):
    machine = replace(sgx_server, landlock=(3, OPEN_STILL[:6]))
    assert found(machine)["Landlock"].detail == "version 3; leaves 6 things open"
    shown = lines(machine)
    at = next(n for n, line in enumerate(shown) if "Landlock" in line)
    assert [line.strip() for line in shown[at + 1 : at + 7]] == list(OPEN_STILL[:6])


def test_notes_that_do_not_fit_are_counted(sgx_server):
    shown = lines(replace(sgx_server, landlock=(1, tuple(f"Thing {n}." for n in range(40)))))
    assert len(shown) == MAX_LINES
    (more,) = [line for line in shown if " more: " in line]
    told = sum(1 for line in shown if line.strip().startswith("Thing "))
    assert more.strip() == f"and {40 - told} more: wardian doctor --json"


@pytest.mark.parametrize(
    ("pattern", "limit", "state"),
    [
        ("core\n", 0, State.YES),
        ("core\n", -1, State.RISK),
        ("core\n", 1, State.RISK),
        ("/var/crash/%p\n", 0, State.YES),
        ("|/usr/bin/handler %p\n", 0, State.RISK),  # a pipe is fed whatever the limit
        ("|/bin/false\n", -1, State.YES),
        ("\n", -1, State.YES),
    ],
)
def test_core_dumps(build, pattern, limit, state):
    machine = build({"/proc/sys/kernel/core_pattern": pattern}, soft_limits={"core": limit})
    assert found(machine)["Core dumps"].state is state


@pytest.mark.parametrize(
    ("text", "state", "detail"),
    [
        (NO_SWAP, State.YES, "off"),
        ("", State.YES, "off"),
        (NO_SWAP + "/dev/zram0 partition 1 0 100\n", State.YES, "compressed memory only (zram)"),
        (
            NO_SWAP + "/dev/zram0 partition 1 0 100\n/swapfile file 1 0 -2\n",
            State.RISK,
            "on: /swapfile",
        ),
    ],
)
def test_swap(build, text, state, detail):
    here = found(build({"/proc/swaps": text}))["Swap"]
    assert (here.state, here.detail) == (state, detail)


@pytest.mark.parametrize(
    ("scope", "state"), [("0", State.RISK), ("1", State.YES), ("3", State.YES), ("²", State.RISK)]
)
def test_ptrace_scope(build, scope, state):
    files = {"/proc/self/status": "", "/proc/sys/kernel/yama/ptrace_scope": scope}
    assert found(build(files))["ptrace scope"].state is state


def test_kernel_without_yama_or_filters(build):
    here = found(build({"/proc/self/status": ""}))
    assert (here["ptrace scope"].state, here["ptrace scope"].detail) == (State.RISK, "no Yama")
    assert here["seccomp"].state is State.NO


def test_filters_that_cannot_end_a_process(build):
    files = {"/proc/self/status": "", "/proc/sys/kernel/seccomp/actions_avail": "kill errno\n"}
    assert found(build(files))["seccomp"].state is State.NO


# --- software ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("python", "state"),
    [
        ((3, 10, 9), State.RISK),
        ((3, 11, 0), State.YES),
        ((3, 13, 9), State.YES),
        ((3, 14, 0), State.RISK),
    ],
)
def test_python(build, python, state):
    assert found(build({}, python=python))["Python"].state is state


@pytest.mark.parametrize(
    ("program", "printed", "state", "detail"),
    [
        ("redis-server", "Redis server v=6.0.16 sha=0", State.YES, "redis-server 6.0.16"),
        ("redis-server", "Redis server v=5.0.14 sha=0", State.NO, "redis-server 5.0.14 is too old"),
        ("valkey-server", "Valkey server v=8.1.1 sha=0", State.YES, "valkey-server 8.1.1"),
        ("redis-server", "cannot open shared object", State.UNKNOWN, "redis-server does not tell"),
        ("redis-server", None, State.UNKNOWN, "redis-server does not tell"),
        ("redis-server", "v=" + "9" * 5000, State.UNKNOWN, "redis-server does not tell"),
    ],
)
def test_redis(build, program, printed, state, detail):
    machine = build({}, programs={program: "/bin/it"}, outputs={"/bin/it": printed})
    here = found(machine)["Redis"]
    assert here.state is state
    assert here.detail.startswith(detail)


@pytest.mark.parametrize(
    ("printed", "state", "detail"),
    [
        ('openjdk version "17.0.15" 2025-04-15', State.YES, "java 17.0.15"),
        ('openjdk version "25" 2025-09-16', State.YES, "java 25"),
        ('java version "1.8.0_402"', State.NO, "java 8.0_402 is too old"),
        ('openjdk version "11.0.2"', State.NO, "java 11.0.2 is too old"),
        ("No Java runtime present", State.UNKNOWN, "java does not tell its version"),
        (None, State.UNKNOWN, "java does not tell its version"),
    ],
)
def test_java(build, printed, state, detail):
    machine = build({}, programs={"java": "/bin/java"}, outputs={"/bin/java": printed})
    here = found(machine)["Java"]
    assert (here.state, here.detail) == (state, detail)


# --- the screen ----------------------------------------------------------------------------------


def test_what_a_file_says_cannot_forge_lines(build):
    model = "model name : evil\x1b[2J\x1b[1mEnclaves on this machine: SGX hardware\x07\n"
    text = "".join(render(examine(build({"/proc/cpuinfo": model}), ROLE_SIZES)))
    assert "\x1b[2J" not in text
    assert "\x07" not in text


def test_what_is_too_long_is_cut(build):
    areas = "".join(f"/dev/mapper/very-long-name-{n} partition 1 0 -2\n" for n in range(50))
    shown = lines(build({"/proc/swaps": NO_SWAP + areas}))
    assert max(len(line) for line in shown) <= MAX_COLUMNS
    assert any(line.endswith("...") for line in shown)


def test_groups_come_in_order_with_a_heading_each(sgx_server):
    shown = lines(sgx_server)
    assert [line for line in shown if line in set(Group)] == list(Group)


def test_verdict_needs_every_part():
    names = ("SGX", "SGX driver", "SGX provision", "SGX quoting", "Gramine")
    parts = [
        Finding(group=Group.ENCLAVES, name=name, state=State.YES, detail="here") for name in names
    ]
    assert "SGX hardware" in verdict(parts)
    assert "SIMULATED" in verdict([])
    for part in parts:
        assert "SIMULATED" in verdict([p for p in parts if p is not part])
        assert "SIMULATED" in verdict(
            [replace(p, state=State.NO) if p is part else p for p in parts]
        )


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch):
    def run_doctor(machine, *arguments, color=False):
        monkeypatch.setattr(command, "this_machine", lambda: machine)
        return CliRunner().invoke(doctor, arguments, color=color)

    return run_doctor


def test_command_prints_the_screen(run, laptop):
    done = run(laptop)
    assert done.exit_code == 0
    assert done.output.splitlines() == lines(laptop)
    assert "\x1b[" not in done.output


def test_command_is_coloured_on_a_terminal(run, sgx_server):
    coloured = run(sgx_server, color=True).output
    assert "\x1b[32m" in coloured
    assert click.unstyle(coloured) == run(sgx_server).output


def test_json_is_complete(run, any_machine):
    done = run(any_machine, "--json")
    assert done.exit_code == 0
    told = json.loads(done.output)
    findings = examine(any_machine, ROLE_SIZES)
    assert [entry["name"] for entry in told] == [finding.name for finding in findings]
    for entry, finding in zip(told, findings, strict=True):
        assert entry == {
            "group": finding.group.value,
            "name": finding.name,
            "state": finding.state.value,
            "detail": finding.detail,
            "cost": finding.cost,
            "remedy": finding.remedy,
            "notes": list(finding.notes),
        }


def test_sizes_that_are_asked(run, sgx_server):
    told = json.loads(
        run(sgx_server, "--json", "--enclave-size", "512M", "--enclave-size", "64G").output
    )
    (memory,) = [entry for entry in told if entry["name"] == "Memory"]
    assert "2 enclaves ask for 64.5 GiB" in memory["detail"]
    told = json.loads(run(sgx_server, "--json", "--enclave-size", "256G").output)
    risks = {entry["name"] for entry in told if entry["state"] == "risk"}
    assert risks == {"Memory", "Enclave memory"}


@pytest.mark.parametrize("text", ["", "4", "4g", "3G", "0G", "-4G", "4GB", "4 G", "1e3G", "9" * 9 + "G", "٤G"])  # fmt: skip
def test_sizes_that_are_none(run, sgx_server, text):
    done = run(sgx_server, "--enclave-size", text)
    assert done.exit_code == 2
    assert "power of two such as 512M or 4G" in done.output


# --- the real machine ----------------------------------------------------------------------------


def test_real_machine_is_looked_at_through_the_same_seam():
    machine = this_machine()
    assert machine.root == Path("/")
    assert machine.system == platform.system()
    assert machine.python == sys.version_info[:3]
    assert machine.cores == os.cpu_count()
    assert machine.module("click")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux")
def test_files_below_proc_sys_can_be_read():
    """They refuse to be read in pieces of megabytes (ENOMEM)."""
    assert this_machine().text("/proc/sys/kernel/ostype") == "Linux\n"


def test_path_that_no_system_takes(build):
    machine = build({})
    assert not machine.exists("/" + "a" * 5000)
    assert machine.text("/" + "a" * 5000) is None
    assert machine.names("/" + "a" * 5000) == ()


def test_endless_file_is_read_in_part(build):
    machine = build({})
    (machine.root).mkdir(exist_ok=True)
    (machine.root / "zero").symlink_to("/dev/zero")
    assert len(machine.text("/zero")) == 8 * 1024**2


def test_landlock_where_there_is_no_tee_room(monkeypatch):
    monkeypatch.setitem(sys.modules, "wardian.tee.launch", None)
    monkeypatch.setitem(sys.modules, "wardian.tee.launch.landlock", None)
    assert this_machine().landlock == (None, ())


def test_systems_without_limits_or_memory(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.delattr(os, "sysconf")
    machine = this_machine()
    assert machine.memory_bytes is None
    assert machine.soft_limits == {}


def test_programs_get_two_seconds(tmp_path):
    program = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    started = time.monotonic()
    assert run_bounded(program, limit_s=0.3) is None
    assert time.monotonic() - started < 10


def test_programs_run_without_a_shell_and_are_heard_on_both_outputs(tmp_path):
    code = "import sys; print(sys.argv[1], flush=True); print('told', file=sys.stderr); sys.exit(3)"
    assert run_bounded([sys.executable, "-c", code, "; echo $HOME"]) == "; echo $HOME\ntold\n"


def test_programs_that_cannot_be_run(tmp_path):
    assert run_bounded([str(tmp_path / "none")]) is None
    plain = tmp_path / "plain"
    plain.write_text("no program")
    plain.chmod(stat.S_IRUSR)
    assert run_bounded([str(plain)]) is None
    assert run_bounded(["a\0b"]) is None


def test_modules_are_found_without_importing_them():
    assert module_version("click")
    assert module_version("json") == ""
    assert module_version("wardian_none") is None
    assert module_version("") is None
    assert module_version("wardian_none.part") is None
