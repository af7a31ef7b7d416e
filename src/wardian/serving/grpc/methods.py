"""The methods of GRPCInferenceService, by their paths; those that describe answer at once.

Source: Open Inference Protocol v2, gRPC; Triton's extensions for the repository and configuration.
Numbers of fields are those of their `.proto` files.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeAlias

from wardian.errors import RequestError
from wardian.inference.spec import TensorSpec
from wardian.serving.api import describe
from wardian.serving.api.actions import NOT_BY_REQUEST
from wardian.serving.api.service import Service, parse_version
from wardian.serving.catalog import ModelInfo
from wardian.serving.grpc import wire
from wardian.serving.grpc.call import PREFIX, Served, UnaryCall
from wardian.serving.grpc.infer_call import infer
from wardian.serving.grpc.wire import Budget

SERVICE: Final = b"/inference.GRPCInferenceService/"
INFER: Final = SERVICE + b"ModelInfer"
STREAM_INFER: Final = SERVICE + b"ModelStreamInfer"
STREAM_ROUTE: Final = "grpc_stream_infer"
"""Label of the metrics."""
OPEN_TO_ALL: Final = frozenset({SERVICE + b"ServerLive", SERVICE + b"ServerReady"})
"""Who asks for these need not be known: they say no more than yes or no."""
_TYPES: Final = {
    "BOOL": 1, "UINT8": 2, "UINT16": 3, "UINT32": 4, "UINT64": 5, "INT8": 6, "INT16": 7, "INT32": 8,
    "INT64": 9, "FP16": 10, "FP32": 11, "FP64": 12, "BYTES": 13, "BF16": 14,
}  # fmt: skip
"""Triton's numbers of element types in a model's configuration."""


class Named(NamedTuple):
    """The fields that the requests of these methods have between them.

    Attributes:
        texts: by number, the strings.
        flags: by number, the booleans.
    """

    texts: dict[int, str]
    flags: dict[int, bool]


Run: TypeAlias = Callable[[Service, Named], bytes]
"""Returns the answer of a method to what its request names."""


def at_once(route: str, run: Run) -> Served:
    """Return a method, counted as `route`, whose answer is there when it is asked for."""

    def act(call: UnaryCall, source: bytes | bytearray) -> None:
        call.service.look()
        named = read_named(source, PREFIX.size, len(source))
        call.answer([run(call.service, named)])

    return Served(route, act)


def read_named(source: bytes | bytearray, start: int, end: int) -> Named:
    """Return the strings and booleans of the message from `start` to `end`.

    Raises:
        FormatError: not a message.
        RequestError: 413; too many fields.
    """
    named = Named({}, {})
    for number, kind, a, b in wire.read_fields(source, start, end, Budget()):
        if kind == wire.VARINT:
            named.flags[number] = bool(a)
        elif kind == wire.BYTES and number <= 2:
            named.texts[number] = wire.read_text(source, kind, a, b)
    return named


def _live(_service: Service, _named: Named) -> bytes:
    return wire.flag(1, value=True)


def _ready(service: Service, _named: Named) -> bytes:
    return wire.flag(1, value=not service.waiting_models())


def _model_ready(service: Service, named: Named) -> bytes:
    version = parse_version(named.texts.get(2, ""))
    return wire.flag(1, value=_model(service, named).serves(version))


def _server(_service: Service, _named: Named) -> bytes:
    said = describe.server()
    return (
        wire.field(1, said["name"].encode())
        + wire.field(2, said["version"].encode())
        + b"".join(wire.element(3, each.encode()) for each in said["extensions"])
    )


def _metadata(service: Service, named: Named) -> bytes:
    info = _model(service, named)
    return b"".join(
        (
            wire.field(1, info.name.encode()),
            *(wire.element(2, b"%d" % version) for version in info.versions),
            wire.field(3, info.engine.encode()),
            *(wire.element(4, _tensor(spec)) for spec in info.inputs),
            *(wire.element(5, _tensor(spec)) for spec in info.outputs),
        )
    )


def _config(service: Service, named: Named) -> bytes:
    info = _model(service, named)
    said = describe.config(info)
    config = b"".join(
        (
            wire.field(1, info.name.encode()),
            wire.field(2, said["platform"].encode()),
            *(wire.element(5, _config_tensor(spec, dims=4)) for spec in info.inputs),
            *(wire.element(6, _config_tensor(spec, dims=3)) for spec in info.outputs),
            wire.field(17, said["backend"].encode()),
        )
    )
    return wire.element(1, config)


def _index(service: Service, named: Named) -> bytes:
    listed = describe.index(service.models().values(), ready=named.flags.get(2, False))
    return b"".join(
        wire.element(
            1,
            b"".join(
                wire.field(number, each[name].encode())
                for number, name in enumerate(("name", "version", "state", "reason"), 1)
            ),
        )
        for each in listed
    )


def _not_by_request(service: Service, named: Named) -> bytes:
    service.model(named.texts.get(2, ""), "")
    raise RequestError(NOT_BY_REQUEST, status=403)


def _model(service: Service, named: Named) -> ModelInfo:
    return service.model(named.texts.get(1, ""), named.texts.get(2, ""))


def _tensor(spec: TensorSpec) -> bytes:
    return (
        wire.field(1, spec.name.encode())
        + wire.field(2, spec.dtype.encode())
        + wire.field(3, _axes(spec))
    )


def _config_tensor(spec: TensorSpec, *, dims: int) -> bytes:
    return (
        wire.field(1, spec.name.encode())
        + wire.key(2, wire.VARINT)
        + wire.varint(_TYPES[spec.dtype])
        + wire.field(dims, _axes(spec))
    )


def _axes(spec: TensorSpec) -> bytes:
    return b"".join(wire.varint(axis % 2**64) for axis in spec.shape)


METHODS: Final[Mapping[bytes, Served]] = {
    INFER: Served("grpc_infer", infer),
    SERVICE + b"ServerLive": at_once("grpc_live", _live),
    SERVICE + b"ServerReady": at_once("grpc_ready", _ready),
    SERVICE + b"ModelReady": at_once("grpc_model_ready", _model_ready),
    SERVICE + b"ServerMetadata": at_once("grpc_server", _server),
    SERVICE + b"ModelMetadata": at_once("grpc_metadata", _metadata),
    SERVICE + b"ModelConfig": at_once("grpc_config", _config),
    SERVICE + b"RepositoryIndex": at_once("grpc_repository_index", _index),
    SERVICE + b"RepositoryModelLoad": at_once("grpc_repository_load", _not_by_request),
    SERVICE + b"RepositoryModelUnload": at_once("grpc_repository_unload", _not_by_request),
}
"""By path; a stream of requests (`STREAM_INFER`) has a call of its own."""
