"""Sealed requests on a mesh that `wardian up` started: confined processes, sockets and all."""

import numpy as np
import pytest
from mesh import RunningMesh

import wardian
from wardian.errors import RequestError


def test_the_answer_is_that_of_a_request_that_is_not_sealed(shared_mesh: RunningMesh) -> None:
    pixels = np.random.default_rng(5).random((3, 64), dtype="f4")
    with (
        wardian.connect(shared_mesh.url, policy=shared_mesh.policy) as plain,
        wardian.connect(shared_mesh.url, policy=shared_mesh.policy, seal="worker") as sealed,
    ):
        (spec,) = plain.metadata("digits")["inputs"]
        expected = plain.infer("digits", {spec["name"]: pixels})
        found = sealed.infer("digits", {spec["name"]: pixels})
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-5)
        with pytest.raises(RequestError, match="was expected"):
            sealed.infer("digits", {spec["name"]: pixels[:, :5]})
