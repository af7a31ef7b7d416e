"""Cluster Serving's HTTP paths over real TLS: whole answers as they travel, and other versions."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from simulators.front_end import FrontEnd, digits
from simulators.http2_client import Http2Client
from simulators.tenants import key_of, terms, verified

from wardian._internal.agreed import ModelTerms, ZooDialect
from wardian._internal.clock import monotonic, unix_time
from wardian.serving.api.zoo.dialect import ZooRoutes
from wardian.serving.client.sync import connect
from wardian.serving.tenants.roster import Roster
from wardian.serving.zoo.answers import app_text, frontend2_text, predictions

PIXELS = np.random.default_rng(2).random((3, 64), dtype="f4")
SCORES = digits(PIXELS)
BODY = json.dumps({"instances": [{"image": row.tolist()} for row in PIXELS]}).encode()
BAD = json.dumps({"instances": [{"image": [1, 2]}, {"image": PIXELS[1].tolist()}]}).encode()
PREDICT = "/models/digits/versions/1.0/predict"
MODELS = ("digits", "pair", "full", "broken", "late", "absent", "texts")


def routes(**given: str) -> ZooRoutes:
    zoo = ZooDialect(enabled=True, default_model="digits", **given)  # type: ignore[arg-type]
    return ZooRoutes(zoo, models=dict.fromkeys(MODELS, ModelTerms()))


@pytest.fixture(scope="module")
def sane() -> Iterator[FrontEnd]:
    with FrontEnd(more_routes=routes().find) as running:
        yield running


@pytest.fixture(scope="module")
def strict() -> Iterator[FrontEnd]:
    with FrontEnd(more_routes=routes(compat="strict").find) as running:
        yield running


def test_whole_answers(sane: FrontEnd) -> None:
    with sane.raw() as client:
        status, headers, body = client.get("/")
        assert (status, body) == (200, b"welcome to analytics zoo web serving frontend")
        assert headers["content-type"] == "text/plain; charset=UTF-8"
        status, headers, body = client.post(PREDICT, BODY)
        assert (status, headers["content-type"]) == (200, "text/plain; charset=UTF-8")
        assert headers["wardian-model-version"] == "1"
        assert body == predictions(app_text([scores]) for scores in SCORES)
        _, _, body = client.post("/predict", BODY, {"Content-Type": "text/plain"})
        assert body == predictions(frontend2_text([scores]) for scores in SCORES)
        assert sane.dispatcher.seen[-1]["version"] is None


def test_the_strict_form(strict: FrontEnd) -> None:
    with strict.raw() as client:
        _, _, body = client.post("/predict", BODY)
        assert body == predictions([frontend2_text(digits(PIXELS[:1]))])
        status, _, body = client.post(PREDICT, BAD)
        assert (status, body) == (
            200,
            predictions(['{"value":"NaN"}', app_text(digits(PIXELS[1:2]))]),
        )
        status, headers, body = client.post("/models/full/versions/1/predict", BODY)
        assert (status, body, headers["retry-after"]) == (500, b'{"error" : "limited"}', "3")


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        (PREDICT, BAD, 400, b"FP32 [-1, 64]"),
        (PREDICT, b"{", 400, b'{"instances"'),
        ("/models/full/versions/1/predict", BODY, 429, b'{"error" : "limited"}'),
        ("/models/broken/versions/1/predict", BODY, 500, b"the model failed"),
        ("/models/late/versions/1/predict", BODY, 504, b"no answer within"),
        ("/models/absent/versions/1/predict", BODY, 404, b"Model Not Found"),
        ("/models/nobody/versions/1/predict", BODY, 404, b"Model Not Found"),
        ("/model-secure", b"secret=a&salt=b", 403, b"wardian reseal"),
    ],
)
def test_what_goes_wrong(sane: FrontEnd, path: str, body: bytes, status: int, says: bytes) -> None:
    with sane.raw() as client:
        got, _, said = client.post(path, body)
        assert (got, says in said) == (status, True)
        assert client.post(PREDICT, BODY)[0] == 200  # the connection goes on


def test_over_http_2_and_beside_our_own_client(sane: FrontEnd) -> None:
    with Http2Client(sane) as client:
        status, _, body = client.answer(client.request(PREDICT, BODY))
        assert status == 200
        assert body == predictions(app_text([scores]) for scores in SCORES)
    with connect(sane.url, policy=sane.policy()) as ours:
        np.testing.assert_array_equal(ours.infer("digits", {"pixels": PIXELS})["scores"], SCORES)


def test_callers_are_known_here_too() -> None:
    roster = Roster(now=unix_time, monotonic=monotonic)
    roster.adopt(verified(terms("alice", "digits"), terms("bob", "pair")))
    alice, bob = ({"Authorization": f"Bearer {key_of(name).decode()}"} for name in ("alice", "bob"))
    with FrontEnd(roster=roster, more_routes=routes().find) as front, front.raw() as client:
        assert client.post(PREDICT, BODY)[0] == 401
        assert client.get("/")[0] == 401
        assert client.post(PREDICT, BODY, alice)[0] == 200
        assert front.dispatcher.seen[-1]["tenant"] == "alice"
        status, _, body = client.post(PREDICT, BODY, bob)
        assert (status, body) == (404, b"Model Not Found")
        assert client.post("/predict", BODY, bob)[::2] == (404, b"Model Not Found")


def test_without_the_table_nothing_is_there() -> None:
    with FrontEnd() as front, front.raw() as client:
        for path in ("/", "/models"):
            assert client.get(path)[0] == 404
        for path in ("/predict", PREDICT, "/model-secure"):
            assert client.post(path, BODY)[0] == 404
