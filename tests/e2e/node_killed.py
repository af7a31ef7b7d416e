"""Run in a network namespace: a mesh on two nodes of Ray, one of which is killed under load."""

import asyncio
import sys
import time
from pathlib import Path

from engine_mesh import (
    Load,
    kill,
    processes_of,
    roles_of_workers,
    serving,
    started_at,
    two_workers,
    until,
)

NODES = {"first": min, "last": max}
"""The first node has Ray's head."""


async def main(directory: Path, which: str) -> None:
    """Fail unless every request is answered."""
    two_nodes = "[ray]\nnodes = 2\n"
    async with two_workers(directory, "ray", two_nodes) as mesh, Load(mesh) as load:
        roles = set(roles_of_workers(mesh))
        began = time.monotonic()
        kill(NODES[which](processes_of(mesh, "raylet"), key=started_at))
        await until(lambda: bool(roles - set(roles_of_workers(mesh))), "the end of its worker")
        await until(lambda: serving(mesh, 2), "two workers")
        took = time.monotonic() - began
        gap = load.gap_since(began)
        print(f"ray's {which} node: {took:.1f} s, gap {gap:.2f} s", dict(load.outcomes))
    assert set(load.outcomes) == {"answered"}


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
