"""OTLP/HTTP in its JSON encoding: spans to a request's body, and what an answer says of them.

Ids are hex, numbers of 64 bits are texts, enumerations are numbers, names are in lowerCamelCase.

Source: OpenTelemetry Protocol 1.x, "JSON Protobuf Encoding" and "OTLP/HTTP Response";
`opentelemetry/proto/trace/v1/trace.proto`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

import wardian
from wardian._internal.wire import printable
from wardian.cli.traces.lines import Span

CONTENT_TYPE: Final = "application/json"
_INTERNAL: Final = 1
_SERVER: Final = 2
_ERROR: Final = 2
_OUR_FAULT: Final = 500
_SAID_CHARS: Final = 200


class Rejected(NamedTuple):
    """What a collector did not take of a request that it accepted.

    Attributes:
        spans: how many.
        said: why, fit to be printed.
    """

    spans: int
    said: str


class _PartialSuccess(msgspec.Struct, rename="camel"):
    rejected_spans: int | str = 0
    error_message: str = ""


class _Response(msgspec.Struct, rename="camel"):
    partial_success: _PartialSuccess | None = None


_decode_response = msgspec.json.Decoder(_Response).decode


def encode_spans(spans: Iterable[Span], *, service: str) -> bytes:
    """Return the ExportTraceServiceRequest with `spans`, of what is called `service`."""
    resource = {"attributes": [_attribute("service.name", service)]}
    scope = {"name": "wardian", "version": wardian.__version__}
    scoped = {"scope": scope, "spans": [_span(each) for each in spans]}
    return msgspec.json.encode({"resourceSpans": [{"resource": resource, "scopeSpans": [scoped]}]})


def parse_response(body: bytes, *, sent: int) -> Rejected:
    """Return what the answer in `body` says of the `sent` spans.

    An answer that says nothing that we understand rejected nothing: its status said so.
    """
    try:
        partial = _decode_response(body).partial_success if body else None
        rejected = 0 if partial is None else int(partial.rejected_spans)
    except (msgspec.DecodeError, ValueError, RecursionError):  # of Protobuf, or of nobody we know
        return Rejected(0, "")
    said = "" if partial is None else printable(partial.error_message[:_SAID_CHARS])
    return Rejected(max(0, min(sent, rejected)), said)


def _span(span: Span) -> Mapping[str, Any]:
    request = span.name == "request"
    return {
        "traceId": span.trace,
        "spanId": span.span,
        "parentSpanId": span.parent,
        "name": f"{span.route} {span.model}".strip() if request else span.name,
        "kind": _SERVER if request else _INTERNAL,
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.start_ns + span.duration_ns),
        "attributes": _attributes(span),
        "status": {"code": _ERROR} if (span.status or 0) >= _OUR_FAULT else {},
    }


def _attributes(span: Span) -> list[Mapping[str, Any]]:
    told = {
        "wardian.route": span.route,
        "wardian.model": span.model,
        "wardian.model_version": span.version,
        "http.response.status_code": span.status,
    }
    return [_attribute(key, value) for key, value in told.items() if value is not None]


def _attribute(key: str, value: str | int) -> Mapping[str, Any]:
    typed = {"stringValue": value} if isinstance(value, str) else {"intValue": str(value)}
    return {"key": key, "value": typed}
