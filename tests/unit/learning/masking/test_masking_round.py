"""Rounds of honest parties, some of which are lost: the sum is the plain sum to the last bit."""

import random

import numpy as np
import pytest
from simulators.masked_round import World, opened

from wardian.errors import LocalProtocolError, PolicyDenied
from wardian.learning.masking.fixed_point import FixedPoint
from wardian.learning.masking.messages import Masked, Revealed
from wardian.learning.masking.state import Stage


@pytest.mark.parametrize("count", [3, 4, 5, 10])
def test_the_sum_of_all(count):
    world = World(count=count)
    total, survivors = world.whole({})
    assert survivors == world.names
    assert (total == world.plain(world.names)).all()
    assert world.coordinator.faults == {}


@pytest.mark.parametrize("seed", range(12))
def test_the_sum_whoever_is_lost_wherever(seed):
    source = random.Random(seed)
    world = World(count=10)
    lost = {name: source.randrange(5) for name in source.sample(world.names, source.randint(1, 3))}
    total, survivors = world.whole(lost, shuffle=source)
    assert set(survivors) == {name for name in world.names if lost.get(name, 5) > 2}
    assert (total == world.plain(survivors)).all()
    assert world.coordinator.faults == {}


def test_every_party_is_started_anew_before_every_step():
    world = World(count=4)
    total, survivors = world.whole({"party-002": 2}, between=lambda _, name: world.restart(name))
    assert (total == world.plain(survivors)).all()
    assert len(survivors) == 3


def test_the_carrier_sends_everything_twice():
    world = World(count=4)
    coordinator, parties = world.coordinator, world.parties

    def twice(take, make):
        for name in world.names:
            take(name, make(name))
            take(name, make(name))

    twice(coordinator.advertised, lambda name: parties[name].advertise())
    keys = coordinator.keys()
    twice(coordinator.shared, lambda name: parties[name].share(keys))
    deliveries = coordinator.deliveries()
    masked = {
        name: parties[name].mask(deliveries[name], world.vectors[name]) for name in world.names
    }
    twice(coordinator.masked, masked.__getitem__)
    survivors = coordinator.survivors()
    twice(coordinator.signed, lambda name: parties[name].sign(survivors))
    revealing = coordinator.agreed()
    agreements = revealing.agreements()
    twice(revealing.revealed, lambda name: parties[name].reveal(agreements))
    assert (revealing.total() == world.plain(world.names)).all()


def test_the_sum_of_updates_in_fixed_point():
    codec = FixedPoint(fraction_bits=24, bound=4.0, max_weight=1000, parties=6)
    source = np.random.default_rng(3)
    world = World(count=6, elements=101)
    updates = {name: source.uniform(-4, 4, 100).astype(np.float32) for name in world.names}
    weights = {name: int(source.integers(1, 1001)) for name in world.names}
    world.vectors = {
        name: codec.encode(updates[name], weight=weights[name]) for name in world.names
    }
    total, survivors = world.whole({"party-004": 2})
    mean, weight = codec.decode(total)
    assert weight == sum(weights[name] for name in survivors)
    wanted = sum(weights[name] * updates[name].astype(np.float64) for name in survivors) / weight
    assert np.abs(mean - wanted).max() <= 2.0**-24


def test_a_vector_of_several_blocks():
    world = World(count=3, elements=3 * 2**14 + 5)
    total, survivors = world.whole({})
    assert (total == world.plain(survivors)).all()


def test_a_masked_vector_says_nothing_by_itself():
    """Masked twice, in two rounds, the same vector gives unrelated numbers, about half their bits."""
    found = []
    for number in (1, 2):
        world = World(count=3, elements=1000, number=number)
        world.vectors = {name: np.zeros(1000, np.uint64) for name in world.names}
        deliveries = world.to_deliveries()
        message = world.parties["party-000"].mask(
            deliveries["party-000"], world.vectors["party-000"]
        )
        found.append(np.frombuffer(opened(message, Masked).vector, "<u8"))
    bits = np.bitwise_count(found[0]).sum(), np.bitwise_count(found[0] ^ found[1]).sum()
    assert all(31_000 < each < 33_000 for each in bits)  # of 64,000


def test_what_is_revealed_and_kept():
    world = World(count=5)
    stayed = [name for name in world.names if name != "party-001"]
    agreements = world.to_agreements(stayed)
    revealed = opened(world.parties["party-003"].reveal(agreements), Revealed)
    assert [each.party for each in revealed.keys] == ["party-001"]
    assert [each.party for each in revealed.seeds] == stayed
    assert world.parties["party-003"].stage is Stage.REVEALED
    assert world.parties["party-001"].stage is Stage.SHARED


def test_no_secret_shows():
    world = World(count=3)
    world.to_survivors()
    state = world.parties["party-000"]._state
    secrets = [value.reveal() for each in state.held for value in (each.key, each.seed)]
    assert len(secrets) == 6
    for secret in secrets:
        assert str(secret)[2:-1] not in repr(state)
        assert secret in world.kept["party-000"].reveal()
    assert repr(world.kept["party-000"]).startswith("Secret(")


@pytest.mark.parametrize("step", range(5))
def test_below_the_threshold_the_round_is_over(step):
    world = World(count=6)  # 5 are needed
    with pytest.raises(PolicyDenied) as caught:
        world.whole({"party-000": step, "party-005": step})
    assert caught.value.rule == "mask-threshold"
    if step < 4:
        with pytest.raises(PolicyDenied) as caught:
            world.coordinator.signed("party-001", b"")
        assert caught.value.rule == "mask-order"
        with pytest.raises(LocalProtocolError):
            world.coordinator.agreed()
        return
    with pytest.raises(PolicyDenied) as caught:
        world.revealing.revealed("party-001", b"")
    assert caught.value.rule == "mask-order"
    with pytest.raises(LocalProtocolError):
        world.revealing.total()


def test_steps_are_in_their_order():
    world = World(count=3)
    coordinator = world.coordinator
    for step in (coordinator.deliveries, coordinator.survivors, coordinator.agreed):
        with pytest.raises(LocalProtocolError):
            step()
    for take in (coordinator.shared, coordinator.masked, coordinator.signed):
        with pytest.raises(PolicyDenied) as caught:
            take("party-000", b"")
        assert caught.value.rule == "mask-order"
    party = world.parties["party-000"]
    for step in (lambda: party.mask(b"", world.vectors["party-000"]), lambda: party.sign(b"")):
        with pytest.raises(PolicyDenied) as caught:
            step()
        assert caught.value.rule == "mask-order"
    with pytest.raises(PolicyDenied):
        party.reveal(b"")
    world.whole({})
    with pytest.raises(PolicyDenied) as caught:
        coordinator.advertised("party-000", b"")
    assert caught.value.rule == "mask-order"
    with pytest.raises(PolicyDenied):
        party.advertise()
