"""The worker: one model, one queue, one thread that blocks where it waits.

It opens what the queue hands it, runs it in batches and seals the answers. It holds the queue key
of its model alone, so a message of another model does not open here; one that it has opened before
does not open again.
"""

import logging
import time
from collections.abc import Callable

from wardian._internal import wire
from wardian._internal.log import event
from wardian.errors import CryptoError, FormatError
from wardian.inference.spec import Model
from wardian.serving.batcher import Batch, Batcher, Ran, Work, refuse
from wardian.serving.catalog import Description
from wardian.serving.codec import OpenedMessage, SealedOpener, WorkerCodec
from wardian.serving.pace import Pace
from wardian.serving.queue.frames import MAX_FRAME_BYTES
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.seam import Delivered, WorkerQueue
from wardian.serving.sealed_lengths import AnswerLengths
from wardian.serving.sealed_pack import answer_pack, body_in
from wardian.serving.sealed_work import SealedAnswer, SealedDesk
from wardian.serving.tensors import (
    Failure,
    Group,
    Kind,
    Pack,
    decode_body,
    decode_pack,
    encode_body,
    encode_pack,
    kind_of,
)

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = MAX_FRAME_BYTES - 64 * 1024
"""Largest answer: what the frame of a queue holds, less the header of its seal."""
ANSWER_EVERY_S = 0.001
"""Answers wait for others no longer, so that one write carries those of many small batches."""
SEALED_OVERHEAD = 64 * 1024
"""What a pack and a client's seal add to a sealed answer, at most."""


class _Ticket:
    """A message on its way through the worker: which of its answers are still missing."""

    __slots__ = ("answers", "kind", "message", "missing", "opened", "sealed")

    def __init__(self, message: int, opened: OpenedMessage, *, kind: Kind, missing: int) -> None:
        self.message = message
        self.opened = opened
        self.kind = kind
        self.missing = missing  # requests
        self.answers: list[Group] = []
        self.sealed: SealedAnswer | None = None

    def seal(self) -> Delivered:
        pack = Pack(groups=self.answers)
        if self.sealed is not None:
            (group,) = self.answers
            pack = answer_pack(group.ids[0], self.sealed.seal(group))
        plaintext = encode_pack(pack, self.kind)
        if len(plaintext) > MAX_ANSWER_BYTES:  # the front end would hang up on us
            ids = [number for group in self.answers for number in group.ids]
            failed = Group(ids=ids, rows=[0] * len(ids), failure=Failure.FAILED)
            plaintext = encode_pack(Pack(groups=[failed]), self.kind)
        return Delivered(self.message, self.opened.answer(plaintext))


