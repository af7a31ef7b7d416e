"""What each role loads is what the role table says, no more and no less.

More cannot be imported at all: the bootstrap imports measured files alone. Less would mean that the
measurement, and the auditor's reading, cover code that never runs.
"""

import json
from pathlib import Path

import pytest
from consortium_process import Consortium
from keeper_process import Keeper
from mesh import RunningMesh

import wardian
from wardian.tee.manifest.candidates import find_candidates
from wardian.tee.role_table import ROLES

NOT_LOADED = {
    "wardian.tee.bootstrap",  # runs as the main program, not as a module
    "wardian.tee.gramine_direct",
    "wardian.tee.gramine",  # the backend on hardware; which one is entered, the TEE decides
    "wardian.inference.openvino",  # these for models that need them
    "wardian.inference.generate.caches",
    "wardian.inference.generate.choice",
    "wardian.inference.generate.decoder",
    "wardian.inference.generate.generator",
    "wardian.inference.generate.parts",
    "wardian.inference.generate.sampling",
    "wardian.inference.generate.unfolding",
    "wardian.inference.text.spelling",
    "wardian.serving.api.generate.bodies",
    "wardian.serving.api.generate.chain",
    "wardian.serving.api.generate.rest",
    "wardian.serving.api.zoo.answers",
    "wardian.serving.api.zoo.dialect",
    "wardian.serving.api.zoo.fitting",
    "wardian.serving.api.zoo.form",
    "wardian.serving.api.zoo.listing",
    "wardian.serving.api.zoo.prediction",
    "wardian.serving.api.zoo.refusals",
    "wardian.serving.zoo.answers",
    "wardian.serving.zoo.arrays",
    "wardian.serving.zoo.columns",
    "wardian.serving.zoo.flatbuffer_build",
    "wardian.serving.zoo.instances",
    "wardian.serving.zoo.java_numbers",
    "wardian.serving.zoo.results",
    "wardian.serving.zoo.tensors",
    "wardian.serving.zoo.text",
    "wardian.serving.grpc.generated",
    "wardian.serving.grpc.zoo_calls",
    "wardian.serving.grpc.zoo_timers",
    "wardian.inference.steps.image",
    "wardian.inference.steps.tokens",
    "wardian.inference.text.byte_bpe",
    "wardian.inference.text.wordpiece",
}


ELSEWHERE = {"zoo", "job"}
"""Roles of which `test_zoo_redis_on_mesh.py` and `test_learn_tumours.py` find out the same."""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    mesh = RunningMesh(state=tmp_path_factory.mktemp("roles") / "state").start()
    with wardian.connect(mesh.url, policy=mesh.policy) as client:
        client.metadata("digits")
    assert mesh.stop() == 0
    keeper = Keeper(tmp_path_factory.mktemp("keeper") / "state")
    keeper.show("k")
    assert keeper.end() == 0
    run = Consortium(tmp_path_factory.mktemp("consortium"), "a", rounds=1)
    try:
        run.party("a")
        run.models()
    finally:
        run.end()
    found = {}
    for log in (*(mesh.state / "logs").glob("*.jsonl"), keeper.log, run.aggregator.log):
        for line in filter(lambda line: line.startswith("{"), log.read_text().splitlines()):
            record = json.loads(line)
            if record["event"] == "role.stopped":
                found[record["role"]] = set(record["modules"].split())
    return found


def packages_above(modules: set[str]) -> set[str]:
    above = set()
    for module in modules:
        parts = module.split(".")
        above |= {".".join(parts[:end]) for end in range(1, len(parts))}
    return above


@pytest.mark.parametrize("role", sorted(ROLES.keys() - ELSEWHERE))
def test_a_role_loads_what_the_table_says(loaded: dict[str, set[str]], role: str) -> None:
    named = set(ROLES[role].modules)
    expected = (named | packages_above(named - NOT_LOADED)) - NOT_LOADED
    assert loaded[role] == expected


@pytest.mark.parametrize(
    ("role", "foreign"),
    [
        (
            "broker",
            (
                *("serving.api.routes", "serving.dispatch", "serving.frontend", "serving.worker"),
                *("serving.queue", "inference", "engines", "cli"),
            ),
        ),
        (
            "frontend",
            (
                "inference.openvino",
                "inference.model",
                "serving.worker",
                "engines",
                "cli",
                "broker.store",
                "broker.authority",
                "crypto.sealed_file",
            ),
        ),
        (
            "keeper",
            (
                *("attestation.verifier", "attestation.quotes", "broker.authority", "serving"),
                *("broker.mesh", "broker.state", "broker.keeping.keeper_link", "cli"),
            ),
        ),
        (
            "worker",
            (
                "serving.http",
                "serving.api",
                "serving.dispatch",
                "engines",
                "cli",
                "broker.store",
                "broker.authority",
            ),
        ),
    ],
)
def test_a_role_does_not_even_hold_what_is_not_its_business(
    role: str, foreign: tuple[str, ...]
) -> None:
    files = set(find_candidates(role))
    for module in foreign:
        path = "app/wardian/" + module.replace(".", "/")
        assert not any(name in (path + ".py", path + "/__init__.py") for name in files), module


def test_the_architecture_page_lists_each_role_s_rooms() -> None:
    page = Path(__file__).parents[2] / "docs" / "explanation" / "architecture.md"
    for role in ROLES:
        assert f"`wardian {role}`" in page.read_text()
