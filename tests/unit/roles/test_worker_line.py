"""Which version of its model a worker serves: the newest that its owner gives to it, now."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))

from toy_mesh import ToyBroker, ToyMesh, digest

from wardian.broker.mesh.lines import ReleaseTerms
from wardian.broker.release.admission import Admission
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.secret import Secret
from wardian.errors import AdmissionRefused, ConfigError
from wardian.roles.host import HostSettings
from wardian.roles.worker import _line_to_serve, _open_model


class World:
    """A broker that has versions 1, 2 and 10 of "digits"."""

    def __init__(self, path: Path) -> None:
        self.broker = ToyBroker(ToyMesh(), path)

    def admitted(self, **of_version: object) -> Admission:
        """Return the admission of a worker; `v2={...}` says how the line of version 2 differs."""
        mesh = self.broker.mesh
        keys = {version: BrokerKey(Secret.random()) for version in (1, 2, 10)}
        lines = [
            mesh.line(
                version=version,
                serial=2,
                key_id=key.key_id,
                **of_version.get(f"v{version}", {}),  # type: ignore[arg-type]
            )
            for version, key in keys.items()
        ]
        signed = mesh.signed(version=2, models=tuple(lines))
        self.broker.provision(signed, keys=tuple(keys.values()))
        return self.broker.admit(mesh.workload("worker", ("digits",)), mesh.attest("worker"))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "broker.db")
    yield world
    world.broker.close()


def test_the_newest_by_number(world: World) -> None:
    admission = world.admitted()
    assert _line_to_serve(admission, "digits", version=None).version == 10


@pytest.mark.parametrize(
    "withheld",
    [{"terms": ReleaseTerms(not_after=1)}, {"measurements": [digest("another worker")]}],
    ids=["by its terms", "from this code"],
)
def test_the_newest_of_which_it_has_the_key(world: World, withheld: dict[str, object]) -> None:
    admission = world.admitted(v10=withheld)
    assert admission.manifest.manifest.lines("digits")[-1].version == 10
    assert _line_to_serve(admission, "digits", version=None).version == 2
    with pytest.raises(AdmissionRefused) as caught:
        _line_to_serve(admission, "digits", version=10)
    assert caught.value.rule == "key-not-released"


def test_the_one_that_its_operator_names(world: World) -> None:
    admission = world.admitted()
    for version in (1, 2, 10):
        assert _line_to_serve(admission, "digits", version=version).version == version
    with pytest.raises(AdmissionRefused, match="no key of version 3"):
        _line_to_serve(admission, "digits", version=3)
    with pytest.raises(AdmissionRefused, match="no key of any version of model faces"):
        _line_to_serve(admission, "faces", version=None)


def test_t21_no_model_key_outlives_the_opening_of_the_model(world: World, tmp_path: Path) -> None:
    """A lease ends the queue keys; a model key has no lease, so it is let go of at once."""
    admission = world.admitted()
    line = _line_to_serve(admission, "digits", version=2)
    host = HostSettings(sealed_models={"digits:2": str(tmp_path / "gone")})
    with pytest.raises(ConfigError, match="sealed model"):
        _open_model(host, world.broker.mesh.agreed, admission, line)
    assert {each.kind: bool(each.key) for each in admission.secrets} == {
        "model": False,
        "queue": True,
        "request": True,
    }
