"""What a front end and a worker do with another admission while they serve."""

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))

from toy_mesh import ToyBroker, ToyMesh, digest

from wardian.broker.release.admission import Admission
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_header import Pin
from wardian.crypto.secret import Secret
from wardian.errors import AdmissionRefused, RequestError, TransportError
from wardian.roles import frontend as frontend_role
from wardian.roles import worker as worker_role
from wardian.roles.dispatching import DispatchMember
from wardian.serving.epochs import EpochCodec
from wardian.serving.queue.lease import Lane


@pytest.fixture
def broker(tmp_path: Path):
    broker = ToyBroker(ToyMesh(), tmp_path / "broker.db")
    yield broker
    broker.close()


def admit(broker: ToyBroker, role: str, *, renewal: bool = False) -> Admission:
    mesh = broker.mesh
    models = ("digits",) if role == "worker" else ("digits", "faces")
    return broker.admit(mesh.workload(role, models, renewal=renewal), mesh.attest(role))


class Front:
    """A front end's member over fakes that write down what they are told, in order."""

    def __init__(self, broker: ToyBroker) -> None:
        self.told: list[tuple[object, ...]] = []
        self.broker = broker
        self.reached: list[Admission] = []
        self.first = admit(broker, "frontend")
        dispatcher = SimpleNamespace(
            hold=lambda: self.told.append(("hold",)),
            go_on=lambda: self.told.append(("go on",)),
            use=lambda codecs, *, lanes, moved: self.told.append(
                ("codecs", sorted(codecs), lanes, moved)
            ),
        )
        frontend = SimpleNamespace(
            use=lambda identity, papers: self.told.append(
                ("identity", identity.key, papers.manifest.digest, papers.issuing_ca)
            )
        )
        self.member = DispatchMember(
            self.first,
            dispatcher=dispatcher,  # type: ignore[arg-type]
            take_up=(
                lambda new: frontend.use(frontend_role._identity(new), frontend_role._papers(new)),
                self.reached.append,
            ),
        )

    def adopt(self) -> Admission:
        fresh = admit(self.broker, "frontend", renewal=True)
        self.told.clear()
        assert self.member.adopt(fresh) is None
        assert self.told[0] == (
            "identity",
            fresh.tls_key,
            fresh.manifest.digest,
            fresh.issuing_ca,
        )
        assert self.reached[-1] is fresh
        return fresh


@pytest.fixture
def front(broker: ToyBroker) -> Front:
    return Front(broker)


LANES = frozenset({Lane("digits", 1), Lane("faces", 1)})


def test_a_front_end_renews_its_certificate_and_keeps_its_keys(front: Front) -> None:
    """No second copy of a queue key stays behind, and no worker is asked anew."""
    fresh = front.adopt()
    assert front.told[1:] == [("go on",)]
    assert repr(fresh.secrets[0].key) == "Secret(wiped)"
    assert len(front.first.queue_key("digits")[0]) == 32
    front.adopt()
    assert front.told[1:] == [("go on",)]


def test_a_front_end_takes_up_an_epoch(front: Front) -> None:
    front.broker.authority.turn_epoch(rule="owner-order")
    front.member.noticed()
    assert front.told == [("hold",)]
    front.adopt()
    assert front.told[1:] == [("codecs", ["digits", "faces"], LANES, False)]


def test_a_front_end_goes_on_where_nobody_is_left_to_give_the_keys(front: Front) -> None:
    front.member.noticed()
    front.member.left_alone()
    assert front.told == [("hold",), ("go on",)]


def test_a_front_end_takes_up_a_manifest_and_the_models_that_are_left(front: Front) -> None:
    mesh = front.broker.mesh
    second = BrokerKey(Secret.random())
    lines = (mesh.line(), mesh.line(version=2, key_id=second.key_id))
    front.broker.provision(mesh.signed(version=2, models=lines), keys=(second,))
    front.adopt()
    lanes = frozenset({Lane("digits", 1), Lane("digits", 2)})
    assert front.told[1:] == [("codecs", ["digits"], lanes, True)]


def test_what_a_front_end_says_that_left_the_mesh() -> None:
    error = frontend_role._not_served()
    assert isinstance(error, RequestError)
    assert error.status == 503


# Workers


class Working:
    """A worker of "digits" version 1 that was admitted."""

    def __init__(self, broker: ToyBroker) -> None:
        self.broker = broker
        self.first = admit(broker, "worker")
        self.codec = EpochCodec(model="digits", keep_s=40, ask=lambda: None)
        line = self.first.manifest.manifest.lines("digits")[-1]
        self.reached: list[Admission] = []
        self.member = worker_role._WorkerMember(line, self.codec, reach=self.reached.append)
        self.member.take_up(self.first)

    def adopt(self) -> object:
        self.member.noticed()
        return self.member.adopt(admit(self.broker, "worker", renewal=True))


@pytest.fixture
def working(broker: ToyBroker) -> Working:
    return Working(broker)


def test_a_worker_takes_up_an_epoch(working: Working) -> None:
    working.broker.authority.turn_epoch(rule="age")
    assert working.adopt() is None
    assert working.codec.epoch == 2
    assert [each.epoch for each in working.reached] == [1, 2]


def test_a_worker_goes_on_under_a_manifest_that_still_has_its_version(working: Working) -> None:
    mesh = working.broker.mesh
    second = BrokerKey(Secret.random())
    lines = (mesh.line(serial=2), mesh.line(version=2, key_id=second.key_id))
    working.broker.provision(mesh.signed(version=2, models=lines), keys=(second,))
    assert working.adopt() is None
    assert working.codec.epoch == 2


OTHER_KEY = BrokerKey(Secret(b"key of another file".ljust(32)))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"serial": 2, "pin": Pin(header_digest=digest("another file"), last_tag=bytes(16))},
        {"serial": 2, "key_id": OTHER_KEY.key_id},
        {"serial": 2, "total_bytes": 7},
    ],
)
def test_a_worker_whose_version_was_replaced_starts_anew(
    working: Working, changes: dict[str, Any]
) -> None:
    """By a line over another key the broker finds nothing that an owner took back of this one."""
    mesh = working.broker.mesh
    line = mesh.line(**changes)
    keys = (OTHER_KEY,) if "key_id" in changes else ()
    working.broker.provision(mesh.signed(version=2, models=(line,)), keys=keys)
    over = working.adopt()
    assert isinstance(over, TransportError)
    assert over.retryable
    assert working.codec.epoch == 1


def test_t21_a_worker_whose_owner_took_its_version_back_leaves(working: Working) -> None:
    """Another version lists another worker; the broker may not know which one this serves."""
    mesh = working.broker.mesh
    lines = (mesh.line(serial=2), mesh.line("faces"))
    working.broker.provision(mesh.signed(version=2, models=lines))
    fresh = admit(working.broker, "worker", renewal=True)
    stranger = dataclasses.replace(
        fresh, identity=dataclasses.replace(fresh.identity, measurement=digest("another"))
    )
    over = working.member.adopt(stranger)
    assert isinstance(over, AdmissionRefused)
    assert over.rule == "line-withdrawn"
    assert working.codec.epoch == 1
    assert repr(fresh.secrets[0].key) == "Secret(wiped)"
