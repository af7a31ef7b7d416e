"""What `wardian up` starts for another product's clients."""

from collections.abc import Coroutine
from typing import Any

from wardian._internal.agreed import Agreed
from wardian._internal.operator import Operator
from wardian.broker.mesh.trust import UNPROTECTED
from wardian.cli.queue_place import EMBEDDED, ZOO
from wardian.cli.up.mesh import MeshProcesses
from wardian.cli.up.screen import Screen


def start_zoo(
    processes: MeshProcesses,
    operator: Operator,
    agreed: Agreed,
    *,
    queue: tuple[str, ...],
    screen: Screen,
) -> list[Coroutine[Any, Any, dict[str, Any]]]:
    """Start what serves them, if that is agreed; return what to wait for.

    An embedded queue is one role's: over it the models have workers of their own, on this machine.
    `queue` are the options that say where the mesh's queue is.
    """
    dialects = agreed.dialects
    if not dialects.unprotected:
        return []
    models = set(agreed.models if dialects.keystore else ())
    if dialects.zoo_redis is not None:
        models |= {job.model for job in dialects.zoo_redis.jobs.values()}
        screen.warn(f"zoo is {UNPROTECTED}: records lie in the clear in {operator.zoo.redis}")
    if dialects.keystore is not None:
        screen.warn(
            f"zoo is {UNPROTECTED}: the key of {operator.zoo.keystore}, under which "
            f"{operator.zoo.listen} serves HTTPS, is the operator's"
        )
    processes.start("zoo", "zoo", *queue)
    waiting = [processes.until("zoo", "zoo.ready")]
    if EMBEDDED not in queue and (queue or operator.queue.redis is not None):
        return waiting
    for model in sorted(models):
        name = f"worker-{model}-zoo"
        processes.start(name, "worker", "--model", model, "--queue", ZOO)
        waiting.append(processes.until(name, "worker.ready"))
    return waiting
