"""A client of FrontEndGRPCService with gRPC's and Protocol Buffers' own code, from field numbers."""

from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_KINDS = {
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "double": descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE,
}
_MESSAGES: dict[str, tuple[tuple[str, str], ...]] = {
    "Empty": (),
    "GetModelsWithNameReq": (("modelName", "string"),),
    "GetModelsWithNameAndVersionReq": (("modelName", "string"), ("modelVersion", "string")),
    "StringReply": (("message", "string"),),
    "Metric": (
        ("name", "string"), ("count", "int64"), ("meanRate", "double"), ("min", "int64"),
        ("max", "int64"), ("mean", "double"), ("median", "double"), ("stdDev", "double"),
        ("Percentile75th", "double"), ("Percentile95th", "double"), ("Percentile98th", "double"),
        ("Percentile99th", "double"), ("Percentile999th", "double"),
    ),
    "MetricsReply": (("metrics", "Metric"),),
    "ClusterServingGRPCMetaData": (
        ("modelName", "string"), ("modelVersion", "string"), ("redisHost", "string"),
        ("redisPort", "string"), ("redisInputQueue", "string"), ("redisOutputQueue", "string"),
        ("timeWindow", "int32"), ("countWindow", "int32"), ("redisSecureEnabled", "bool"),
        ("redisTrustStorePath", "string"), ("redisTrustStoreToken", "string"),
        ("features", "string"),
    ),
    "ModelsReply": (
        ("inferenceModelMetaDatas", "ClusterServingGRPCMetaData"),
        ("clusterServingMetaDatas", "ClusterServingGRPCMetaData"),
    ),
    "PredictReq": (("modelName", "string"), ("modelVersion", "string"), ("input", "string")),
    "PredictReply": (("response", "string"),),
}  # fmt: skip
_METHODS = {
    "Ping": ("Empty", "StringReply"),
    "GetMetrics": ("Empty", "MetricsReply"),
    "GetAllModels": ("Empty", "ModelsReply"),
    "GetModelsWithName": ("GetModelsWithNameReq", "ModelsReply"),
    "GetModelsWithNameAndVersion": ("GetModelsWithNameAndVersionReq", "ModelsReply"),
    "Predict": ("PredictReq", "PredictReply"),
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="zoo.proto", package="grpc", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, 1):
            if kind in _KINDS:
                message.field.add(name=field, number=number, type=_KINDS[kind], label=1)
            else:
                message.field.add(
                    name=field, number=number, type=11, label=3, type_name=f".grpc.{kind}"
                )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"grpc.{name}"))
        for name in _MESSAGES
    }


CLASSES = _classes()


class ZooGrpcClient:
    """Calls the methods by name, with fields by theirs."""

    def __init__(self, port: int, ca_file: Path) -> None:
        credentials = grpc.ssl_channel_credentials(ca_file.read_bytes())
        self.channel = grpc.secure_channel(f"localhost:{port}", credentials)

    def call(self, method: str, *, key: bytes = b"", timeout: float = 10, **fields: str) -> Any:
        asked, answered = _METHODS[method]
        run = self.channel.unary_unary(
            f"/grpc.FrontEndGRPCService/{method}",
            request_serializer=CLASSES[asked].SerializeToString,
            response_deserializer=CLASSES[answered].FromString,
        )
        metadata = [("authorization", f"Bearer {key.decode()}")] if key else None
        return run(CLASSES[asked](**fields), timeout=timeout, metadata=metadata)
