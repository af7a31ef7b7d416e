"""The description says what is served: the same paths, methods and bodies, and the same file."""

import json
import re
from pathlib import Path

import pytest
from toy_kbs import NAME, ToyKbs

from wardian.broker.kbs.answers import KbsRequest
from wardian.broker.kbs.openapi import OPENAPI

FILE = Path(__file__).parents[3] / "docs" / "reference" / "kbs-openapi.json"


@pytest.fixture
def kbs() -> ToyKbs:
    return ToyKbs()


def operations():
    return [
        (method, path, operation)
        for path, item in OPENAPI["paths"].items()
        for method, operation in item.items()
    ]


def concrete(path):
    return path.replace("{repository}/{type}/{tag}", NAME)


def every(value, name):
    """Yield what stands under `name` anywhere in `value`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == name:
                yield inner
            yield from every(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from every(inner, name)


def matches(value, schema):
    """Return whether `value` is as `schema` says, of the keywords that the description uses."""
    if "$ref" in schema:
        return matches(value, OPENAPI["components"]["schemas"][schema["$ref"].split("/")[-1]])
    return (
        ("oneOf" not in schema or sum(matches(value, part) for part in schema["oneOf"]) == 1)
        and ("const" not in schema or value == schema["const"])
        and ("enum" not in schema or value in schema["enum"])
        and of_type(value, schema.get("type"))
        and ("pattern" not in schema or re.search(schema["pattern"], value) is not None)
        and (schema.get("type") != "object" or has_members(value, schema))
    )


def has_members(value, schema):
    properties = schema.get("properties", {})
    extra = set(value) - set(properties) if "additionalProperties" in schema else set()
    missing = set(schema.get("required", ())) - set(value)
    return not extra | missing and all(
        matches(value[name], properties[name]) for name in value if name in properties
    )


def of_type(value, kind):
    if kind is None:
        return True
    if isinstance(kind, list):
        return any(of_type(value, each) for each in kind)
    types = {"object": dict, "array": list, "string": str, "null": type(None)}
    return isinstance(value, types[kind])


def body_schema(operation, status=None):
    where = operation["requestBody"] if status is None else operation["responses"][str(status)]
    return where["content"]["application/json"]["schema"]


def test_it_is_served_and_is_the_documentations(kbs):
    answer = kbs.respond(KbsRequest(method=b"GET", target=b"/openapi.json", headers={}, body=b""))
    assert answer.status == 200
    assert json.loads(answer.body) == OPENAPI
    assert FILE.read_text() == json.dumps(OPENAPI, indent=2) + "\n"  # it is made so


def test_every_described_path_is_served_and_no_other(kbs):
    for method, path, _ in operations():
        request = KbsRequest(
            method=method.upper().encode(), target=concrete(path).encode(), headers={}, body=b""
        )
        assert kbs.respond(request).status in (200, 400, 401), path
    described = {path for _, path, _ in operations()} | {"/openapi.json"}
    routes = {
        route + "{repository}/{type}/{tag}" if route.endswith("/") else route
        for route in kbs.desk._routes
    }
    assert routes == described


def test_what_is_referred_to_is_there():
    schemas = OPENAPI["components"]["schemas"]
    referred = {name.removeprefix("#/components/schemas/") for name in every(OPENAPI, "$ref")}
    assert referred == set(schemas)
    known = set(OPENAPI["components"]["securitySchemes"])
    for choices in every(OPENAPI, "security"):
        assert all(set(choice) <= known for choice in choices)
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)


def test_what_travels_is_as_described(kbs):
    """Every body of a whole exchange, of both sides, against its schema."""
    described = {(method.upper(), path): operation for method, path, operation in operations()}
    seen = []

    def check(method, path, headers, body):
        status, answered, content = kbs.transport()(method, path, headers, body)
        template = path.replace(NAME, "{repository}/{type}/{tag}").replace(
            "none/of/it", "{repository}/{type}/{tag}"
        )
        operation = described[method, template]
        if body:
            assert matches(json.loads(body), body_schema(operation)), (path, body)
        assert matches(json.loads(content), body_schema(operation, status)), (path, content)
        seen.append((method, template, status))
        return status, answered, content

    client = kbs.client()
    client.transport = check
    client.get_resource(NAME)
    with pytest.raises(Exception, match="404"):
        client.get_resource("none/of/it")
    client.call("POST", "/v1/attestation-result", {"audience": "a", "nonce": "AAECAwQFBgc"})
    client.call("GET", "/v1/attestation-result/keys")
    client.request = lambda: {"version": "0.4.0", "tee": "tdx", "extra-params": ""}
    client.call("POST", "/kbs/v0/auth", client.request())
    assert {status for _, _, status in seen} == {200, 401, 404}
    assert {(method, path) for method, path, _ in seen} == set(described)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Request", {"version": "0.1.1", "tee": "sgx", "extra-params": ""}),
        ("Request", {"version": "0.4.0", "tee": "snp", "extra-params": ""}),
        ("Request", {"version": "0.4.0", "tee": "sgx", "extra-params": {"x": 1}}),
        ("ResultRequest", {"audience": "two words", "nonce": "AAECAwQFBgc"}),
        ("AttestationToken", {"token": "no.token"}),
        ("ErrorInformation", {"type": "x"}),
    ],
)
def test_what_is_refused_is_not_as_described(name, value):
    assert not matches(value, OPENAPI["components"]["schemas"][name])
