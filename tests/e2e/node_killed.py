"""Run in a network namespace: a mesh on two nodes of Ray, one of which is killed under load."""

import asyncio
import sys
import time
from pathlib import Path

from engine_mesh import Load, kill, processes_of, roles_of_workers, serving, two_workers, until


async def main(directory: Path) -> None:
    """Fail unless every request is answered."""
    two_nodes = "[ray]\nnodes = 2\n"
    async with two_workers(directory, "ray", two_nodes) as mesh, Load(mesh) as load:
        roles = set(roles_of_workers(mesh))
        began = time.monotonic()
        kill(max(processes_of(mesh, "raylet")))  # of the node that was started last
        await until(lambda: bool(roles - set(roles_of_workers(mesh))), "the end of its worker")
        await until(lambda: serving(mesh, 2), "two workers")
        took = time.monotonic() - began
        print(f"ray node: {took:.1f} s, gap {load.gap_since(began):.2f} s", dict(load.outcomes))
    assert set(load.outcomes) == {"answered"}


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
