"""A key among members: all have the same, and whoever carries the messages has none."""

import itertools

import pytest

from wardian.crypto.group_key import (
    CHECK_BYTES,
    SEALED_BYTES,
    SHARE_BYTES,
    Group,
    GroupKeyMember,
)
from wardian.crypto.hpke import KEY_BYTES, HpkePrivateKey, hpke_seal
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SignatureKind, SigningKey
from wardian.errors import AuthenticationFailed, FormatError, LocalProtocolError, PolicyDenied

KINDS = (SignatureKind.ED25519, SignatureKind.P256)


class World:
    def __init__(self, count: int = 3, run: bytes = b"run 1") -> None:
        kinds = itertools.cycle(KINDS)
        self.signers = {f"p{n}": SigningKey.generate(next(kinds)) for n in range(count)}
        self.start(run)

    def start(self, run: bytes) -> None:
        self.group = self.group_of(run)
        self.members = {
            name: GroupKeyMember(self.group, name=name, signer=signer)
            for name, signer in self.signers.items()
        }
        self.shares = {name: member.share for name, member in self.members.items()}

    def group_of(self, run: bytes, use: str = "test") -> Group:
        keys = {name: signer.public for name, signer in self.signers.items()}
        return Group(keys, use=use, run=run)

    def deal(self) -> bytes:
        return self.members["p0"].deal(self.shares)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_every_member_has_the_same_key_and_no_run_that_of_another(count):
    world = World(count)
    first = [member.key(world.shares, world.deal()) for member in world.members.values()]
    assert all(key == first[0] for key in first)
    assert len(first[0]) == 32
    world.start(b"run 1")
    assert world.members["p1"].key(world.shares, world.deal()) != first[0]


def test_nothing_that_travels_holds_the_key_or_what_it_is_made_of():
    world = World()
    deal = world.deal()
    key = world.members["p2"].key(world.shares, deal).reveal()
    travels = b"".join(world.shares.values()) + deal
    assert key not in travels
    assert world.members["p0"]._secret.reveal() not in travels
    assert key.hex() not in repr(list(world.members.values()))


# What a coordinator can try


def test_a_share_of_the_coordinators_own_making_is_refused():
    world = World()
    mallory = HpkePrivateKey.generate()
    forged = mallory.public + SigningKey.generate().sign(
        world.group.share_message("p1", mallory.public)
    )
    with pytest.raises(AuthenticationFailed):
        world.members["p0"].deal({**world.shares, "p1": forged})
    with pytest.raises(AuthenticationFailed):  # another's share, whole, in its place
        world.members["p0"].deal({**world.shares, "p1": world.shares["p2"]})
    assert world.members["p0"].deal(world.shares)


@pytest.mark.parametrize("at", [0, KEY_BYTES - 1, KEY_BYTES, SHARE_BYTES - 1])
def test_a_changed_share_is_refused(at):
    world = World()
    changed = bytearray(world.shares["p1"])
    changed[at] ^= 1
    with pytest.raises(AuthenticationFailed):
        world.members["p0"].deal({**world.shares, "p1": bytes(changed)})


def test_shares_and_deals_of_another_run_use_or_membership_are_refused():
    world = World()
    old_shares, old_deal = world.shares, world.deal()
    world.start(b"run 2")
    with pytest.raises(AuthenticationFailed):
        world.members["p0"].deal({**world.shares, "p1": old_shares["p1"]})
    with pytest.raises(AuthenticationFailed):
        world.members["p1"].key(world.shares, old_deal)
    other = GroupKeyMember(
        world.group_of(b"run 2", use="other"), name="p1", signer=world.signers["p1"]
    )
    with pytest.raises(AuthenticationFailed):
        world.group.verify_share("p1", other.share)
    few = Group({n: world.signers[n].public for n in ("p0", "p1")}, use="test", run=b"run 2")
    fewer = GroupKeyMember(few, name="p1", signer=world.signers["p1"])
    with pytest.raises(AuthenticationFailed):
        world.group.verify_share("p1", fewer.share)


def test_a_whole_earlier_exchange_under_the_same_run_is_refused():
    world = World()
    old_shares, old_deal = world.shares, world.deal()
    world.start(b"run 1")
    with pytest.raises(AuthenticationFailed, match="own is another"):
        world.members["p1"].key(old_shares, old_deal)
    with pytest.raises(AuthenticationFailed, match="own is another"):
        world.members["p0"].deal(old_shares)


def test_one_old_share_among_fresh_ones_gives_no_member_another_key():
    """The coordinator shows the dealer a share of p1's that p1 no longer has the key of."""
    world = World()
    old = world.shares["p1"]
    world.start(b"run 1")
    mixed = {**world.shares, "p1": old}
    deal = world.members["p0"].deal(mixed)
    with pytest.raises(AuthenticationFailed):
        world.members["p2"].key(world.shares, deal)
    with pytest.raises(AuthenticationFailed):
        world.members["p1"].key(mixed, deal)


