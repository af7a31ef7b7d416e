"""A coordinator that wants a single vector, and parties that lie (TRUST T15)."""

import itertools

import msgspec
import numpy as np
import pytest
from simulators.masked_round import ROUND, World, changed, opened, signers

from wardian.crypto.masks import RoundKey, add_masks
from wardian.crypto.secret import Secret
from wardian.crypto.shamir import Share, ShareSet, combine
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    FormatError,
    LocalProtocolError,
    PolicyDenied,
    SealError,
)
from wardian.learning.masking.coordinator import MaskingCoordinator
from wardian.learning.masking.messages import (
    Advertisement,
    Agreement,
    Agreements,
    Dealt,
    Delivery,
    Keys,
    Masked,
    OpenShare,
    PartySignature,
    Revealed,
    SealedShares,
    Sharing,
    Survivors,
    advertisement_signed_bytes,
    decode,
    encode,
    keys_digest,
    survivors_signed_bytes,
)
from wardian.learning.masking.plan import MAX_PARTIES, MaskingPlan, set_id
from wardian.learning.masking.state import Stage

A, B, C, D, E = (f"party-{place:03}" for place in range(5))


def refused(rule: str):
    return pytest.raises(PolicyDenied, check=lambda err: err.rule == rule)


def survivors_of(world: World, names) -> bytes:
    return encode(Survivors(scope=world.plan.scope(world.number), parties=tuple(names)))


def agreements_of(world: World, signatures: dict[str, bytes]) -> bytes:
    scope = world.plan.scope(world.number)
    parties = tuple(
        PartySignature(party=party, signature=opened(raw, Agreement).signature)
        for party, raw in sorted(signatures.items())
    )
    return encode(Agreements(scope=scope, signatures=parties))


# Two lists of survivors


def test_a_party_signs_one_list_and_no_other():
    world = World(count=5)  # 4 are needed
    world.to_survivors()
    party = world.parties[A]
    first = survivors_of(world, [A, B, C, D])
    party.sign(first)
    for other in ([A, B, C, D, E], [A, B, C, E]):
        with refused("mask-survivors"):
            party.sign(survivors_of(world, other))
    party.sign(first)


def test_a_party_signs_no_other_list_after_it_was_started_anew():
    world = World(count=5)
    world.to_survivors()
    world.parties[A].sign(survivors_of(world, [A, B, C, D]))
    world.restart(A)
    with refused("mask-survivors"):
        world.parties[A].sign(survivors_of(world, [A, B, C, E]))
    world.parties[A].sign(survivors_of(world, [A, B, C, D]))


def test_different_lists_to_different_parties_reveal_nothing():
    """E is in the list of some, and lost in that of others, so that both its shares come out."""
    world = World(count=5)
    world.to_survivors()
    lists = {name: survivors_of(world, world.names) for name in (A, B, E)}
    lists |= {name: survivors_of(world, [A, B, C, D]) for name in (C, D)}
    signatures = {name: world.parties[name].sign(lists[name]) for name in world.names}
    for name in world.names:
        for count in (2, 3, 4, 5):
            for chosen in itertools.combinations(world.names, count):
                given = agreements_of(world, {each: signatures[each] for each in chosen})
                with pytest.raises((PolicyDenied, AuthenticationFailed)):
                    world.parties[name].reveal(given)
        assert world.parties[name].stage is Stage.SIGNED


def test_different_lists_with_the_help_of_two_of_five_reveal_for_one_list_at_most():
    """D and E sign whatever they are asked. The threshold, 4, leaves no room for two lists."""
    world = World(count=5)
    world.to_survivors()
    scope = world.plan.scope(ROUND)
    keys = world.parties[A]._state.keys_digest
    lists = {"first": (A, B, C, D, E), "second": (A, B, C, D)}
    for honest in itertools.product(lists, repeat=3):
        trial = World(count=5, signers=world.signers)
        for name in (A, B, C):
            trial.parties[name] = trial.party(name, world.kept[name])
        signed = {}
        for name, chosen in zip((A, B, C), honest, strict=True):
            signed[name] = trial.parties[name].sign(survivors_of(world, lists[chosen]))
        revealing = set()
        for name, chosen in zip((A, B, C), honest, strict=True):
            message = survivors_signed_bytes(scope=scope, keys=keys, parties=lists[chosen])
            same = {
                each: signed[each]
                for each, theirs in zip((A, B, C), honest, strict=True)
                if theirs == chosen
            }
            for traitor in (D, E):
                if traitor in lists[chosen]:
                    signature = world.signers[traitor].sign(message)
                    same[traitor] = encode(Agreement(scope=scope, signature=signature))
            try:
                trial.parties[name].reveal(agreements_of(world, same))
            except PolicyDenied:
                continue
            revealing.add(chosen)
        assert len(revealing) <= 1


