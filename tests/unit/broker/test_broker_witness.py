"""A witness signs one log: forks, cut logs, forgotten memories, stolen signatures."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from audit_logs import CA, STRANGER, WITNESSES, ToyLog, Watcher, decode_offer
from toy_mesh import NOW

from wardian._internal import wire
from wardian.broker.ca import MeshCa
from wardian.broker.refusal import refusal_for
from wardian.broker.transparency.cosigning import Cosignature, cosign
from wardian.broker.transparency.witnessing import WitnessHello, WitnessOffer, WitnessSession
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    FormatError,
    LocalProtocolError,
    PeerProtocolError,
    PolicyDenied,
    SealError,
)

OTHER_CA = MeshCa.create(mesh="test", simulated=True, now=NOW)
replace = msgspec.structs.replace


@pytest.fixture
def log(tmp_path: Path) -> Iterator[ToyLog]:
    with closing(ToyLog(tmp_path / "log.db")) as log:
        log.append(9)
        yield log


@pytest.fixture
def fork(tmp_path: Path) -> Iterator[ToyLog]:
    """The same up to line 9, then another."""
    with closing(ToyLog(tmp_path / "fork.db")) as log:
        log.append(9)
        log.append(9, model="hidden")
        yield log


def examined(session: WitnessSession, log: ToyLog, **changes: object) -> object:
    offer = replace(decode_offer(log.offer(session.hello())), **changes)
    return session.examine(wire.encode(offer), certificate=log.certificate, now=log.now)


def session_of(watcher: Watcher) -> WitnessSession:
    return WitnessSession(key=watcher.key, memory=watcher.memory, ca_spki=watcher.ca_spki)


def test_a_witness_comes_again_and_again(log: ToyLog) -> None:
    watcher = Watcher()
    for lines in (0, 5, 0, 1):
        log.append(lines)
        log.now += 10
        shown = watcher.visit(log)
        (mine,) = shown.cosigned
        assert mine.cosignature.count == shown.head.audit.count == log.store.audit_head.count
        assert mine.cosignature.time == log.now
        assert not watcher.session.set_back
    assert watcher.memory is not None
    assert watcher.memory.head.audit == log.store.audit_head


def test_what_was_signed_outlives_the_broker(log: ToyLog) -> None:
    Watcher(WITNESSES[0]).visit(log)
    Watcher(WITNESSES[1]).visit(log)
    generation = log.store.generation
    log.now += 10
    Watcher(WITNESSES[0]).visit(log)  # nothing new but the time: it costs no step of the counter
    assert log.store.generation == generation
    log.close()
    log.open()
    assert [each.cosignature.count for each in log.shown.witnessed().cosigned] == [9, 9]
    assert log.store.audit_head.count == 9  # witnesses write no lines


def test_without_a_ca_nobody_is_signed_for() -> None:
    with pytest.raises(ConfigError, match="mesh-ca.pem"):
        WitnessSession(key=WITNESSES[0], memory=None, ca_spki=None)


def test_the_memory_names_the_ca(log: ToyLog, tmp_path: Path) -> None:
    watcher = Watcher()
    watcher.visit(log)
    watcher.ca_spki = None
    watcher.visit(log)
    with closing(ToyLog(tmp_path / "other.db", ca=OTHER_CA)) as other:
        other.append(9)
        with pytest.raises(AuthenticationFailed, match="another mesh CA"):
            watcher.visit(other)
    watcher.memory, watcher.ca_spki = None, OTHER_CA.spki
    with pytest.raises(AuthenticationFailed, match="another mesh CA"):
        watcher.visit(log)


# A witness is shown another log


def test_a_fork_is_not_signed(log: ToyLog, fork: ToyLog) -> None:
    watcher = Watcher()
    watcher.visit(log)
    watcher.visit(fork)  # up to line 9 they are one
    with pytest.raises(AuthenticationFailed, match="forked"):
        log.append(20)
        watcher.visit(log)
    assert watcher.memory is not None
    assert watcher.memory.head.audit == fork.store.audit_head  # nothing was forgotten


@pytest.mark.parametrize("lines", [3, 9, 10])
def test_a_log_that_was_rewritten(log: ToyLog, tmp_path: Path, lines: int) -> None:
    watcher = Watcher()
    watcher.visit(log)
    with closing(ToyLog(tmp_path / "rewritten.db")) as rewritten:
        rewritten.append(lines, model="other")
        with pytest.raises(AuthenticationFailed, match="altered, cut short or forked"):
            watcher.visit(rewritten)


def test_an_older_copy_of_the_log(log: ToyLog, tmp_path: Path) -> None:
    watcher = Watcher()
    log.append(5)
    watcher.visit(log)
    with closing(ToyLog(tmp_path / "older.db")) as older:
        older.append(9)
        with pytest.raises(AuthenticationFailed, match="cut short"):
            watcher.visit(older)


# The memory is set back


def test_a_witness_set_back_learns_from_its_own_signature(log: ToyLog) -> None:
    watcher = Watcher()
    watcher.visit(log)
    older = watcher.memory
    log.append(5)
    watcher.visit(log)
    log.append(5)
    watcher.memory = older
    watcher.visit(log)
    assert watcher.session.set_back
    watcher.memory = None
    watcher.visit(log)
    assert watcher.session.set_back
    watcher.visit(log)
    assert not watcher.session.set_back


def test_a_witness_set_back_does_not_sign_against_its_own_signature(
    log: ToyLog, fork: ToyLog
) -> None:
    watcher = Watcher()
    watcher.visit(log)
    older = watcher.memory
    log.append(6)
    watcher.visit(log)
    known = decode_offer(log.offer(session_of(watcher).hello())).known
    assert known is not None
    watcher.memory = older
    session = session_of(watcher)
    with pytest.raises(AuthenticationFailed, match="forked"):  # the fork shows it, as it stands
        examined(session, fork, known=known)


def test_another_witness_signature_is_not_its_own(log: ToyLog) -> None:
    Watcher(WITNESSES[1]).visit(log)
    known = decode_offer(log.offer(hello_of(WITNESSES[1]))).known
    with pytest.raises(PeerProtocolError, match="another witness"):
        examined(session_of(Watcher()), log, known=known)


def hello_of(key) -> bytes:
    return WitnessSession(key=key, memory=None, ca_spki=CA.spki).hello()


# What travels is spoiled


@pytest.mark.parametrize(
    "spoil",
    [
        lambda offer: replace(offer, head=replace(offer.head, time=NOW + 1)),
        lambda offer: replace(offer, head=replace(offer.head, mesh="other")),
        lambda offer: replace(offer, mesh_ca=OTHER_CA.certificate),
        lambda offer: replace(offer, consistency=()),
        lambda offer: replace(offer, consistency=(*offer.consistency, bytes(32))),
        lambda offer: replace(offer, consistency=offer.consistency[:-1]),
        lambda offer: replace(offer, known=replace(offer.known, consistency=())),
    ],
    ids=["time", "mesh", "CA", "no proof", "surplus", "short", "own proof"],
)
def test_an_offer_that_was_changed(
    log: ToyLog, spoil: Callable[[WitnessOffer], WitnessOffer]
) -> None:
    watcher = Watcher()
    watcher.visit(log)
    log.append(4)
    session = session_of(watcher)
    offer = spoil(decode_offer(log.offer(session.hello())))
    with pytest.raises(AuthenticationFailed):
        session.examine(wire.encode(offer), certificate=log.certificate, now=log.now)


def test_an_offer_that_did_not_come_from_the_broker(log: ToyLog, fork: ToyLog) -> None:
    """A fork, or anything else, that somebody else carries convicts nobody."""
    watcher = Watcher()
    log.append(4)
    watcher.visit(log)
    session = session_of(watcher)
    raw = fork.offer(session.hello())
    for certificate in (OTHER_CA.certificate, CA.certificate, b"x"):
        with pytest.raises(PeerProtocolError, match="does not end at a broker"):
            session.examine(raw, certificate=certificate, now=log.now)
        assert session.offer is None
    with pytest.raises(AuthenticationFailed, match="forked"):
        session.examine(raw, certificate=fork.certificate, now=log.now)
    assert session.offer == decode_offer(raw)
    with pytest.raises(LocalProtocolError):
        session.cosignature()


def test_an_old_offer_that_is_played_back_convicts_nobody(log: ToyLog) -> None:
    watcher = Watcher()
    old = log.offer(session_of(watcher).hello())
    watcher.visit(log)
    log.append(4)
    log.now += 301
    watcher.visit(log)
    session = session_of(watcher)
    with pytest.raises(PolicyDenied) as caught:
        session.examine(old, certificate=log.certificate, now=log.now)
    assert caught.value.rule == "head-time"
    assert session.offer is None


def test_the_memory_names_the_mesh(log: ToyLog, tmp_path: Path) -> None:
    watcher = Watcher()
    watcher.visit(log)
    with closing(ToyLog(tmp_path / "renamed.db", mesh="renamed")) as renamed:
        renamed.append(9)
        with pytest.raises(AuthenticationFailed, match="another mesh"):
            watcher.visit(renamed)


@pytest.mark.parametrize("seconds", [301, -301])
def test_an_old_head_is_not_signed_anew(log: ToyLog, seconds: int) -> None:
    with pytest.raises(PolicyDenied) as caught:
        Watcher().visit(log, now=NOW + seconds)
    assert caught.value.rule == "head-time"


def test_a_ca_that_does_not_parse(log: ToyLog) -> None:
    with pytest.raises(FormatError):
        examined(session_of(Watcher()), log, mesh_ca=b"x")


def test_the_broker_refuses(log: ToyLog) -> None:
    session = session_of(Watcher())
    refusal = wire.encode(refusal_for(PolicyDenied("no", rule="witness-known")))
    with pytest.raises(PolicyDenied, match="no"):
        session.examine(refusal, certificate=log.certificate, now=NOW)
    with pytest.raises(PeerProtocolError):
        session.examine(b"{}", certificate=log.certificate, now=NOW)


def test_nothing_is_signed_before_it_was_examined() -> None:
    with pytest.raises(LocalProtocolError):
        session_of(Watcher()).cosignature()


def test_a_broker_that_does_not_show_what_was_signed(log: ToyLog) -> None:
    Watcher(WITNESSES[1]).visit(log)
    session = session_of(Watcher())
    examined(session, log)
    session.cosignature()
    with pytest.raises(PeerProtocolError, match="does not show"):
        session.receipt(wire.encode(log.shown.witnessed()))


# What the broker takes


def signed(log: ToyLog, key=WITNESSES[0], **changes: object) -> Cosignature:
    head = log.shown.head()
    for name in ("count", "root"):
        if name in changes:
            head = replace(head, audit=replace(head.audit, **{name: changes[name]}))
    return cosign(key, head, now=changes.get("time", log.now))  # type: ignore[arg-type]


def test_a_stranger_is_no_witness(log: ToyLog) -> None:
    with pytest.raises(PolicyDenied) as caught:
        log.shown.accept(signed(log, STRANGER))
    assert caught.value.rule == "witness-known"
    with pytest.raises(PolicyDenied) as caught:
        log.shown.refuse_stranger(STRANGER.public.hex())
    assert caught.value.rule == "witness-known"
    log.shown.refuse_stranger(WITNESSES[0].public.hex())


@pytest.mark.parametrize(
    "changes", [{"root": "00" * 32}, {"count": 10}, {"count": 8}], ids=["root", "more", "less"]
)
def test_a_witness_of_another_log(log: ToyLog, changes: dict[str, object]) -> None:
    with pytest.raises(PolicyDenied) as caught:
        log.shown.accept(signed(log, **changes))
    assert caught.value.rule == "witness-head"
    assert log.shown.witnessed().cosigned == ()


def test_a_forged_cosignature(log: ToyLog) -> None:
    forged = replace(signed(log), signature=bytes(64))
    with pytest.raises(AuthenticationFailed):
        log.shown.accept(forged)


def test_an_older_cosignature_does_not_come_back(log: ToyLog) -> None:
    old = signed(log)
    log.shown.accept(old)
    log.shown.accept(old)  # the same again changes nothing
    log.append(3)
    log.now += 5
    log.shown.accept(signed(log))
    for late in (old, signed(log, time=NOW), signed(log, time=log.now + 301)):
        with pytest.raises(PolicyDenied) as caught:
            log.shown.accept(late)
        assert caught.value.rule == "witness-newer"
    assert log.shown.witnessed().cosigned[0].cosignature.count == 12


def test_a_witness_that_left_the_settings_is_not_shown(log: ToyLog) -> None:
    Watcher(WITNESSES[0]).visit(log)
    Watcher(WITNESSES[1]).visit(log)
    log.close()
    log.witnesses = log.witnesses[1:]
    log.open()
    assert [each.cosignature.witness for each in log.shown.witnessed().cosigned] == [
        WITNESSES[1].public.hex()
    ]


def test_what_cannot_be_kept_is_not_shown(log: ToyLog) -> None:
    log.counter.fails = True
    with pytest.raises(OSError, match="killed"):
        log.shown.accept(signed(log))
    assert log.shown.witnessed().cosigned == ()
    with pytest.raises(SealError):
        log.shown.accept(signed(log))


def test_a_hello_names_what_was_seen(log: ToyLog) -> None:
    watcher = Watcher()
    watcher.visit(log)
    hello = wire.decode(session_of(watcher).hello(), WitnessHello, what="x")
    assert (hello.witness, hello.seen) == (WITNESSES[0].public.hex(), 9)
