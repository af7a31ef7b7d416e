"""`schemathesis` reads the OpenAPI page and sends what it allows, and what it does not."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from simulators.front_end import FrontEnd

from wardian.serving.api.openapi import build_page
from wardian.serving.api.table import ROUTES
from wardian.serving.sealed_types import REQUEST_TYPE

schemathesis = pytest.importorskip("schemathesis")
checks = pytest.importorskip("schemathesis.checks")
checks.load_all_checks()
schemathesis.serializer.alias(REQUEST_TYPE.decode(), "application/octet-stream")
NOT_FOR_THE_PAGE = checks.CHECKS.get_one("positive_data_acceptance")
"""Which tensors fit is the model's to say."""

PAGE = build_page(ROUTES)
for item in PAGE["paths"].values():  # models that there are, and one that there is not
    for parameter in item.get("parameters", ()):
        if parameter["name"] == "model":
            parameter["schema"] = {"enum": ["digits", "pair", "texts", "strange", "x y"]}
SCHEMA = schemathesis.openapi.from_dict(PAGE)


@pytest.fixture(scope="module")
def front() -> Iterator[FrontEnd]:
    with FrontEnd(max_connections=64) as running:
        del running.dispatcher.models["absent"]  # a 503 that is true is no finding
        yield running


@pytest.fixture(scope="module")
def ca_file(front: FrontEnd, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "mesh-ca.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(front.ca.certificate))
    return path


@SCHEMA.parametrize()
@settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@pytest.mark.slow
def test_what_the_page_says_is_true(case, front: FrontEnd, ca_file: Path) -> None:
    case.call_and_validate(
        base_url=f"https://localhost:{front.port}",
        verify=str(ca_file),
        excluded_checks=[NOT_FOR_THE_PAGE],
    )