class Worker:
    """Serves one version of one model until it is stopped."""

    def __init__(
        self,
        *,
        model: Model,
        lane: Lane,
        max_batch: int,
        queue: WorkerQueue,
        codec: WorkerCodec,
        batch_across_tenants: bool = False,
        sealed: SealedOpener | None = None,
        wall_clock: Callable[[], float] = time.time,
        work_clock: Callable[[], float] = time.process_time,
    ) -> None:
        """Serve `model` as `lane`.

        Args:
            model: loaded; the worker is its only user.
            lane: under which name and version.
            max_batch: most rows that one inference takes; 1 runs each request by itself, whole.
            queue: where requests come from.
            codec: opens requests and seals answers.
            batch_across_tenants: requests of different messages may share a batch; said by the
                model's owner in `wardian.toml`.
            sealed: opens what clients seal to the model's request key; None: nothing does.
            wall_clock: Unix time in seconds; only tells which requests nobody waits for.
            work_clock: seconds that this process has worked, waiting for a processor left out;
                tells how many messages are to be here at a time.
        """
        self._model = model
        self._lane = lane
        self._queue = queue
        self._codec = codec
        self._wall_clock, self._work_clock = wall_clock, work_clock
        self._pace = Pace()
        self._batcher = Batcher(
            model, max_rows=max_batch, batch_across_tenants=batch_across_tenants
        )
        most_bytes = MAX_ANSWER_BYTES - SEALED_OVERHEAD
        self._sealed = SealedDesk(
            sealed,
            rules=self._batcher.rules,
            lengths=AnswerLengths(
                inputs=model.inputs,
                outputs=model.outputs,
                batchable=self._batcher.batchable,
                most_bytes=most_bytes,
            ),
            version=lane.version,
            most_bytes=most_bytes,
        )
        self._description = Description(
            model=lane.model,
            version=lane.version,
            engine=model.engine,
            max_batch=max_batch,
            batchable=self._batcher.batchable,
            inputs=model.inputs,
            outputs=model.outputs,
        )

    def run(self) -> None:
        """Serve until `stop`; what was taken by then is answered first."""
        while (delivered := self._queue.take()) is not None:
            self.serve(delivered)
        self._queue.close()

    def stop(self) -> None:
        """Make `run` return soon; may be called from a signal handler or another thread."""
        self._queue.stop()

    def serve(self, delivered: list[Delivered]) -> None:
        """Answer the messages in `delivered`; each as soon as all of its requests have run."""
        worked, began = self._work_clock(), time.monotonic()
        said_at = began
        tickets: list[_Ticket] = []
        works: list[Work] = []
        done = self._open(delivered, tickets, works)
        batches, ran = self._batcher.plan(works)
        done += self._note(ran, tickets)
        for batch in batches:
            done += self._note(self._run(batch), tickets)
            now = time.monotonic()
            if done and now - said_at >= ANSWER_EVERY_S:
                self._queue.answer(done)
                done, said_at = [], now
        if done:
            self._queue.answer(done)
        if self._pace.note(
            len(delivered),
            taken_s=time.monotonic() - began,
            worked_s=self._work_clock() - worked,
        ):
            self._queue.grant(self._pace.credit)

    def _open(
        self, delivered: list[Delivered], tickets: list[_Ticket], works: list[Work]
    ) -> list[Delivered]:
        """Fill `tickets` and `works` from `delivered`; return what can be answered at once."""
        done: list[Delivered] = []
        now_ms = self._wall_clock() * 1000
        for message, sealed in delivered:
            try:
                opened, kind, pack = self._read(sealed)
                if pack is None:
                    done.append(Delivered(message, self._describe(opened)))
                    continue
            except (CryptoError, FormatError) as err:  # forged, repeated or not for this model
                event(log, "message.refused", level=logging.WARNING, why=str(err))
                self._queue.refused(message)
                continue
            mine = [Work(len(tickets), pack.tenant, group) for group in pack.groups]
            missing = sum(len(group.ids) for group in pack.groups)
            tickets.append(_Ticket(message, opened, kind=kind, missing=missing))
            if opened.header.deadline_ms < now_ms:
                done += self._note([refuse(work, Failure.EXPIRED) for work in mine], tickets)
            elif kind is Kind.SEALED:
                done += self._open_sealed(pack, tickets, works)
            else:
                works += mine
        return done

    def _open_sealed(
        self, pack: Pack, tickets: list[_Ticket], works: list[Work]
    ) -> list[Delivered]:
        """Let what its client sealed join `works`; or return the answer that it has already.

        It belongs to the newest ticket. Of no tenant, so it joins others only where anybody may.
        """
        source = len(tickets) - 1
        work = Work(source, "", pack.groups[0])
        try:
            request = self._sealed.open(body_in(pack))
        except (CryptoError, FormatError) as err:
            event(log, "sealed.unopened", level=logging.WARNING, why=str(err))
            return self._note([refuse(work, Failure.UNOPENED)], tickets)
        tickets[source].sealed = request.answer
        if request.inputs is None:
            return self._note([refuse(work, Failure.BAD_INPUT)], tickets)
        parts = {name: [array] for name, array in request.inputs.items()}
        group = Group(ids=work.group.ids, rows=[request.rows], parts=parts)
        works.append(work._replace(group=group))
        return []

    def _read(self, sealed: bytes) -> tuple[OpenedMessage, Kind, Pack | None]:
        """Return the message in `sealed`, and the pack in it unless it asks for a description."""
        opened = self._codec.open_request(sealed)
        if opened.header.version != self._lane.version:
            raise FormatError("message for another version of the model")
        kind = kind_of(opened.plaintext)
        if kind is not Kind.DESCRIBE:
            pack = decode_pack(opened.plaintext, kind)
            if kind is Kind.SEALED:
                body_in(pack)  # of our front ends, nothing else comes
            return opened, kind, pack
        decode_body(opened.plaintext, Kind.DESCRIBE)
        return opened, kind, None

    def _describe(self, opened: OpenedMessage) -> bytes:
        return opened.answer(encode_body(Kind.DESCRIBE, wire.encode(self._description)))

    def _run(self, batch: Batch) -> list[Ran]:
        try:
            return self._batcher.run(batch)
        except Exception as err:  # noqa: BLE001  the outermost loop: the next batch is served
            event(log, "batch.failed", level=logging.ERROR, error=type(err).__name__)
            return [refuse(work, Failure.FAILED) for work in batch.works]

    def _note(self, ran: list[Ran], tickets: list[_Ticket]) -> list[Delivered]:
        """Add answers to their messages; return those messages that are complete, sealed."""
        complete = []
        for source, group in ran:
            ticket = tickets[source]
            ticket.answers.append(group)
            ticket.missing -= len(group.ids)
            if ticket.missing:
                continue
            try:
                complete.append(ticket.seal())
            except CryptoError as err:  # its epoch ended while it was run, later than its deadline
                event(log, "answer.dropped", level=logging.WARNING, why=str(err))
                self._queue.refused(ticket.message)
        return complete
