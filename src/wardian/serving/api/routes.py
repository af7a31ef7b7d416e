"""Routes: what a request asks for, who does it, and what an error looks like.

Every error is `{"error": text, "code": word}`: the text says what was wrong and what was expected,
the word is one of a closed set. What went wrong on our side is told to the log, and to the client
only as a reference into it.

One inference is: find the route, decode (`oip`, `predict`), `Dispatching.submit`, and when its
outcome comes, encode and respond. No task, no thread, no copy of a tensor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias
from urllib.parse import parse_qsl, unquote

from wardian._internal.clock import Monotonic, monotonic
from wardian._internal.metrics import CONTENT_TYPE, EVIDENCE, Metrics
from wardian.errors import QueueFull, RequestError
from wardian.inference.spec import Tensors
from wardian.serving.api import describe
from wardian.serving.api.error_answers import WrongMethod, answer_error
from wardian.serving.api.oip import InferRequest, decode_infer, encode_infer
from wardian.serving.api.predict import decode_predict, encode_predict
from wardian.serving.catalog import ModelInfo
from wardian.serving.frontend_evidence import PATH as ATTESTATION_PATH
from wardian.serving.http.connection import Respond
from wardian.serving.http.messages import (
    BINARY,
    NO_STORE,
    HttpRequest,
    HttpResponse,
    error_response,
    json_response,
)
from wardian.serving.packing import moved_error

if TYPE_CHECKING:
    from wardian.serving.dispatch import Outcome

CATALOG_AGE_S: Final = 0.1
"""How old a description of the models may be: making one costs more than many a request."""
_EVIDENCE_OUTCOMES: Final = {200: "quoted", 429: "limited"}
_HEADER_LENGTH: Final = b"inference-header-content-length"
_MEDIA_TYPES: Final = frozenset(
    {
        b"application/json",
        b"application/octet-stream",
        b"application/vnd.sagemaker-triton.binary+json",
        b"application/x-www-form-urlencoded",  # what curl says if it is not told otherwise
        b"text/plain",
    }
)


class Dispatching(Protocol):
    """What the API needs of `dispatch.Dispatcher`."""

    def submit(
        self,
        *,
        model: str,
        version: int | None,
        inputs: Tensors,
        outputs: tuple[str, ...] | None,
        deadline_s: float,
        done: Callable[["Outcome"], None],
        tenant: str = "",
    ) -> None:
        """Accept one request; see `dispatch.Dispatcher.submit`."""

    def catalog(self) -> dict[str, ModelInfo]:
        """Return every model of the mesh by name."""


class Desk(Protocol):
    """What the API needs of `evidence_desk.EvidenceDesk`."""

    def answer(
        self,
        nonce: bytes,
        *,
        tls_spki: bytes,
        connection: int,
        done: Callable[[HttpResponse], None],
    ) -> None:
        """Call `done` with evidence, later."""


class _Call:
    """One request on its way through the API."""

    __slots__ = (
        "api", "decoded", "model", "query", "request", "respond", "route", "started", "version",
    )  # fmt: skip

    def __init__(self, api: "Api", request: HttpRequest, respond: Respond, started: float) -> None:
        self.api = api
        self.request = request
        self.respond = respond
        self.started = started
        self.route = "other"
        self.model = ""
        self.version = ""
        self.query = b""
        self.decoded: InferRequest | None = None

    def end(self, response: HttpResponse) -> None:
        """Send the answer and count it."""
        self.respond(response)
        api = self.api
        seconds = api.clock() - self.started
        model = self.model if self.model in api.models() else ""
        api.metrics.answered(self.route, model, response.status, seconds)

    def infer_done(self, outcome: "Outcome") -> None:
        """Answer in the dialect of the Open Inference Protocol."""
        self.api.in_flight -= 1
        try:
            if outcome.outputs is None:
                self.end(answer_error(outcome.error))
            else:
                self.end(_infer_response(self, outcome.outputs))
        except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
            self.end(answer_error(err))

    def predict_done(self, outcome: "Outcome") -> None:
        """Answer in the plain JSON dialect."""
        self.api.in_flight -= 1
        try:
            if outcome.outputs is None:
                self.end(answer_error(outcome.error))
            else:
                self.end(HttpResponse(body=(encode_predict(outcome.outputs),)))
        except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
            self.end(answer_error(err))


_Action: TypeAlias = Callable[["Api", _Call], HttpResponse | None]
"""Returns the answer, or None if it comes later through the call."""


@dataclass(frozen=True, slots=True)
class _Route:
    name: str
    methods: frozenset[bytes]
    action: _Action


class Api:
    """The front end's HTTP interface over a dispatcher and an evidence desk."""

    def __init__(
        self,
        *,
        dispatcher: Dispatching,
        desk: Desk,
        metrics: Metrics,
        deadline_s: float,
        serves: Callable[[bytes], bool],
        clock: Monotonic = monotonic,
    ) -> None:
        """Serve.

        Args:
            dispatcher: does the inferences.
            desk: makes the evidence.
            metrics: counts.
            deadline_s: within which every inference has its answer; a client may ask for less.
            serves: whether connections to a server key are of the manifest in force. On others
                nothing is answered but the status 421: their clients accepted another mesh.
            clock: monotonic seconds, for durations.
        """
        self.metrics = metrics
        self.clock = clock
        self.in_flight = 0
        self._serves = serves
        self._catalog = dispatcher.catalog
        self._infos: dict[str, ModelInfo] = {}
        self._infos_at = -CATALOG_AGE_S
        self.desk = desk
        self._submit = dispatcher.submit
        self._deadline_s = deadline_s

    def handle(self, request: HttpRequest, respond: Respond) -> None:
        """Answer `request` through `respond`, now or later; never raises."""
        call = _Call(self, request, respond, self.clock())
        try:
            response = self._find(call).action(self, call)
        except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
            response = answer_error(err)
        if response is not None:
            call.end(response)

    def submit(
        self, call: _Call, inputs: Tensors, request: InferRequest | None, done: "_Done"
    ) -> None:
        """Hand an inference over to the dispatcher."""
        deadline_s = self._deadline_s
        if request is not None and request.timeout_s is not None:
            deadline_s = min(deadline_s, request.timeout_s)
        self.in_flight += 1
        try:
            self._submit(
                model=call.model,
                version=_version(call.version),
                inputs=inputs,
                outputs=None if request is None else request.outputs,
                deadline_s=deadline_s,
                done=done,
                # Until callers are told apart by who they are, each connection is a tenant (T19).
                tenant=str(call.request.connection),
            )
        except BaseException:
            self.in_flight -= 1
            raise

    def models(self) -> dict[str, ModelInfo]:
        """Return every model by name, as it was at most `CATALOG_AGE_S` ago."""
        now = self.clock()
        if now - self._infos_at >= CATALOG_AGE_S:
            self._infos, self._infos_at = self._catalog(), now
        return self._infos

    def model(self, call: _Call) -> ModelInfo:
        """Return the model that `call` names.

        Raises:
            RequestError: 404; says which there are.
        """
        models = self.models()
        info = models.get(call.model)
        if info is None:
            raise RequestError(
                f"no model {call.model[:64]!r}; this mesh serves: {', '.join(sorted(models))}",
                status=404,
            )
        version = _version(call.version)
        if version is not None and version not in info.versions:
            served = ", ".join(str(each) for each in info.versions) or "none yet"
            raise RequestError(
                f"no version {version} of model {info.name!r}; served: {served}", status=404
            )
        return info

    def _find(self, call: _Call) -> _Route:
        """Return the route of `call`, whose model, version and query are then set."""
        request = call.request
        if not self._serves(request.tls_spki):
            raise moved_error()
        path, _, call.query = request.target.partition(b"?")
        text = path.decode("latin-1")
        if "%" in text:
            text = unquote(text, errors="replace")
        parts = text.split("/")
        if len(parts) > 3 and parts[2] == "models":
            text = _model_path(parts, call)
        route = _ROUTES.get(text) or _ROUTES.get(text.rstrip("/"))
        if route is None:
            raise RequestError(f"no such path; see {_PATHS}", status=404)
        call.route = route.name
        if request.method not in route.methods:
            raise WrongMethod(route.methods)
        return route


