"""How long a process stays in the mesh, and what it does about news; no clock but the test's."""

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))

from toy_mesh import NOW, ToyBroker, ToyMesh

from wardian.broker.lease import Lease, Moment
from wardian.broker.release.admission import Admission
from wardian.broker.release.in_force import InForce
from wardian.errors import (
    AdmissionRefused,
    AuthenticationFailed,
    ConnectionLost,
    PolicyDenied,
    TransportError,
    WardianError,
)
from wardian.roles import admission as admission_module
from wardian.roles import asking
from wardian.roles import membership as membership_module
from wardian.roles.admission import Brokers
from wardian.roles.host import HostSettings
from wardian.roles.membership import LONGEST_PAUSE_S, POLL_S, Membership
from wardian.roles.staying import Staying

LEASE_S = 3600


class Case:
    """A process, a real broker behind fakes of its two questions, and a clock that pauses drive."""

    def __init__(self, broker: ToyBroker) -> None:
        self.broker = broker
        self.seconds = 0.0
        self.frozen = False
        self.silent = False
        self.refuses: WardianError | None = None
        self.admitted: list[Admission] = []
        self.renewals: list[float] = []
        self.looks: list[float] = []
        self.noticed: list[float] = []
        self.alone: list[float] = []
        self.ends_as: WardianError | None = None
        self.until: Callable[[], bool] = lambda: False
        self.made: tuple[InForce, Admission] | None = None  # for threads: SQLite is of one
        self.first = self.obtain(renewal=False)

    def clock(self) -> Moment:
        return Moment(ticks=self.seconds, now=NOW if self.frozen else NOW + int(self.seconds))

    def obtain(self, *, renewal: bool) -> Admission:
        self.broker.host_time = NOW + int(self.seconds)
        mesh = self.broker.mesh
        return self.broker.admit(
            mesh.workload("frontend", ("digits",), renewal=renewal), mesh.attest("frontend")
        )

    def lease_of(self, admission: Admission) -> Lease:
        return Lease.begin(self.clock(), life_s=LEASE_S, ends_at=admission.valid_until, chance=0.0)

    # Brokers

    async def admit(self, *, renews: Admission | None = None) -> tuple[Admission, Lease]:
        assert renews is not None
        self.renewals.append(self.seconds)
        if self.silent:
            raise ConnectionLost("no broker answers")
        if self.refuses is not None:
            raise self.refuses
        admission = self.obtain(renewal=True) if self.made is None else self.made[1]
        return admission, self.lease_of(admission)

    async def in_force(self, admission: Admission) -> InForce:
        self.looks.append(self.seconds)
        if self.silent:
            raise ConnectionLost("no broker answers")
        return self.answer() if self.made is None else self.made[0]

    def answer(self) -> InForce:
        authority = self.broker.authority
        return InForce(
            manifest_digest=authority.manifest_digest.hex(),
            manifest_version=authority.manifest_version,
            epoch=authority.epoch,
            issuing_ca=authority.issuer.certificate,
        )

    def make(self) -> None:
        """Let the broker answer from now on what it would answer now."""
        self.made = self.answer(), self.obtain(renewal=True)

    # Member

    def adopt(self, admission: Admission) -> WardianError | None:
        self.admitted.append(admission)
        return self.ends_as

    def note(self) -> None:
        self.noticed.append(self.seconds)

    async def pause(self, seconds: float) -> None:
        assert 0 <= seconds <= LONGEST_PAUSE_S
        self.seconds += max(seconds, 0.001)
        if self.until():
            raise asyncio.CancelledError
        await asyncio.sleep(0)

    def membership(self, **more: object) -> Membership:
        return Membership(
            self,  # type: ignore[arg-type]
            admission=self.first,
            lease=self.lease_of(self.first),
            member=SimpleNamespace(  # type: ignore[arg-type]
                adopt=self.adopt,
                noticed=self.note,
                left_alone=lambda: self.alone.append(self.seconds),
            ),
            clock=self.clock,
            pause=self.pause,
            **more,  # type: ignore[arg-type]
        )

    async def run(self, membership: Membership, *, seconds: float | None = None) -> object:
        """Return why it is over, or None after `seconds` of the case's clock."""
        if seconds is not None:
            end = self.seconds + seconds
            self.until = lambda: self.seconds >= end
        try:
            return await membership.run()
        except asyncio.CancelledError:
            return None


@pytest.fixture
def case(tmp_path: Path):
    broker = ToyBroker(ToyMesh(), tmp_path / "broker.db")
    yield Case(broker)
    broker.close()


