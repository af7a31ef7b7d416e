"""A lost counter: the owners say once which state is the newest, and nobody else does."""

import hashlib
from dataclasses import dataclass, field, replace

import msgspec
import pytest
from simulators.sealed_world import PATH, World

from wardian._internal import wire
from wardian._internal.agreed import Mesh
from wardian.crypto.counter_recovery import (
    CounterRecovery,
    RecoverySignature,
    SignedRecovery,
    VerifiedRecovery,
    sign_recovery,
    verify_recovery,
)
from wardian.crypto.signing import SigningKey
from wardian.errors import (
    AuthenticationFailed,
    CounterLost,
    CounterUnavailable,
    FormatError,
    LocalProtocolError,
    PolicyDenied,
    SealError,
    StateRolledBack,
)
from wardian.tee.sealed_state import SealedPlace, SealedState
from wardian.tee.state_recovery import RecoveryScope, recover

OWNERS = [SigningKey.generate() for _ in range(3)]
MESH = Mesh(name="test", owners=tuple(owner.public.hex() for owner in OWNERS), threshold=2)
SCOPE = RecoveryScope(mesh=MESH, role="aggregator", measurement=b"m" * 32, counter="box")


@dataclass
class Loss:
    """A state of three generations whose counter is gone, and every copy that its host kept."""

    world: World = field(default_factory=World)
    copies: list[bytes] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        state = SealedState.open(self.place)
        for value in (b"one", b"two", b"three"):
            state.write(value)
            self.copies.append(self.world.content)
            self.counts.append(self.world.count)
        self.world.count = 0

    @property
    def place(self) -> SealedPlace:
        return self.world.place()

    def statement(self, **changes: object) -> CounterRecovery:
        fields: dict[str, object] = {
            "mesh": "test",
            "role": "aggregator",
            "measurement": (b"m" * 32).hex(),
            "counter": "box",
            "keeper": self.place.counter.keeper_id.hex(),
            "state_digest": hashlib.sha256(self.copies[-1]).hexdigest(),
            "generation": 3,
            "counted": 0,
        }
        return CounterRecovery(**(fields | changes))  # type: ignore[arg-type]

    def signed(self, *owners: SigningKey, **changes: object) -> SignedRecovery:
        return sign_recovery(self.statement(**changes), owners or OWNERS[:2])


@pytest.fixture
def loss() -> Loss:
    return Loss()


@pytest.mark.parametrize("value", [0, 1, 1 << 32, (2 << 32) - 1, 2 << 32])
def test_the_owners_say_which_state_is_the_newest(loss: Loss, value: int) -> None:
    loss.world.count = value
    with pytest.raises(CounterLost):
        SealedState.open(loss.place)
    state = recover(loss.place, loss.signed(counted=value), scope=SCOPE)
    assert (state.read(), state.generation) == (b"three", 3)
    state.write(b"four")
    assert SealedState.open(loss.place).read() == b"four"
    for copy in loss.copies:
        loss.world.put_back(copy)
        with pytest.raises(StateRolledBack):
            SealedState.open(loss.place)


def test_once(loss: Loss) -> None:
    """Used at once again, after another write, and with the old file put back."""
    signed = loss.signed()
    state = recover(loss.place, signed, scope=SCOPE)
    with pytest.raises(PolicyDenied, match="not lost") as caught:
        recover(loss.place, signed, scope=SCOPE)
    assert caught.value.rule == "recovery-used"
    state.write(b"four")
    with pytest.raises(PolicyDenied) as caught:
        recover(loss.place, signed, scope=SCOPE)
    assert caught.value.rule == "recovery-state"
    loss.world.put_back(loss.copies[-1])
    with pytest.raises(PolicyDenied, match="was used") as caught:
        recover(loss.place, signed, scope=SCOPE)
    assert caught.value.rule == "recovery-used"


@pytest.mark.parametrize("lived", [1, 2])
def test_a_statement_that_was_held_back(loss: Loss, lived: int) -> None:
    """The host lets another life begin at the same keeper, acts in it, then shows the statement."""
    signed = loss.signed()
    del loss.world.files[PATH]
    state = SealedState.open(loss.place)
    for number in range(lived):
        state.write(b"spent %d" % number)
    counted = loss.world.count
    loss.world.put_back(loss.copies[-1])
    with pytest.raises(PolicyDenied, match="moved since") as caught:
        recover(loss.place, signed, scope=SCOPE)
    assert caught.value.rule == "recovery-counted"
    assert loss.world.count == counted


