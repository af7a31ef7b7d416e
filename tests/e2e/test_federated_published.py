"""From parties with data to answers: a run of processes, published by a party, and served."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from consortium_process import APP, Consortium, Process, wardian
from mesh import RunningMesh
from simulators.what_stands import files_below

import wardian as client_library

BROKEN = 'raise ValueError("no such layer")\n    layers = ['


class PublishingConsortium(Consortium):
    """`a` publishes and writes nothing in the clear; `b` writes its arrays, and cannot publish."""

    def served(self, name: str) -> Path:
        return self.place / f"served-{name}"

    def publisher(self, name: str, app: Path, *options: object) -> Process:
        self.parties[name] = Process(
            self.place / f"{name}.log",
            *("party", name, "--app", app, "--aggregator", f"127.0.0.1:{self.port}"),
            *("--consortium", self.plan, "--policy", self.state / "party-policy.toml"),
            *("--key", self.key(name), "--state", self.place / f"party-{name}"),
            *("--set", f"partition-id={self.names.index(name)}"),
            *("--publish", self.served(name), *options),
        )
        return self.parties[name]

    def broken_app(self) -> Path:
        """Return the example's app, which trains as ever, but whose export fails."""
        place = self.place / "broken"
        shutil.copytree(APP.parent, place)
        text = (place / "app.py").read_text()
        assert text.count("layers = [") == 1
        (place / "app.py").write_text(text.replace("layers = [", BROKEN))
        return place / "app.py"

    def status_of(self, name: str) -> int:
        return self.parties[name].process.wait(120)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what `b` wrote when the run was over."""
        return dict(np.load(self.model("b")))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PublishingConsortium]:
    consortium = PublishingConsortium(tmp_path_factory.mktemp("consortium"), "a", "b", rounds=5)
    try:
        consortium.publisher("a", APP)
        consortium.publisher("b", consortium.broken_app(), "-o", consortium.model("b"))
        assert consortium.status_of("a") == 0, consortium.parties["a"].text[-2000:]
        assert consortium.status_of("b") == 1, consortium.parties["b"].text[-2000:]
        assert consortium.aggregator.process.wait(90) == 0, consortium.aggregator.text[-2000:]
        yield consortium
    finally:
        consortium.end()


@pytest.fixture(scope="module")
def mesh(
    run: PublishingConsortium, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningMesh]:
    serving = RunningMesh(state=tmp_path_factory.mktemp("mesh") / "state", example=run.served("a"))
    try:
        yield serving.start()
    finally:
        serving.stop()


def held_out() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32)[:40], labels[:40]


def computed(arrays: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """Return the probabilities by the model's own arithmetic, in double precision."""
    hidden = np.maximum(images.astype(float) @ arrays["weight0"] + arrays["bias0"], 0)
    odds = np.exp(hidden @ arrays["weight1"] + arrays["bias1"])
    return odds / odds.sum(axis=1, keepdims=True)


def test_what_was_learnt_together_answers(run: PublishingConsortium, mesh: RunningMesh) -> None:
    images, labels = held_out()
    expected = computed(run.arrays(), images)
    with client_library.connect(mesh.url, policy=mesh.policy) as client:
        answer = client.infer("digits", {"image": images})
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-4, atol=1e-6)
    assert answer["label"].tolist() == expected.argmax(1).tolist()
    assert (answer["label"] == labels).mean() > 0.8
    assert "was sealed" in mesh.screen


def test_the_model_is_nowhere_in_the_clear(run: PublishingConsortium, mesh: RunningMesh) -> None:
    """Neither with the party that published it, nor with the aggregator, nor where it is served."""
    places = (run.served("a"), run.place / "party-a", run.state, mesh.state)
    found = b"".join(content for place in places for _, content in files_below(place))
    assert len(found) > 20_000
    for array in run.arrays().values():
        assert array.tobytes()[:32] not in found
    key = (run.served("a") / "digits.key").read_text().strip()
    assert key not in run.parties["a"].text + run.aggregator.text + mesh.screen


def test_the_party_said_how_it_is_served(run: PublishingConsortium) -> None:
    told = run.parties["a"].text
    assert f"serve it: wardian up {run.served('a')}" in told
    assert "digits version 1" in told
    assert sorted(path.name for path in (run.place / "party-a").iterdir()) == [
        *("history.jsonl", "lock", "party.state"),  # and no model any more
    ]


def test_an_export_that_failed_costs_no_model(run: PublishingConsortium) -> None:
    """The aggregator is gone; the same command, with an app that exports, goes on from there."""
    assert "failed: ValueError: no such layer" in run.parties["b"].text
    assert not run.served("b").exists()
    sealed = (run.place / "party-b" / "model.sealed").read_bytes()
    assert not any(array.tobytes()[:32] in sealed for array in run.arrays().values())
    run.publisher("b", APP)
    assert run.status_of("b") == 0, run.parties["b"].text[-2000:]
    assert (run.served("b") / "example.toml").is_file()
    assert not (run.place / "party-b" / "model.key").exists()


def test_a_place_that_is_taken_is_said_before_anything_is_sent(run: PublishingConsortium) -> None:
    command = wardian(
        *("party", "a", "--app", APP, "--aggregator", f"127.0.0.1:{run.port}"),
        *("--consortium", run.plan, "--policy", run.state / "party-policy.toml"),
        *("--key", run.key("a"), "--state", run.place / "another", "--publish", run.served("a")),
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "is there already" in done.stderr
    assert not (run.place / "another").exists()
