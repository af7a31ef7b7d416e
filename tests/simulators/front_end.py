"""A whole front end over a fake dispatcher, on its own thread and loop, for tests over real TLS."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import h11
import msgspec
import numpy as np
import uvloop

from wardian._internal import settings
from wardian._internal.agreed import Limits, Mesh
from wardian.attestation.appraisal.policy import AllOf, AppraisalPolicy, MeasurementIn, NotDebug
from wardian.broker.ca import IssuingCa, MeshCa
from wardian.broker.certificates import MeshIdentity, build_csr, chain_pem, parse_csr
from wardian.broker.mesh.manifest import MeshManifest, sign_manifest
from wardian.broker.mesh.trust import RoleReference, TrustAnchor
from wardian.broker.mesh.verify import VerifiedManifest, verify_manifest
from wardian.broker.state.audit import EMPTY
from wardian.broker.transparency.cosigning import WitnessedHead
from wardian.broker.transparency.heads import sign_head
from wardian.crypto.signing import SigningKey
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import JobFailed, QueueFull, RequestError, Timeout
from wardian.inference.spec import TensorSpec
from wardian.serving.api.evidence_desk import Papers
from wardian.serving.api.routes import FindMore
from wardian.serving.catalog import ModelInfo
from wardian.serving.client.policy import ClientPolicy
from wardian.serving.dispatch import Counters, Outcome
from wardian.serving.frontend import Frontend
from wardian.serving.grpc.call import Served
from wardian.serving.http.tls import TlsIdentity
from wardian.serving.queue.lease import Lane
from wardian.serving.tenants.roster import Roster
from wardian.tee.launch.simulation import SimulatedPlatform, generate_platform

MEASUREMENTS = {"broker": b"\xbb" * 32, "frontend": b"\xff" * 32, "worker": b"\x77" * 32}
WEIGHTS = np.linspace(-1, 1, 640, dtype="f4").reshape(64, 10)
HOST = "127.0.0.1"


def spec(name: str, dtype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def model(
    name: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    *,
    versions: tuple[int, ...] = (1,),
    ready: bool = True,
) -> ModelInfo:
    return ModelInfo(
        name=name,
        versions=versions,
        inputs=inputs,
        outputs=outputs,
        engine="fake 1.0",
        ready_versions=versions if ready else (),
    )


def digits(pixels: np.ndarray) -> np.ndarray:
    """The fake model: what `infer` on "digits" answers."""
    return pixels.astype("f4") @ WEIGHTS


class FakeDispatcher:
    """Answers in the next turn of the loop; refuses and fails by the name of the model."""

    def __init__(self) -> None:
        one = (spec("pixels", "FP32", -1, 64),), (spec("scores", "FP32", -1, 10),)
        any_in = tuple(
            spec(name.lower(), name, -1, 2)
            for name in ("BOOL", "UINT8", "INT32", "INT64", "FP16", "FP32", "FP64")
        )
        texts = (spec("texts", "BYTES", -1),)
        self.models = {
            info.name: info
            for info in (
                model("digits", *one, versions=(1, 2)),
                model("pair", (spec("a", "FP32", -1, 2), spec("b", "INT64", -1, 2)),
                      (spec("sum", "FP64", -1, 2), spec("first", "INT64", -1))),
                model("echo", any_in, any_in),
                model("texts", texts, texts),
                model("halves", (spec("halves", "BF16", -1),), (spec("halves", "BF16", -1),)),
                model("strange", *one),  # answers NaN and infinities
                model("held", *one),  # answers when told to
                model("full", *one),
                model("broken", *one),
                model("late", *one),
                model("absent", (), (), versions=(), ready=False),
            )
        }  # fmt: skip
        self.counters = Counters()
        self.held: list[Callable[[Outcome], None]] = []
        self.seen: list[dict[str, Any]] = []

    def waiting(self) -> dict[Lane, int]:
        return {Lane("held", 1): len(self.held)}

    def delays(self) -> dict[Lane, float]:
        return {Lane("held", 1): 0.5}

    def catalog(self) -> dict[str, ModelInfo]:
        return self.models

    def submit(
        self, *, model: str, version: int | None, inputs: dict[str, np.ndarray],
        outputs: tuple[str, ...] | None, deadline_s: float, done: Callable[[Outcome], None],
        tenant: str = "", weight: int = 1, sealed: bool = False,
    ) -> None:  # fmt: skip
        self.seen.append(
            {
                "model": model,
                "version": version,
                "deadline_s": deadline_s,
                "tenant": tenant,
                "weight": weight,
            }
        )
        info = self.models.get(model)
        if info is None or (version is not None and version not in info.versions):
            raise RequestError(f"no model {model!r}", status=404)
        if not info.inputs:
            raise RequestError("no worker has described the model yet", status=503)
        if model == "full":
            raise QueueFull("4096 requests are waiting, as many as may", retry_after_s=3)
        self._match(info, inputs)
        if model == "held":
            self.held.append(done)
            return
        outcome = self._run(model, inputs)
        if outcome.outputs is not None and outputs is not None:
            unknown = set(outputs) - set(outcome.outputs)
            if unknown:
                raise RequestError(f"no output {sorted(unknown)}")
            outcome = Outcome(outputs={name: outcome.outputs[name] for name in outputs})
        if outcome.outputs is not None:
            outcome = Outcome(outputs=outcome.outputs, version=version or max(info.versions))
        asyncio.get_running_loop().call_soon(done, outcome)

    def _match(self, info: ModelInfo, inputs: dict[str, np.ndarray]) -> None:
        if inputs.keys() != {each.name for each in info.inputs}:
            raise RequestError(f"expected the inputs {[each.name for each in info.inputs]}")
        for each in info.inputs:
            shape = inputs[each.name].shape
            if len(shape) != len(each.shape) or any(
                want not in (-1, got) for want, got in zip(each.shape, shape, strict=True)
            ):
                raise RequestError(
                    f"input {each.name!r}: expected {each.dtype} {list(each.shape)}, "
                    f"got {list(shape)}"
                )

    def _run(self, name: str, inputs: dict[str, np.ndarray]) -> Outcome:
        if name == "broken":
            return Outcome(error=JobFailed("the model failed on these inputs"))
        if name == "late":
            return Outcome(error=Timeout("no answer within 10 s"))
        if name in ("echo", "texts", "halves"):
            return Outcome(outputs=dict(inputs))
        if name == "pair":
            return Outcome(
                outputs={
                    "sum": inputs["a"].astype("f8") + inputs["b"],
                    "first": inputs["b"][:, 0].copy(),
                }
            )
        scores = digits(inputs["pixels"])
        if name == "strange":
            scores[:, :3] = (np.nan, np.inf, -np.inf)
        return Outcome(outputs={"scores": scores})


def make_manifest(
    platform: SimulatedPlatform,
    *,
    roles: dict[str, tuple[bytes, ...]] | None = None,
    version: int = 3,
) -> VerifiedManifest:
    owner = SigningKey.generate()
    listed = roles or {role: (measured,) for role, measured in MEASUREMENTS.items()}
    manifest = MeshManifest(
        mesh="test",
        version=version,
        trust=TrustAnchor(
            simulation_root_sha256=platform.root_sha256.hex(),
            tcb_statuses=("UpToDate",),
            advisories=(),
        ),
        roles={
            role: RoleReference(measurements=tuple(each.hex() for each in measured))
            for role, measured in listed.items()
        },
        models=(),
    )
    mesh = Mesh(name="test", owners=(owner.public.hex(),))
    return verify_manifest(sign_manifest(manifest, [owner]), mesh=mesh)


def make_identity(
    issuer: IssuingCa,
    key: TlsKey | None = None,
    *,
    role: str = "frontend",
    now: int | None = None,
) -> TlsIdentity:
    key = key or TlsKey.generate()
    chain = issuer.issue(
        parse_csr(build_csr(key, names=("localhost", HOST) if role == "frontend" else ())),
        identity=MeshIdentity(
            role=role,
            measurement=MEASUREMENTS[role],
            manifest_digest=issuer.manifest_digest,
        ),
        now=int(time.time()) if now is None else now,
        life_s=3600,
    )
    return TlsIdentity(chain_pem=chain_pem(chain[:2]), key=key)


def leaf_of(identity: TlsIdentity) -> bytes:
    """The certificate that the other end of a connection sees, DER."""
    leaf = identity.chain_pem.decode().split("-----END")[0] + "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(leaf)


def make_papers(ca: MeshCa, issuer: IssuingCa, manifest: VerifiedManifest) -> Papers:
    """What a front end shows that was admitted under `manifest`; nobody witnessed its log."""
    head = sign_head(
        EMPTY,
        mesh="test",
        manifest_digest=manifest.digest,
        ca_spki=ca.spki,
        sign=ca.sign,
        now=int(time.time()),
    )
    return Papers(
        manifest=manifest,
        mesh_ca=ca.certificate,
        issuing_ca=issuer.certificate,
        witnessed=WitnessedHead(head=head),
    )


class FrontEnd:
    """A front end that runs on a thread of its own until the `with` block ends."""

    def __init__(
        self,
        *,
        loop: str = "uvloop",
        roster: Roster | None = None,
        more_routes: FindMore | None = None,
        more_calls: Mapping[bytes, Served] | None = None,
        **limits: Any,
    ) -> None:
        self.roster, self.more_routes, self.more_calls = roster, more_routes, more_calls
        self.platform = generate_platform()
        self.ca = MeshCa.create(mesh="test", simulated=True, now=int(time.time()))
        self.manifest = make_manifest(self.platform)
        self.issuer = self.issuer_of(self.manifest)
        self.papers = make_papers(self.ca, self.issuer, self.manifest)
        self.identity = make_identity(self.issuer)
        self.dispatcher = FakeDispatcher()
        self.measured = MEASUREMENTS["frontend"]
        self.quotes = 0
        self.limits = msgspec.convert({**settings_of(Limits()), **limits}, Limits)
        self.loop: asyncio.AbstractEventLoop = (
            uvloop.new_event_loop() if loop == "uvloop" else asyncio.new_event_loop()
        )
        self.thread = threading.Thread(target=self.loop.run_forever, name="front-end")
        self.port = 0

    def issuer_of(self, manifest: VerifiedManifest) -> IssuingCa:
        return self.ca.create_issuing(manifest_digest=manifest.digest, now=int(time.time()))

    def attest(self, report_data: bytes) -> Any:
        self.quotes += 1
        return self.platform.evidence(mr_enclave=self.measured, report_data=report_data)

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"

    def policy(self, **more: Any) -> ClientPolicy:
        """The policy that accepts exactly this front end and its mesh."""
        return ClientPolicy(
            evidence=AppraisalPolicy(
                roots=frozenset({self.platform.root_sha256}),
                rule=AllOf(NotDebug(), MeasurementIn(frozenset({MEASUREMENTS["frontend"]}))),
            ),
            **{"manifest_digest": self.manifest.digest, **more},
        )

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run `function` on the front end's loop and return what it returns."""

        async def run() -> Any:
            result = function(*args)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(20)

    def __enter__(self) -> Self:
        self.thread.start()
        self.frontend = self.call(self._compose)
        self.port = self.call(self.frontend.start, HOST, 0)[0][1]
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, drain_s: float = 0.2) -> None:
        if self.thread.is_alive():
            self.call(lambda: self.frontend.stop(drain_s=drain_s))
            self.call(asyncio.sleep, 0.02)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(10)
            self.loop.close()

    def _compose(self) -> Frontend:
        return Frontend(
            dispatcher=self.dispatcher,
            limits=self.limits,
            identity=self.identity,
            attest=self.attest,
            papers=self.papers,
            roster=self.roster,
            more_routes=self.more_routes,
            more_calls=self.more_calls,
        )

    def put_in_force(self, manifest: VerifiedManifest) -> None:
        """What the role does when the broker admitted it under another manifest."""
        self.manifest, self.issuer = manifest, self.issuer_of(manifest)
        self.papers = make_papers(self.ca, self.issuer, manifest)
        self.identity = make_identity(self.issuer)
        self.call(self.frontend.use, self.identity, self.papers)

    def release(self) -> None:
        """Answer what "held" holds."""

        def answer() -> None:
            held, self.dispatcher.held = self.dispatcher.held, []
            for done in held:
                done(Outcome(outputs={"scores": np.zeros((1, 10), "f4")}, version=1))

        self.call(answer)

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                raise AssertionError("it did not come to pass")
            time.sleep(0.01)

    @property
    def open_connections(self) -> int:
        return self.frontend._server.open_connections

    def connect(self, *, receive_bytes: int | None = None) -> ssl.SSLSocket:
        """A TLS connection to write bytes of one's own on."""
        context = ssl.create_default_context(cadata=self.ca.certificate)
        raw = socket.socket()
        raw.settimeout(20)
        if receive_bytes is not None:  # a client that takes little at a time
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        raw.connect((HOST, self.port))
        return context.wrap_socket(raw, server_hostname="localhost")

    @contextlib.contextmanager
    def raw(self) -> Iterator["RawClient"]:
        client = RawClient(self.connect())
        try:
            yield client
        finally:
            client.sock.close()


