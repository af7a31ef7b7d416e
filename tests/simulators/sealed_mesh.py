"""A mesh in one process whose every part is real but the sockets between broker, queue and worker.

A broker releases keys on evidence to a front end and a worker; clients connect over TLS. Whatever
passes the front end's code in the clear is kept, to be searched for what it must not see.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import override

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))

from simulators.data_plane import MemoryQueue, Pipe, ToyModel
from simulators.front_end import HOST, FrontEnd
from toy_mesh import ToyBroker, ToyMesh

from wardian._internal.agreed import Limits
from wardian.attestation.appraisal.policy import AllOf, AppraisalPolicy, MeasurementIn, NotDebug
from wardian.attestation.evidence import Evidence
from wardian.broker.ca import MeshCa
from wardian.broker.mesh.manifest import MeshManifest
from wardian.broker.mesh.trust import TrustAnchor
from wardian.broker.release.admission import Admission
from wardian.crypto.message import QueueSender
from wardian.crypto.message_header import RequestHeader
from wardian.roles import dispatching
from wardian.roles import frontend as frontend_role
from wardian.roles import worker as worker_role
from wardian.serving.client.policy import ClientPolicy
from wardian.serving.dispatch import Dispatcher
from wardian.serving.epochs import EpochCodec
from wardian.serving.frontend import Frontend
from wardian.serving.http.messages import HttpRequest, HttpResponse
from wardian.tee.launch.simulation import SimulatedPlatform, generate_platform


class LiveMesh(ToyMesh):
    """A `ToyMesh` whose platform's statements hold today."""

    live: SimulatedPlatform = generate_platform()

    @override
    def attest(self, role: str, **more: Any) -> Callable[[bytes], Evidence]:
        return super().attest(role, **({"platform": self.live} | more))

    @override
    def manifest(self, **changes: object) -> MeshManifest:
        trust = TrustAnchor(
            simulation_root_sha256=self.live.root_sha256.hex(),
            tcb_statuses=("UpToDate",),
            advisories=(),
        )
        return super().manifest(**({"trust": trust} | changes))


class LiveBroker(ToyBroker):
    """A `ToyBroker` of today."""

    @override
    def start(self) -> None:
        self.host_time = int(time.time())
        super().start()

    def admitted(self, role: str, *, renewal: bool = False) -> Admission:
        front = role == "frontend"
        workload = self.mesh.workload(
            role,
            ("digits", "faces") if front else ("digits",),
            renewal=renewal,
            names=("localhost", HOST) if front else (),
        )
        return self.admit(workload, self.mesh.attest(role))


@dataclass
class Seen:
    """What a front end's process has in the clear."""

    http: list[bytes] = field(default_factory=list)
    queue: list[bytes] = field(default_factory=list)

    def everything(self) -> bytes:
        return b"|".join((*self.http, *self.queue))


class _SeenPending:
    def __init__(self, pending: Any, seen: Seen) -> None:
        self.pending, self.seen = pending, seen

    def open(self, sealed: bytes) -> bytearray:
        plaintext = self.pending.open(sealed)
        self.seen.queue += (bytes(sealed), bytes(plaintext))
        return plaintext


class _SeenSender:
    """A front end's codec that keeps what it seals, before and after, and what it opens."""

    def __init__(self, sender: QueueSender, seen: Seen) -> None:
        self.sender, self.seen = sender, seen

    def seal_request(self, plaintext: bytes, *, header: RequestHeader) -> Any:
        sealed, pending = self.sender.seal_request(plaintext, header=header)
        self.seen.queue += (bytes(plaintext), bytes(sealed))
        return sealed, _SeenPending(pending, self.seen)

    def erase(self) -> None:
        self.sender.erase()


