"""The worker's queue keys over the epochs: what opens, what does not, and what forgers cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.data_plane import receiver, sender

from wardian.crypto.message_header import MAGIC, RequestHeader, epoch_of
from wardian.crypto.message_keys import Cache, Peer
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, FormatError
from wardian.serving.epochs import FIRST_PAUSE_S, LONGEST_PAUSE_S, EpochCodec, Questions

KEEP_S = 40.0
HEADER = RequestHeader(version=1, deadline_ms=1, request_ids=(1,))


def key(epoch: int) -> Secret:
    return Secret(bytes([epoch]) * 32)


class Case:
    """A worker's codec, a broker that has `in_force`, and a clock."""

    def __init__(self, *, reachable: bool = True) -> None:
        self.now = 1000.0
        self.in_force = 5
        self.reachable = reachable
        self.asked = 0
        self.senders = {}
        self.codec = EpochCodec(model="digits", keep_s=KEEP_S, ask=self.ask, ticks=lambda: self.now)
        self.take_up(5)

    def ask(self) -> None:
        self.asked += 1
        if self.reachable:
            self.take_up(self.in_force)

    def take_up(self, epoch: int) -> None:
        self.codec.take_up(key(epoch), epoch=epoch, certificate_digest=b"w" * 32)

    def message(self, epoch: int):
        """A message of a front end in `epoch`, and what opens its answer."""
        if epoch not in self.senders:
            self.senders[epoch] = sender(key=key(epoch), epoch=epoch)
        return self.senders[epoch].seal_request(b"input", header=HEADER)

    def opens(self, epoch: int) -> bool:
        sealed, pending = self.message(epoch)
        try:
            opened = self.codec.open_request(sealed)
        except AuthenticationFailed:
            return False
        return pending.open(opened.answer(b"output")) == b"output"


@pytest.fixture
def case() -> Case:
    return Case()


def forged(epoch: int) -> bytes:
    """What anybody can write: a header of that epoch, and noise."""
    sealed, _ = sender(key=Secret.random(), epoch=epoch).seal_request(b"x", header=HEADER)
    return sealed


def test_a_message_of_a_later_epoch_is_opened_once_the_broker_was_asked(case: Case) -> None:
    case.in_force = 6
    assert case.opens(6)
    assert (case.asked, case.codec.epoch) == (1, 6)
    assert case.opens(6)
    assert case.asked == 1


def test_t21_a_worker_that_was_not_renewed_opens_nothing_of_a_later_epoch() -> None:
    """Its clock stands still, nobody answers it, and no time that passes helps."""
    stale = Case(reachable=False)
    for _ in range(100):
        assert not stale.opens(6)
    assert stale.opens(5)


def test_t4_a_message_of_an_epoch_that_is_over_is_refused(case: Case) -> None:
    case.in_force = 6
    early, _ = case.message(5)
    late, _ = case.message(5)
    assert case.opens(6)
    case.now += KEEP_S - 0.1
    case.codec.open_request(early)  # it was under way
    case.now += 0.1
    with pytest.raises(AuthenticationFailed, match="whose key is not here"):
        case.codec.open_request(late)
    assert case.asked == 1  # an older epoch is no news


def test_the_keys_of_an_epoch_that_is_over_are_erased(case: Case) -> None:
    first = key(5)
    codec = EpochCodec(model="digits", keep_s=KEEP_S, ask=lambda: None, ticks=lambda: case.now)
    codec.take_up(first, epoch=5, certificate_digest=b"w" * 32)
    codec.take_up(key(6), epoch=6, certificate_digest=b"w" * 32)
    case.now += KEEP_S
    assert len(first) == 32
    with pytest.raises(AuthenticationFailed):
        codec.open_request(forged(6))
    assert repr(first) == "Secret(wiped)"


def test_every_epoch_has_its_own_end(case: Case) -> None:
    case.take_up(6)
    case.now += 30
    case.take_up(7)
    assert [case.opens(epoch) for epoch in (5, 6, 7)] == [True, True, True]
    case.now += 10
    assert [case.opens(epoch) for epoch in (5, 6, 7)] == [False, True, True]
    case.now += 30
    assert [case.opens(epoch) for epoch in (5, 6, 7)] == [False, False, True]


def test_t18_a_renewal_within_an_epoch_does_not_forget_what_was_seen(case: Case) -> None:
    """Else every renewal would let the host run all messages of the epoch once more."""
    sealed, _ = case.message(5)
    case.codec.open_request(sealed)
    second = key(5)
    case.codec.take_up(second, epoch=5, certificate_digest=b"n" * 32)
    with pytest.raises(AuthenticationFailed, match="seen before"):
        case.codec.open_request(sealed)
    assert repr(second) == "Secret(wiped)"
    assert case.opens(5)


def test_another_key_of_the_same_epoch_takes_the_place_of_the_first(case: Case) -> None:
    """From a broker whose state was set back and went on: one key of the two holds."""
    sealed, _ = case.message(5)
    other = Secret(b"o" * 32)
    case.codec.take_up(other, epoch=5, certificate_digest=b"w" * 32)
    with pytest.raises(AuthenticationFailed):
        case.codec.open_request(sealed)
    mine, _ = sender(key=Secret(b"o" * 32), epoch=5).seal_request(b"x", header=HEADER)
    assert case.codec.open_request(mine).plaintext == b"x"