@pytest.mark.parametrize(
    ("names", "rule"),
    [
        ([A, B, C], "mask-threshold"),
        ([A, A, B, C], "mask-roster"),
        ([B, A, C, D], "mask-roster"),
        ([A, B, C, "party-999"], "mask-roster"),
        ([B, C, D, E], "mask-survivors"),
    ],
)
def test_lists_that_are_not_signed(names, rule):
    world = World(count=5)
    world.to_survivors()
    with refused(rule):
        world.parties[A].sign(survivors_of(world, names))
    assert world.parties[A].stage is Stage.MASKED
    world.parties[A].sign(survivors_of(world, world.names))


def test_a_survivor_who_never_shared():
    world = World(count=5)
    deliveries = world.share(world.to_keys(), [A, B, C, D])
    world.mask(deliveries, [A, B, C, D])
    with refused("mask-roster"):
        world.parties[A].sign(survivors_of(world, [A, B, C, E]))


# What it takes to reveal


def test_agreements_that_are_none():
    world = World(count=5)
    raw = world.to_agreements()
    signatures = opened(raw, Agreements).signatures
    party = world.parties[A]
    for few in (signatures[:3], ()):
        with refused("mask-threshold"):
            party.reveal(changed(raw, Agreements, signatures=few))
    with refused("mask-roster"):
        party.reveal(changed(raw, Agreements, signatures=(signatures[0], *signatures[:4])))
    stranger = msgspec.structs.replace(signatures[4], party="party-999")
    with refused("mask-roster"):
        party.reveal(changed(raw, Agreements, signatures=(*signatures[:4], stranger)))
    moved = msgspec.structs.replace(signatures[4], signature=signatures[3].signature)
    with pytest.raises(AuthenticationFailed, match="not signed by party-004"):
        party.reveal(changed(raw, Agreements, signatures=(*signatures[:4], moved)))
    with refused("mask-round"):
        party.reveal(changed(raw, Agreements, scope=bytes(32)))
    assert party.stage is Stage.SIGNED
    party.reveal(raw)


def test_agreements_of_another_round_with_the_same_list():
    worlds = [World(count=3, number=number) for number in (1, 2)]
    first, second = [world.to_agreements() for world in worlds]
    relabelled = changed(first, Agreements, scope=worlds[1].plan.scope(2))
    with pytest.raises(AuthenticationFailed):
        worlds[1].parties[A].reveal(relabelled)
    worlds[1].parties[A].reveal(second)


def test_who_was_lost_cannot_agree():
    world = World(count=5)
    world.to_survivors([A, B, C, D])
    world.parties[A].sign(survivors_of(world, [A, B, C, D]))
    message = survivors_signed_bytes(
        scope=world.plan.scope(ROUND),
        keys=world.parties[A]._state.keys_digest,
        parties=[A, B, C, D],
    )
    forged = {
        name: encode(
            Agreement(scope=world.plan.scope(ROUND), signature=world.signers[name].sign(message))
        )
        for name in (A, B, C, E)
    }
    with refused("mask-roster"):
        world.parties[A].reveal(agreements_of(world, forged))


# Both shares


def dealt_to(world: World, holder: str) -> dict[str, tuple[bytes, bytes]]:
    """Return the two shares that `holder` has of each."""
    state = world.parties[holder]._state
    return {each.party: (each.key.reveal(), each.seed.reveal()) for each in state.held}


