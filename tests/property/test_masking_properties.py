"""A coordinator that asks anything of anybody in any order, with one party that helps it.

Whatever it does and whoever is started anew in between: no party masks twice or reveals both shares
of anybody, and all that is ever revealed is for one list of survivors.
"""

import itertools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from simulators.masked_round import ROUND, World, changed, opened

from wardian.errors import FormatError, PolicyDenied, WardianError
from wardian.learning.masking.messages import (
    Advertisement,
    Agreement,
    Agreements,
    Delivery,
    Keys,
    Masked,
    PartySignature,
    Revealed,
    Sharing,
    Survivors,
    decode,
    encode,
    survivors_signed_bytes,
)

NAMES = [f"party-{place:03}" for place in range(5)]
HONEST, TRAITOR = NAMES[:4], NAMES[4]
LISTS = [tuple(names) for size in (4, 5) for names in itertools.combinations(NAMES, size)]
"""As long as the threshold, 4, or longer."""
MESSAGES = (
    Advertisement,
    Keys,
    Sharing,
    Delivery,
    Masked,
    Survivors,
    Agreement,
    Agreements,
    Revealed,
)


class HostileCoordinator(RuleBasedStateMachine):
    """Every message is one that an honest coordinator could have sent to somebody."""

    @initialize()
    def begin(self):
        self.world = World(count=5)
        self.scope = self.world.plan.scope(ROUND)
        self.keys = self.world.to_keys()
        self.deliveries = self.world.share(self.keys, self.world.names)
        self.masked = dict.fromkeys(NAMES, 0)
        self.signatures = {}  # (party, list): signature
        self.revealed = {name: set() for name in NAMES}  # (whose, which)
        self.lists = set()  # for which something was revealed

    @rule(name=st.sampled_from(HONEST), gone=st.sampled_from([None, *NAMES]))
    def mask(self, name, gone):
        raw = self.deliveries[name]
        dealt = tuple(each for each in opened(raw, Delivery).dealt if each.party != gone)
        try:
            raw = changed(raw, Delivery, dealt=dealt)
            self.world.parties[name].mask(raw, self.world.vectors[name])
        except PolicyDenied:
            return
        self.masked[name] += 1

    @rule(name=st.sampled_from(HONEST), survivors=st.sampled_from(LISTS))
    def sign(self, name, survivors):
        raw = encode(Survivors(scope=self.scope, parties=survivors))
        try:
            signed = self.world.parties[name].sign(raw)
        except PolicyDenied:
            return
        self.signatures[name, survivors] = opened(signed, Agreement).signature

    @rule(name=st.sampled_from(HONEST), survivors=st.sampled_from(LISTS))
    def reveal(self, name, survivors):
        signatures = {
            party: signature
            for (party, signed), signature in self.signatures.items()
            if signed == survivors
        }
        if TRAITOR in survivors:  # it signs everything
            message = survivors_signed_bytes(
                scope=self.scope,
                keys=self.world.parties[name]._state.keys_digest,
                parties=survivors,
            )
            signatures[TRAITOR] = self.world.signers[TRAITOR].sign(message)
        agreements = tuple(
            PartySignature(party=party, signature=signature)
            for party, signature in sorted(signatures.items())
        )
        raw = encode(Agreements(scope=self.scope, signatures=agreements))
        try:
            message = opened(self.world.parties[name].reveal(raw), Revealed)
        except WardianError:
            return
        self.lists.add(survivors)
        self.revealed[name] |= {(each.party, "key") for each in message.keys}
        self.revealed[name] |= {(each.party, "seed") for each in message.seeds}

    @rule(names=st.sets(st.sampled_from(HONEST), min_size=3), survivors=st.sampled_from(LISTS))
    def lead_some_on(self, names, survivors):
        """Take some through what is left of the round, so that things come to an end at all."""
        for name in sorted(names):
            self.mask(name, None)
            self.sign(name, survivors)
        for name in sorted(names):
            self.reveal(name, survivors)

    @rule(name=st.sampled_from(HONEST))
    def start_anew(self, name):
        self.world.restart(name)

    @invariant()
    def one_vector_under_the_masks(self):
        assert max(self.masked.values()) <= 1

    @invariant()
    def one_list(self):
        assert len(self.lists) <= 1
        for found in self.revealed.values():
            assert len({whose for whose, _ in found}) == len(found)
            for whose, which in found:
                survived = whose in next(iter(self.lists))
                assert which == ("seed" if survived else "key")


HostileCoordinator.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestHostileCoordinator = HostileCoordinator.TestCase


@given(st.sampled_from(MESSAGES), st.binary(max_size=200))
@settings(derandomize=True)
def test_garbage_is_refused_as_such(kind, raw):
    try:
        decode(raw, kind, scope=bytes(32))
    except (FormatError, PolicyDenied):
        return
    raise AssertionError("it was taken")
