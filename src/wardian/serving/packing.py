"""What waits for the workers of one lane, and how it becomes packs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import msgspec

from wardian.errors import JobFailed, RequestError, RequestKeyOver, Timeout, WardianError
from wardian.inference.spec import Tensors
from wardian.serving.catalog import Served
from wardian.serving.codec import MessageCodec
from wardian.serving.queue.lease import Lane
from wardian.serving.tensors import MAX_ITEMS, Failure, Group, Pack
from wardian.serving.turns import Turns

PACK_BYTES = 4 * 1024**2
"""A pack takes no further request beyond this size; a single request may be larger."""


# Structs and not dataclasses: making one of each a request costs a quarter of the time.
class Outcome(msgspec.Struct, frozen=True):
    """How a request ended: exactly one of `outputs` and `error` is set.

    The arrays of `outputs` may be views of a buffer that the requests of a pack share: encode or
    copy them soon, and do not write to them. `version` is the one that answered; 0 with an error.
    """

    outputs: Tensors | None = None
    error: WardianError | None = None
    version: int = 0


Done: TypeAlias = Callable[[Outcome], None]


class Request(msgspec.Struct, eq=False, kw_only=True):
    """An accepted request.

    Attributes:
        number: unique in this process.
        inputs: measured and found to fit; empty once the request has ended.
        rows: along axis 0.
        key: requests with equal keys may be stacked.
        size_bytes: of all inputs together.
        outputs: names of those wanted; None for all.
        tenant: shares neither message nor batch with another.
        payer: whose turn it takes while it waits; that may be one of many of a tenant.
        weight: of the payer.
        deadline: on the event loop's clock.
        began: when it was accepted, on the monotonic clock (the loop's may count milliseconds).
        sent: when it was sealed for a worker last, on the same clock; 0 while it waits.
        done: gets the outcome; None once the request has ended.
        suspect: a worker may have died of it, so it travels alone.
        crashes: workers that died while they held it and nothing else.
        lane: where it waits, or waited.
        sealed: `inputs` are what the client sealed to the workers: not measured, and its `tenant`
            is its own, so that it shares no message.
        named: the client named the version; else it may wait for another one.
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
    sealed: bool = False
    named: bool = True
    payer: str = ""
    weight: int = 1
    began: float = 0.0
    sent: float = 0.0
    generation: int = 0
    suspect: bool = False
    crashes: int = 0
    message: int = 0


@dataclass(slots=True, eq=False, kw_only=True)
class LaneQueue:
    """The requests that wait for one lane, each for the turn of its payer, still unsealed.

    Attributes:
        lane: which workers can answer.
        codec: seals for them; replaced when an epoch begins.
        limit: most requests in a pack.
        outputs: names of the model's outputs.
        waiting: may hold requests that have ended; they are passed over.
        scheduled: a flush is due at the end of this event-loop tick.
        carried: how many requests are in messages under way to these workers.
        aloft_bytes: how large those messages are together.
        held_since: since when what waits is held back, monotonic; 0 while it is not.
    """

    lane: Lane
    codec: MessageCodec
    limit: int
    outputs: frozenset[str]
    waiting: Turns[Request] = field(default_factory=Turns)
    scheduled: bool = False
    carried: int = 0
    aloft_bytes: int = 0
    held_since: float = 0.0

    @property
    def open(self) -> int:
        """How many of `waiting` have not ended."""
        return self.waiting.open

    def few(self, workers: int) -> bool:
        """Return whether less waits than each of so many workers has already, on average."""
        return self.waiting.open * workers < self.carried

    def next_pack(self, share: int) -> list[Request]:
        """Take the requests of the next message: up to `share`, all of one tenant.

        A suspect comes by itself. Empty if all that waited have ended.
        """
        return self.waiting.take(min(self.limit, share), most_bytes=PACK_BYTES)

    def waiting_since(self) -> float | None:
        """Return when the request that waits longest was accepted, or None if none waits."""
        return min((each.began for each in self.waiting if each.done is not None), default=None)

    def take_unnamed(self) -> list[Request]:
        """Take out the requests that still wait and name no version, of each payer in order."""
        return self.waiting.take_out(lambda request: not request.named)

    def note_ended(self) -> None:
        """One of `waiting` has ended; lets go of such requests once they are the larger part."""
        self.waiting.note_ended()


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
    Failure.UNOPENED: lambda: RequestKeyOver(
        "the sealed request is not to the model's request key: fetch the key again"
    ),
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
