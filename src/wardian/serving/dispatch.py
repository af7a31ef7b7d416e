"""Front end side of the data plane: one accepted request, one outcome (DESIGN I6).

What is accepted waits here, unsealed, until `departures` sends it.

If a worker dies, what it held comes back. A request that may have killed it is suspect and travels
alone, to a worker that holds nothing else; one that takes two workers with it ends as `JobFailed`
(TRUST T18). So a request is run at most three times, and only its first answer counts.

When an epoch begins, what waits is sealed under its keys; what travels is answered under those that
it was sealed with, which are erased with the last such answer. Under another manifest what waits
is not sealed at all: its client accepted the mesh as it was (TRUST T2), and connects again.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Collection, Mapping

from typing_extensions import override

from wardian._internal import clock
from wardian._internal.log import event
from wardian.errors import (
    ConnectionLost,
    FormatError,
    JobFailed,
    QueueFull,
    RequestError,
    WardianError,
)
from wardian.inference.spec import Tensors
from wardian.serving.catalog import Catalog, Description, ModelInfo, Served, Traffic
from wardian.serving.codec import MessageCodec
from wardian.serving.departures import Departures
from wardian.serving.flights import Flights
from wardian.serving.open_requests import Counters, OpenRequests
from wardian.serving.packing import (
    Done,
    Outcome,
    Request,
    lane_queue,
    moved_error,
)
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.seam import FrontQueue, FrontSink
from wardian.serving.sealed_pack import OUTPUTS, TENSOR
from wardian.serving.tensors import Kind, decode_pack

__all__ = ["Counters", "Dispatcher", "Done", "Outcome"]

log = logging.getLogger(__name__)

MAX_CRASHES = 2
"""Workers that may die of one request before it is given up."""

MAX_REQUEST_BYTES = 128 * 1024**2
"""Largest inputs of one request: half of what a frame of the queue may hold."""


class Dispatcher(FrontSink):
    """Accepts requests and ends each exactly once; everything runs on one event loop."""

    def __init__(
        self,
        *,
        queue: FrontQueue,
        codecs: Mapping[str, MessageCodec],
        lanes: Collection[Lane],
        max_waiting: int,
        batch_across_tenants: frozenset[str] = frozenset(),
        traffic: Traffic | None = None,
    ) -> None:
        """Dispatch over `queue`; made on the running loop, before the queue starts.

        Args:
            queue: carries the messages; is told to report here.
            codecs: by model name, one for each model that this front end serves.
            lanes: the versions of these models that the manifest has.
            max_waiting: requests that may be open at a time.
            batch_across_tenants: names of the models whose owner said in `wardian.toml` that
                requests of different tenants may share a message and a batch.
            traffic: how requests that name no version are divided; see `Catalog`.
        """
        self._loop = asyncio.get_running_loop()
        self._queue = queue
        self._codecs = dict(codecs)
        self._catalog = Catalog(
            self._codecs, lanes=lanes, clock=clock.monotonic, stalled=queue.stalled, traffic=traffic
        )
        self._generation = 0
        self._refusal: Callable[[], WardianError] | None = None
        self._max_waiting = max_waiting
        self._across = batch_across_tenants
        self._requests = OpenRequests(self._loop, expired=self._let_go)
        self.counters = self._requests.counters
        self._flights = Flights()
        self._departures = Departures(
            self._loop, queue=queue, flights=self._flights, counters=self.counters
        )
        self._lanes = self._departures.lanes
        self._numbers = itertools.count(1)
        queue.attach(self)

    def submit(
        self,
        *,
        model: str,
        version: int | None,
        inputs: Tensors,
        outputs: tuple[str, ...] | None,
        deadline_s: float,
        done: Done,
        tenant: str = "",
        weight: int = 1,
        sealed: bool = False,
    ) -> None:
        """Accept one request; `done` is called exactly once, on this loop, never from within.

        Args:
            model: name, as in `wardian.toml`.
            version: or None for whichever has its turn; see `Catalog.find`.
            inputs: little-endian arrays; not to be changed before `done`.
            outputs: names of those wanted, or None for all.
            deadline_s: seconds from now until the request ends as `Timeout`.
            done: gets the outcome; must not raise.
            tenant: requests of different tenants share neither message nor batch (TRUST T19),
                unless the model's owner allowed it. Each has its turn among those that wait.
            weight: of the tenant, 1 or more: its part of the workers while others wait, too.
            sealed: `inputs` are `sealed_pack.as_tensors` of what the client sealed to the workers,
                and so is the outcome. Only its size is looked at.

        Raises:
            RequestError: 404 unknown model or version; 400 names, types or shapes are not the
                model's; 413 too large; 503 nobody serves it. `done` is then never called.
            QueueFull: as many requests are open as may be. Neither.
            WardianError: what `refuse` was told.
        """
        if self._refusal is not None:
            raise self._refusal()
        served = self._catalog.find(model, version)
        try:
            rows, key, size_bytes = self._measure(served, inputs, outputs, sealed=sealed)
        except WardianError as err:
            self.counters.of(served.lane).refuse(err)
            raise
        number = next(self._numbers)
        lane = self._lanes[served.lane]
        request = Request(
            number=number,
            inputs=inputs,
            rows=rows,
            key=number if key is None else key,
            size_bytes=size_bytes,
            outputs=outputs,
            tenant=f"sealed {number}" if sealed else "" if model in self._across else tenant,
            payer=tenant,
            weight=weight,
            deadline=self._loop.time() + deadline_s,
            began=clock.monotonic(),
            done=done,
            lane=lane,
            named=version is not None,
            sealed=sealed,
            generation=self._generation,
        )
        self._requests.add(request)
        self._departures.add(request)

    def _measure(
        self, served: Served, inputs: Tensors, outputs: tuple[str, ...] | None, *, sealed: bool
    ) -> tuple[int, object, int]:
        """Return rows, key and size of a request that may be accepted."""
        if len(self._requests) >= self._max_waiting:
            raise QueueFull("too many requests are waiting; try again shortly")
        rows, key, size_bytes = (
            (1, None, inputs[TENSOR].nbytes) if sealed else served.rules.measure(inputs)
        )
        if size_bytes > MAX_REQUEST_BYTES:
            raise RequestError(f"inputs are larger than {MAX_REQUEST_BYTES} bytes", status=413)
        if outputs is not None:
            served.rules.expect_outputs(outputs)
        return rows, key, size_bytes

    def hold(self) -> None:
        """Seal nothing until `use` or `go_on`: the keys at hand are known to be over."""
        self._departures.closed = True

    def go_on(self) -> None:
        """The keys at hand are those in force."""
        self._departures.closed = self._refusal is not None
        self._departures.all_soon()

    def use(
        self, codecs: Mapping[str, MessageCodec], *, lanes: Collection[Lane], moved: bool
    ) -> None:
        """Seal with `codecs` from now on, for workers that prove to have the keys as well.

        The codecs of before are erased when the last answer that they open has come.

        Args:
            codecs: as in the constructor.
            lanes: likewise.
            moved: another manifest is in force. What is not sealed yet was accepted under the one
                before and ends with the status 421; so does what comes back from a lost worker.
        """
        self._flights.retire(set(self._codecs.values()) - set(codecs.values()))
        self._codecs = dict(codecs)
        self._catalog.use(self._codecs, lanes=lanes)
        for lane in list(self._lanes):
            if lane in lanes and lane.model in codecs:
                self._lanes[lane].codec = codecs[lane.model]
            else:
                del self._lanes[lane]
        if moved:
            self._generation += 1
            self._requests.end_waiting(moved_error)
        self._queue.rechallenge()
        self.go_on()

    def divide(self, traffic: Traffic) -> None:
        """Divide requests that name no version by `traffic` from now on; see `Catalog`."""
        self._catalog.divide(traffic)

    def refuse(self, error: Callable[[], WardianError]) -> None:
        """Accept and seal nothing more: what waits ends as `error`; what travels goes on."""
        self._refusal = error
        self._departures.closed = True
        self._requests.end_waiting(error)

    def erase(self) -> None:
        """End what is still open, and erase all keys."""
        self.close()
        for codec in self._codecs.values():
            codec.erase()

    def description(self, model: str, version: int | None) -> Description:
        """Return what a request would be answered by that is submitted now; see `Catalog`.

        Raises:
            RequestError: as `submit`: 404 or 503.
        """
        return self._catalog.description(model, version)

    def catalog(self) -> dict[str, ModelInfo]:
        """Return every model that this front end serves, by name."""
        return self._catalog.infos()

    def waiting(self) -> dict[Lane, int]:
        """Return how many requests wait for a worker, by version of a model."""
        return {lane: each.open for lane, each in self._lanes.items()}

    def delays(self) -> dict[Lane, float]:
        """Return for how many seconds requests waited for a worker lately, at most."""
        now = clock.monotonic()
        return {
            lane: self.counters.of(lane).delay.longest_s(
                now=now, waiting_since=each.waiting_since()
            )
            for lane, each in self._lanes.items()
        }

    @property
    def open_requests(self) -> int:
        """How many requests have not ended yet."""
        return len(self._requests)

    def close(self) -> None:
        """End what is still open as `ConnectionLost`."""
        self._flights.clear()
        self._requests.end_all(lambda: ConnectionLost("the front end is stopping"))

    # What the queue tells

    @override
    def challenge(self, worker: int, lane: Lane) -> bytes:
        return self._catalog.challenge(worker, lane)

    @override
    def admit(self, worker: int, sealed: bytes) -> None:
        served = self._catalog.admit(worker, sealed)
        if served.lane not in self._lanes:
            self._lanes[served.lane] = lane_queue(served, self._codecs[served.lane.model])
        event(log, "worker.admitted", model=served.lane.model, version=served.lane.version)
        self._rehome(served.lane.model)

    @override
    def gone(self, worker: int) -> None:
        lane = self._catalog.gone(worker)
        if lane is not None:
            self._rehome(lane.model)

    @override
    def room_opened(self, lane: Lane) -> None:
        self._departures.room_opened(lane)

    @override
    def answered(self, message: int, sealed: bytes) -> None:
        flight = self._flights.get(message)
        if flight is None:
            return  # its requests have all timed out
        plaintext = flight.pending.open(sealed)
        self._flights.land(message)
        asked = {request.number: request for request in flight.requests}
        try:
            sealed_in = flight.requests[0].sealed
            outputs = OUTPUTS if sealed_in else flight.lane.outputs
            for group in decode_pack(plaintext, Kind.SEALED if sealed_in else Kind.INFER).groups:
                self._requests.end_group(group, asked, outputs)
        except FormatError as err:  # sealed by a worker of ours: a bug, not an attack
            event(log, "answer.malformed", level=logging.ERROR, why=str(err))
        for request in asked.values():
            self._requests.end(
                request, Outcome(error=JobFailed("the worker left this request out"))
            )

    @override
    def lost(self, messages: list[int]) -> None:
        models = set()
        for message in reversed(messages):
            flight = self._flights.land(message)
            if flight is None:
                continue
            # The worker held nothing else: this is what it died of, if it died of anything.
            culprit = len(messages) == 1 and len(flight.requests) == 1
            for request in reversed(flight.requests):
                self._redeliver(request, crashed=culprit)
            models.add(flight.lane.lane.model)
        for model in models:
            self._rehome(model)

    # What does not come back as it should

    def _redeliver(self, request: Request, *, crashed: bool) -> None:
        """Put a request whose worker is gone in front of those that wait, or give it up."""
        if request.done is None:
            return
        if self._refusal is not None or request.generation != self._generation:
            self._requests.end(request, Outcome(error=(self._refusal or moved_error)()))
            return
        request.suspect = True
        request.crashes += crashed
        if request.crashes >= MAX_CRASHES:
            self._requests.end(
                request, Outcome(error=JobFailed("workers died while running this request"))
            )
            return
        self.counters.redelivered += 1
        request.message, request.sent = 0, 0.0
        self._departures.put_back(request)

    def _rehome(self, model: str) -> None:
        """Let requests that wait for a version without workers, and name none, go to another."""
        for lane in list(self._lanes.values()):
            heir = self._catalog.heir(lane.lane) if lane.lane.model == model else None
            if heir is None:
                continue
            home, moving = self._lanes[heir.lane], lane.take_unnamed()
            for request in reversed(moving):
                try:
                    if request.sealed:
                        rows, key = 1, None
                    else:
                        rows, key, _ = heir.rules.measure(request.inputs)
                    heir.rules.expect_outputs(request.outputs or ())
                except RequestError:  # of other tensors: its own version may come back
                    lane.waiting.appendleft(request)
                    continue
                request.rows, request.lane = rows, home
                request.key = request.number if key is None else key
                self._departures.put_back(request)

    def _let_go(self, request: Request) -> None:
        """Give back what a request that timed out holds, and go on with those behind it."""
        lane = request.lane
        if not request.message:
            lane.note_ended()
        else:
            flight = self._flights.get(request.message)
            if flight is not None and all(mate.done is None for mate in flight.requests):
                self._flights.land(request.message)
                self._queue.forget(request.message, lane=lane.lane)
        if lane.waiting and not lane.scheduled:
            self._departures.soon(lane)