def test_nobody_gets_both_shares_out_of_a_party():
    world = World(count=5)
    survivors = world.to_survivors([A, B, C, D])
    shares = dealt_to(world, A)
    agreements = world.sign(survivors, [A, B, C, D])

    def given() -> tuple[set[bytes], set[bytes]]:
        message = opened(world.parties[A].reveal(agreements), Revealed)
        return {each.value for each in message.keys}, {each.value for each in message.seeds}

    wanted = {shares[E][0]}, {shares[name][1] for name in (A, B, C, D)}
    withheld = {shares[E][1], *(shares[name][0] for name in (A, B, C, D))}
    for _ in range(2):
        assert given() == wanted
        for names in ([A, B, C, D, E], [A, B, C, E]):
            with pytest.raises(PolicyDenied):
                world.parties[A].sign(survivors_of(world, names))
        assert not any(share in world.kept[A].reveal() for share in withheld)  # they are gone
        world.restart(A)
    assert given() == wanted


def test_a_party_that_is_claimed_to_be_lost_keeps_its_vector():
    """E's vector came. The coordinator hides that, gets E's mask key, and still learns nothing."""
    world = World(count=5)
    deliveries = world.to_deliveries()
    seed = world.parties[E]._state.seed
    theirs = opened(world.parties[E].mask(deliveries[E], world.vectors[E]), Masked).vector
    survivors = world.mask(deliveries, [A, B, C, D])
    with refused("mask-survivors"):
        world.parties[E].sign(survivors)
    agreements = world.sign(survivors, [A, B, C, D])
    with pytest.raises(PolicyDenied):
        world.parties[E].reveal(agreements)
    revealed = [opened(world.parties[name].reveal(agreements), Revealed) for name in (A, B, C, D)]
    assert all(E not in {each.party for each in message.seeds} for message in revealed)

    scope, sharing = world.plan.scope(ROUND), world.coordinator._sharings[E]
    commitments = [sharing.key_commitments[at : at + 32] for at in range(0, 160, 32)]
    named = set_id(scope, E, "key")
    shares = [
        Share(set_id=named, index=index, value=Secret(message.keys[0].value))
        for index, message in enumerate(revealed, start=1)
    ]
    share_set = ShareSet(set_id=named, threshold=4, commitments=tuple(commitments))
    key = RoundKey.from_secret(combine(shares, share_set))
    advertised = world.coordinator._advertisements
    assert key.public == advertised[E].mask_public
    vector = np.frombuffer(theirs, "<u8").copy()
    common = [
        key.mask_seed(advertised[name].mask_public, scope=scope, own=E, other=name)
        for name in (A, B, C, D)
    ]
    add_masks(vector, plus=common)  # E comes last by name, so it subtracted them
    assert (vector != world.vectors[E]).all()
    add_masks(vector, minus=[seed])
    assert (vector == world.vectors[E]).all()  # its own mask was left, and nothing else


# The roster


def without(keys: bytes, *names: str) -> bytes:
    kept = [each for each in opened(keys, Keys).advertisements if each.party not in names]
    return changed(keys, Keys, advertisements=tuple(kept))


def test_keys_that_are_refused():
    world = World(count=5)
    keys = world.to_keys()
    party, every = world.parties[A], opened(keys, Keys).advertisements
    with refused("mask-roster"):  # itself missing
        party.share(without(keys, A))
    for names in ((0, 0, 1, 2, 3, 4), (0, 1, 1, 2, 3), (1, 0, 2, 3, 4)):  # twice, or out of order
        with refused("mask-roster"):
            party.share(changed(keys, Keys, advertisements=tuple(every[each] for each in names)))
    stranger = msgspec.structs.replace(every[4], party="party-999")
    with refused("mask-roster"):
        party.share(changed(keys, Keys, advertisements=(*every[:4], stranger)))
    with refused("mask-threshold"):
        party.share(without(keys, D, E))
    with refused("mask-round"):
        party.share(changed(keys, Keys, scope=bytes(32)))
    for field in ("mask_public", "share_public", "seed_digest"):
        swapped = msgspec.structs.replace(every[4], **{field: getattr(every[3], field)})
        with pytest.raises(AuthenticationFailed, match="not signed by party-004"):
            party.share(changed(keys, Keys, advertisements=(*every[:4], swapped)))
        own = msgspec.structs.replace(every[0], **{field: getattr(every[3], field)})
        with refused("mask-roster"):  # not its own
            party.share(changed(keys, Keys, advertisements=(own, *every[1:])))
    renamed = msgspec.structs.replace(every[3], party=E)
    with pytest.raises(AuthenticationFailed):
        party.share(changed(keys, Keys, advertisements=(*every[:4], renamed)))
    assert party.stage is Stage.ADVERTISED
    party.share(keys)


