"""Which streams of HTTP/2 are calls of gRPC, and who serves them."""

from wardian._internal.agreed import Limits
from wardian.errors import RequestError
from wardian.serving.api.service import Service
from wardian.serving.grpc.call import UnaryCall
from wardian.serving.grpc.methods import INFER, METHODS, OPEN_TO_ALL, SERVICE, STREAM_INFER
from wardian.serving.grpc.status import Ending, Status, ending_of
from wardian.serving.grpc.stream_call import StreamCall
from wardian.serving.http.http2.stream import Receiver, Stream

_MEDIA_TYPES = frozenset({b"application/grpc", b"application/grpc+proto"})


class GrpcService:
    """GRPCInferenceService over the models of one front end."""

    def __init__(self, service: Service, limits: Limits) -> None:
        """Serve what `service` serves, within `limits`."""
        self._service, self._limits = service, limits

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
        method = METHODS.get(target)
        if method is None and target != INFER:
            return self._refuse(stream, target)
        route = "grpc_infer" if method is None else method.route
        call = UnaryCall(stream, service, self._limits, route=route)
        call.begin()
        return call

    def _refuse(self, stream: Stream, target: bytes) -> Receiver:
        known = ", ".join(sorted(path[len(SERVICE) :].decode() for path in METHODS))
        what = "method" if target.startswith(SERVICE) else "service"
        ending = Ending(
            Status.UNIMPLEMENTED,
            f"no such {what}; GRPCInferenceService has ModelInfer, ModelStreamInfer, {known}",
            501,
        )
        return self._end(stream, ending)

    def _end(self, stream: Stream, ending: Ending) -> Receiver:
        """End the call on `stream` before it begins."""
        started = self._service.clock()
        stream.start(ending.trailers(alone=True), end=True)
        self._service.answered("other", "", ending.http_status, started)
        return UnaryCall(stream, self._service, self._limits, route="other")