def test_a_statement_that_was_held_back_until_a_life_was_begun(loss: Loss) -> None:
    """Killed before its first file, that life has nothing but its name."""
    del loss.world.files[PATH]
    loss.world.fail_next = "create"
    with pytest.raises(SealError):
        SealedState.open(loss.place).write(b"spent")
    assert 0 < loss.world.count < 1 << 32
    loss.world.put_back(loss.copies[-1])
    for counted in (0, 1, loss.world.count + 1):
        with pytest.raises(PolicyDenied) as caught:
            recover(loss.place, loss.signed(counted=counted), scope=SCOPE)
        assert caught.value.rule == "recovery-counted"


def test_the_branch_that_the_owners_did_not_choose(loss: Loss) -> None:
    """They were shown generation 2, generation 3 was hidden: it does not come back over acts."""
    loss.world.put_back(loss.copies[1])
    digest = hashlib.sha256(loss.copies[1]).hexdigest()
    signed = loss.signed(state_digest=digest, generation=2)
    state = recover(loss.place, signed, scope=SCOPE)
    hidden = [loss.copies[2]]
    with pytest.MonkeyPatch.context() as patch:  # what the old branch had as generation 4
        patch.setattr(loss.world, "count", loss.counts[2])
        loss.world.put_back(loss.copies[2])
        SealedState.open(loss.place).write(b"four of the old branch")
        hidden.append(loss.world.content)
    loss.world.put_back(loss.copies[1])
    state.write(b"another three")
    newest = loss.world.content
    for copy in hidden:
        loss.world.put_back(copy)
        with pytest.raises((CounterLost, StateRolledBack)):
            SealedState.open(loss.place)
    loss.world.put_back(newest)
    assert SealedState.open(loss.place).read() == b"another three"


@pytest.mark.parametrize("which", [0, 1])
def test_another_copy_of_the_state(loss: Loss, which: int) -> None:
    """The host keeps the statement and shows an older copy with it."""
    loss.world.put_back(loss.copies[which])
    with pytest.raises(PolicyDenied) as caught:
        recover(loss.place, loss.signed(), scope=SCOPE)
    assert caught.value.rule == "recovery-state"
    assert loss.world.count == 0


def test_another_state_of_that_generation(loss: Loss) -> None:
    """One that was written and never counted, in a process that the host killed."""
    loss.world.put_back(loss.copies[1])
    loss.world.count = loss.counts[1]
    state = SealedState.open(loss.place)
    loss.world.fail_next = "counter half advanced"
    with pytest.raises(CounterUnavailable):
        state.write(b"another three")
    assert loss.world.content[8:16] == loss.copies[2][8:16]
    loss.world.count = 0
    with pytest.raises(PolicyDenied) as caught:
        recover(loss.place, loss.signed(), scope=SCOPE)
    assert caught.value.rule == "recovery-state"


def test_no_state_at_all(loss: Loss) -> None:
    del loss.world.files[PATH]
    with pytest.raises(PolicyDenied) as caught:
        recover(loss.place, loss.signed(), scope=SCOPE)
    assert caught.value.rule == "recovery-state"


def test_what_is_no_state_of_ours(loss: Loss) -> None:
    """Owners who are shown a file of another label sign something that opens nothing."""
    foreign = b"x" * 100
    loss.world.put_back(foreign)
    signed = loss.signed(state_digest=hashlib.sha256(foreign).hexdigest())
    with pytest.raises(SealError):
        recover(loss.place, signed, scope=SCOPE)
    assert loss.world.count == 0


@pytest.mark.parametrize("generation", [1, 2, 4])
def test_another_generation(loss: Loss, generation: int) -> None:
    with pytest.raises(PolicyDenied, match="another generation") as caught:
        recover(loss.place, loss.signed(generation=generation), scope=SCOPE)
    assert caught.value.rule == "recovery-state"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"mesh": "other"}, "recovery-mesh"),
        ({"role": "broker"}, "recovery-for"),
        ({"measurement": "11" * 32}, "recovery-for"),
        ({"counter": "other"}, "recovery-for"),
        ({"keeper": "11" * 32}, "recovery-for"),
    ],
)
def test_a_statement_for_something_else(loss: Loss, changes: dict[str, object], rule: str) -> None:
    with pytest.raises(PolicyDenied) as caught:
        recover(loss.place, loss.signed(**changes), scope=SCOPE)
    assert caught.value.rule == rule
    assert loss.world.count == 0