async def test_certificates_are_renewed_before_they_expire(case: Case) -> None:
    assert await case.run(case.membership(), seconds=5 * LEASE_S) is None
    assert case.renewals == pytest.approx([1800, 3600, 5400, 7200, 9000, 10800, 12600, 14400, 16200], abs=LONGEST_PAUSE_S)  # fmt: skip
    assert len({each.certificate_digest for each in case.admitted}) == 9
    assert {each.epoch for each in case.admitted} == {1}


async def test_t21_without_a_broker_a_process_serves_one_lease(case: Case) -> None:
    case.silent = True
    over = await case.run(case.membership())
    assert isinstance(over, TransportError)
    assert "no broker renewed it" in str(over)
    assert over.retryable
    assert LEASE_S <= case.seconds < LEASE_S + LONGEST_PAUSE_S
    assert case.admitted == []
    assert len(case.renewals) > 20  # from half of it on, again and again


async def test_t9_a_frozen_wall_clock_makes_it_no_longer(case: Case) -> None:
    case.silent = case.frozen = True
    over = await case.run(case.membership())
    assert isinstance(over, TransportError)
    assert LEASE_S <= case.seconds < LEASE_S + LONGEST_PAUSE_S


async def test_a_front_end_that_nobody_answers_asks_on(case: Case) -> None:
    case.silent = True
    membership = case.membership(poll_s=POLL_S)
    await case.run(membership, seconds=20)
    assert len(case.looks) >= 9
    assert case.noticed == case.renewals == []
    case.silent = False
    case.broker.authority.turn_epoch(rule="owner-order")
    await case.run(membership, seconds=POLL_S)
    assert [each.epoch for each in case.admitted] == [2]


async def test_a_broker_that_comes_back_in_time(case: Case) -> None:
    case.silent = True
    membership = case.membership()
    assert await case.run(membership, seconds=LEASE_S - 100) is None
    case.silent = False
    assert await case.run(membership, seconds=LEASE_S) is None
    assert case.admitted[0].valid_until > NOW + LEASE_S


async def test_a_front_end_takes_up_a_turned_epoch_within_seconds(case: Case) -> None:
    membership = case.membership(poll_s=POLL_S)
    await case.run(membership, seconds=60)
    assert case.admitted == []
    assert len(case.looks) >= 60 / POLL_S - 1
    case.broker.authority.turn_epoch(rule="owner-order")
    turned = case.seconds
    await case.run(membership, seconds=10)
    assert [each.epoch for each in case.admitted] == [2]
    assert case.noticed[0] - turned <= POLL_S
    assert case.renewals[0] == case.noticed[0]  # and from then on nothing is sealed as before
    await case.run(membership, seconds=60)
    assert len(case.admitted) == 1


async def test_a_new_manifest_is_taken_up_live(case: Case) -> None:
    case.broker.provision(case.broker.mesh.signed(version=2))
    membership = case.membership(poll_s=POLL_S)
    await case.run(membership, seconds=10)
    (fresh,) = case.admitted
    assert (fresh.manifest.manifest.version, fresh.epoch) == (2, 2)


async def test_news_that_cannot_be_taken_up_yet_are_tried_again(case: Case) -> None:
    """The broker has no quote to spare for a while."""
    membership = case.membership(poll_s=POLL_S)
    case.broker.authority.turn_epoch(rule="owner-order")
    case.refuses = TransportError("the broker refuses: more evidence than it can make")
    await case.run(membership, seconds=10)
    assert case.admitted == []
    assert len(case.noticed) == len(case.renewals) >= 4
    case.refuses = None
    await case.run(membership, seconds=5)
    assert [each.epoch for each in case.admitted] == [2]


async def test_a_broker_that_goes_between_the_news_and_the_keys_holds_nobody_up(case: Case) -> None:
    """It said that an epoch is over, and was gone before it gave the next: until it is back, or the
    lease ends, its front ends serve as those do that never heard of it."""
    membership = case.membership(poll_s=POLL_S)
    case.broker.authority.turn_epoch(rule="owner-order")
    case.refuses = ConnectionLost("the broker hands over")
    await case.run(membership, seconds=0.1)
    assert (len(case.noticed), case.alone) == (1, [])
    case.silent = True
    await case.run(membership, seconds=60)
    (alone,) = case.alone
    assert alone - case.noticed[0] <= POLL_S + 0.1
    case.silent, case.refuses = False, None
    await case.run(membership, seconds=5)
    assert [each.epoch for each in case.admitted] == [2]
    assert len(case.alone) == 1


