"""Which streams of HTTP/2 are calls of gRPC, and who serves them."""

from collections.abc import Mapping
from typing import Final

from wardian._internal.agreed import Limits
from wardian.errors import RequestError
from wardian.serving.api.service import Service
from wardian.serving.grpc.call import Served, UnaryCall
from wardian.serving.grpc.infer_call import infer
from wardian.serving.grpc.methods import METHODS, OPEN_TO_ALL, SERVICE, STREAM_INFER
from wardian.serving.grpc.status import Ending, Status, ending_of
from wardian.serving.grpc.stream_call import StreamCall
from wardian.serving.http.http2.stream import Receiver, Stream

_MEDIA_TYPES: Final = frozenset({b"application/grpc", b"application/grpc+proto"})
_NO_METHOD: Final = Served("other", infer)
"""How a call is counted that is over before it begins."""


class GrpcService:
    """GRPCInferenceService over the models of one front end, and what other dialects add."""

    def __init__(
        self, service: Service, limits: Limits, *, more: Mapping[bytes, Served] | None = None
    ) -> None:
        """Serve what `service` serves, within `limits`; `more` methods by their paths."""
        self._service, self._limits = service, limits
        self._methods = {**METHODS, **(more or {})}

    def accept(self, stream: Stream) -> Receiver | None:
        """Return who serves `stream`, or None if it is no call of gRPC."""
        media_type = stream.head.headers.get(b"content-type", b"").partition(b";")[0].strip()
        if media_type not in _MEDIA_TYPES:
            return None
        target = stream.head.target
        service = self._service
        if target not in OPEN_TO_ALL:
            try:
                service = service.of_caller(stream.head.headers, stream.carrier.peer)
            except RequestError as err:
                return self._end(stream, ending_of(err))
        if target == STREAM_INFER:
            streaming = StreamCall(stream, service, self._limits)
            streaming.begin()
            return streaming
        served = self._methods.get(target)
        if served is None:
            return self._refuse(stream, target)
        call = UnaryCall(stream, service, self._limits, served)
        call.begin()
        return call

    def _refuse(self, stream: Stream, target: bytes) -> Receiver:
        known = ", ".join(sorted(path[len(SERVICE) :].decode() for path in METHODS))
        what = "method" if target.startswith(SERVICE) else "service"
        ending = Ending(
            Status.UNIMPLEMENTED,
            f"no such {what}; GRPCInferenceService has ModelStreamInfer, {known}",
            501,
        )
        return self._end(stream, ending)

    def _end(self, stream: Stream, ending: Ending) -> Receiver:
        """End the call on `stream` before it begins."""
        call = UnaryCall(stream, self._service, self._limits, _NO_METHOD)
        call.refuse(ending)
        return call
