"""The OpenAPI 3.1 description of what the KBS desk serves: `/openapi.json`, and in the docs."""

from typing import Any, Final

from wardian.attestation.results.ear import PROFILE
from wardian.attestation.results.ear_key import NAME_PATTERN
from wardian.broker.kbs.messages import PROTOCOL_VERSION

_Schema = dict[str, Any]

_BASE64: Final = r"^[A-Za-z0-9+/]+={0,2}$"
_BASE64URL: Final = r"^[A-Za-z0-9_-]+$"
_JWT: Final = r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$"
_SEGMENT: Final = r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}$"
_NAME: Final = NAME_PATTERN.replace(r"\A", "^").replace(r"\Z", "$")
_COOKIE: Final = {
    "description": "`kbs-session-id`, the session's name, for as long as it lives.",
    "schema": {"type": "string"},
}


def _text(pattern: str | None = None, **more: object) -> _Schema:
    return {"type": "string"} | ({} if pattern is None else {"pattern": pattern}) | more


def _object(required: str = "", **properties: object) -> _Schema:
    """Return a closed object; `required` and the properties have `_` for `-` in their names."""
    named = {name.replace("_", "-"): schema for name, schema in properties.items()}
    schema: _Schema = {"type": "object", "properties": named, "additionalProperties": False}
    return schema | ({"required": required.split()} if required else {})


def _ref(name: str) -> _Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _body(name: str) -> _Schema:
    return {"content": {"application/json": {"schema": _ref(name)}}}


def _answers(description: str, name: str, *refusals: int, cookie: bool = False) -> _Schema:
    said = {
        400: "The body is not of this form.",
        401: "Not attested, or no longer; or the evidence is refused. `detail` says which.",
        403: "Attested, and a policy refuses: the owners', or that of the secret's owner.",
        404: "There is nothing of this name.",
        413: "The body is too large.",
        429: "Too much at once; `Retry-After` says when to come back.",
        503: "The broker cannot answer now; `Retry-After` says when to come back.",
    }
    headers = {"headers": {"Set-Cookie": _COOKIE}} if cookie else {}
    found: _Schema = {"200": {"description": description} | headers | _body(name)}
    for status in (*refusals, 429):
        found[str(status)] = {"description": said[status]} | _body("ErrorInformation")
    return found


_SESSION: Final[list[_Schema]] = [{"session": []}, {"token": []}]

_AUTH: Final = {
    "operationId": "auth",
    "summary": "Ask for a challenge",
    "requestBody": {"required": True} | _body("Request"),
    "responses": _answers(
        "A challenge, good for a minute.", "Challenge", 400, 401, 413, cookie=True
    ),
}
_ATTEST: Final = {
    "operationId": "attest",
    "summary": "Answer the challenge with evidence, once",
    "security": [{"session": []}],
    "requestBody": {"required": True} | _body("Attestation"),
    "responses": _answers(
        "The evidence was accepted; the token stands for the session.",
        "AttestationToken",
        *(400, 401, 403, 413, 503),
        cookie=True,
    ),
}
_GET_RESOURCE: Final = {
    "operationId": "getResource",
    "summary": "Get a secret, sealed to the attester's key",
    "security": _SESSION,
    "parameters": [
        {"name": name, "in": "path", "required": True, "schema": _text(_SEGMENT)}
        for name in ("repository", "type", "tag")
    ],
    "responses": _answers("The secret, sealed.", "Response", 401, 403, 404, 503),
}
_RESULT: Final = {
    "operationId": "attestationResult",
    "summary": "Get a result about oneself, for a named relying party",
    "security": _SESSION,
    "requestBody": {"required": True} | _body("ResultRequest"),
    "responses": _answers("The result.", "AttestationToken", 400, 401, 413),
}
_KEYS: Final = {
    "operationId": "attestationResultKeys",
    "summary": "The key that signs results, and the mesh CA's statement about it",
    "responses": _answers("The key.", "Keys"),
}