async def test_t21_while_a_broker_says_that_an_epoch_is_over_nothing_goes_on_under_it(
    case: Case,
) -> None:
    membership = case.membership(poll_s=POLL_S)
    case.broker.authority.turn_epoch(rule="owner-order")
    case.refuses = TransportError("the broker refuses: more evidence than it can make")
    await case.run(membership, seconds=60)
    assert len(case.noticed) > 20
    assert case.alone == []


async def test_t21_who_was_withdrawn_is_out_at_once(case: Case) -> None:
    case.refuses = AdmissionRefused("measurement is not one", rule="MeasurementIn")
    case.broker.authority.turn_epoch(rule="owner-order")
    over = await case.run(case.membership(poll_s=POLL_S))
    assert over is case.refuses
    assert case.seconds <= POLL_S


@pytest.mark.parametrize(
    "error",
    [
        PolicyDenied("no", rule="role-known"),
        AuthenticationFailed("not the broker"),
        OSError("no descriptors"),
        TimeoutError(),
    ],
)
async def test_what_anybody_on_the_way_can_bring_about_ends_nothing(
    case: Case, error: WardianError
) -> None:
    """A wrong broker at the address, a refusal that nobody vouches for: as if there were none."""
    case.refuses = error
    membership = case.membership()
    assert await case.run(membership, seconds=LEASE_S - 10) is None
    assert len(case.renewals) > 10
    case.refuses = None
    assert await case.run(membership, seconds=200) is None
    assert len(case.admitted) == 1


async def test_a_member_that_has_no_place_under_the_new_manifest(case: Case) -> None:
    case.ends_as = TransportError("start anew")
    case.broker.provision(case.broker.mesh.signed(version=2))
    membership = case.membership(poll_s=POLL_S)
    assert await case.run(membership) is case.ends_as
    looks = len(case.looks)
    await membership._look()  # a question that came too late
    assert len(case.looks) == looks


