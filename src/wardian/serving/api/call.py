"""One REST request on its way through the API, and what a route is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from wardian.broker.release.request_keys import RequestKey
from wardian.errors import RequestError
from wardian.inference.spec import Tensors
from wardian.serving.api.error_answers import answer_error
from wardian.serving.api.oip import InferRequest, encode_infer
from wardian.serving.api.predict import encode_predict
from wardian.serving.api.service import Done, Service
from wardian.serving.http.messages import BINARY, HttpRequest, HttpResponse
from wardian.serving.http.state import Respond
from wardian.serving.traces import HEADER, Trace

if TYPE_CHECKING:
    from wardian.serving.dispatch import Outcome


VERSION_HEADER: Final = b"Wardian-Model-Version"
"""Names the version that answered where the body of a dialect has no place for it."""


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

    def request_key(self, model: str) -> RequestKey:
        """Return what the broker states of a model's request key; RequestError if nothing."""


class Call:
    """One request; ends with one answer."""

    __slots__ = (
        "decoded", "desk", "model", "query", "request", "respond", "route", "service", "started",
        "trace", "version",
    )  # fmt: skip

    def __init__(
        self, service: Service, desk: Desk, request: HttpRequest, respond: Respond
    ) -> None:
        self.service = service
        self.desk = desk
        self.request = request
        self.respond = respond
        self.started = service.clock()
        self.route = "other"
        self.model = ""
        self.version = ""
        self.query = b""
        self.decoded: InferRequest | None = None
        self.trace: Trace | None = None

    def end(self, response: HttpResponse) -> None:
        """Send the answer and count it."""
        self.respond(response)
        self.count(response.status)

    def count(self, status: int) -> None:
        """Count the request as answered with `status`, and end its trace."""
        service = self.service
        seconds = service.clock() - self.started
        model = self.model if self.model in service.models() else ""
        service.metrics.answered(self.route, model, status, seconds)
        if self.trace is not None:
            self.trace.end(route=self.route, model=model, status=status, started=self.started)

    def begin_inference(self) -> None:
        """Trace this request if its client does."""
        headers = self.request.headers
        if HEADER in headers:
            self.trace = self.service.tracer.begin(headers[HEADER])

    def traced(self, done: Done) -> Done:
        """Return what to hand over in the place of `done`: a trace learns of the outcome too."""
        trace = self.trace
        return done if trace is None else trace.through(done)

    def infer_done(self, outcome: "Outcome") -> None:
        """Answer in the dialect of the Open Inference Protocol."""
        self.service.over()
        try:
            if outcome.outputs is None:
                self.end(answer_error(outcome.error))
            else:
                self.end(self._infer_response(outcome.outputs, outcome.version))
        except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
            self.end(answer_error(err))

    def predict_done(self, outcome: "Outcome") -> None:
        """Answer in the plain JSON dialect."""
        self.service.over()
        try:
            if outcome.outputs is None:
                self.end(answer_error(outcome.error))
            else:
                headers = b"%b: %d\r\n" % (VERSION_HEADER, outcome.version)
                body = (encode_predict(outcome.outputs),)
                self.end(HttpResponse(body=body, headers=headers))
        except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
            self.end(answer_error(err))

    def _infer_response(self, outputs: Tensors, version: int) -> HttpResponse:
        decoded = self.decoded
        if decoded is None:
            raise RequestError("an answer came for no request", status=500)
        parts, header_length = encode_infer(
            model=self.model, version=str(version), request=decoded, outputs=outputs
        )
        if header_length is None:
            return HttpResponse(body=parts)
        return HttpResponse(
            body=parts,
            content_type=BINARY,
            headers=b"Inference-Header-Content-Length: %d\r\n" % header_length,
        )


Action: TypeAlias = Callable[[Call], HttpResponse | None]
"""Returns the answer, or None if it comes later through the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A path, what it does, and what its page of documentation says.

    Attributes:
        name: label of the metrics.
        methods: that it takes.
        action: what it does.
        summary: one line.
        answers: by status, the name of the schema of the body ("" for text that is not JSON).
        errors: statuses that it ends with beside those that every route may.
        body: name of the request body's schema, if it takes one.
        body_required: whether there has to be a body.
        binary: body and answer may be the binary form.
        sealed: they may be sealed past the front end.
        streamed: the answer is a stream of events, each of which is such a body, or an error's.
        query: parameters of the query that are required, with their patterns.
        versioned: the path may also name a version.
    """

    name: str
    methods: frozenset[bytes]
    action: Action
    summary: str
    answers: Mapping[int, str]
    errors: tuple[int, ...] = ()
    body: str = ""
    body_required: bool = True
    binary: bool = False
    sealed: bool = False
    streamed: bool = False
    query: Mapping[str, str] = field(default_factory=dict)
    versioned: bool = False