def settings_of(value: settings.Settings) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


class RawClient:
    """Sends any bytes; reads whole responses."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.sock = sock
        self.parser = h11.Connection(h11.CLIENT)
        self.closed = False

    def send(self, data: bytes) -> "RawClient":
        self.sock.sendall(data)
        return self

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        return self.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).response()

    def post(
        self, path: str, body: bytes, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
        return self.send(head.encode() + body).response()

    def response(self) -> tuple[int, dict[str, str], bytes]:
        """The next response; h11 is told of a request so that it reads one."""
        if self.parser.our_state is h11.IDLE:
            self.parser.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
            self.parser.send(h11.EndOfMessage())
        status, headers, body = 0, {}, b""
        while True:
            happened = self.parser.next_event()
            if happened is h11.NEED_DATA:
                data = self.sock.recv(65536)
                if not data:
                    self.closed = True
                    raise EOFError("closed")
                self.parser.receive_data(data)
            elif isinstance(happened, h11.Response):
                status = happened.status_code
                headers = {k.decode(): v.decode() for k, v in happened.headers}
            elif isinstance(happened, h11.Data):
                body += bytes(happened.data)
            elif isinstance(happened, h11.EndOfMessage):
                if self.parser.their_state is h11.DONE and self.parser.our_state is h11.DONE:
                    self.parser.start_next_cycle()
                return status, headers, body

    def ended(self) -> bool:
        """Whether the server closes now; reads what is left."""
        try:
            while self.sock.recv(65536):
                pass
        except (OSError, ssl.SSLError):
            pass
        return True