def test_forged_epochs_make_no_flood(case: Case) -> None:
    """A thousand a second for ten minutes, each of another epoch."""
    for number in range(600_000):
        case.now += 0.001
        if number % 50 == 0:  # every one would only be slower to test
            with pytest.raises(AuthenticationFailed):
                case.codec.open_request(forged_head(6 + number))
    assert case.asked <= 6 + 600 / LONGEST_PAUSE_S
    assert case.opens(5)


def forged_head(epoch: int) -> bytes:
    return MAGIC + bytes([1, 1, 6, 1]) + epoch.to_bytes(8, "big") + bytes(100)


def test_a_real_epoch_after_forged_ones_is_found_within_half_a_minute(case: Case) -> None:
    for _ in range(100):
        case.now += 1
        with pytest.raises(AuthenticationFailed):
            case.codec.open_request(forged(99))
    case.in_force = 6
    case.now += LONGEST_PAUSE_S
    assert case.opens(6)
    case.in_force = 7
    assert not case.opens(7)  # at most one question a second
    case.now += FIRST_PAUSE_S
    assert case.opens(7)


@pytest.mark.parametrize("raw", [b"", b"wdnq", b"wdnq" + bytes(11), b"WDNQ" + bytes(99)])
def test_what_is_no_message_asks_nobody(case: Case, raw: bytes) -> None:
    with pytest.raises(FormatError):
        case.codec.open_request(raw)
    assert case.asked == 0


@given(st.integers(0, 2**63 - 1))
def test_the_epoch_of_a_message_is_what_it_states(epoch: int) -> None:
    sealed, _ = sender(epoch=epoch).seal_request(b"", header=HEADER)
    assert epoch_of(sealed) == epoch


def test_closed_it_answers_what_it_opened_and_opens_nothing(case: Case) -> None:
    case.take_up(6)
    (first, pending), (second, _) = case.message(5), case.message(6)
    opened = case.codec.open_request(first)
    case.codec.close()
    assert pending.open(opened.answer(b"output")) == b"output"
    with pytest.raises(AuthenticationFailed, match="erased"):
        case.codec.open_request(second)
    case.codec.erase()
    with pytest.raises(AuthenticationFailed, match="erased"):
        opened.answer(b"output")
    with pytest.raises(AuthenticationFailed, match="whose key is not here"):
        case.codec.open_request(second)


def test_an_answer_whose_epoch_ended_meanwhile(case: Case) -> None:
    sealed, _ = case.message(5)
    opened = case.codec.open_request(sealed)
    case.take_up(6)
    case.now += KEEP_S
    assert case.opens(6)
    with pytest.raises(AuthenticationFailed, match="erased"):
        opened.answer(b"output")


def test_questions_wait_longer_for_every_one_in_vain() -> None:
    questions, now, waits = Questions(), 0.0, []
    assert questions.allows(now)
    for _ in range(8):
        questions.asked(now, in_vain=True)
        before = now
        while not questions.allows(now):
            now += 0.5
        waits.append(now - before)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    questions.asked(now, in_vain=False)
    assert not questions.allows(now + FIRST_PAUSE_S - 0.01)
    assert questions.allows(now + LONGEST_PAUSE_S)


def test_one_receiver_in_crypto_closed_before_it_answered() -> None:
    """Its keys for answers are there although it never made one."""
    sealed, pending = sender().seal_request(b"x", header=HEADER)
    one = receiver(key=Secret(b"k" * 32))
    opened = one.open_request(sealed)
    one.close()
    one.close()
    assert pending.open(opened.answer(b"y")) == b"y"


def test_the_keys_of_an_epoch_that_is_over_are_erased_while_no_message_comes(case: Case) -> None:
    old = Secret(bytes(32))
    case.codec.take_up(old, epoch=6, certificate_digest=b"w" * 32)
    case.take_up(7)
    case.now += KEEP_S - 1
    case.codec.erase_over()
    assert len(old) == 32
    case.now += 1
    case.codec.erase_over()
    assert len(old) == 0
    assert case.opens(7)


def test_epochs_that_turn_while_no_message_comes_pile_up_no_keys(case: Case) -> None:
    for epoch in range(6, 200):
        case.take_up(epoch)
        case.now += KEEP_S
    assert len(case.codec._receivers) <= 2


def test_t21_what_was_closed_takes_up_nothing_more(case: Case) -> None:
    case.codec.close()
    late = key(6)
    case.codec.take_up(late, epoch=6, certificate_digest=b"w" * 32)
    assert len(late) == 0
    assert not case.opens(6)
    assert not case.opens(5)


@pytest.mark.parametrize("how", ["close", "erase"])
def test_t21_a_lease_that_ends_between_two_steps_refuses_and_ends_no_worker(
    case: Case, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    sealed, _ = case.message(5)
    get = Cache.get

    def at_the_worst_moment(cache: "Cache[object]", peer: Peer) -> object:
        getattr(case.codec, how)()  # in the membership's thread
        return get(cache, peer)

    monkeypatch.setattr(Cache, "get", at_the_worst_moment)
    with pytest.raises(AuthenticationFailed, match="erased"):
        case.codec.open_request(sealed)
