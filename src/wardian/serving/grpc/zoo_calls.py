"""FrontEndGRPCService: the methods of Analytics Zoo Cluster Serving's gRPC front end.

They do what the paths below `/models` of its HTTP front end do, for the same models, callers and
limits. Numbers of fields are those of its `frontEndGRPC.proto`.
"""

from collections.abc import Mapping
from typing import Final

from wardian._internal.agreed import ModelTerms, ZooDialect
from wardian.serving.api.service import Service
from wardian.serving.api.zoo.dialect import image_inputs
from wardian.serving.api.zoo.form import Form, Origin
from wardian.serving.api.zoo.listing import plain_version
from wardian.serving.api.zoo.prediction import predict
from wardian.serving.catalog import ModelInfo
from wardian.serving.grpc import wire
from wardian.serving.grpc.call import PREFIX, Served, UnaryCall
from wardian.serving.grpc.methods import Named, at_once
from wardian.serving.grpc.status import ending_of_response
from wardian.serving.grpc.wire import Budget
from wardian.serving.grpc.zoo_timers import Timers
from wardian.serving.http.messages import HttpResponse

SERVICE: Final = b"/grpc.FrontEndGRPCService/"
WELCOME: Final = b"welcome to analytics zoo grpc serving frontend"
_CLUSTER_SERVING: Final = 2
"""The field of ModelsReply whose models are behind a queue; here all are."""
_FEATURES: Final = 12


class ZooCalls:
    """Answers these calls.

    Attributes:
        methods: by their paths.
    """

    def __init__(self, terms: ZooDialect, *, models: Mapping[str, ModelTerms]) -> None:
        """Serve the mesh's `models` as `terms` say."""
        self._form = Form(
            origin=Origin.GRPC,
            strict=terms.compat == "strict",
            arrow=terms.model_answers == "arrow",
        )
        self._images = image_inputs(models)
        self.methods: Mapping[bytes, Served] = {
            SERVICE + b"Ping": at_once("grpc_zoo_ping", _ping),
            SERVICE + b"GetMetrics": at_once("grpc_zoo_metrics", Timers().render),
            SERVICE + b"GetAllModels": at_once("grpc_zoo_models", _all_models),
            SERVICE + b"GetModelsWithName": at_once("grpc_zoo_model", _versions),
            SERVICE + b"GetModelsWithNameAndVersion": at_once("grpc_zoo_version", _version),
            SERVICE + b"Predict": Served("grpc_zoo_predict", self._predict),
        }

    def _predict(self, call: UnaryCall, source: bytes | bytearray) -> None:
        asked = _Prediction(call, source)
        response = predict(
            asked,
            self._form,
            asked.body,
            images=self._images.get(asked.model, frozenset()),
            connection=call.stream.carrier.number,
            timeout_s=call.time_left(),
        )
        if response is not None:
            asked.end(response)


class _Prediction:
    """A PredictReq, as `prediction.Asking`.

    Attributes:
        service, model, version: see there.
        body: `{"instances": [...]}`.
    """

    def __init__(self, call: UnaryCall, source: bytes | bytearray) -> None:
        """Read what `source` asks for of `call`.

        Raises:
            FormatError, RequestError: it is no such message; or 404.
        """
        self._call, self.service = call, call.service
        self.begin_inference, self.traced = call.begin_inference, call.traced
        self.body: bytes | bytearray = b""
        texts = {1: "", 2: ""}
        for number, kind, a, b in wire.read_fields(source, PREFIX.size, len(source), Budget()):
            if number in texts:
                texts[number] = wire.read_text(source, kind, a, b)
            elif number == 3:
                wire.expect(kind, wire.BYTES)
                self.body = source[a:b]
        self.model = call.model = texts[1]
        self.version = plain_version(texts[2]) if texts[2] else ""

    def end(self, response: HttpResponse) -> None:
        """Send what would be the answer over HTTP."""
        if response.status == 200:
            self._call.answer([wire.field(1, b"".join(response.body))])
        else:
            self._call.refuse(ending_of_response(response))


def _ping(_service: Service, _named: Named) -> bytes:
    return wire.field(1, WELCOME)


def _all_models(service: Service, _named: Named) -> bytes:
    return b"".join(_entries(info) for info in service.models().values())


def _versions(service: Service, named: Named) -> bytes:
    return _entries(service.model(named.texts.get(1, ""), ""))


def _version(service: Service, named: Named) -> bytes:
    version = plain_version(named.texts.get(2, ""))
    return _entry(service.model(named.texts.get(1, ""), version), int(version))


def _entries(info: ModelInfo) -> bytes:
    return b"".join(_entry(info, version) for version in info.versions)


def _entry(info: ModelInfo, version: int) -> bytes:
    """Return one version as `ClusterServingGRPCMetaData`: there is no Redis to name, no window."""
    return wire.element(
        _CLUSTER_SERVING,
        wire.field(1, info.name.encode())
        + wire.field(2, b"%d" % version)
        + wire.field(_FEATURES, ",".join(spec.name for spec in info.inputs).encode()),
    )
