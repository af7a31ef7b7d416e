"""Every path of the REST API: one table that routes requests and that its documentation is of."""

from functools import cache
from typing import Final

import msgspec

from wardian.serving.api import actions, sealed
from wardian.serving.api.call import Call, Route
from wardian.serving.api.openapi import build_page
from wardian.serving.frontend_evidence import PATH as ATTESTATION_PATH
from wardian.serving.http.messages import HttpResponse

_GET: Final = frozenset({b"GET", b"HEAD"})
_POST: Final = frozenset({b"POST"})


@cache
def page() -> bytes:
    """Return the OpenAPI page of `ROUTES`, as JSON."""
    return msgspec.json.format(msgspec.json.encode(build_page(ROUTES)), indent=2)


def _docs(_call: Call) -> HttpResponse:
    return HttpResponse(body=(page(),))


ROUTES: Final[dict[str, Route]] = {
    "/v2": Route(
        name="server",
        methods=_GET,
        action=actions.server,
        summary="Name, version and extensions of the server",
        answers={200: "Server"},
    ),
    "/v2/health/live": Route(
        name="live",
        methods=_GET,
        action=actions.live,
        summary="Whether the front end serves",
        answers={200: "Live"},
    ),
    "/v2/health/ready": Route(
        name="ready",
        methods=_GET,
        action=actions.ready,
        summary="Whether every model has a worker",
        answers={200: "Ready"},
        errors=(503,),
    ),
    "/v2/models/*": Route(
        name="metadata",
        methods=_GET,
        action=actions.metadata,
        summary="Versions, inputs and outputs of a model",
        answers={200: "Model"},
        versioned=True,
    ),
    "/v2/models/*/config": Route(
        name="config",
        methods=_GET,
        action=actions.config,
        summary="The part of Triton's model configuration that clients read",
        answers={200: "Config"},
        versioned=True,
    ),
    "/v2/models/*/ready": Route(
        name="model_ready",
        methods=_GET,
        action=actions.model_ready,
        summary="Whether a model has a worker",
        answers={200: "ModelReady"},
        errors=(503,),
        versioned=True,
    ),
    "/v2/models/*/infer": Route(
        name="infer",
        methods=_POST,
        action=actions.infer,
        summary="Inference, with tensors in JSON or in binary",
        answers={200: "InferResponse"},
        body="InferRequest",
        binary=True,
        sealed=True,
        errors=(409,),
        versioned=True,
    ),
    "/v2/models/*/generate": Route(
        name="generate",
        methods=_POST,
        action=actions.generate,
        summary="The continuation of a text",
        answers={200: "GenerateResponse"},
        body="GenerateRequest",
        versioned=True,
    ),
    "/v2/models/*/generate_stream": Route(
        name="generate_stream",
        methods=_POST,
        action=actions.generate_stream,
        summary="The continuation of a text, as server-sent events, each a GenerateResponse",
        answers={200: "GenerateResponse"},
        body="GenerateRequest",
        streamed=True,
        versioned=True,
    ),
    "/v2/repository/index": Route(
        name="repository_index",
        methods=_POST,
        action=actions.repository_index,
        summary="Every version of every model, and its state",
        answers={200: "Index"},
        body="IndexRequest",
        body_required=False,
    ),
    "/v2/repository/models/*/load": Route(
        name="repository_load",
        methods=_POST,
        action=actions.not_by_request,
        summary="Always refused: models come by the owners' manifest",
        answers={},
        errors=(403,),
    ),
    "/v2/repository/models/*/unload": Route(
        name="repository_unload",
        methods=_POST,
        action=actions.not_by_request,
        summary="Always refused: models go by the owners' manifest",
        answers={},
        errors=(403,),
    ),
    "/v1/models": Route(
        name="models",
        methods=_GET,
        action=actions.models,
        summary="All models, and whether they are ready",
        answers={200: "Models"},
    ),
    "/v1/models/*:predict": Route(
        name="predict",
        methods=_POST,
        action=actions.predict,
        summary="Inference in plain JSON",
        answers={200: "PredictResponse"},
        body="PredictRequest",
    ),
    "/v1/models/*/request-key": Route(
        name="request_key",
        methods=_GET,
        action=sealed.request_key,
        summary="The key that clients seal requests to, as the mesh's broker states it",
        answers={200: "RequestKey"},
    ),
    ATTESTATION_PATH: Route(
        name="attestation",
        methods=_GET,
        action=actions.evidence,
        summary="Evidence about this connection's TLS key",
        answers={200: "Evidence"},
        query={"nonce": "^[0-9a-f]{64}$"},
        errors=(429, 503),
    ),
    "/metrics": Route(
        name="metrics",
        methods=_GET,
        action=actions.metrics,
        summary="Metrics in Prometheus' text form",
        answers={200: ""},
    ),
    "/docs": Route(
        name="docs",
        methods=_GET,
        action=_docs,
        summary="This page",
        answers={200: "OpenApi"},
    ),
}
"""By pattern; `*` stands for the name of a model."""