async def test_t5_a_broker_whose_state_was_set_back_renews_nothing(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = case.first
    case.broker.authority.turn_epoch(rule="owner-order")
    case.first = case.obtain(renewal=False)
    for answer in (older, other_mesh(case, tmp_path)):
        asked: list[float] = []

        async def admit(
            answer: Admission = answer, asked: list[float] = asked, **_: object
        ) -> tuple[Admission, Lease]:
            asked.append(case.seconds)
            return answer, case.lease_of(answer)

        monkeypatch.setattr(case, "admit", admit)
        assert await case.run(case.membership(), seconds=LEASE_S / 2 + 60) is None
        assert case.admitted == []
        assert len(asked) > 1
        case.seconds = 0


def other_mesh(case: Case, tmp_path: Path) -> Admission:
    """Of a mesh of the same owners and name, which was founded anew, and is ahead of ours."""
    other = ToyBroker(case.broker.mesh, tmp_path / "other.db")
    mesh = other.mesh
    for _ in range(4):
        other.authority.turn_epoch(rule="age")
    admission = other.admit(mesh.workload("frontend", ("digits",)), mesh.attest("frontend"))
    other.close()
    return admission


# From another thread: a worker's


def test_a_worker_asks_when_a_message_makes_it(case: Case) -> None:
    staying = Staying()
    staying.look_now()  # before there is a membership: nothing
    left = threading.Event()
    case.until = lambda: False

    async def pause(seconds: float) -> None:
        await asyncio.sleep(0.001)  # the clock stands still: only the question makes it act

    case.pause = pause  # type: ignore[method-assign]
    case.broker.authority.turn_epoch(rule="owner-order")
    case.make()
    staying.start(case.membership(), leave=left.set)
    staying.look_now()
    assert [each.epoch for each in case.admitted] == [2]
    staying.look_now()
    assert len(case.admitted) == 1
    staying.stop()
    staying.raise_if_over()
    assert not left.is_set()
    staying.look_now()  # after its end: nothing


def test_why_it_is_over_is_raised_in_the_main_thread(case: Case) -> None:
    case.refuses = AdmissionRefused("withdrawn", rule="owner-policy")
    staying, left = Staying(), threading.Event()
    staying.start(case.membership(), leave=left.set)
    assert left.wait(10)
    staying.stop()
    with pytest.raises(AdmissionRefused):
        staying.raise_if_over()


def test_a_bug_ends_the_process_as_well(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    def adopt(_: Admission) -> None:
        raise ZeroDivisionError("with a secret in its text")

    case.adopt = adopt  # type: ignore[assignment]
    case.make()
    staying, left = Staying(), threading.Event()
    staying.start(case.membership(), leave=left.set)
    assert left.wait(10)
    staying.stop()
    with pytest.raises(ZeroDivisionError):
        staying.raise_if_over()
    assert "membership.bug" in [record.getMessage() for record in caplog.records]
    assert "secret" not in caplog.text


def test_t21_a_host_that_never_makes_the_quote_keeps_no_worker_past_its_lease() -> None:
    stuck = threading.Event()
    left = threading.Event()

    async def run() -> WardianError:
        asyncio.get_running_loop().run_in_executor(None, stuck.wait)  # `to_thread(attest)`
        return TransportError("the lease has ended")

    staying = Staying()
    staying.start(SimpleNamespace(run=run), leave=left.set)  # type: ignore[arg-type]
    try:
        assert left.wait(2)
        with pytest.raises(TransportError, match="the lease has ended"):
            staying.raise_if_over()
    finally:
        stuck.set()
        staying.stop()


async def test_t21_a_lease_ends_while_its_renewal_hangs_and_timers_stand_still(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership_module, "LONGEST_PAUSE_S", 0.01)
    hung: list[asyncio.Task[object] | None] = []

    async def hang(*, renews: Admission | None = None) -> tuple[Admission, Lease]:
        hung.append(asyncio.current_task())
        case.seconds = LEASE_S + 1  # the machine was asleep: the loop's timers know nothing of it
        await asyncio.Event().wait()
        raise AssertionError

    case.admit = hang  # type: ignore[method-assign]
    membership = case.membership()
    case.seconds = 0.6 * LEASE_S
    async with asyncio.timeout(2):
        over = await case.run(membership)
    assert isinstance(over, TransportError)
    assert "no broker renewed it" in str(over)
    assert case.admitted == []
    await asyncio.sleep(0)
    assert hung[0] is not None
    assert hung[0].cancelled()


def test_a_membership_that_was_never_started(case: Case) -> None:
    case.membership().look_now(timeout_s=0.1)
    staying = Staying()
    staying.stop()
    staying.raise_if_over()


# Several brokers


class Asked:
    """Answers for each address what a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, case: Case, **answers: object) -> None:
        self.answers, self.order, self.case = answers, [], case
        monkeypatch.setattr(admission_module, "obtain", self.obtain)
        monkeypatch.setattr(admission_module, "ask_in_force", self.obtain)

    async def obtain(self, address: tuple[str, int], **more: object) -> Admission:
        self.order.append(address[0])
        answer = self.answers[address[0]]
        if isinstance(answer, Exception):
            raise answer
        return self.case.first

    def brokers(self) -> Brokers:
        mesh = self.case.broker.mesh
        enclave = SimpleNamespace(evidence=mesh.attest("frontend"), name="x", simulated=True)
        host = HostSettings(brokers=tuple((name, 1) for name in self.answers))
        return Brokers(enclave, host, mesh.agreed, role="frontend", models=("digits",))  # type: ignore[arg-type]


LOST = ConnectionLost("nobody answers there")


async def test_the_broker_that_answered_is_asked_first_from_then_on(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch, case, standby=TransportError("not the active one"), active=None)
    brokers = asked.brokers()
    await brokers.admit()
    await brokers.admit(renews=case.first)
    await brokers.in_force(case.first)
    assert asked.order == ["standby", "active", "active", "active"]
    asked.answers = {"standby": None, "active": LOST}
    await brokers.in_force(case.first)
    assert asked.order[-2:] == ["active", "standby"]


async def test_a_wrong_broker_does_not_keep_from_the_right_one(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch, case, wrong=AuthenticationFailed("not ours"), right=None)
    admission, lease = await asked.brokers().admitted()
    assert admission is case.first
    assert lease.life_s <= LEASE_S


async def test_no_broker_answers(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, case, wrong=AuthenticationFailed("not ours"), gone=LOST)
    with pytest.raises(ConnectionLost):  # which may be tried again
        await asked.brokers().admit()
    asked.answers = {"wrong": AuthenticationFailed("not ours"), "gone": PolicyDenied("x", rule="r")}
    with pytest.raises(AuthenticationFailed):
        await asked.brokers().admit()


async def test_a_refusal_by_a_broker_that_was_verified_is_final(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch, case, one=AdmissionRefused("no", rule="r"), two=None)
    with pytest.raises(AdmissionRefused):
        await asked.brokers().admitted()
    assert asked.order == ["one"]


async def test_patience_at_the_start(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PAUSE_S", 0)
    monkeypatch.setattr(asking, "PATIENCE_S", 0.05)
    asked = Asked(monkeypatch, case, gone=LOST)
    with pytest.raises(ConnectionLost):
        await asked.brokers().admitted()
    assert len(asked.order) > 1


def test_no_broker_at_all(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    from wardian.errors import ConfigError

    with pytest.raises(ConfigError, match="no broker address"):
        Asked(monkeypatch, case).brokers()
