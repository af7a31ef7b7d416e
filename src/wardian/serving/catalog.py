"""Which models the mesh serves, as their workers proved to be.

Neither the host nor the operator can put a model here, or another shape for one: a worker that
connects is sent a sealed question under the queue key of the model that it claims, and only a
workload that got that key from the broker can answer it. The answer opens for that question alone,
so an old one cannot be shown again. With each epoch of the queue keys every worker is asked anew.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import msgspec

from wardian._internal import wire
from wardian._internal.clock import Monotonic, unix_time
from wardian.crypto.message_header import RequestHeader
from wardian.errors import PeerProtocolError, RequestError
from wardian.inference.spec import TensorSpec
from wardian.serving.codec import MessageCodec, Pending
from wardian.serving.queue.lease import Lane
from wardian.serving.rules import InputRules
from wardian.serving.tensors import Kind, decode_body, encode_body

ABSENCE_GRACE_S = 10.0
"""How long requests are accepted for a model whose last worker left: as long as a restart takes."""

_CHALLENGE_TIME_S = 10


class Description(wire.Message, frozen=True, kw_only=True):
    """What a worker answers to the challenge: what it serves, and how.

    Attributes:
        model: the name, as in `wardian.toml`.
        version: as in the mesh manifest.
        engine: name and version.
        max_batch: most rows that one inference takes.
        batchable: requests may be stacked along axis 0.
        inputs: of the model.
        outputs: of the model.
    """

    model: str
    version: int
    engine: str
    max_batch: int
    batchable: bool
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def agrees(self, other: "Description") -> bool:
        """Return whether a client can ask both alike; engine and batch are measured by each."""
        return msgspec.structs.replace(other, engine=self.engine, max_batch=self.max_batch) == self


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """One model of the mesh as a client may see it.

    Attributes:
        name: as in `wardian.toml`.
        versions: those that a worker has described, ascending; empty before the first.
        inputs: of the newest version; empty before the first description.
        outputs: likewise.
        engine: of the newest version, for example "openvino 2026.4.1"; "" before the first.
        ready_versions: those of which a worker is connected that is not stalled with messages that
            nobody waits for.
    """

    name: str
    versions: tuple[int, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    engine: str
    ready_versions: tuple[int, ...]

    @property
    def ready(self) -> bool:
        """Whether any version is served now."""
        return bool(self.ready_versions)

    def serves(self, version: int | None) -> bool:
        """Return whether `version` is served now; None: any."""
        return self.ready if version is None else version in self.ready_versions


@dataclass(slots=True, kw_only=True)
class Served:
    """A lane that at least one worker has described."""

    lane: Lane
    description: Description
    rules: InputRules
    workers: set[int] = field(default_factory=set)
    absent_since: float = 0.0  # monotonic; means something while there is no worker


class Catalog:
    """The models, the workers that were admitted to them, and the challenges under way."""

    def __init__(
        self,
        codecs: Mapping[str, MessageCodec],
        *,
        lanes: Collection[Lane],
        clock: Monotonic,
        stalled: Callable[[int], bool],
    ) -> None:
        """Know the models that `codecs` has queue keys for; nothing is served yet.

        Args:
            codecs: by model name.
            lanes: the versions of the manifest; workers of others are not admitted.
            clock: monotonic.
            stalled: whether a worker that is connected gets nothing (`FrontQueue.stalled`).
        """
        self._stalled = stalled
        self._clock = clock
        self._served: dict[str, dict[int, Served]] = {}
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
        return served

    def gone(self, worker: int) -> None:
        """`worker` is no longer connected."""
        self._challenges.pop(worker, None)
        served = self._of_worker.pop(worker, None)
        if served is not None:
            served.workers.discard(worker)
            served.absent_since = self._clock()

    def find(self, model: str, version: int | None) -> Served:
        """Return the lane for `version`, or for the newest that has a worker.

        Raises:
            RequestError: 404 no such model or version; 503 nobody serves it, now or yet.
        """
        versions = self._served.get(model)
        if versions is None:
            known = ", ".join(sorted(self._served))
            raise RequestError(f"no model named {model!r}; there is: {known}", status=404)
        if version is None:
            served = _newest(versions)
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

    def infos(self) -> dict[str, ModelInfo]:
        """Return every model by name."""
        return {
            name: _info(name, versions, ready=self._ready(versions))
            for name, versions in self._served.items()
        }

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


def _info(name: str, versions: dict[int, Served], *, ready: tuple[int, ...]) -> ModelInfo:
    newest = _newest(versions)
    return ModelInfo(
        name=name,
        versions=tuple(sorted(versions)),
        inputs=newest.description.inputs if newest else (),
        outputs=newest.description.outputs if newest else (),
        engine=newest.description.engine if newest else "",
        ready_versions=ready,
    )
