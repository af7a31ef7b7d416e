"""Parties that lie about shares: found and named, or without effect."""

from dataclasses import replace

import msgspec
import pytest
from simulators.masked_round import World, changed, opened

from wardian.crypto.masks import RoundKey
from wardian.crypto.secret import Secret
from wardian.crypto.shamir import Share, ShareSet, commitment, split
from wardian.errors import AuthenticationFailed, PolicyDenied
from wardian.learning.masking import hand
from wardian.learning.masking.messages import (
    Keys,
    Masked,
    Revealed,
    SealedShares,
    Sharing,
    encode,
)
from wardian.learning.masking.plan import set_id

A, B, C, D, E = (f"party-{place:03}" for place in range(5))


def refused(rule: str):
    return pytest.raises(PolicyDenied, check=lambda err: err.rule == rule)


def share_all(world: World, keys: bytes, liar: str, sharing: bytes):
    """Everybody shares, `liar` what is given, and as if it were the truth afterwards."""
    for name in world.names:
        honest = world.parties[name].share(keys)
        world.coordinator.shared(name, sharing if name == liar else honest)
    return world.coordinator.deliveries()


# Revealing


@pytest.mark.parametrize("kind", ["keys", "seeds"])
def test_a_forged_share_is_named_and_the_sum_is_right_without_it(kind):
    world = World(count=10)  # 7 are needed
    stayed = world.names[:8]
    agreements = world.to_agreements(stayed)
    raw = world.parties[A].reveal(agreements)
    opens = getattr(opened(raw, Revealed), kind)
    forged = (msgspec.structs.replace(opens[0], value=bytes(32)), *opens[1:])
    with pytest.raises(AuthenticationFailed, match="share 1 is not the one"):
        world.revealing.revealed(A, changed(raw, Revealed, **{kind: forged}))
    total = world.reveal(agreements, stayed[1:])
    assert (total == world.plain(stayed)).all()
    assert world.coordinator.faults == {
        A: "it revealed a share that is not the one that was dealt to it"
    }


def test_a_share_of_another_holder():
    world = World(count=5)
    agreements = world.to_agreements()
    theirs = world.parties[B].reveal(agreements)
    with pytest.raises(AuthenticationFailed):
        world.revealing.revealed(A, theirs)
    assert set(world.coordinator.faults) == {A}


def test_shares_that_nobody_asked_for():
    world = World(count=5)
    agreements = world.to_agreements([A, B, C, D])
    raw = world.parties[A].reveal(agreements)
    message = opened(raw, Revealed)
    for changes in (
        {"keys": message.seeds},
        {"seeds": message.keys},
        {"seeds": message.seeds * 2},
        {"seeds": message.seeds[::-1]},
        {"keys": (msgspec.structs.replace(message.keys[0], party="party-999"),)},
    ):
        with refused("mask-roster"):
            world.revealing.revealed(A, changed(raw, Revealed, **changes))
    with refused("mask-order"):
        world.revealing.revealed(E, raw)
    total = world.reveal(agreements, [A, B, C, D])
    assert (total == world.plain([A, B, C, D])).all()


def test_a_party_that_reveals_nothing_is_as_one_that_is_lost():
    world = World(count=10)
    agreements = world.to_agreements()
    empty = Revealed(scope=world.plan.scope(world.number), keys=(), seeds=())
    for name in world.names[:4]:
        world.revealing.revealed(name, encode(empty))
    with refused("mask-threshold"):
        world.reveal(agreements, world.names[4:])
    world = World(count=10)
    agreements = world.to_agreements()
    world.revealing.revealed(A, encode(empty))
    assert (world.reveal(agreements, world.names[1:]) == world.plain(world.names)).all()


# Dealing


def garbled(world: World, keys: bytes, to: list[str]) -> bytes:
    """Return E's message 3 in which what is sealed to some does not open."""
    sharing = world.parties[E].share(keys)
    dealt = [
        SealedShares(party=each.party, sealed=bytes(92)) if each.party in to else each
        for each in opened(sharing, Sharing).dealt
    ]
    return changed(sharing, Sharing, dealt=tuple(dealt))