def test_a_party_shares_once():
    world = World(count=5)
    keys = world.to_keys()
    sharing = world.parties[A].share(keys)
    world.restart(A)
    assert world.parties[A].share(keys) == sharing
    with refused("mask-once"):
        world.parties[A].share(without(keys, E))


@pytest.mark.parametrize("other", ["round", "run", "threshold", "elements", "roster"])
def test_replayed_advertisements(other):
    """Keys that a party signed for something else, brought by a coordinator or by the network."""
    keyring = signers(5)
    before = {
        "round": lambda: World(signers=keyring, number=ROUND - 1),
        "run": lambda: World(signers=keyring, run=bytes(32)),
        "threshold": lambda: World(signers=keyring, threshold=5),
        "elements": lambda: World(signers=keyring, elements=8),
        "roster": lambda: World(count=6),
    }[other]()
    world = World(signers=keyring)
    old = before.parties[E].advertise()
    with refused("mask-round"):
        world.coordinator.advertised(E, old)
    scope = world.plan.scope(ROUND)
    with pytest.raises(AuthenticationFailed):
        world.coordinator.advertised(E, changed(old, Advertisement, scope=scope))
    keys = world.to_keys()
    every = opened(keys, Keys).advertisements
    with refused("mask-round"):
        world.parties[A].share(
            changed(keys, Keys, advertisements=(*every[:4], opened(old, Advertisement)))
        )
    relabelled = msgspec.structs.replace(opened(old, Advertisement), scope=scope)
    with pytest.raises(AuthenticationFailed):
        world.parties[A].share(changed(keys, Keys, advertisements=(*every[:4], relabelled)))


def test_keys_of_before_a_party_lost_its_state():
    """Two advertisements of one party and round: it takes part only with the one that it made."""
    world = World(count=5)
    old = world.parties[A].advertise()
    world.parties[A] = world.party(A)
    keys = world.to_keys()
    every = opened(keys, Keys).advertisements
    replayed = changed(keys, Keys, advertisements=(opened(old, Advertisement), *every[1:]))
    with refused("mask-roster"):
        world.parties[A].share(replayed)
    world.parties[A].share(keys)


def test_two_views_of_the_keys_give_no_agreement():
    """A traitor, E, advertises twice; A sees the one, the others see the other."""
    world = World(count=5, threshold=5)
    keys = world.to_keys()
    every = opened(keys, Keys).advertisements
    second = msgspec.structs.replace(every[4], mask_public=RoundKey.generate().public)
    signature = world.signers[E].sign(advertisement_signed_bytes(second))
    second = msgspec.structs.replace(second, signature=signature)
    views = dict.fromkeys(world.names, keys)
    views[A] = changed(keys, Keys, advertisements=(*every[:4], second))
    for name in world.names:
        world.coordinator.shared(name, world.parties[name].share(views[name]))
    deliveries = world.coordinator.deliveries()
    with refused("mask-shares"):  # an honest coordinator stops here; this one goes on
        world.mask(deliveries, world.names)
    survivors = survivors_of(world, world.names)
    signatures = {name: world.parties[name].sign(survivors) for name in world.names}
    for name in world.names:
        with pytest.raises(AuthenticationFailed):
            world.parties[name].reveal(agreements_of(world, signatures))


