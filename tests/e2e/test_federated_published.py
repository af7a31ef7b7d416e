"""From parties with data to answers: a run of processes, published by a party, and served."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from consortium_process import APP, Consortium, Process, wardian
from mesh import RunningMesh

import wardian as client_library


class PublishingConsortium(Consortium):
    """The party `a` publishes and writes nothing in the clear; `b` writes its arrays."""

    @property
    def served(self) -> Path:
        return self.place / "served"

    def publisher(self) -> Process:
        self.parties["a"] = Process(
            self.place / "a.log",
            *("party", "a", "--app", APP, "--aggregator", f"127.0.0.1:{self.port}"),
            *("--consortium", self.plan, "--policy", self.state / "party-policy.toml"),
            *("--key", self.key("a"), "--state", self.place / "party-a"),
            *("--set", "partition-id=0", "--publish", self.served),
        )
        return self.parties["a"]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what `b` wrote when the run was over, with status 0 everywhere."""
        for process in (*self.parties.values(), self.aggregator):
            assert process.process.wait(120) == 0, process.text[-2000:]
        return dict(np.load(self.model("b")))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PublishingConsortium]:
    consortium = PublishingConsortium(tmp_path_factory.mktemp("consortium"), "a", "b", rounds=5)
    try:
        consortium.publisher()
        consortium.party("b")
        consortium.arrays()
        yield consortium
    finally:
        consortium.end()


@pytest.fixture(scope="module")
def mesh(
    run: PublishingConsortium, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningMesh]:
    serving = RunningMesh(state=tmp_path_factory.mktemp("mesh") / "state", example=run.served)
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
    places = (run.served, run.place / "party-a", run.state, mesh.state)
    found = b"".join(
        path.read_bytes() for place in places for path in place.rglob("*") if path.is_file()
    )
    assert len(found) > 20_000
    for array in run.arrays().values():
        assert array.tobytes()[:32] not in found
    key = (run.served / "digits.key").read_text().strip()
    assert key not in run.parties["a"].text + run.aggregator.text + mesh.screen


def test_the_party_said_how_it_is_served(run: PublishingConsortium) -> None:
    told = run.parties["a"].text
    assert f"serve it: wardian up {run.served}" in told
    assert "digits version 1" in told
    assert sorted(path.name for path in (run.place / "party-a").iterdir()) == [
        *("history.jsonl", "lock", "party.state"),  # and no model any more
    ]


def test_a_place_that_is_taken_is_said_before_anything_is_sent(run: PublishingConsortium) -> None:
    command = wardian(
        *("party", "a", "--app", APP, "--aggregator", f"127.0.0.1:{run.port}"),
        *("--consortium", run.plan, "--policy", run.state / "party-policy.toml"),
        *("--key", run.key("a"), "--state", run.place / "another", "--publish", run.served),
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "is there already" in done.stderr
    assert not (run.place / "another").exists()