class SealedMesh(FrontEnd):
    """The front end of a mesh, and with it the rest; runs until the `with` block ends.

    Attributes:
        seen: what the front end has in the clear.
        rewrites: changes the front end's answers, as whoever rules its host, or itself, might.
    """

    def __init__(self, directory: Path, model: Any = None) -> None:
        super().__init__()
        self.mesh = LiveMesh()
        self.broker = LiveBroker(self.mesh, directory / "broker.db")
        self.model = model or ToyModel()
        self.seen = Seen()
        self.rewrites: Callable[[HttpRequest, HttpResponse], HttpResponse] = lambda _, response: (
            response
        )
        self.redirects: Callable[[HttpRequest], HttpRequest] = lambda request: request
        self.platform, self.ca = self.mesh.live, _Root(self.broker.authority.ca)
        self.measured = self.mesh.measurements["frontend"]
        self._take(self.broker.admitted("frontend"))
        self.codec = EpochCodec(model="digits", keep_s=40, ask=lambda: None)
        worker = self.broker.admitted("worker")
        line = worker.manifest.manifest.lines("digits")[-1]
        self.worker_member = worker_role._WorkerMember(line, self.codec, reach=lambda _: None)
        self.worker_member.take_up(worker)

    def _take(self, admission: Admission) -> None:
        self.admission = admission
        self.identity = frontend_role._identity(admission)
        self.papers = frontend_role._papers(admission)
        self.manifest = admission.manifest

    @override
    def policy(self, **more: Any) -> ClientPolicy:
        measurement = MeasurementIn(frozenset({self.measured}))
        return ClientPolicy(
            evidence=AppraisalPolicy(
                roots=frozenset({self.platform.root_sha256}), rule=AllOf(NotDebug(), measurement)
            ),
            **{"manifest_digest": self.manifest.digest, **more},
        )

    @override
    def _compose(self) -> Frontend:
        self.queue = MemoryQueue()
        self.dispatcher = Dispatcher(  # type: ignore[assignment]
            queue=self.queue,
            codecs=self._senders(self.admission),
            lanes=dispatching.lanes(self.admission),
            max_waiting=100,
        )
        frontend = Frontend(
            dispatcher=self.dispatcher,
            limits=Limits(),
            identity=self.identity,
            attest=self.attest,
            papers=self.papers,
        )
        state = frontend._server._state
        handle = state.handler
        state.handler = lambda request, respond: self._handle(request, respond, handle)
        pipe = Pipe(self.queue.connect(), self.model, codec=self.codec, sealed=self.codec)
        self._serving = pipe.serving()
        self._serving.__enter__()
        return frontend

    def _senders(self, admission: Admission) -> dict[str, Any]:
        senders = dispatching.senders(admission)
        return {name: _SeenSender(sender, self.seen) for name, sender in senders.items()}

    def _handle(self, request: HttpRequest, respond: Any, handle: Any) -> None:
        request = self.redirects(request)
        self.seen.http.append(bytes(request.body))

        def answer(response: HttpResponse) -> None:
            response = self.rewrites(request, response)
            self.seen.http += [bytes(part) for part in response.body]
            respond(response)

        handle(request, answer)

    def renew(self, *, worker: bool = True) -> None:
        """Let front end and worker take up what is in force at the broker."""

        front = self.broker.admitted("frontend", renewal=True)
        working = self.broker.admitted("worker", renewal=True) if worker else None

        def take_up() -> None:
            self._take(front)
            if working is not None:
                self.worker_member.adopt(working)
            self.frontend.use(self.identity, self.papers)
            self.dispatcher.use(  # type: ignore[attr-defined]
                self._senders(self.admission),
                lanes=dispatching.lanes(self.admission),
                moved=False,
            )

        self.call(take_up)

    @override
    def stop(self, drain_s: float = 0.2) -> None:
        if self.thread.is_alive():
            self.call(self._serving.__exit__, None, None, None)
            self.call(self.dispatcher.close)  # type: ignore[attr-defined]
        super().stop(drain_s)
        self.broker.close()


class _Root:
    """What `FrontEnd.connect` asks of a CA."""

    def __init__(self, ca: MeshCa) -> None:
        self.certificate, self.spki = ca.certificate, ca.spki
