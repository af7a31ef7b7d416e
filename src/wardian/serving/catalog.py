"""Which models the mesh serves, as their workers proved to be.

Neither the host nor the operator can put a model here, or another shape for one: a worker that
connects is sent a sealed question under the queue key of the model that it claims, and only a
workload that got that key from the broker can answer it. The answer opens for that question alone,
so an old one cannot be shown again. With each epoch of the queue keys every worker is asked anew.

Which version takes a request that names none is the operator's to say, by weights, among those that
the model's owner released; otherwise it is the newest that has a worker.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from wardian._internal import wire
from wardian._internal.clock import Monotonic, unix_time
from wardian._internal.log import event
from wardian.crypto.message_header import RequestHeader
from wardian.errors import PeerProtocolError, RequestError
from wardian.serving.codec import MessageCodec, Pending
from wardian.serving.descriptions import Description, ModelInfo
from wardian.serving.queue.lease import Lane
from wardian.serving.rules import InputRules
from wardian.serving.shares import Shares
from wardian.serving.tensors import Kind, decode_body, encode_body

__all__ = ["Catalog", "Description", "ModelInfo", "Served", "Traffic"]

log = logging.getLogger(__name__)

Traffic = Mapping[str, Mapping[int, int]]
"""By model, the weight of each version for the requests that name none."""

ABSENCE_GRACE_S = 10.0
"""How long requests are accepted for a model whose last worker left: as long as a restart takes."""

_CHALLENGE_TIME_S = 10


@dataclass(slots=True, kw_only=True)
class Served:
    """A lane that at least one worker has described."""

    lane: Lane
    description: Description
    rules: InputRules
    workers: set[int] = field(default_factory=set)
    absent_since: float = 0.0  # monotonic; means something while there is no worker

    def like(self, other: "Served") -> bool:
        """Return whether both take and give tensors of the same names, types and shapes."""
        mine, theirs = self.description, other.description
        return set(mine.inputs) == set(theirs.inputs) and set(mine.outputs) == set(theirs.outputs)


class Catalog:
    """The models, the workers that were admitted to them, and the challenges under way."""

    def __init__(
        self,
        codecs: Mapping[str, MessageCodec],
        *,
        lanes: Collection[Lane],
        clock: Monotonic,
        stalled: Callable[[int], bool],
        traffic: Traffic | None = None,
    ) -> None:
        """Know the models that `codecs` has queue keys for; nothing is served yet.

        Args:
            codecs: by model name.
            lanes: the versions of the manifest; workers of others are not admitted.
            clock: monotonic.
            stalled: whether a worker that is connected gets nothing (`FrontQueue.stalled`).
            traffic: how requests that name no version are divided, of the models that it names.
        """
        self._stalled = stalled
        self._clock = clock
        self._traffic = traffic or {}
        self._served: dict[str, dict[int, Served]] = {}
        self._turns: dict[str, Shares[Served]] = {}
        self.use(codecs, lanes=lanes)
        self._challenges: dict[int, tuple[Lane, Pending]] = {}
        self._of_worker: dict[int, Served] = {}

    def use(self, codecs: Mapping[str, MessageCodec], *, lanes: Collection[Lane]) -> None:
        """Ask workers under `codecs` from now on; forget what is not among `lanes` any more."""
        self._codecs = codecs
        self._lanes = frozenset(lanes)
        self._served = {
            name: {
                version: served
                for version, served in self._served.get(name, {}).items()
                if served.lane in self._lanes
            }
            for name in codecs
        }
        self._turns = {}
        for name in self._served:
            self._divide(name)
        self._note_unknown()

    def divide(self, traffic: Traffic) -> None:
        """Divide by `traffic` from the next request on; those that are under way go on."""
        self._traffic = traffic
        for name in self._served:
            self._divide(name)
        self._note_unknown()

    def _note_unknown(self) -> None:
        for name, weights in self._traffic.items():
            for version in weights:
                if Lane(name, version) not in self._lanes:
                    event(log, "traffic.unknown", level=logging.WARNING, model=name,
                          version=version)  # fmt: skip

    def challenge(self, worker: int, lane: Lane) -> bytes:
        """Return the sealed question that `worker` must answer to serve `lane`.

        Raises:
            RequestError: this front end has no such model, or the manifest no such version.
        """
        codec = self._codecs.get(lane.model)
        if codec is None or lane not in self._lanes:
            raise RequestError(
                "a worker offers a model, or a version, that is not served here", status=404
            )
        header = RequestHeader(
            version=lane.version,
            deadline_ms=(unix_time() + _CHALLENGE_TIME_S) * 1000,
            request_ids=(0,),
        )
        sealed, pending = codec.seal_request(encode_body(Kind.DESCRIBE, b""), header=header)
        self._challenges[worker] = (lane, pending)
        return sealed

    def admit(self, worker: int, sealed: bytes) -> Served:
        """Return the lane to which `worker` now belongs, by its answer to its last challenge.

        An answer that does not open changes nothing: the true one may still come.

        Raises:
            FormatError, AuthenticationFailed: not an answer to this worker's challenge.
            PeerProtocolError: it describes something else than it claimed, or than others did.
        """
        lane, pending = self._challenges[worker]
        body = decode_body(pending.open(sealed), Kind.DESCRIBE)
        description = wire.decode(body, Description, what="description of a model")
        if (description.model, description.version) != lane:
            raise PeerProtocolError("a worker describes another model than it claimed")
        served = self._served[lane.model].get(lane.version)
        if served is None:
            rules = InputRules(
                inputs=description.inputs,
                outputs=description.outputs,
                batchable=description.batchable,
            )
            served = Served(lane=lane, description=description, rules=rules)
            self._served[lane.model][lane.version] = served
        elif not served.description.agrees(description):
            raise PeerProtocolError("two workers describe one version of a model differently")
        del self._challenges[worker]
        served.workers.add(worker)
        self._of_worker[worker] = served
        self._divide(lane.model)
        return served

    def gone(self, worker: int) -> Lane | None:
        """`worker` is no longer connected; returns the lane that it served, if it was admitted."""
        self._challenges.pop(worker, None)
        served = self._of_worker.pop(worker, None)
        if served is None:
            return None
        served.workers.discard(worker)
        served.absent_since = self._clock()
        if served.lane.model in self._served:
            self._divide(served.lane.model)
        return served.lane

    def heir(self, lane: Lane) -> Served | None:
        """Return who takes what waits for `lane` and names no version; None: `lane` goes on.

        Somebody does when no worker serves it, and one serves another version that takes such
        requests.
        """
        served = self._served.get(lane.model, {}).get(lane.version)
        if served is None or served.workers:
            return None
        other = self._turns[lane.model].next()
        return other if other is not None and other.workers else None

    def find(self, model: str, version: int | None) -> Served:
        """Return the lane for `version`, or the one whose turn it is: see `_divide`.

        Raises:
            RequestError: 404 no such model or version; 503 nobody serves it, now or yet.
        """
        versions = self._served.get(model)
        if versions is None:
            known = ", ".join(sorted(self._served))
            raise RequestError(f"no model named {model!r}; there is: {known}", status=404)
        if version is None:
            served = self._turns[model].next()
        else:
            served = versions.get(version)
            if served is None and versions:
                known = ", ".join(map(str, sorted(versions)))
                raise RequestError(
                    f"{model!r} has no version {version}; it has: {known}", status=404
                )
        if served is None:
            raise RequestError(f"no worker serves {model!r} yet; try again shortly", status=503)
        if not served.workers and self._clock() - served.absent_since > ABSENCE_GRACE_S:
            raise RequestError(f"no worker serves {model!r} at the moment", status=503)
        return served

    def description(self, model: str, version: int | None) -> Description:
        """Return what `find` would find, without taking a turn of those that divide requests.

        Those are all of the same tensors, so that whoever asks for them may ask any.

        Raises:
            RequestError: as `find`.
        """
        usual = None if version is not None else self._turns.get(model)
        if usual is not None and usual.largest is not None:
            return usual.largest.description
        return self.find(model, version).description

    def infos(self) -> dict[str, ModelInfo]:
        """Return every model by name."""
        return {
            name: _info(
                name, versions, usual=self._turns[name].largest, ready=self._ready(versions)
            )
            for name, versions in self._served.items()
        }

    def _divide(self, name: str) -> None:
        """Settle anew who takes the requests for the model `name` that name no version.

        By the operator's weights: those that have a share and a worker, so that the share of one
        that has none goes to the others. A version of other tensors than the one with the largest
        share gets none: a client that names no version cannot know which it will meet. Without
        weights, or where they name no version of the manifest, the newest that has a worker.
        """
        versions = self._served[name]
        weights = {
            version: weight
            for version, weight in self._traffic.get(name, {}).items()
            if weight and Lane(name, version) in self._lanes
        }
        if not weights:
            newest = _newest(versions)
            self._turns[name] = Shares([(newest, 1)] if newest else [])
            return
        known = [versions[each] for each in sorted(weights, reverse=True) if each in versions]
        takers = [served for served in known if served.workers]
        if not takers:  # whoever left last is the likeliest to come back
            takers = sorted(known, key=lambda served: served.absent_since)[-1:]
        main = max(takers, key=lambda served: weights[served.lane.version], default=None)
        alike = [served for served in takers if main is not None and served.like(main)]
        self._turns[name] = Shares((served, weights[served.lane.version]) for served in alike)
        for served in takers:
            if served not in alike:
                event(log, "traffic.other-tensors", level=logging.WARNING, model=name,
                      version=served.lane.version)  # fmt: skip

    def _ready(self, versions: dict[int, Served]) -> tuple[int, ...]:
        return tuple(
            version
            for version, served in sorted(versions.items())
            if any(not self._stalled(worker) for worker in served.workers)
        )


def _newest(versions: dict[int, Served]) -> Served | None:
    """Return the newest version that has a worker, else the newest."""
    ready = [served for served in versions.values() if served.workers]
    return max(ready or versions.values(), key=lambda served: served.lane.version, default=None)


def _info(
    name: str, versions: dict[int, Served], *, usual: Served | None, ready: tuple[int, ...]
) -> ModelInfo:
    shown = usual or _newest(versions)
    return ModelInfo(
        name=name,
        versions=tuple(sorted(versions)),
        inputs=shown.description.inputs if shown else (),
        outputs=shown.description.outputs if shown else (),
        engine=shown.description.engine if shown else "",
        ready_versions=ready,
        unnamed=usual is not None and bool(usual.workers),
    )
