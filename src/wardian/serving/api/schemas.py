"""JSON schemas of the bodies that the REST API takes and gives, for its OpenAPI page."""

from typing import Any, Final

from wardian.serving.api.elements import WIRE_TYPES
from wardian.serving.api.json_tensors import MAX_DEPTH
from wardian.serving.api.oip import MAX_DIMENSION, MAX_ID_CHARS, MAX_RANK, MAX_TENSORS

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_FLAG: Final[Schema] = {"type": "boolean"}
_TYPE: Final[Schema] = {"type": "string", "enum": list(WIRE_TYPES)}
_NATURAL: Final[Schema] = {"type": "integer", "minimum": 0}
_DATA: Final[Schema] = {
    "type": "array",
    "description": "Elements, flat in C order or nested as `shape` says; null stands for NaN and "
    "infinities in an answer. Texts for BYTES.",
    "items": {},
}
_SHAPE: Final[Schema] = {
    "type": "array",
    "items": _NATURAL | {"maximum": MAX_DIMENSION},
    "maxItems": MAX_RANK,
}
_MODEL_SHAPE: Final[Schema] = {
    "type": "array",
    "items": {"type": "integer", "minimum": -1},
    "maxItems": MAX_DEPTH,
    "description": "-1 stands for an axis of any length.",
}


_STOP: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 128}


def ref(name: str) -> Schema:
    """Return a reference to the schema `name`."""
    return {"$ref": f"#/components/schemas/{name}"}


def _list(items: Schema, **more: object) -> Schema:
    return {"type": "array", "items": items} | more


def _object(required: str = "", *, is_open: bool = False, **properties: Schema) -> Schema:
    """Return an object with `properties`, of which those in `required` are always there."""
    found: Schema = {"type": "object", "properties": properties}
    if not is_open:
        found["additionalProperties"] = False
    return found | ({"required": required.split()} if required else {})


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


SCHEMAS: Final[dict[str, Schema]] = {
    "Error": _object(
        "error code", error=_TEXT, code=_TEXT, reference=_TEXT | {"pattern": "^[0-9a-f]{16}$"}
    ),
    "Live": _object("live", live={"const": True}),
    "Ready": _object("ready", ready={"const": True}),
    "ModelReady": _object("name ready", name=_TEXT, ready={"const": True}),
    "Server": _object(
        "name version extensions", name=_TEXT, version=_TEXT, extensions=_list(_TEXT)
    ),
    "TensorMetadata": _object(
        "name datatype shape", name=_TEXT, datatype=_TYPE, shape=_MODEL_SHAPE
    ),
    "Model": _object(
        "name versions platform inputs outputs",
        name=_TEXT,
        versions=_list(_TEXT),
        platform=_TEXT,
        inputs=_list(ref("TensorMetadata")),
        outputs=_list(ref("TensorMetadata")),
        ready=_FLAG,
    ),
    "Models": _object("models", models=_list(ref("Model"))),
    "Config": _object("name max_batch_size input output", is_open=True, name=_TEXT),
    "IndexRequest": _object(is_open=True, repository_name=_TEXT | {"maxLength": 256}, ready=_FLAG),
    "Index": _list(
        _object(
            "name version state reason",
            name=_TEXT,
            version=_TEXT,
            state={"enum": ["READY", "UNAVAILABLE"]},
            reason=_TEXT,
        )
    ),
    "TensorParameters": _object(
        is_open=True,
        binary_data_size=_nullable(_NATURAL | {"maximum": 2**63 - 1}),
        binary_data=_nullable(_FLAG),
        classification=_nullable({"type": "integer", "minimum": 0, "maximum": 0}),
    ),
    "InputTensor": _object(
        "name shape datatype",
        name=_TEXT,
        shape=_SHAPE,
        datatype=_TYPE,
        data=_DATA,
        parameters=_nullable(ref("TensorParameters")),
    ),
    "OutputRequest": _object("name", name=_TEXT, parameters=_nullable(ref("TensorParameters"))),
    "InferRequest": _object(
        "inputs",
        id=_nullable(_TEXT | {"maxLength": MAX_ID_CHARS}),
        inputs=_list(ref("InputTensor"), maxItems=MAX_TENSORS),
        outputs=_nullable(_list(ref("OutputRequest"), maxItems=MAX_TENSORS)),
        parameters=_nullable(
            _object(
                is_open=True,
                binary_data_output=_FLAG,
                timeout=_nullable({"type": "integer", "minimum": 0, "maximum": 2**63 - 1}),
            )
        ),
        model_name=_nullable(_TEXT),
        model_version=_nullable(_TEXT),
    ),
    "OutputTensor": _object(
        "name datatype shape",
        name=_TEXT,
        datatype=_TYPE,
        shape=_SHAPE,
        data=_DATA,
        parameters=_object("binary_data_size", binary_data_size=_NATURAL),
    ),
    "InferResponse": _object(
        "model_name outputs",
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        outputs=_list(ref("OutputTensor")),
    ),
    "GenerateRequest": _object(
        text_input=_nullable(_TEXT),
        input_ids=_nullable(_list(_NATURAL | {"maximum": 2**31 - 1}, minItems=1, maxItems=32_768)),
        id=_nullable(_TEXT | {"maxLength": MAX_ID_CHARS}),
        parameters=_object(
            max_tokens=_NATURAL | {"maximum": 32_768, "default": 16},
            temperature={"type": "number", "minimum": 0, "maximum": 100, "default": 0},
            top_k=_NATURAL | {"maximum": 1_000_000, "default": 0},
            top_p={"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 1},
            seed=_nullable(_NATURAL | {"maximum": 2**63 - 1}),
            stop=_nullable(
                {"anyOf": [_STOP, _list(_STOP, maxItems=4)]}
            ),
            timeout=_nullable({"type": "integer", "minimum": 0, "maximum": 2**63 - 1}),
            stream=_nullable(_FLAG),
        ),
    ),
    "GenerateResponse": _object(
        "model_name model_version text_output",
        model_name=_TEXT,
        model_version=_TEXT,
        text_output=_TEXT,
        finish_reason={"enum": ["stop", "length"]},
        prompt_tokens=_NATURAL,
        generated_tokens=_NATURAL,
        id=_TEXT,
    ),
    "PredictRequest": _object(
        "instances",
        instances=_list({}, minItems=1, description="Rows: a nested list each, or an object of "
                        "inputs by name."),
        signature_name=_nullable(_TEXT),
    ),
    "PredictResponse": {
        "oneOf": [
            _object("predictions", predictions=_list({})),
            _object("outputs", outputs={"type": "object"}),
        ]
    },
    "Evidence": _object(
        "evidence manifest mesh_ca issuing_ca witnessed",
        evidence={"type": "object"},
        manifest={"type": "object"},
        mesh_ca=_TEXT,
        issuing_ca=_TEXT,
        witnessed={"type": "object"},
    ),
    "RequestKey": _object(
        "format mesh model manifest manifest_version epoch not_after public signature",
        format={"const": "wardian request key v1"},
        mesh=_TEXT,
        model=_TEXT,
        manifest=_TEXT | {"pattern": "^[0-9a-f]{64}$"},
        manifest_version=_NATURAL,
        epoch=_NATURAL,
        not_after=_NATURAL,
        public=_TEXT | {"contentEncoding": "base64"},
        signature=_TEXT | {"contentEncoding": "base64"},
    ),
    "OpenApi": _object("openapi info paths", is_open=True, openapi=_TEXT),
}  # fmt: skip
"""By name."""