_SCHEMAS: Final[_Schema] = {
    "Request": _object(
        "version tee",
        version={"const": PROTOCOL_VERSION},
        tee={"enum": ["sgx", "tdx"]},
        extra_params={
            "oneOf": [
                {"const": ""},
                {"type": "null"},
                _object(
                    supported_hash_algorithms={
                        "type": "array",
                        "items": _text(),
                        "contains": {"const": "sha384"},
                    },
                    tee_metadata={
                        "description": "No additional TEEs; the primary one is `tee`.",
                        "type": "object",
                    },
                ),
            ]
        },
    ),
    "Challenge": _object("nonce extra-params", nonce=_text(_BASE64), extra_params={"const": ""}),
    "TeePubKey": _object(
        "kty crv alg x y",
        kty={"const": "EC"},
        crv={"const": "P-256"},
        alg={"const": "ECDH-ES+A256KW"},
        x=_text(_BASE64URL),
        y=_text(_BASE64URL),
    ),
    "Attestation": _object(
        "runtime-data tee-evidence",
        init_data={"type": "null"},
        runtime_data=_object(
            "nonce tee-pubkey",
            nonce=_text(_BASE64, description="That of the challenge."),
            tee_pubkey=_ref("TeePubKey"),
        ),
        tee_evidence={
            "type": "object",
            "required": ["primary_evidence", "additional_evidence"],
            "additionalProperties": False,
            "properties": {
                "primary_evidence": _ref("PrimaryEvidence"),
                "additional_evidence": {"const": ""},
            },
        },
    ),
    "PrimaryEvidence": {
        "type": "object",
        "required": ["quote"],
        "additionalProperties": False,
        "properties": {
            "quote": _text(_BASE64, description="SGX or TDX; its report data is SHA-384, padded."),
            "cc_eventlog": {"type": ["string", "null"], "description": "Not read."},
            "aa_eventlog": {"type": ["string", "null"], "description": "Not read."},
        },
    },
    "AttestationToken": _object(
        "token", token=_text(_JWT, description=f"ES256; claims of the profile {PROFILE}.")
    ),
    "Response": {
        "description": "JWE, flattened JSON (RFC 7516, 7.2.2): ECDH-ES+A256KW, A256GCM.",
        "type": "object",
        "required": ["protected", "encrypted_key", "iv", "ciphertext", "tag"],
        "additionalProperties": False,
        "properties": {
            name: _text(_BASE64URL)
            for name in ("protected", "encrypted_key", "iv", "ciphertext", "tag")
        },
    },
    "ResultRequest": _object(
        "audience nonce",
        audience=_text(_NAME, description="What the relying party calls itself."),
        nonce=_text(_BASE64URL, description="The relying party's, 8 to 64 bytes."),
    ),
    "Keys": _object(
        "keys statement",
        keys={"type": "array", "items": {"type": "object"}, "minItems": 1, "maxItems": 1},
        statement={"type": "object"},
    ),
    "ErrorInformation": _object("type detail", type=_text(format="uri-reference"), detail=_text()),
}

OPENAPI: Final[_Schema] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Wardian key broker, in the shape of the KBS protocol",
        "version": PROTOCOL_VERSION,
        "description": "Interoperation with clients of Confidential Containers' Trustee. "
        "The broker does not attest itself here: clients know it by its certificate.",
        "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
    },
    "paths": {
        "/kbs/v0/auth": {"post": _AUTH},
        "/kbs/v0/attest": {"post": _ATTEST},
        "/kbs/v0/resource/{repository}/{type}/{tag}": {"get": _GET_RESOURCE},
        "/v1/attestation-result": {"post": _RESULT},
        "/v1/attestation-result/keys": {"get": _KEYS},
    },
    "components": {
        "securitySchemes": {
            "session": {"type": "apiKey", "in": "cookie", "name": "kbs-session-id"},
            "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        },
        "schemas": _SCHEMAS,
    },
}