def test_keys_of_small_order():
    world = World(count=3)
    for field in ("mask_public", "share_public"):
        message = opened(world.parties[C].advertise(), Advertisement)
        weak = msgspec.structs.replace(message, **{field: bytes(32)})
        signature = world.signers[C].sign(advertisement_signed_bytes(weak))
        weak = msgspec.structs.replace(weak, signature=signature)
        with pytest.raises(FormatError, match="usable"):
            world.coordinator.advertised(C, encode(weak))
    keys = world.to_keys()
    every = opened(keys, Keys).advertisements
    message = msgspec.structs.replace(every[2], share_public=bytes(32))
    signature = world.signers[C].sign(advertisement_signed_bytes(message))
    weak = msgspec.structs.replace(message, signature=signature)
    with pytest.raises(FormatError):
        world.parties[A].share(changed(keys, Keys, advertisements=(*every[:2], weak)))
    assert world.parties[A].stage is Stage.ADVERTISED


# Vectors


def test_a_party_masks_once():
    """The difference of two vectors under the same masks would be in the clear."""
    world = World(count=5)
    deliveries = world.to_deliveries()
    party = world.parties[A]
    party.mask(deliveries[A], world.vectors[A])
    for delivery in (deliveries[A], deliveries[B]):
        with refused("mask-order"):
            party.mask(delivery, world.vectors[B])
    world.restart(A)
    with refused("mask-order"):
        world.parties[A].mask(deliveries[A], world.vectors[A])


def test_what_a_party_masked_with_is_gone():
    world = World(count=3)
    deliveries = world.to_deliveries()
    state = world.parties[A]._state
    own = [state.mask_key.reveal(), state.share_key.reveal(), state.seed.reveal()]
    assert all(secret in world.kept[A].reveal() for secret in own)
    world.parties[A].mask(deliveries[A], world.vectors[A])
    assert not any(secret in world.kept[A].reveal() for secret in own)


def test_deliveries_that_are_refused():
    world = World(count=5)
    deliveries = world.share(world.to_keys(), [A, B, C, D])
    raw, party = deliveries[A], world.parties[A]
    dealt = opened(raw, Delivery).dealt
    own = msgspec.structs.replace(dealt[0], party=A)
    stranger = msgspec.structs.replace(dealt[2], party="party-999")
    for given in ((own, *dealt), (*dealt[:2], stranger), (dealt[0], *dealt), dealt[::-1]):
        with refused("mask-roster"):
            party.mask(changed(raw, Delivery, dealt=given), world.vectors[A])
    with refused("mask-threshold"):
        party.mask(changed(raw, Delivery, dealt=dealt[:2]), world.vectors[A])
    with refused("mask-round"):
        party.mask(changed(raw, Delivery, scope=bytes(32)), world.vectors[A])
    assert party.stage is Stage.SHARED
    party.mask(raw, world.vectors[A])


def test_shares_that_a_coordinator_moves_or_changes_are_of_no_use():
    world = World(count=5)
    deliveries = world.to_deliveries()
    for_a, for_b = (opened(deliveries[name], Delivery).dealt for name in (A, B))
    flipped = for_a[0].sealed[:-1] + bytes((for_a[0].sealed[-1] ^ 1,))
    given = (
        msgspec.structs.replace(for_a[0], sealed=flipped),
        msgspec.structs.replace(for_a[1], sealed=for_b[1].sealed),  # of C, for B
        msgspec.structs.replace(for_a[2], sealed=for_a[3].sealed),  # of E as D's
        msgspec.structs.replace(
            for_a[3],
            key_commitment=for_a[3].seed_commitment,
            seed_commitment=for_a[3].key_commitment,
        ),
    )
    message = world.parties[A].mask(changed(deliveries[A], Delivery, dealt=given), world.vectors[A])
    assert opened(message, Masked).refused == (B, C, D, E)
    held = {each.party: each for each in world.parties[A]._state.held}
    assert all(held[name].key is held[name].seed is None for name in (B, C, D, E))