def other_shares(world: World, keys: bytes, to: list[str]) -> bytes:
    """Return E's message 3 in which some get well-sealed shares that nobody committed to."""
    party = world.parties[E]
    honest = opened(party.share(keys), Sharing)
    _, another = party._hand().deal(opened(keys, Keys))  # a second polynomial
    dealt = [
        theirs if theirs.party in to else ours
        for ours, theirs in zip(honest.dealt, another.dealt, strict=True)
    ]
    return encode(msgspec.structs.replace(honest, dealt=tuple(dealt)))


LIES = {"garbled": garbled, "other": other_shares}


@pytest.mark.parametrize("lost", [(), (E,), (D,)])
@pytest.mark.parametrize("lie", LIES)
def test_bad_shares_for_a_few_do_no_harm(lie, lost):
    world = World(count=10)
    keys = world.to_keys()
    deliveries = share_all(world, keys, E, LIES[lie](world, keys, [A, B]))
    stayed = [name for name in world.names if name not in lost]
    agreements = world.sign(world.mask(deliveries, stayed), stayed)
    assert (world.reveal(agreements, stayed) == world.plain(stayed)).all()
    assert world.coordinator.faults == {E: "2 parties could not use the shares that it dealt"}


@pytest.mark.parametrize("lie", LIES)
def test_bad_shares_for_many_end_the_round_before_anything_is_revealed(lie):
    world = World(count=10)
    keys = world.to_keys()
    deliveries = share_all(world, keys, E, LIES[lie](world, keys, world.names[:4]))
    with refused("mask-shares"):
        world.mask(deliveries, world.names)
    assert world.coordinator.faults == {E: "4 parties could not use the shares that it dealt"}
    with refused("mask-order"):
        world.coordinator.signed(A, b"")


def test_false_complaints_of_a_few_do_no_harm():
    world = World(count=10)
    deliveries = world.to_deliveries()
    for name in world.names:
        raw = world.parties[name].mask(deliveries[name], world.vectors[name])
        if name in {A, B}:
            raw = changed(raw, Masked, refused=(C,))
        world.coordinator.masked(name, raw)
    agreements = world.sign(world.coordinator.survivors(), world.names)
    assert (world.reveal(agreements, world.names) == world.plain(world.names)).all()
    assert world.coordinator.faults == {C: "2 parties could not use the shares that it dealt"}


def unrelated(secret, *, threshold, shares, set_id):
    """Return shares that lie on no polynomial, and commitments to them."""
    dealt = tuple(
        Share(set_id=set_id, index=index, value=Secret.random()) for index in range(1, shares + 1)
    )
    commitments = tuple(commitment(share, threshold=threshold) for share in dealt)
    return ShareSet(set_id=set_id, threshold=threshold, commitments=commitments), dealt


@pytest.mark.parametrize("what", ["key", "seed"])
@pytest.mark.parametrize("how", ["another secret", "no polynomial"])
def test_shares_that_fit_their_commitments_but_not_what_was_advertised(what, how, monkeypatch):
    """Nobody can see that while they are sealed; who dealt them is named when they are put
    together. The key is put together if the party is lost, the seed if it is not."""
    world = World(count=5)
    keys = world.to_keys()
    own = world.parties[E]._hand()
    if how == "another secret":
        other = {"mask_key": RoundKey.generate()} if what == "key" else {"seed": Secret.random()}
        _, message = replace(own, **other).deal(opened(keys, Keys))
    else:
        target = set_id(world.plan.scope(world.number), E, what)
        with monkeypatch.context() as patched:
            patched.setattr(
                hand,
                "split",
                lambda secret, **how: (unrelated if how["set_id"] == target else split)(
                    secret, **how
                ),
            )
            _, message = own.deal(opened(keys, Keys))
    deliveries = share_all(world, keys, E, encode(message))
    stayed = [A, B, C, D] if what == "key" else world.names
    agreements = world.sign(world.mask(deliveries, stayed), stayed)
    with refused("mask-shares"):
        world.reveal(agreements, [A, B, C, D])
    assert world.coordinator.faults == {E: "it shared something else than it advertised"}


def test_a_lie_about_what_is_not_put_together_has_no_effect():
    world = World(count=5)
    keys = world.to_keys()
    lying = replace(world.parties[E]._hand(), mask_key=RoundKey.generate())
    _, message = lying.deal(opened(keys, Keys))
    deliveries = share_all(world, keys, E, encode(message))
    agreements = world.sign(world.mask(deliveries, world.names), world.names)
    assert (world.reveal(agreements, [A, B, C, D]) == world.plain(world.names)).all()
    assert world.coordinator.faults == {}
