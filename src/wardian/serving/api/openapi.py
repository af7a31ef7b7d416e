"""The OpenAPI 3.1 page of the REST API, made from the table that routes its requests."""

from collections.abc import Mapping
from typing import Any, Final

from wardian import __version__
from wardian.serving.api.call import Route
from wardian.serving.api.schemas import SCHEMAS, Schema, ref
from wardian.serving.sealed_types import (
    ANSWER_TYPE,
    MAX_TIMEOUT_MS,
    REQUEST_TYPE,
    TIMEOUT_HEADER,
)

_ERRORS: Final = {
    400: "The request is not as described: names, types, shapes, or not JSON.",
    401: "Where callers have to be known: a tenant's API key or certificate is needed.",
    403: "It is not for a request to decide.",
    404: "No such path, model or version.",
    405: "Another method is needed; `Allow` says which.",
    408: "The request did not arrive in time.",
    409: "Sealed to a request key that is not in force: fetch the key again.",
    413: "Over a limit on sizes.",
    415: "Compressed, or of another media type.",
    417: "An expectation other than 100-continue.",
    421: "The mesh manifest changed: repeat it on a new connection.",
    429: "As much is waiting as may wait; `Retry-After` says when to come back.",
    500: "The model failed on these inputs, or a fault of ours.",
    503: "It cannot be served now; `Retry-After` says when to come back.",
    504: "No answer within the deadline.",
}
_OF_EVERY_ROUTE: Final = (400, 404, 405, 421, 500)
_OF_TENANTS: Final = (401, 429, 503)
_OPEN_TO_ALL: Final = frozenset({"live", "ready", "attestation"})
_SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    "certificate": {"type": "mutualTLS"},
}
"""Where callers have to be known, one of these (OpenAPI 3.1.1, section 4.8.27)."""
_WITH_BODY: Final = (408, 413, 415, 417, 429, 503, 504)
_HEADER_LENGTH: Final = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "Bytes of the body that are JSON; the tensors' raw bytes follow.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 10**12 - 1},
}

_TIMEOUT: Final = {
    "name": TIMEOUT_HEADER.decode(),
    "in": "header",
    "description": "Deadline of a sealed request, in milliseconds; other bodies carry their own.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
}


def build_page(routes: Mapping[str, Route]) -> dict[str, Any]:
    """Return the page that describes `routes`, by their patterns."""
    paths: dict[str, Any] = {}
    for pattern, route in routes.items():
        paths[pattern.replace("*", "{model}")] = _item(route, _parameters(pattern))
        if route.versioned:
            deeper = pattern.replace("*", "{model}/versions/{version}")
            paths[deeper] = _item(route, [*_parameters(pattern), _path_parameter("version")])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Wardian front end",
            "version": __version__,
            "description": "Open Inference Protocol v2 (REST), plain JSON predictions, and "
            "evidence. Over TLS 1.3, HTTP/1.1 or HTTP/2; the same port serves gRPC.",
        },
        "paths": paths,
        "components": {"schemas": SCHEMAS, "securitySchemes": _SECURITY},
    }


def _item(route: Route, parameters: list[Schema]) -> Schema:
    item: Schema = {"parameters": parameters} if parameters else {}
    for method in sorted(route.methods):
        item[method.decode().lower()] = _operation(route, head=method == b"HEAD")
    return item


def _operation(route: Route, *, head: bool) -> Schema:
    known = () if route.name in _OPEN_TO_ALL else _OF_TENANTS
    usual = (*_OF_EVERY_ROUTE, *known, *(_WITH_BODY if route.body else ()))
    errors = sorted({*usual, *route.errors})
    answers = {
        str(status): _answer(route, name, head=head) for status, name in route.answers.items()
    }
    answers |= {
        str(status): {"description": _ERRORS[status]} | ({} if head else _json("Error"))
        for status in errors
    }
    operation: Schema = {
        "operationId": f"{route.name}_head" if head else route.name,
        "summary": route.summary,
        "responses": answers,
    }
    parameters: list[Schema] = [
        {"name": name, "in": "query", "required": True,
         "schema": {"type": "string", "pattern": pattern}}
        for name, pattern in route.query.items()
    ]  # fmt: skip
    if route.binary:
        parameters.append(_HEADER_LENGTH)
    if route.sealed:
        parameters.append(_TIMEOUT)
    if known:
        operation["security"] = [{}, *({name: []} for name in _SECURITY)]
    if parameters:
        operation["parameters"] = parameters
    if route.body:
        body = _json(route.body)
        if route.sealed:
            body["content"][REQUEST_TYPE.decode()] = {"schema": {}}
        operation["requestBody"] = {"required": route.body_required} | body
    return operation


def _answer(route: Route, name: str, *, head: bool) -> Schema:
    if head:
        return {"description": route.summary}
    if not name:
        return {"description": route.summary, "content": {"text/plain": {"schema": {}}}}
    if route.streamed:
        return {"description": route.summary, "content": {"text/event-stream": {"schema": {}}}}
    answer: Schema = {"description": route.summary, **_json(name)}
    if route.binary:
        answer["content"]["application/octet-stream"] = {"schema": {}}
    if route.sealed:
        answer["content"][ANSWER_TYPE.decode()] = {"schema": {}}
    return answer


def _json(name: str) -> Schema:
    return {"content": {"application/json": {"schema": ref(name)}}}


def _parameters(pattern: str) -> list[Schema]:
    return [_path_parameter("model")] if "*" in pattern else []


def _path_parameter(name: str) -> Schema:
    schema: Schema = {"type": "string", "minLength": 1}
    if name == "version":
        schema["pattern"] = "^[0-9]{1,9}$"
    return {"name": name, "in": "path", "required": True, "schema": schema}
