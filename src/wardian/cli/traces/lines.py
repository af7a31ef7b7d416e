"""Spans as they stand in the log of a front end, read strictly.

A log may hold anything; what is no span is none of our business. What says that it is one and is
not as `serving.traces` writes it is refused.
"""

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from wardian.errors import FormatError

MAX_LINE_BYTES: Final = 4096
"""A longer line is no span: none has more than some 500 bytes."""

_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
_TraceId: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
_SpanId: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]
_Nanoseconds: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class _Line(msgspec.Struct):
    """Any line of a log."""

    event: str


class Span(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One span, as `docs/how-to/traces.md` describes its line.

    `route`, `model`, `version` and `status` are those of the request; its children have none.
    """

    time: float
    level: str
    role: Annotated[str, msgspec.Meta(pattern=r"\A[a-z-]{1,32}\Z")]
    event: Literal["span"]
    name: Literal["request", "queue", "worker"]
    trace: _TraceId
    span: _SpanId
    parent: _SpanId
    start_ns: _Nanoseconds
    duration_ns: _Nanoseconds
    route: Annotated[str, msgspec.Meta(pattern=r"\A[a-z_]{1,40}\Z")] | None = None
    model: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9._-]{0,64}\Z")] | None = None
    version: Annotated[int, msgspec.Meta(ge=0, le=2**32)] | None = None
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] | None = None

    def __post_init__(self) -> None:
        """Refuse what no single field shows (msgspec makes a ValidationError of it)."""
        if self.trace == _NO_TRACE or _NO_SPAN in (self.span, self.parent):
            raise ValueError("an id of zeros")
        told = [each is not None for each in (self.route, self.model, self.version, self.status)]
        if told != [self.name == "request"] * len(told):
            raise ValueError("a request tells its route, model, version and status, and only it")


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_span = msgspec.json.Decoder(Span).decode


def parse_span(line: bytes) -> Span | None:
    """Return the span in `line`, or None if it says of itself that it is something else.

    Raises:
        FormatError: it says that it is a span, and is none.
    """
    if b'"span"' not in line:
        return None
    try:
        if _decode_line(line).event != "span":
            return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    try:
        return _decode_span(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise FormatError("a line says that it is a span, and is none") from err