def test_vectors_that_are_refused_change_nothing():
    world = World(count=5)
    deliveries = world.to_deliveries()
    messages = {
        name: world.parties[name].mask(deliveries[name], world.vectors[name])
        for name in world.names
    }
    coordinator, vector = world.coordinator, opened(messages[A], Masked).vector
    for given in (vector[:-1], vector[:-8], b"", bytes(vector) + bytes(8), bytes(vector) + b"x"):
        with pytest.raises(FormatError, match="a vector of"):
            coordinator.masked(A, changed(messages[A], Masked, vector=given))
    with pytest.raises(FormatError, match="too many"):
        coordinator.masked(A, changed(messages[A], Masked, vector=bytes(300_000)))
    for raw in (b"", messages[A][:-1], messages[A][:40], messages[A] + b"x", b"\xc1", b"\x80"):
        with pytest.raises(FormatError):
            coordinator.masked(A, raw)
    for names in ((A,), ("party-999",), (B, B), (C, B)):
        with refused("mask-roster"):
            coordinator.masked(A, changed(messages[A], Masked, refused=names))
    with refused("mask-round"):
        coordinator.masked(A, changed(messages[A], Masked, scope=bytes(32)))
    with refused("mask-roster"):
        coordinator.masked("party-999", messages[A])
    for name in world.names:
        coordinator.masked(name, messages[name])
    agreements = world.sign(coordinator.survivors(), world.names)
    assert (world.reveal(agreements, world.names) == world.plain(world.names)).all()


def test_a_vector_that_is_not_of_the_plan():
    world = World(count=3)
    deliveries = world.to_deliveries()
    for vector in (
        world.vectors[A][:-1],
        world.vectors[A].view(np.int64),
        world.vectors[A].reshape(3, 3),
        world.vectors[A].astype(">u8"),
    ):
        with pytest.raises(LocalProtocolError):
            world.parties[A].mask(deliveries[A], vector)
    before = world.vectors[A].copy()
    world.parties[A].mask(deliveries[A], world.vectors[A])
    assert (world.vectors[A] == before).all()


# Messages


def test_messages_are_closed():
    world = World(count=3)
    raw = world.parties[A].advertise()
    fields = msgspec.msgpack.decode(raw)
    wrong = [
        {**fields, "more": 1},
        {**fields, "say": "keys"},
        {**fields, "mask_public": bytes(31)},
        {**fields, "signature": bytes(65)},
        {**fields, "party": "Party"},
        {**fields, "party": "party-000\n"},
        {**fields, "scope": "x" * 32},
        {key: value for key, value in fields.items() if key != "seed_digest"},
        [],
        {**fields, "more\x1b[2J": 1},
    ]
    for each in wrong:
        with pytest.raises(FormatError) as caught:
            world.coordinator.advertised(A, msgspec.msgpack.encode(each))
        assert str(caught.value).isprintable()
    with pytest.raises(FormatError, match="too many"):
        world.coordinator.advertised(A, bytes(300_000))
    with pytest.raises(FormatError):
        world.coordinator.advertised(A, b"\x91" * 100_000)
    with refused("mask-roster"):  # under another's name
        world.coordinator.advertised(B, raw)
    with refused("mask-roster"):
        world.coordinator.advertised("party-999", raw)
    world.coordinator.advertised(A, raw)


def test_messages_of_the_largest_roster_are_not_too_large():
    names = [f"{place:064}" for place in range(MAX_PARTIES)]
    sealed, each = bytes(92), bytes(32)
    advertisement = Advertisement(
        scope=each,
        party=names[0],
        mask_public=each,
        share_public=each,
        seed_digest=each,
        signature=bytes(64),
    )
    commitments = bytes(32 * MAX_PARTIES)
    every = tuple(msgspec.structs.replace(advertisement, party=name) for name in names)
    opens = tuple(OpenShare(party=name, value=each) for name in names)
    for message in (
        Keys(scope=each, advertisements=every),
        Sharing(
            scope=each,
            key_commitments=commitments,
            seed_commitments=commitments,
            dealt=tuple(SealedShares(party=name, sealed=sealed) for name in names),
        ),
        Delivery(
            scope=each,
            dealt=tuple(
                Dealt(party=name, key_commitment=each, seed_commitment=each, sealed=sealed)
                for name in names
            ),
        ),
        Masked(scope=each, refused=tuple(names), vector=memoryview(b"")),
        Agreements(
            scope=each,
            signatures=tuple(PartySignature(party=name, signature=bytes(64)) for name in names),
        ),
        Revealed(scope=each, keys=opens, seeds=opens),
    ):
        decode(encode(message), type(message), scope=each)


