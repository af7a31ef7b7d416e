"""One load on one mesh: what came of it, and what it cost each process."""

import re
import ssl
import time
import urllib.request
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import uvloop
from meshes import MODELS, Mesh

from wardian.serving.client.origin import parse_origin
from wardian.serving.client.policy import load_client_policy
from wardian.serving.loadgen.dial import VerifiedDial
from wardian.serving.loadgen.drive import Driver
from wardian.serving.loadgen.load import Load
from wardian.serving.loadgen.payload import Payload, build_call, build_payload

TICK_S = 0.01


@dataclass(frozen=True)
class Point:
    """What one load showed.

    Attributes:
        answered: requests.
        per_second: answers a second.
        cpu_s: seconds of processor by role: `client`, `frontend`, `redis`, `worker`, `rest`.
        packs: messages that the front end sent.
        steal: of the machine's time, what the hypervisor took.
        others: of the machine's time, what processes took that have no part in this.
        failed: requests without an answer, or not started.
        bytes_moved: over the loopback, by all connections together, with the headers of TCP.
    """

    answered: int
    per_second: float
    p50_ms: float
    p99_ms: float
    mean_ms: float
    cpu_s: dict[str, float] = field(default_factory=dict)
    packs: float = 0.0
    steal: float = 0.0
    others: float = 0.0
    failed: int = 0
    bytes_moved: int = 0


def payload(authority: str, model: str, rows: int) -> Payload:
    """Return one request of so many rows, in the binary form."""
    name, shape, _ = MODELS[model]
    row = np.random.default_rng(1).random((rows, *shape), dtype=np.float32)
    call = build_call(model, {name: row}, version=None, timeout_s=10.0, encoding="binary")
    return build_payload(call, authority=authority)


def cpu_of(pids: list[int]) -> float:
    """Return the seconds that these processes have run, by the scheduler's own account."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def machine_s() -> tuple[float, float, float]:
    """Return busy seconds, stolen seconds and all seconds of the machine since it started."""
    fields = [int(each) for each in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    user, nice, system, idle, waiting, hard, soft, steal = fields
    busy = user + nice + system + hard + soft
    return busy * TICK_S, steal * TICK_S, (busy + idle + waiting + steal) * TICK_S


def loopback_bytes() -> int:
    """Return what the loopback has carried since it started."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    (line,) = [each for each in lines if each.strip().startswith("lo:")]
    return int(line.split()[1])


def packs_of(mesh: Mesh) -> float:
    """Return how many messages the front end has sent since it started."""
    context = ssl.create_default_context(cafile=mesh.state / "mesh-ca.pem")
    with urllib.request.urlopen(mesh.url + "/metrics", timeout=5, context=context) as response:
        text = response.read().decode()
    found = re.search(r"^wardian_queue_packs_total (\S+)$", text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def account(mesh: Mesh) -> dict[str, float]:
    """Return the processor seconds of each role until now."""
    spent = {"client": time.process_time()}
    for name, pids in mesh.roles().items():
        role = name.split("-")[0].split(" ")[0]
        role = role if role in {"frontend", "redis", "worker"} else "rest"
        spent[role] = spent.get(role, 0.0) + cpu_of(pids)
    return spent


async def load(mesh: Mesh, model: str, asked: Load, *, rows: int = 1, warm_s: float = 0.5) -> Point:
    """Put one load on `mesh` and return what it showed; connections and caches are warm."""
    origin = parse_origin(mesh.url)
    dial = VerifiedDial(origin, load_client_policy(mesh.state / "client-policy.toml"))
    driver = Driver(dial, [payload(origin.authority, model, rows)], patience_s=20.0)
    try:
        await driver.connect(asked.connections)
        await driver.run(replace(asked, seconds=warm_s))
        packs, spent, machine, moved = packs_of(mesh), account(mesh), machine_s(), loopback_bytes()
        report = await driver.run(asked)
        moved = loopback_bytes() - moved
        after, spent_after, packs_after = machine_s(), account(mesh), packs_of(mesh)
    finally:
        await driver.close()
    cpu_s = {role: spent_after[role] - spent[role] for role in spent}
    busy, stolen, whole = (now - then for now, then in zip(after, machine, strict=True))
    return Point(
        answered=report.answered,
        per_second=report.goodput,
        p50_ms=report.p50_ms or 0.0,
        p99_ms=report.p99_ms or 0.0,
        mean_ms=report.mean_ms or 0.0,
        cpu_s=cpu_s,
        packs=packs_after - packs,
        steal=stolen / whole,
        others=max(0.0, busy - sum(cpu_s.values())) / whole,
        failed=report.failed + report.not_started,
        bytes_moved=moved,
    )


def measure(mesh: Mesh, model: str, asked: Load, *, rows: int = 1) -> Point:
    """Return what `load` does, from code that has no loop."""
    return uvloop.run(load(mesh, model, asked, rows=rows))


async def _handshake(mesh: Mesh, connections: int) -> dict[str, float]:
    origin = parse_origin(mesh.url)
    dial = VerifiedDial(origin, load_client_policy(mesh.state / "client-policy.toml"))
    driver = Driver(dial, [payload(origin.authority, "digits", 1)], patience_s=20.0)
    try:
        await driver.connect(1)  # which asks for the evidence
        spent, began = account(mesh), time.monotonic()
        await driver.connect(1 + connections)
        took, now = time.monotonic() - began, account(mesh)
    finally:
        await driver.close()
    return {
        "frontend_s": (now["frontend"] - spent["frontend"]) / connections,
        "client_s": (now["client"] - spent["client"]) / connections,
        "per_second": connections / took,
    }


def handshake(mesh: Mesh, *, connections: int = 128) -> dict[str, float]:
    """Return what a new connection costs both sides: TLS, and evidence where it is asked for."""
    return uvloop.run(_handshake(mesh, connections))