def test_a_counter_that_was_lost_twice_at_another_keeper(loss: Loss) -> None:
    """The first statement is still there when the owners sign the second."""
    first = loss.signed()
    recover(loss.place, first, scope=SCOPE).write(b"four")
    newest = loss.world.content
    loss.world.count = 0
    fresh = replace(loss.place.counter, keeper_id=b"another broker".ljust(32))
    place = replace(loss.place, counter=fresh)
    loss.world.put_back(loss.copies[-1])
    with pytest.raises(PolicyDenied, match="another keeper"):
        recover(place, first, scope=SCOPE)
    loss.world.put_back(newest)
    second = loss.signed(
        keeper=fresh.keeper_id.hex(),
        state_digest=hashlib.sha256(newest).hexdigest(),
        generation=4,
    )
    assert recover(place, second, scope=SCOPE).read() == b"four"


@pytest.mark.parametrize(
    ("owners", "rule"),
    [
        ((OWNERS[0],), "recovery-threshold"),
        ((OWNERS[0], OWNERS[0]), "recovery-owner-once"),
        ((OWNERS[0], SigningKey.generate()), "recovery-owner"),
        ((*OWNERS, SigningKey.generate()), "recovery-owner"),
    ],
)
def test_who_has_to_sign(loss: Loss, owners: tuple[SigningKey, ...], rule: str) -> None:
    with pytest.raises(PolicyDenied) as caught:
        recover(loss.place, loss.signed(*owners), scope=SCOPE)
    assert caught.value.rule == rule
    assert loss.world.count == 0


def test_nobody_signed(loss: Loss) -> None:
    unsigned = SignedRecovery(recovery=wire.encode(loss.statement()), signatures=())
    with pytest.raises(PolicyDenied) as caught:
        recover(loss.place, unsigned, scope=SCOPE)
    assert caught.value.rule == "recovery-threshold"


def test_every_bit_of_a_statement_is_signed(loss: Loss) -> None:
    signed = loss.signed()
    for at in range(len(signed.recovery)):
        flipped = bytearray(signed.recovery)
        flipped[at] ^= 1
        forged = msgspec.structs.replace(signed, recovery=bytes(flipped))
        with pytest.raises((AuthenticationFailed, FormatError, PolicyDenied)):
            verify_recovery(forged, mesh=MESH)
    wrong = RecoverySignature(owner=OWNERS[1].public.hex(), signature="00" * 64)
    forged = msgspec.structs.replace(signed, signatures=(signed.signatures[0], wrong))
    with pytest.raises(AuthenticationFailed, match="not what its owner signed"):
        verify_recovery(forged, mesh=MESH)


def test_a_signature_for_another_use_is_none(loss: Loss) -> None:
    """The label keeps it from passing for one under a manifest, and the other way round."""
    raw = wire.encode(loss.statement())
    other = wire.fields("wardian mesh manifest signature v1", raw)
    signatures = tuple(
        RecoverySignature(owner=owner.public.hex(), signature=owner.sign(other).hex())
        for owner in OWNERS[:2]
    )
    with pytest.raises(AuthenticationFailed):
        verify_recovery(SignedRecovery(recovery=raw, signatures=signatures), mesh=MESH)


def test_one_form_only(loss: Loss) -> None:
    raw = wire.encode(loss.statement())
    for other in (raw + b" ", raw.replace(b'"box"', b'"\\u0062ox"'), b"{}", b" " * 5000):
        message = wire.fields("wardian counter recovery signature v1", other)
        signatures = tuple(
            RecoverySignature(owner=owner.public.hex(), signature=owner.sign(message).hex())
            for owner in OWNERS[:2]
        )
        with pytest.raises(FormatError):
            verify_recovery(SignedRecovery(recovery=other, signatures=signatures), mesh=MESH)


def test_only_verify_recovery_makes_a_verified_one(loss: Loss) -> None:
    with pytest.raises(LocalProtocolError):
        VerifiedRecovery(recovery=loss.statement(), signers=(), proof=object())
    assert len(verify_recovery(loss.signed(), mesh=MESH).signers) == 2


@pytest.mark.parametrize("step", ["counter read", "counter half advanced", "counter advanced"])
def test_a_counter_that_fails_meanwhile(loss: Loss, step: str) -> None:
    """The same statement serves again; or it was used, and the state opens."""
    signed = loss.signed()
    loss.world.fail_next = step
    with pytest.raises(CounterUnavailable):
        recover(loss.place, signed, scope=SCOPE)
    if loss.world.count:
        assert SealedState.open(loss.place).read() == b"three"
    else:
        assert recover(loss.place, signed, scope=SCOPE).read() == b"three"
