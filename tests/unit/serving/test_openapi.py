"""The OpenAPI page says what is served: the router's own table, and the same file in the docs."""

import json
from pathlib import Path

from wardian.serving.api.schemas import SCHEMAS
from wardian.serving.api.table import ROUTES, page

FILE = Path(__file__).parents[3] / "docs" / "reference" / "oip-openapi.json"


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


def test_the_file_in_the_docs_is_the_page() -> None:
    assert FILE.read_bytes() == page() + b"\n"


def test_each_route_is_there_with_its_methods() -> None:
    paths = json.loads(page())["paths"]
    for pattern, route in ROUTES.items():
        for path in [pattern.replace("*", "{model}")] + (
            [pattern.replace("*", "{model}/versions/{version}")] if route.versioned else []
        ):
            item = paths.pop(path)
            assert {name.upper().encode() for name in item if name != "parameters"} == route.methods
    assert not paths


def test_every_schema_is_used_and_every_reference_leads_somewhere() -> None:
    described = json.loads(page())
    wanted = {reference.rpartition("/")[2] for reference in every(described, "$ref")}
    assert wanted == set(SCHEMAS) == set(described["components"]["schemas"])


def test_metrics_have_one_name_a_route() -> None:
    assert len({route.name for route in ROUTES.values()}) == len(ROUTES)