_Done: TypeAlias = Callable[["Outcome"], None]


def _infer(api: Api, call: _Call) -> None:
    request = call.request
    length = request.headers.get(_HEADER_LENGTH)
    _accept_media_type(request)
    decoded = call.decoded = decode_infer(
        request.body, header_length=None if length is None else _whole(length)
    )
    api.submit(call, decoded.inputs, decoded, call.infer_done)


def _predict(api: Api, call: _Call) -> None:
    info = api.model(call)
    if not info.inputs:
        raise RequestError(f"no worker serves model {info.name!r} yet", status=503)
    _accept_media_type(call.request)
    inputs = decode_predict(call.request.body, inputs=info.inputs)
    api.submit(call, inputs, None, call.predict_done)


def _infer_response(call: _Call, outputs: Tensors) -> HttpResponse:
    decoded = call.decoded
    if decoded is None:
        raise RequestError("an answer came for no request", status=500)
    version = call.version
    if not version:
        info = call.api.models().get(call.model)
        if info is not None and len(info.versions) == 1:  # else we cannot tell which one it was
            version = str(info.versions[0])
    parts, header_length = encode_infer(
        model=call.model, version=version, request=decoded, outputs=outputs
    )
    if header_length is None:
        return HttpResponse(body=parts)
    return HttpResponse(
        body=parts,
        content_type=BINARY,
        headers=b"Inference-Header-Content-Length: %d\r\n" % header_length,
    )


