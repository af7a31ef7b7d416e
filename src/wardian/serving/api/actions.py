"""What each route does."""

from typing import Annotated, Final, Literal
from urllib.parse import parse_qsl

import msgspec

from wardian._internal.metrics import CONTENT_TYPE, EVIDENCE
from wardian.errors import QueueFull, RequestError
from wardian.serving.api import describe, sealed
from wardian.serving.api.call import Call
from wardian.serving.api.json_tensors import bound_json, explain_json
from wardian.serving.api.oip import decode_infer
from wardian.serving.api.predict import decode_predict
from wardian.serving.api.service import parse_version
from wardian.serving.frontend_evidence import PATH as ATTESTATION_PATH
from wardian.serving.http.messages import (
    NO_STORE,
    HttpRequest,
    HttpResponse,
    error_response,
    json_response,
)
from wardian.serving.sealed_types import REQUEST_TYPE

NOT_BY_REQUEST: Final = (
    "models come and go by the mesh manifest, which their owners sign; no request loads or unloads "
    "one"
)
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


def infer(call: Call) -> None:
    """Run one inference of the Open Inference Protocol."""
    call.begin_inference()
    request = call.request
    if request.headers.get(b"content-type") == REQUEST_TYPE:
        sealed.infer(call)
        return
    length = request.headers.get(_HEADER_LENGTH)
    _accept_media_type(request)
    decoded = call.decoded = decode_infer(
        request.body, header_length=None if length is None else _whole(length)
    )
    call.service.submit(
        model=call.model,
        version=call.version,
        inputs=decoded.inputs,
        outputs=decoded.outputs,
        timeout_s=decoded.timeout_s,
        connection=request.connection,
        done=call.traced(call.infer_done),
    )


def generate(call: Call) -> None:
    """Answer a text with its continuation."""
    _generate(call, "Whole")


def generate_stream(call: Call) -> None:
    """Answer a text with its continuation, in parts."""
    _generate(call, "Events")


def _generate(call: Call, how: Literal["Whole", "Events"]) -> None:
    from wardian.serving.api.generate import rest  # noqa: PLC0415  where texts are generated

    call.begin_inference()
    if call.request.headers.get(b"content-type") == REQUEST_TYPE:
        raise RequestError(
            "what is sealed past the front end cannot be answered in parts: use /infer",
            status=415,
        )
    _accept_media_type(call.request)
    answer = rest.Whole if how == "Whole" else rest.Events
    answer(call, rest.prompt_of_call(call))


def predict(call: Call) -> None:
    """Run one inference in plain JSON."""
    call.begin_inference()
    info = call.service.model(call.model, "")
    if not info.inputs:
        raise RequestError(f"no worker serves model {info.name!r} yet", status=503)
    _accept_media_type(call.request)
    call.service.submit(
        model=call.model,
        version="",
        inputs=decode_predict(call.request.body, inputs=info.inputs),
        outputs=None,
        timeout_s=None,
        connection=call.request.connection,
        done=call.traced(call.predict_done),
    )


def evidence(call: Call) -> None:
    """Make evidence about the key of the connection that asks."""
    metrics = call.service.metrics
    query = dict(parse_qsl(call.query.decode("latin-1"), max_num_fields=8))
    try:
        nonce = bytes.fromhex(query["nonce"])
    except (KeyError, ValueError):
        raise RequestError(
            f"expected {ATTESTATION_PATH}?nonce=HEX with 32 random bytes in hex"
        ) from None

    def done(response: HttpResponse) -> None:
        metrics.count(EVIDENCE, _EVIDENCE_OUTCOMES.get(response.status, "failed"))
        call.end(response)

    try:
        request = call.request
        call.desk.answer(nonce, tls_spki=request.tls_spki, connection=request.connection, done=done)
    except QueueFull:
        metrics.count(EVIDENCE, "limited")
        raise


def metrics(call: Call) -> HttpResponse:
    """Return the metrics in Prometheus' text form."""
    call.service.expect_metrics()
    body = call.service.metrics.render()
    return HttpResponse(body=(body,), content_type=CONTENT_TYPE, headers=NO_STORE)


def server(_call: Call) -> HttpResponse:
    """Return the server's metadata."""
    return json_response(describe.server())


def live(_call: Call) -> HttpResponse:
    """Say that the process serves."""
    return json_response({"live": True})


def ready(call: Call) -> HttpResponse:
    """Say whether every model has a worker."""
    waiting = call.service.waiting_models()
    if waiting:
        return _not_ready(", ".join(waiting))
    return json_response({"ready": True})


def models(call: Call) -> HttpResponse:
    """Return all models with their metadata."""
    infos = call.service.models().values()
    return json_response({"models": [describe.listed(info) for info in infos]})


def metadata(call: Call) -> HttpResponse:
    """Return one model's metadata."""
    return json_response(describe.metadata(call.service.model(call.model, call.version)))


def config(call: Call) -> HttpResponse:
    """Return what Triton's clients read of a model's configuration."""
    return json_response(describe.config(call.service.model(call.model, call.version)))


def model_ready(call: Call) -> HttpResponse:
    """Say whether one model, or one version of it, has a worker."""
    info = call.service.model(call.model, call.version)
    if not info.serves(parse_version(call.version)):
        return _not_ready(info.name)
    return json_response({"name": info.name, "ready": True})


class _Index(msgspec.Struct, gc=False):
    """Body of a request for the index; other members are tolerated."""

    ready: bool = False
    repository_name: Annotated[str, msgspec.Meta(max_length=256)] = ""


_decode_index = msgspec.json.Decoder(_Index).decode


def repository_index(call: Call) -> HttpResponse:
    """Return every version of every model and its state."""
    body = call.request.body
    bound_json(body)
    try:
        asked = _decode_index(body) if body else _Index()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise RequestError(explain_json(err, body)) from err
    return json_response(describe.index(call.service.models().values(), ready=asked.ready))


def not_by_request(call: Call) -> HttpResponse:
    """Refuse to load or unload a model."""
    call.service.model(call.model, "")
    raise RequestError(NOT_BY_REQUEST, status=403)


def _not_ready(names: str) -> HttpResponse:
    return error_response(503, f"no worker yet for: {names}", code="not_ready", retry_after_s=1)


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
