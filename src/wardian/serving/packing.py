"""What waits for the workers of one lane, and how it becomes packs."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from wardian.errors import JobFailed, RequestError, Timeout, WardianError
from wardian.inference.spec import Tensors
from wardian.serving.catalog import Served
from wardian.serving.codec import MessageCodec
from wardian.serving.queue.lease import Lane
from wardian.serving.tensors import MAX_ITEMS, Failure, Group, Pack

PACK_BYTES = 1024**2
"""A pack takes no further request beyond this size; a single request may be larger."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended: exactly one of `outputs` and `error` is set.

    The arrays of `outputs` may be views of a buffer that the requests of a pack share: encode or
    copy them soon, and do not write to them.
    """

    outputs: Tensors | None = None
    error: WardianError | None = None


Done: TypeAlias = Callable[[Outcome], None]


@dataclass(slots=True, eq=False, kw_only=True)
class Request:
    """An accepted request.

    Attributes:
        number: unique in this process.
        inputs: measured and found to fit; empty once the request has ended.
        rows: along axis 0.
        key: requests with equal keys may be stacked.
        size_bytes: of all inputs together.
        outputs: names of those wanted; None for all.
        tenant: shares neither message nor batch with another.
        deadline: on the event loop's clock.
        began: when it was accepted, on the monotonic clock (the loop's may count milliseconds).
        done: gets the outcome; None once the request has ended.
        suspect: a worker may have died of it, so it travels alone.
        crashes: workers that died while they held it and nothing else.
        lane: where it waits, or waited.
        generation: under which manifest it was accepted, as the dispatcher counts them.
        message: that it travels in; 0 while it waits.
    """

    number: int
    inputs: Tensors
    rows: int
    key: object
    size_bytes: int
    outputs: tuple[str, ...] | None
    tenant: str
    deadline: float
    done: Done | None
    lane: "LaneQueue"
    began: float = 0.0
    generation: int = 0
    suspect: bool = False
    crashes: int = 0
    message: int = 0


@dataclass(slots=True, eq=False, kw_only=True)
class LaneQueue:
    """The requests that wait for one lane, oldest first, still unsealed.

    Attributes:
        lane: which workers can answer.
        codec: seals for them; replaced when an epoch begins.
        limit: most requests in a pack.
        outputs: names of the model's outputs.
        waiting: may hold requests that have ended; they are passed over.
        ended: how many of those there are.
        scheduled: a flush is due at the end of this event-loop tick.
    """

    lane: Lane
    codec: MessageCodec
    limit: int
    outputs: frozenset[str]
    waiting: deque[Request] = field(default_factory=deque)
    ended: int = 0
    scheduled: bool = False

    def next_pack(self, share: int) -> list[Request]:
        """Take the requests of the next message: up to `share`, all of one tenant.

        A suspect comes by itself. Empty if all that waited have ended.
        """
        waiting = self.waiting
        limit = min(self.limit, share)
        pack: list[Request] = []
        size = 0
        while waiting and len(pack) < limit:
            request = waiting[0]
            if request.done is not None:
                size += request.size_bytes
                if pack and (
                    request.suspect or request.tenant != pack[0].tenant or size > PACK_BYTES
                ):
                    break
                pack.append(request)
            else:
                self.ended -= 1
            waiting.popleft()
            if request.suspect:
                break
        return pack

    def waiting_since(self) -> float | None:
        """Return when the request that waits longest was accepted, or None if none waits."""
        return min((each.began for each in self.waiting if each.done is not None), default=None)

    def note_ended(self) -> None:
        """One of `waiting` has ended; lets go of such requests once they are the larger part."""
        self.ended += 1
        if 2 * self.ended > len(self.waiting):
            self.waiting = deque(request for request in self.waiting if request.done is not None)
            self.ended = 0


def stacked(requests: list[Request]) -> Pack:
    """Return `requests`, all of one tenant, each stacked with those that it may be stacked with."""
    by_key: dict[object, list[Request]] = {}
    for request in requests:
        by_key.setdefault(request.key, []).append(request)
    groups = [
        Group(
            ids=[request.number for request in alike],
            rows=[request.rows for request in alike],
            parts={name: [request.inputs[name] for request in alike] for name in alike[0].inputs},
        )
        for alike in by_key.values()
    ]
    return Pack(groups=groups, tenant=requests[0].tenant)


ERRORS: Final[dict[Failure, Callable[[], WardianError]]] = {
    Failure.BAD_INPUT: lambda: RequestError("the inputs are not what the model expects"),
    Failure.FAILED: lambda: JobFailed("the model failed on this input"),
    Failure.EXPIRED: lambda: Timeout("the deadline passed before a worker came to it"),
}
"""How a request ends that its worker could not answer."""


def moved_error() -> WardianError:
    """Return how a request of a manifest of before ends: it may be repeated (RFC 9110, 15.5.20)."""
    return RequestError(
        "the mesh manifest changed before this was carried out: connect again, and verify",
        status=421,
    )


def lane_queue(served: Served, codec: MessageCodec) -> LaneQueue:
    """Return the queue for a lane; no pack is larger than one batch, so that others get work."""
    description = served.description
    return LaneQueue(
        lane=served.lane,
        codec=codec,
        limit=max(1, min(MAX_ITEMS, description.max_batch)) if description.batchable else 1,
        outputs=frozenset(spec.name for spec in description.outputs),
    )