def test_the_first_of_two_advertisements_counts():
    world = World(count=3)
    world.coordinator.advertised(A, world.party(A).advertise())
    with refused("mask-roster"):
        world.parties[A].share(world.advertise(world.names))


# What a party keeps


def test_nothing_leaves_before_it_is_kept():
    world = World(count=3)

    def full(_: Secret) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        world.party(A, keep=full)
    kept = {Stage.ADVERTISED: world.kept[A]}
    keys = world.to_keys()
    deliveries = world.share(keys, world.names)
    kept[Stage.SHARED] = world.kept[A]
    survivors = world.mask(deliveries, world.names)
    kept[Stage.MASKED] = world.kept[A]
    agreements = world.sign(survivors, world.names)
    kept[Stage.SIGNED] = world.kept[A]
    steps = {
        Stage.ADVERTISED: lambda party: party.share(keys),
        Stage.SHARED: lambda party: party.mask(deliveries[A], world.vectors[A]),
        Stage.MASKED: lambda party: party.sign(survivors),
        Stage.SIGNED: lambda party: party.reveal(agreements),
    }
    for stage, step in steps.items():
        party = world.party(A, kept[stage], keep=full)
        with pytest.raises(OSError, match="no space"):
            step(party)
        assert party.stage is stage


def test_what_was_kept_belongs_to_one_party_and_round():
    world = World(count=3)
    kept = world.kept[A]
    for wrong in (
        {"number": ROUND + 1},
        {"plan": World(count=3, run=bytes(32)).plan},
        {"plan": World(count=3, elements=1).plan},
    ):
        with pytest.raises(SealError, match="another party"):
            world.party(A, kept, **wrong)
    with pytest.raises(SealError, match="another party"):
        world.party(B, kept)
    raw = kept.reveal()
    secret = world.parties[A]._state.seed.reveal()
    for damaged in (raw[:-1], raw[1:], b"x", raw.replace(b"\xc4\x20" + secret, b"\xc4\x00")):
        with pytest.raises(SealError, match="damaged"):
            world.party(A, Secret(damaged))


def test_a_key_that_the_plan_does_not_name():
    world = World(count=3)
    with pytest.raises(ConfigError, match="the key of party-000"):
        world.party(A, signer=world.signers[B])
    with refused("mask-roster"):
        MaskingPlan.index(world.plan, "party-999")


# Agreement, as the coordinator takes it


def test_agreements_that_a_coordinator_does_not_take():
    world = World(count=5)
    survivors = world.to_survivors([A, B, C, D])
    other = survivors_of(world, world.names)
    raw = world.parties[A].sign(other)
    with pytest.raises(AuthenticationFailed, match="not signed by party-000"):
        world.coordinator.signed(A, raw)
    honest = world.parties[B].sign(survivors)
    with pytest.raises(AuthenticationFailed):
        world.coordinator.signed(C, honest)
    with refused("mask-order"):
        world.coordinator.signed(E, honest)
    world.coordinator.signed(B, honest)
    with refused("mask-threshold"):
        world.coordinator.agreed()


def test_a_coordinator_takes_messages_of_its_own_round_alone():
    world, other = World(count=3), World(count=3, number=ROUND + 1)
    assert isinstance(world.coordinator, MaskingCoordinator)
    keys, others = world.to_keys(), other.to_keys()
    with refused("mask-round"):
        world.coordinator.shared(A, other.parties[A].share(others))
    sharing = world.parties[A].share(keys)
    assert keys_digest(opened(keys, Keys)) != keys_digest(opened(others, Keys))
    for given in ((), opened(sharing, Sharing).dealt[:1], opened(sharing, Sharing).dealt * 2):
        with refused("mask-roster"):
            world.coordinator.shared(A, changed(sharing, Sharing, dealt=given))
    for short in ("key_commitments", "seed_commitments"):
        with pytest.raises(FormatError, match="one commitment"):
            world.coordinator.shared(A, changed(sharing, Sharing, **{short: bytes(64)}))
    world.coordinator.shared(A, sharing)