def _evidence(api: Api, call: _Call) -> None:
    query = dict(parse_qsl(call.query.decode("latin-1"), max_num_fields=8))
    try:
        nonce = bytes.fromhex(query["nonce"])
    except (KeyError, ValueError):
        raise RequestError(
            f"expected {ATTESTATION_PATH}?nonce=HEX with 32 random bytes in hex"
        ) from None

    def done(response: HttpResponse) -> None:
        api.metrics.count(EVIDENCE, _EVIDENCE_OUTCOMES.get(response.status, "failed"))
        call.end(response)

    try:
        request = call.request
        api.desk.answer(nonce, tls_spki=request.tls_spki, connection=request.connection, done=done)
    except QueueFull:
        api.metrics.count(EVIDENCE, "limited")
        raise


def _metrics(api: Api, _call: _Call) -> HttpResponse:
    return HttpResponse(body=(api.metrics.render(),), content_type=CONTENT_TYPE, headers=NO_STORE)


def _server(_api: Api, _call: _Call) -> HttpResponse:
    return json_response(describe.server())


def _live(_api: Api, _call: _Call) -> HttpResponse:
    return json_response({"live": True})


def _ready(api: Api, _call: _Call) -> HttpResponse:
    waiting = sorted(info.name for info in api.models().values() if not info.ready)
    if waiting:
        return error_response(
            503, f"no worker yet for: {', '.join(waiting)}", code="not_ready", retry_after_s=1
        )
    return json_response({"ready": True})


def _models(api: Api, _call: _Call) -> HttpResponse:
    return json_response({"models": [describe.listed(info) for info in api.models().values()]})


def _metadata(api: Api, call: _Call) -> HttpResponse:
    return json_response(describe.metadata(api.model(call)))


def _config(api: Api, call: _Call) -> HttpResponse:
    return json_response(describe.config(api.model(call)))


def _model_ready(api: Api, call: _Call) -> HttpResponse:
    info = api.model(call)
    if not info.ready:
        return error_response(
            503, f"no worker yet for: {info.name}", code="not_ready", retry_after_s=1
        )
    return json_response({"name": info.name, "ready": True})


_GET: Final = frozenset({b"GET", b"HEAD"})
_POST: Final = frozenset({b"POST"})
_ROUTES: Final = {
    "/v2": _Route("server", _GET, _server),
    "/v2/health/live": _Route("live", _GET, _live),
    "/v2/health/ready": _Route("ready", _GET, _ready),
    "/v2/models/*": _Route("metadata", _GET, _metadata),
    "/v2/models/*/config": _Route("config", _GET, _config),
    "/v2/models/*/ready": _Route("model_ready", _GET, _model_ready),
    "/v2/models/*/infer": _Route("infer", _POST, _infer),
    "/v1/models": _Route("models", _GET, _models),
    "/v1/models/*:predict": _Route("predict", _POST, _predict),
    ATTESTATION_PATH: _Route("attestation", _GET, _evidence),
    "/metrics": _Route("metrics", _GET, _metrics),
}
_PATHS: Final = ", ".join(_ROUTES).replace("*", "NAME")


def _model_path(parts: list[str], call: _Call) -> str:
    """Return the route's pattern for a path below `/vN/models/`, and set model and version."""
    model, action = parts[3], ""
    if parts[1] == "v1":
        model, _, action = model.rpartition(":")
        call.model = model
        return f"/v1/models/*:{action}" + "".join(f"/{part}" for part in parts[4:])
    call.model = model
    rest = parts[4:]
    if len(rest) > 1 and rest[0] == "versions":
        call.version = rest[1]
        rest = rest[2:]
    return "/".join([parts[0], parts[1], "models/*", *rest])


def _version(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise RequestError("a version is a whole number", status=404)
    return int(text)


def _whole(value: bytes) -> int:
    if not value.isdigit() or len(value) > 12:
        raise RequestError("Inference-Header-Content-Length: a number of bytes was expected")
    return int(value)


def _accept_media_type(request: HttpRequest) -> None:
    """Refuse a body that says it is something else; a missing type is taken for ours."""
    given = request.headers.get(b"content-type")
    if given is None or given in _MEDIA_TYPES:
        return
    if given.partition(b";")[0].strip().lower() not in _MEDIA_TYPES:
        raise RequestError(
            "Content-Type: application/json, or application/octet-stream for binary tensors, "
            "was expected",
            status=415,
        )
