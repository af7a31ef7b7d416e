"""The option for parties who trust no enclave with tags. Needs the extra `psi`."""

import importlib.util

import numpy as np
import pytest
from psi_world import RUN, PsiWorld, raw_bytes

from wardian.crypto.signing import SigningKey
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    FormatError,
    LocalProtocolError,
    PolicyDenied,
)
from wardian.learning.arrays import ArrayRecord
from wardian.learning.psi.coordinator import PsiCoordinator
from wardian.learning.psi.ecdh import EcdhParty
from wardian.learning.psi.terms import PsiTerms
from wardian.learning.records import RecordDict

HERE = importlib.util.find_spec("private_set_intersection") is not None
MINE = [f"person {n}" for n in range(40)]
ITS = [f"person {n}" for n in reversed(range(25, 60))]


@pytest.fixture
def installed() -> None:
    if not HERE:
        pytest.skip("the extra `psi` is not installed")


class EcdhWorld:
    def __init__(self, cap: int = 1000) -> None:
        signers = {name: SigningKey.generate() for name in ("a", "b")}
        self.terms = PsiTerms(
            keys={name: signer.public for name, signer in signers.items()},
            caps={"a": cap, "b": cap},
            runs=1,
        )
        self.a, self.b = (
            EcdhParty(
                self.terms,
                run=RUN,
                name=name,
                signer=signers[name],
                identifiers=each,
                runs_before=0,
            )
            for name, each in (("a", MINE), ("b", ITS))
        )
        coordinator = PsiCoordinator(self.terms, run=RUN, runs_before=0)
        for name, party in (("a", self.a), ("b", self.b)):
            coordinator.take_share(name, party.share())
        coordinator.take_deal(self.a.deal(coordinator.shares()))
        for party in (self.a, self.b):
            party.begin(coordinator.deal())


@pytest.mark.usefixtures("installed")
def test_both_learn_the_same_records_in_one_order():
    world = EcdhWorld()
    said = [world.a.setup(), world.b.setup(), world.a.request(), world.b.request()]
    said += [world.b.answer(said[2]), world.a.answer(said[3])]
    mine, its = world.a.learn(said[1], said[4]), world.b.learn(said[0], said[5])
    found = [MINE[at] for at in mine]
    assert found == [ITS[at] for at in its]
    assert set(found) == set(MINE) & set(ITS)
    assert found != sorted(found)
    assert b"person" not in b"".join(raw_bytes(each) for each in said)


@pytest.mark.usefixtures("installed")
def test_who_carries_the_messages_cannot_ask_in_a_partys_name():
    world, mallory = EcdhWorld(), EcdhWorld()
    with pytest.raises(AuthenticationFailed):
        world.a.answer(mallory.b.request())
    with pytest.raises(AuthenticationFailed):  # nor with a party's own request, sent back
        world.a.answer(world.a.request())
    with pytest.raises(AuthenticationFailed):  # nor with another of its messages
        setup = world.b.setup()["setup"]["setup"]
        world.a.answer(RecordDict({"request": ArrayRecord({"request": setup})}))
    with pytest.raises(AuthenticationFailed):
        world.a.learn(mallory.b.setup(), world.b.answer(world.a.request()))


def authentic(party: EcdhParty, kind: str, payload: bytes) -> RecordDict:
    return party._said(kind, payload)


@pytest.mark.usefixtures("installed")
def test_a_party_that_breaks_the_protocol_is_refused():
    import private_set_intersection.python as openmined

    world = EcdhWorld()
    with pytest.raises(FormatError):
        world.a.answer(authentic(world.b, "request", b"garbage\xff\xff"))
    with pytest.raises(FormatError):
        world.a.answer(authentic(world.b, "request", b""))
    with pytest.raises(FormatError, match="as long"):
        world.a.learn(world.b.setup(), authentic(world.b, "answer", b""))
    points = openmined.Response()
    points.encrypted_elements.extend([b"no point"] * len(MINE))
    with pytest.raises(FormatError, match="answer is not one"):
        world.a.learn(world.b.setup(), authentic(world.b, "answer", points.SerializeToString()))
    with pytest.raises(FormatError):
        world.a.answer(RecordDict({"request": ArrayRecord({"request": np.zeros(3)})}))


@pytest.mark.usefixtures("installed")
def test_a_request_for_more_than_the_cap_is_refused():
    world = EcdhWorld()
    request = world.b.request()
    world.terms.caps["b"] = len(ITS) - 1
    with pytest.raises(PolicyDenied) as caught:
        world.a.answer(request)
    assert caught.value.rule == "psi-size"
    answer = world.b.answer(world.a.request())
    with pytest.raises(PolicyDenied) as caught:
        world.a.learn(world.b.setup(), answer)
    assert caught.value.rule == "psi-size"


@pytest.mark.usefixtures("installed")
def test_a_filter_that_says_yes_to_everything_is_no_setup():
    import private_set_intersection.python as openmined

    world = EcdhWorld()
    bloom = openmined.server.CreateWithNewKey(reveal_intersection=True).CreateSetupMessage(
        1e-9, len(MINE), ["x"], openmined.DataStructure.BLOOM_FILTER
    )
    bloom.bloom_filter.bits = b"\xff" * len(bloom.bloom_filter.bits)
    answer = world.b.answer(world.a.request())
    with pytest.raises(FormatError, match="list"):
        world.a.learn(authentic(world.b, "setup", bloom.SerializeToString()), answer)


@pytest.mark.usefixtures("installed")
def test_the_setup_is_in_an_order_of_the_points_and_not_of_the_party():
    import private_set_intersection.python as openmined

    setup = openmined.ServerSetup()
    setup.ParseFromString(raw_bytes(EcdhWorld().a.setup())[:-32])
    points = list(setup.raw.encrypted_elements)
    assert points == sorted(points)


@pytest.mark.usefixtures("installed")
def test_the_key_comes_first_and_there_are_two():
    world = PsiWorld({"a": ["x"], "b": ["x"], "c": ["x"]})
    about = {"run": RUN, "name": "a", "signer": world.signers["a"], "runs_before": 0}
    with pytest.raises(ConfigError, match="two parties"):
        EcdhParty(world.terms, identifiers=["x"], **about)
    world = PsiWorld({"a": ["x"], "b": ["x"]})
    about["signer"] = world.signers["a"]
    with pytest.raises(ConfigError, match="UTF-8"):
        EcdhParty(world.terms, identifiers=[b"\xff"], **about)
    with pytest.raises(LocalProtocolError):
        EcdhParty(world.terms, identifiers=["x"], **about).request()


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "private_set_intersection.python", None)
    monkeypatch.setitem(__import__("sys").modules, "private_set_intersection", None)
    world = PsiWorld({"a": ["x"], "b": ["x"]})
    with pytest.raises(ConfigError, match="extra `psi`"):
        EcdhParty(
            world.terms,
            run=RUN,
            name="a",
            signer=world.signers["a"],
            identifiers=["x"],
            runs_before=0,
        )
