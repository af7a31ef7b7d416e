"""The streams of Cluster Serving's Redis that a process of the role `zoo` serves."""

import asyncio
import logging
from functools import partial
from pathlib import Path
from typing import Final

from wardian._internal.agreed import Agreed
from wardian._internal.log import event
from wardian._internal.metrics import ZOO_HELD, ZOO_READ, ZOO_RECORDS, Metrics
from wardian._internal.zoo_redis import ZooJob, ZooRedisTerms
from wardian.roles.host import ZooRedisPlace
from wardian.roles.zoo_password import first_line
from wardian.serving.dispatch import Dispatcher
from wardian.serving.queue.frames import Address
from wardian.serving.zoo.stream.answering import Answering
from wardian.serving.zoo.stream.consumer import MOST_BYTES, JobConsumer
from wardian.serving.zoo.stream.counts import Counts
from wardian.serving.zoo.stream.their_redis import TheirRedis
from wardian.serving.zoo.stream.window import MOST, Window

log = logging.getLogger(__name__)

COUNT_S: Final = 10.0
"""How often counts are logged, where they changed."""


class Stream:
    """One stream of their Redis, with all that serves it."""

    def __init__(
        self,
        name: str,
        job: ZooJob,
        dispatcher: Dispatcher,
        *,
        theirs: TheirRedis,
        agreed: Agreed,
        consumer: str,
        share: int,
    ) -> None:
        """Serve the stream `name` by `job` once run; it may use one of `share` parts of memory."""
        limits = agreed.limits
        deadline_s = limits.deadline_ms / 1000
        self.name, self.counts = name, Counts()
        window = Window(most=max(1, min(MOST, limits.max_waiting // share)), pause_s=deadline_s)
        self.answering = Answering(
            dispatcher,
            job,
            deadline_s=deadline_s,
            max_bytes=limits.max_body_bytes,
            window=window,
            counts=self.counts,
        )
        self.consumer = JobConsumer(
            job=name.encode(),
            consumer=consumer.encode(),
            redis=theirs,
            answering=self.answering,
            window=window,
            counts=self.counts,
            deadline_s=deadline_s,
            ttl_s=job.result_ttl_s,
            max_bytes=limits.max_body_bytes,
            most_bytes=MOST_BYTES // share,
        )
        self.run = self.consumer.run
        self._logged = self.counts.fields()

    def log_counts(self) -> None:
        """Log how records ended, if that changed."""
        fields = self.counts.fields()
        if fields != self._logged:
            self._logged = fields
            event(log, "zoo.counts", stream=self.name, held=self.consumer.held, **fields)


def open_streams(
    terms: ZooRedisTerms,
    dispatcher: Dispatcher,
    *,
    agreed: Agreed,
    theirs: TheirRedis,
    place: ZooRedisPlace,
) -> list[Stream]:
    """Return the streams of `terms`, which run once they are told to."""
    return [
        Stream(
            name,
            job,
            dispatcher,
            theirs=theirs,
            agreed=agreed,
            consumer=place.consumer,
            share=len(terms.jobs),
        )
        for name, job in sorted(terms.jobs.items())
    ]


async def log_counts(streams: list[Stream]) -> None:
    """Log what changed, again and again, until cancelled."""
    while True:
        await asyncio.sleep(COUNT_S)
        for stream in streams:
            stream.log_counts()


def watch_streams(metrics: Metrics, streams: list[Stream]) -> None:
    """Show in `metrics` what became of the records of `streams`."""
    metrics.watch(ZOO_READ, lambda: {(each.name,): each.counts.read for each in streams})
    metrics.watch(ZOO_HELD, lambda: {(each.name,): each.consumer.held for each in streams})
    metrics.watch(
        ZOO_RECORDS,
        lambda: {
            (each.name, outcome): count
            for each in streams
            for outcome, count in each.counts.outcomes().items()
        },
    )


def way_to_theirs(place: ZooRedisPlace) -> TheirRedis:
    """Return the way to their Redis.

    Raises:
        ConfigError: it is open to everybody on a network.
    """
    address, port = place.address
    file = place.password_file
    return TheirRedis(
        address=Address(host=address, port=port),
        server_name=place.tls_name,
        ca_pem=place.ca_pem,
        username=place.username,
        password=None if file is None else partial(first_line, Path(file), "password_file"),
    )