def test_the_dealer_deals_once():
    world = World()
    deal = world.deal()
    assert world.deal() == deal
    again = GroupKeyMember(world.group, name="p1", signer=world.signers["p1"])
    with pytest.raises(PolicyDenied) as caught:
        world.members["p0"].deal({**world.shares, "p1": again.share})
    assert caught.value.rule == "group-deal-once"


def test_every_changed_byte_of_a_deal_is_refused():
    world = World(2)
    deal = world.deal()
    for at in range(len(deal)):
        changed = bytearray(deal)
        changed[at] ^= 1
        with pytest.raises(AuthenticationFailed):
            world.members["p1"].key(world.shares, bytes(changed))


def resigned(world: World, body: bytes) -> bytes:
    """What a dealer signs that does not keep to the protocol."""
    from wardian._internal import wire
    from wardian.crypto.group_key import _DEAL_LABEL

    transcript = world.group.transcript(world.shares)
    return body + world.signers["p0"].sign(wire.fields(_DEAL_LABEL, transcript, body))


def test_a_dealer_that_seals_two_keys_is_found_out_by_one_of_the_two():
    world = World()
    body = bytearray(world.deal()[:-64])
    at = CHECK_BYTES + SEALED_BYTES
    from wardian._internal import wire
    from wardian.crypto.group_key import _SEAL_LABEL

    info = wire.fields(_SEAL_LABEL, world.group.transcript(world.shares), b"p2")
    body[at : at + SEALED_BYTES] = hpke_seal(world.shares["p2"][:32], bytes(32), info=info)
    deal = resigned(world, bytes(body))
    assert world.members["p1"].key(world.shares, deal)
    with pytest.raises(AuthenticationFailed, match="not that of the others"):
        world.members["p2"].key(world.shares, deal)


def test_what_is_sealed_to_one_member_opens_for_no_other():
    world = World()
    body = bytearray(world.deal()[:-64])
    one = slice(CHECK_BYTES, CHECK_BYTES + SEALED_BYTES)
    two = slice(CHECK_BYTES + SEALED_BYTES, CHECK_BYTES + 2 * SEALED_BYTES)
    body[one], body[two] = body[two], body[one]
    with pytest.raises(AuthenticationFailed):
        world.members["p1"].key(world.shares, resigned(world, bytes(body)))


# Wrong lengths, strangers, misuse


def test_lengths_and_missing_shares():
    world = World()
    with pytest.raises(FormatError):
        world.group.verify_share("p1", bytes(SHARE_BYTES - 1))
    with pytest.raises(FormatError):
        world.members["p0"].deal({n: s for n, s in world.shares.items() if n != "p2"})
    with pytest.raises(FormatError):
        world.members["p0"].deal({**world.shares, "p9": world.shares["p1"]})
    with pytest.raises(FormatError):
        world.members["p1"].key(world.shares, world.deal()[:-1])


def test_strangers_and_wrong_keys():
    world = World()
    stranger = SigningKey.generate()
    with pytest.raises(PolicyDenied) as caught:
        GroupKeyMember(world.group, name="p9", signer=stranger)
    assert caught.value.rule == "group-member"
    with pytest.raises(AuthenticationFailed):
        GroupKeyMember(world.group, name="p1", signer=stranger)


def test_only_the_dealer_deals():
    world = World()
    with pytest.raises(LocalProtocolError):
        world.members["p1"].deal(world.shares)


def test_a_group_is_two_or_more_each_with_its_own_key():
    key = SigningKey.generate().public
    with pytest.raises(LocalProtocolError):
        Group({"a": key}, use="test", run=b"r")
    with pytest.raises(LocalProtocolError):
        Group({"a": key, "b": key}, use="test", run=b"r")


def test_a_member_whose_process_ended_goes_on_with_what_it_kept():
    world = World()
    deal = world.deal()
    expected = world.members["p2"].key(world.shares, deal)
    for name, signer in world.signers.items():
        kept = world.members[name].kept
        again = GroupKeyMember(world.group, name=name, signer=signer, kept=kept)
        assert again.share == world.shares[name]
        assert again.key(world.shares, deal) == expected


@pytest.mark.parametrize("cut", [1, 100])
def test_what_was_kept_belongs_to_one_member_and_one_run(cut):
    world = World()
    signer, kept = world.signers["p0"], world.members["p0"].kept.reveal()
    with pytest.raises(FormatError, match="length"):
        GroupKeyMember(world.group, name="p0", signer=signer, kept=Secret(kept[:-cut]))
    foreign = world.members["p1"].kept.reveal()
    for wrong in (foreign, foreign[:32] + kept[32:]):
        with pytest.raises((FormatError, AuthenticationFailed)):
            GroupKeyMember(world.group, name="p0", signer=signer, kept=Secret(wrong))
    with pytest.raises(AuthenticationFailed):
        GroupKeyMember(world.group_of(b"run 2"), name="p0", signer=signer, kept=Secret(kept))
