"""Signed heads, cosignatures, proofs: what is accepted, and whatever else is not."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from audit_logs import CA, STRANGER, WITNESSES, ToyLog, Watcher
from toy_mesh import NOW

from wardian._internal import wire
from wardian.broker.ca import MeshCa
from wardian.broker.state.audit import EMPTY, AuditHead
from wardian.broker.transparency.cosigning import (
    Cosignature,
    Cosigned,
    HeadDemand,
    WitnessedHead,
    cosign,
    cosigned_bytes,
    verify_cosignature,
)
from wardian.broker.transparency.heads import (
    SignedHead,
    head_signed_bytes,
    log_id,
    sign_head,
    verify_head,
)
from wardian.broker.transparency.proofs import (
    ProofRequest,
    ProvedLine,
    demand_answer,
    verify_continuation,
    verify_line,
)
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    FormatError,
    PeerProtocolError,
    PolicyDenied,
)

OTHER_CA = MeshCa.create(mesh="test", simulated=True, now=NOW)
replace = msgspec.structs.replace


@pytest.fixture
def log(tmp_path: Path) -> Iterator[ToyLog]:
    with closing(ToyLog(tmp_path / "log.db")) as log:
        log.append(9)
        yield log


# Heads


def test_a_head_says_where_the_log_ends(log: ToyLog) -> None:
    head = log.shown.head()
    assert verify_head(head, ca_spki=CA.spki, mesh="test") == log.store.audit_head
    assert head.audit.root == log.store.audit_tree.root().hex()
    assert (head.log, head.time, head.manifest) == (log_id(CA.spki), NOW, "")


def test_a_head_names_the_manifest_in_force() -> None:
    head = sign_head(
        EMPTY, mesh="test", manifest_digest=bytes(32), ca_spki=CA.spki, sign=CA.sign, now=NOW
    )
    assert head.manifest == "00" * 32
    assert verify_head(head, ca_spki=CA.spki) == EMPTY


@pytest.mark.parametrize(
    "changes",
    [
        {"mesh": "tesu"},
        {"manifest": "11" * 32},
        {"time": NOW + 1},
        {"audit": EMPTY},
        {"log": log_id(OTHER_CA.spki)},
    ],
    ids=str,
)
def test_a_head_that_was_changed(log: ToyLog, changes: dict[str, object]) -> None:
    with pytest.raises(AuthenticationFailed, match="audit head"):
        verify_head(replace(log.shown.head(), **changes), ca_spki=CA.spki)


@pytest.mark.parametrize("field", ["count", "digest", "root"])
def test_a_head_of_another_log(log: ToyLog, field: str) -> None:
    head = log.shown.head()
    audit = replace(head.audit, **{field: 8 if field == "count" else "ab" * 32})
    with pytest.raises(AuthenticationFailed, match="not signed by the mesh's CA key"):
        verify_head(replace(head, audit=audit), ca_spki=CA.spki)


def test_a_head_of_another_mesh(log: ToyLog, tmp_path: Path) -> None:
    with pytest.raises(AuthenticationFailed, match="another mesh"):
        verify_head(log.shown.head(), ca_spki=CA.spki, mesh="prod")
    with pytest.raises(AuthenticationFailed, match="another mesh"):
        verify_head(log.shown.head(), ca_spki=OTHER_CA.spki)


def test_another_key_signs_in_the_name_of_this_one(log: ToyLog) -> None:
    forged = sign_head(
        log.store.audit_head,
        mesh="test",
        manifest_digest=b"",
        ca_spki=CA.spki,
        sign=OTHER_CA.sign,
        now=NOW,
    )
    with pytest.raises(AuthenticationFailed, match="not signed by the mesh's CA key"):
        verify_head(forged, ca_spki=CA.spki)


def test_the_ca_signs_the_same_fields_under_another_label(log: ToyLog) -> None:
    head = log.shown.head()
    signed = head_signed_bytes(head).replace(b"audit head v1", b"audit head v2")
    with pytest.raises(AuthenticationFailed):
        verify_head(replace(head, signature=CA.sign(signed)), ca_spki=CA.spki)


def test_a_head_has_one_form() -> None:
    head = sign_head(
        EMPTY, mesh="test", manifest_digest=b"", ca_spki=CA.spki, sign=CA.sign, now=NOW
    )
    assert wire.decode(wire.encode(head), SignedHead, what="x") == head
    for broken in (
        {"count": -1},
        {"count": 2**53 + 1},
        {"root": "AB" * 32},
        {"digest": "ab" * 31},
    ):
        raw = wire.encode(replace(head, audit=replace(head.audit, **broken)))
        with pytest.raises(FormatError):
            wire.decode(raw, SignedHead, what="x")


# Lines


def test_a_line_is_proved_against_a_head_seen_before(log: ToyLog) -> None:
    seen = verify_head(log.shown.head(), ca_spki=CA.spki)
    log.append(20, model="later")
    request = ProofRequest(lines=(1, 9), seen=(0, 3, 9), size=9)
    proofs = log.shown.prove(request)
    demand_answer(request, proofs)
    assert [verify_line(each, head=seen).sequence for each in proofs.lines] == [1, 9]
    assert proofs.mesh_ca == CA.certificate
    with pytest.raises(AuthenticationFailed):
        verify_line(proofs.lines[0], head=log.store.audit_head)


def test_a_line_shown_at_another_place(log: ToyLog) -> None:
    (proved,) = log.shown.prove(ProofRequest(lines=(4,))).lines
    head = log.store.audit_head
    assert verify_line(proved, head=head).sequence == 4
    (other,) = log.shown.prove(ProofRequest(lines=(5,))).lines
    for forged in (
        ProvedLine(sequence=5, line=proved.line, inclusion=other.inclusion),
        ProvedLine(sequence=4, line=other.line, inclusion=proved.inclusion),
        ProvedLine(sequence=5, line=proved.line, inclusion=proved.inclusion),
        ProvedLine(sequence=4, line=proved.line, inclusion=(*proved.inclusion, bytes(32))),
    ):
        with pytest.raises(AuthenticationFailed):
            verify_line(forged, head=head)


def test_a_broker_whose_leaf_names_another_place() -> None:
    # Such a leaf is in no log that our code writes; a verifier does not rely on that.
    from wardian.broker.state.merkle import Tree

    with_two = [b'{"format":"wardian audit line v1","sequence":7,"time":1,"previous":"' + b"0" * 64]
    with_two[0] += b'","entry":{"event":"start","outcome":"granted"}}'
    tree = Tree(with_two)
    head = AuditHead(count=1, digest="00" * 32, root=tree.root().hex())
    with pytest.raises(AuthenticationFailed, match="another place than it names"):
        verify_line(ProvedLine(sequence=1, line=with_two[0], inclusion=()), head=head)


def test_a_leaf_that_is_no_line() -> None:
    from wardian.broker.state.merkle import Tree

    head = AuditHead(count=1, digest="00" * 32, root=Tree([b"{}"]).root().hex())
    with pytest.raises(FormatError):
        verify_line(ProvedLine(sequence=1, line=b"{}", inclusion=()), head=head)


def test_a_log_goes_on_and_another_does_not(log: ToyLog, tmp_path: Path) -> None:
    old = log.store.audit_head
    log.append(5)
    new = log.store.audit_head
    proof = log.shown.consistency(old.count)
    verify_continuation(old, new, proof=proof)
    verify_continuation(new, new, proof=())
    for other in (
        replace(old, root="00" * 32),
        replace(old, count=8),
        replace(old, count=14),
        replace(new, digest="00" * 32),
        replace(new, count=15),
    ):
        with pytest.raises(AuthenticationFailed):
            verify_continuation(other, new, proof=() if other.count == new.count else proof)


@pytest.mark.parametrize(
    "request_",
    [
        ProofRequest(lines=(10,)),
        ProofRequest(lines=(5,), size=4),
        ProofRequest(seen=(10,)),
        ProofRequest(seen=(5,), size=4),
        ProofRequest(size=10),
    ],
    ids=str,
)
def test_beyond_the_log_nothing_is_proved(log: ToyLog, request_: ProofRequest) -> None:
    with pytest.raises(PolicyDenied) as caught:
        log.shown.prove(request_)
    assert caught.value.rule == "audit-range"


def test_a_request_is_bounded() -> None:
    for many in (ProofRequest(lines=(1,) * 65), ProofRequest(seen=(1,) * 33)):
        with pytest.raises(FormatError):
            wire.decode(wire.encode(many), ProofRequest, what="x")


@pytest.mark.parametrize(
    "other",
    [
        ProofRequest(),
        ProofRequest(lines=(2,), seen=(3,)),
        ProofRequest(lines=(1,)),
        ProofRequest(lines=(1,), seen=(3,), size=8),
        ProofRequest(lines=(1, 1), seen=(3,)),
    ],
    ids=str,
)
def test_the_answer_to_another_request(log: ToyLog, other: ProofRequest) -> None:
    proofs = log.shown.prove(ProofRequest(lines=(1,), seen=(3,)))
    with pytest.raises(PeerProtocolError):
        demand_answer(other, proofs)


# Who demands witnesses


def demand(**changes: object) -> HeadDemand:
    fields: dict[str, object] = {
        "witnesses": frozenset(key.public.hex() for key in WITNESSES),
        "threshold": 2,
        "max_lines": 10,
        "max_age_s": 3600,
    }
    return HeadDemand(**(fields | changes))  # type: ignore[arg-type]


@pytest.fixture
def watched(log: ToyLog) -> ToyLog:
    """Two of three witnesses have seen it; one at line 9, one at line 11."""
    Watcher(WITNESSES[0]).visit(log)
    log.append(2)
    log.now += 60
    Watcher(WITNESSES[1]).visit(log)
    log.append(4)
    log.now += 40
    return log


def test_enough_witnesses(watched: ToyLog) -> None:
    found = demand().verify(
        watched.shown.witnessed(), ca_spki=CA.spki, mesh="test", now=watched.now
    )
    assert found.witnesses == tuple(sorted(key.public.hex() for key in WITNESSES[:2]))
    assert (found.audit.count, found.lines_behind, found.seconds_ago) == (15, 6, 100)
    nearer = demand(threshold=1).verify(watched.shown.witnessed(), ca_spki=CA.spki, now=watched.now)
    assert (nearer.lines_behind, nearer.seconds_ago) == (4, 40)


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 3},
        {"max_lines": 5},
        {"max_age_s": 99},
        {"witnesses": frozenset({STRANGER.public.hex()}), "threshold": 1},
    ],
    ids=["too few", "too many lines ago", "too long ago", "others"],
)
def test_too_few_witnesses(watched: ToyLog, changes: dict[str, object]) -> None:
    with pytest.raises(PolicyDenied) as caught:
        demand(**changes).verify(watched.shown.witnessed(), ca_spki=CA.spki, now=watched.now)
    assert caught.value.rule == "head-witnessed"


def test_a_broker_that_never_shows_what_witnesses_signed(watched: ToyLog) -> None:
    hidden = WitnessedHead(head=watched.shown.head())
    with pytest.raises(PolicyDenied, match="0 of the 1 witnesses"):
        demand(threshold=1).verify(hidden, ca_spki=CA.spki, now=watched.now)


def test_one_witness_shown_twice_is_one(watched: ToyLog) -> None:
    shown = watched.shown.witnessed()
    twice = replace(shown, cosigned=(shown.cosigned[0], shown.cosigned[0]))
    with pytest.raises(PolicyDenied, match="1 of the 2 witnesses"):
        demand().verify(twice, ca_spki=CA.spki, now=watched.now)


def test_a_witness_from_the_future_does_not_count(watched: ToyLog) -> None:
    with pytest.raises(PolicyDenied):
        demand().verify(watched.shown.witnessed(), ca_spki=CA.spki, now=NOW - 301)


def test_a_fork_is_caught_by_what_a_witness_signed(watched: ToyLog, tmp_path: Path) -> None:
    with closing(ToyLog(tmp_path / "fork.db")) as fork:
        fork.append(9)
        fork.append(9, model="hidden")
        signed = watched.shown.witnessed().cosigned[1]  # at line 11
        for consistency in (signed.consistency, fork.store.audit_tree.consistency(11, 18)):
            shown = WitnessedHead(
                head=fork.shown.head(),
                cosigned=(replace(signed, consistency=consistency),),
            )
            with pytest.raises(AuthenticationFailed, match="forked"):
                demand(threshold=1).verify(shown, ca_spki=CA.spki, now=watched.now)


def test_a_fork_keeps_only_what_was_signed_before_it(watched: ToyLog, tmp_path: Path) -> None:
    # Both logs agree up to line 9, which the first witness signed; the fork shows that and grows.
    with closing(ToyLog(tmp_path / "fork.db")) as fork:
        fork.append(9)
        fork.shown.accept(watched.shown.witnessed().cosigned[0].cosignature)
        fork.append(10, model="hidden")
        one = demand(threshold=1)
        assert one.verify(fork.shown.witnessed(), ca_spki=CA.spki, now=NOW).lines_behind == 10
        fork.append(1, model="hidden")
        with pytest.raises(PolicyDenied):
            one.verify(fork.shown.witnessed(), ca_spki=CA.spki, now=NOW)


def test_lines_bound_a_fork_and_fresh_times_do_not(tmp_path: Path) -> None:
    """A third broker, idle where two others parted, has a witness sign anew for both of them."""
    idle, one, other = (ToyLog(tmp_path / f"{name}.db") for name in ("idle", "one", "other"))
    with closing(idle), closing(one), closing(other):
        for log in (idle, one, other):
            log.append(9)
        witness, asked = Watcher(WITNESSES[0]), demand(threshold=1, max_lines=3, max_age_s=60)
        for days in (1, 400):
            at = NOW + days * 86_400
            idle.now = one.now = other.now = at
            signed = witness.visit(idle).cosigned[0].cosignature
            for log, model in ((one, "seen"), (other, "hidden")):
                log.append(model=model)
                log.shown.accept(signed)
                found = asked.verify(log.shown.witnessed(), ca_spki=CA.spki, now=at)
                assert found.seconds_ago == 0
        assert one.store.audit_head.root != other.store.audit_head.root
        other.append(2, model="hidden")
        with pytest.raises(PolicyDenied, match="within the last 3 lines"):
            asked.verify(other.shown.witnessed(), ca_spki=CA.spki, now=at)


@pytest.mark.parametrize("field", ["count", "root", "time", "signature"])
def test_a_cosignature_that_was_changed(watched: ToyLog, field: str) -> None:
    shown = watched.shown.witnessed()
    value = {"count": 8, "root": "00" * 32, "time": NOW + 1, "signature": bytes(64)}[field]
    forged = replace(shown.cosigned[0].cosignature, **{field: value})
    cosigned = (replace(shown.cosigned[0], cosignature=forged), shown.cosigned[1])
    with pytest.raises(AuthenticationFailed, match="cosignature"):
        demand(threshold=1).verify(
            replace(shown, cosigned=cosigned), ca_spki=CA.spki, now=watched.now
        )


def test_a_cosignature_is_of_one_mesh_one_ca_and_one_label(log: ToyLog) -> None:
    head = log.shown.head()
    signed = cosign(WITNESSES[0], head, now=NOW)
    verify_cosignature(signed, mesh=head.mesh, log=head.log)
    for mesh, log_ in (("other", head.log), (head.mesh, log_id(OTHER_CA.spki))):
        with pytest.raises(AuthenticationFailed):
            verify_cosignature(signed, mesh=mesh, log=log_)
    for key in WITNESSES:
        own = replace(signed, witness=key.public.hex())
        labelled = cosigned_bytes(own, mesh=head.mesh, log=head.log)
        other_label = labelled.replace(b"cosignature v1", b"cosignature v2")
        for message, good in ((labelled, True), (other_label, False)):
            again = replace(own, signature=key.sign(message))
            if good:
                verify_cosignature(again, mesh=head.mesh, log=head.log)
                continue
            with pytest.raises(AuthenticationFailed):
                verify_cosignature(again, mesh=head.mesh, log=head.log)


def test_the_same_log_of_another_ca_does_not_get_the_witness(
    watched: ToyLog, tmp_path: Path
) -> None:
    with closing(ToyLog(tmp_path / "twin.db", ca=OTHER_CA)) as twin:
        twin.append(9)
        assert twin.store.audit_head.root == watched.store.audit_tree.root(9).hex()
        signed = watched.shown.witnessed().cosigned[0].cosignature
        shown = WitnessedHead(
            head=twin.shown.head(), cosigned=(Cosigned(cosignature=signed, consistency=()),)
        )
        with pytest.raises(AuthenticationFailed, match="cosignature"):
            demand(threshold=1).verify(shown, ca_spki=OTHER_CA.spki, now=NOW)
        with pytest.raises(AuthenticationFailed, match="cosignature"):
            twin.shown.accept(signed)


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 0},
        {"threshold": 4},
        {"witnesses": frozenset()},
        {"max_lines": -1},
        {"max_age_s": -1},
    ],
    ids=str,
)
def test_a_demand_that_nothing_or_everything_meets(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        demand(**changes)


def test_a_cosignature_has_one_form(log: ToyLog) -> None:
    signed = cosign(WITNESSES[1], log.shown.head(), now=NOW)
    assert wire.decode(wire.encode(signed), Cosignature, what="x") == signed
    with pytest.raises(FormatError):
        wire.decode(wire.encode(replace(signed, signature=bytes(63))), Cosignature, what="x")
