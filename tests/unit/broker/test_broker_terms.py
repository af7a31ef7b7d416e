"""How often and how long a secret is released: counted before it leaves, whatever the clock says.

TRUST T5 (uses), T9 (time), T21 (an owner that is cut off).
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from toy_mesh import NOW, Counter, ToyBroker, ToyMesh

from wardian.broker.mesh.lines import Line, ReleaseTerms
from wardian.broker.release.admission import Admission
from wardian.broker.release.grants import Vault
from wardian.broker.release.policy import Entitlement
from wardian.broker.release.terms import Standing, refuse_over, refuse_spent
from wardian.broker.state.audit import AuditEntry, verify_chain
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.store import Store
from wardian.crypto.signing import SigningKey
from wardian.errors import LocalProtocolError, PolicyDenied, SealError

DAY = 24 * 3600


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[ToyBroker]:
    """Two owners, either of whom may sign a manifest."""
    mesh = ToyMesh(owners=[SigningKey.generate(), SigningKey.generate()])
    with closing(ToyBroker(mesh, tmp_path / "pair.db")) as broker:
        yield broker


def worker(broker: ToyBroker, **how: object) -> Admission:
    return broker.admit(broker.mesh.workload(**how), broker.mesh.attest("worker"))


def entries(broker: ToyBroker) -> list[AuditEntry]:
    lines = broker.store.audit_lines(limit=1000)
    return [line.entry for line in verify_chain(lines, head=broker.store.audit_head)]


def put_model(broker: ToyBroker, serial: int = 2, **terms: int) -> None:
    """Put a manifest in force whose one model line has these terms."""
    mesh = broker.mesh
    line = mesh.line(serial=serial, terms=ReleaseTerms(**terms))
    signed = mesh.signed(version=broker.authority.manifest_version + 1, models=(line,))
    broker.provision(signed, keys=(mesh.keys["digits"],))


def put_secret(broker: ToyBroker, serial: int = 1, **terms: int) -> None:
    mesh = broker.mesh
    line = mesh.secret(serial=serial, terms=ReleaseTerms(**terms))
    broker.provision(
        mesh.signed(version=broker.authority.manifest_version + 1, secrets=(line,)),
        keys=(mesh.keys["digits"],),
    )


def denied(broker: ToyBroker) -> str:
    """Return the rule that refuses a worker the model's key."""
    with pytest.raises(PolicyDenied) as caught:
        worker(broker)
    return caught.value.rule


def withheld(broker: ToyBroker) -> str:
    """Return the rule by which the secret does not come; the worker itself is admitted."""
    with pytest.raises(LocalProtocolError, match="no secret license"):
        worker(broker).named_secret("license")
    last = [each for each in entries(broker) if each.secret == "license"][-1]
    assert last.outcome == "refused"
    return last.rule


# Uses


def test_a_model_is_released_as_often_as_its_owner_granted(pair: ToyBroker) -> None:
    put_model(pair, max_uses=2)
    for use in (1, 2):
        worker(pair)
        assert [e.use for e in entries(pair) if e.kind == "model"][-1] == use
    assert denied(pair) == "uses-exhausted"
    pair.restart()
    assert denied(pair) == "uses-exhausted"


def test_uses_are_counted_from_the_first_ever(pair: ToyBroker) -> None:
    """A limit that comes later holds for what was released before it, too."""
    worker(pair)
    worker(pair)
    put_model(pair, max_uses=2)
    assert denied(pair) == "uses-exhausted"


def test_a_line_that_is_signed_again_does_not_begin_anew(pair: ToyBroker) -> None:
    """A higher serial, another file, another key: it is the same version of the same model."""
    put_model(pair, max_uses=1)
    worker(pair)
    put_model(pair, serial=3, max_uses=1)
    assert denied(pair) == "uses-exhausted"
    put_model(pair, serial=4, max_uses=2)
    worker(pair)
    assert denied(pair) == "uses-exhausted"


def test_the_count_outlives_the_line(pair: ToyBroker) -> None:
    """A manifest without the line, then one with it: the owners do not wash the count away."""
    put_secret(pair, max_uses=1)
    worker(pair).named_secret("license")
    pair.provision(pair.mesh.signed(version=3))
    put_secret(pair, serial=2, max_uses=1)
    assert withheld(pair) == "uses-exhausted"


def test_uses_of_one_owner_model_and_version_are_nobody_elses(pair: ToyBroker) -> None:
    put_model(pair, max_uses=1)
    worker(pair)
    other = pair.mesh.line(owner=pair.mesh.owners[1], terms=ReleaseTerms(max_uses=1))
    pair.provision(
        pair.mesh.signed(version=3, models=(other,)), keys=(pair.mesh.keys["digits"],), owner=1
    )
    worker(pair)
    assert denied(pair) == "uses-exhausted"


def both_proved(broker: ToyBroker) -> list[Callable[[], Admission]]:
    """Two workers that have shown their evidence, and wait for message 4."""
    waiting = []
    for _ in range(2):
        workload, session = broker.mesh.workload(), broker.open()
        shown = broker.challenge(session, workload.request(tee="simulated"))
        evidence = broker.mesh.attest("worker")(workload.receive_challenge(shown, now=NOW))
        message = workload.attestation(evidence)

        def finish(session=session, workload=workload, message=message) -> Admission:
            return workload.receive_response(broker.respond(session, message), now=NOW)

        waiting.append(finish)
    return waiting


def test_two_ask_at_once_for_the_last_use(pair: ToyBroker) -> None:
    put_model(pair, max_uses=1)
    first, second = both_proved(pair)
    second()
    with pytest.raises(PolicyDenied) as caught:
        first()
    assert caught.value.rule == "uses-exhausted"
    assert [e.use for e in entries(pair) if e.kind == "model" and e.use] == [1]


def test_a_broker_that_dies_before_the_count_lets_nothing_leave(pair: ToyBroker) -> None:
    """The commit is on the disk and was not counted: nobody got the key, the use may be gone."""
    put_model(pair, max_uses=1)
    pair.counter.fails = True
    with pytest.raises(OSError, match="killed"):
        worker(pair)
    with pytest.raises(SealError, match="in doubt"):
        worker(pair)
    pair.counter.fails = False
    pair.restart()
    assert denied(pair) == "uses-exhausted"


def test_a_broker_that_dies_before_its_answer_loses_the_use(pair: ToyBroker) -> None:
    """Counted, not sent: the use is lost, never had twice."""
    put_model(pair, max_uses=1)
    first, second = both_proved(pair)
    first()  # the answer that nobody receives
    pair.restart()
    assert denied(pair) == "uses-exhausted"
    with pytest.raises(PolicyDenied):
        second()


def test_t5_a_copy_of_the_state_has_no_uses_left_to_give(pair: ToyBroker) -> None:
    """The host puts back the file from before the last use: the counter tells."""
    put_model(pair, max_uses=1)
    before = pair.path.read_bytes()
    worker(pair)
    pair.close()
    pair.path.write_bytes(before)
    with pytest.raises(SealError):
        pair.start()
    assert isinstance(pair.counter, Counter)


def test_a_refused_workload_uses_nothing(pair: ToyBroker) -> None:
    """Neither code that is not listed, nor one that comes when the model may not be released."""
    put_model(pair, max_uses=1)
    with pytest.raises(PolicyDenied):
        pair.admit(pair.mesh.workload(), pair.mesh.attest("frontend"))
    worker(pair)
    line = pair.mesh.line(serial=3, terms=ReleaseTerms(max_uses=1))
    pair.provision(pair.mesh.signed(version=3, models=(line,), secrets=(pair.mesh.secret(),)))
    assert denied(pair) == "uses-exhausted"
    assert pair.store.keys("uses") == (pair.mesh.line().place,)


def test_one_version_may_be_spent_and_the_others_go_on(pair: ToyBroker) -> None:
    mesh = pair.mesh
    lines = (
        mesh.line(serial=2, terms=ReleaseTerms(max_uses=1)),
        mesh.line(version=2, terms=ReleaseTerms(max_uses=3)),
    )
    pair.provision(mesh.signed(version=2, models=lines), keys=(mesh.keys["digits"],))
    served = [{s.version for s in worker(pair).secrets if s.kind == "model"} for _ in range(3)]
    assert served == [{1, 2}, {2}, {2}]
    assert denied(pair) == "uses-exhausted"
    spent = [e for e in entries(pair) if e.rule == "uses-exhausted"]
    assert [(e.model, e.version, e.outcome) for e in spent] == [("digits", 1, "refused")] * 2


# Renewals


def test_a_renewal_gets_queue_keys_and_uses_nothing(pair: ToyBroker) -> None:
    put_secret(pair, max_uses=1)
    admission = worker(pair)
    for _ in range(3):
        renewed = worker(pair, renewal=True)
        assert {secret.kind for secret in renewed.secrets} == {"queue", "request"}
        assert renewed.queue_key("digits") == admission.queue_key("digits")
    assert withheld(pair) == "uses-exhausted"


def test_a_renewal_ends_with_the_models_time(pair: ToyBroker) -> None:
    """Who holds the key goes on for its lease; then the owner's word counts."""
    put_model(pair, not_after=NOW + 60)
    worker(pair)
    pair.host_time += 61
    with pytest.raises(PolicyDenied) as caught:
        worker(pair, renewal=True)
    assert caught.value.rule == "line-expired"


def test_a_renewal_lives_as_long_as_one_of_its_models_lines(pair: ToyBroker) -> None:
    mesh = pair.mesh
    lines = (mesh.line(serial=2, terms=ReleaseTerms(not_after=NOW - 1)), mesh.line(version=2))
    pair.provision(mesh.signed(version=2, models=lines), keys=(mesh.keys["digits"],))
    assert worker(pair, renewal=True).models == ("digits",)


def test_a_renewal_does_not_ask_whether_uses_are_left(pair: ToyBroker) -> None:
    put_model(pair, max_uses=1)
    worker(pair)
    assert worker(pair, renewal=True).models == ("digits",)


def test_a_renewal_whose_key_is_not_here_any_more(pair: ToyBroker) -> None:
    """What nobody would be given anew is no reason to go on."""
    worker(pair)
    entry = AuditEntry(event="provision", outcome="granted")
    erased = dict.fromkeys((("model-key", place) for place in pair.store.keys("model-key")), None)
    pair.store.commit(erased, audit=[entry], now=NOW)
    with pytest.raises(PolicyDenied) as caught:
        worker(pair, renewal=True)
    assert caught.value.rule == "key-given"


def test_a_renewal_while_an_owner_is_away(pair: ToyBroker) -> None:
    """After a recovery without it, its key is there and locked: workers that run go on."""
    worker(pair)
    alone = MasterKey.from_secret(pair.store.master_key.share_with(frozenset()))
    pair.store.close()
    with closing(Store(pair.path, master_key=alone, counter=pair.counter.seam)) as store:
        assert store.keys("model-key") == ()
        vault = Vault(store, pair.authority.clock)
        line = pair.mesh.line()
        entitled = (Entitlement(kind="model", model="digits", line=line),)
        vault.renewed(entitled, epoch=1, measurement="00" * 32)
    pair.start()


def test_a_renewal_of_code_that_the_owner_withdrew(pair: ToyBroker) -> None:
    worker(pair)
    line = pair.mesh.line(serial=2, measurements=[b"m" * 32])
    pair.provision(pair.mesh.signed(version=2, models=(line,)))
    with pytest.raises(PolicyDenied) as caught:
        worker(pair, renewal=True)
    assert caught.value.rule == "owner-policy"


def test_the_host_makes_a_renewal_of_an_admission_and_back(pair: ToyBroker) -> None:
    """It would withhold keys, or spend an owner's uses; the evidence says what was asked for."""
    from wardian.errors import EvidenceInvalid

    for renewal in (False, True):
        workload, session = pair.mesh.workload(renewal=renewal), pair.open()
        request = workload.request(tee="simulated")
        old, new = (b'"renewal":true', b'"renewal":false')[:: 1 if renewal else -1]
        assert old in request
        shown = pair.challenge(session, request.replace(old, new))
        evidence = pair.mesh.attest("worker")(workload.receive_challenge(shown, now=NOW))
        with pytest.raises(EvidenceInvalid):
            pair.respond(session, workload.attestation(evidence))
    assert pair.store.keys("uses") == ()


# The end of a line


def test_a_secret_ends_at_its_time(pair: ToyBroker) -> None:
    put_secret(pair, not_after=NOW + 60)
    for ahead in (0, 60):
        pair.host_time = NOW + ahead
        worker(pair).named_secret("license")
    pair.host_time = NOW + 61
    assert withheld(pair) == "line-expired"


def test_t9_a_clock_set_back_revives_no_expired_secret(pair: ToyBroker) -> None:
    put_model(pair, not_after=NOW + 60)
    pair.order("beacon", time=NOW + 61)
    for host_time in (NOW + 61, NOW, NOW - 1000 * DAY):
        pair.host_time = host_time
        assert denied(pair) == "line-expired"
        pair.restart()
        assert denied(pair) == "line-expired"


# Beacons: an owner that is cut off withdraws what it gave


def test_t21_an_owner_whose_beacons_stop(pair: ToyBroker) -> None:
    put_secret(pair, max_beacon_age_s=DAY)
    assert withheld(pair) == "beacon-missing"
    pair.order("beacon", time=NOW)
    worker(pair).named_secret("license")
    pair.host_time += DAY
    worker(pair).named_secret("license")
    pair.host_time += 1
    assert withheld(pair) == "beacon-old"
    pair.order("beacon", time=pair.host_time)
    worker(pair).named_secret("license")


def test_t21_another_owners_beacon_does_not_speak_for_this_one(pair: ToyBroker) -> None:
    """B and the host cut A off, and B keeps sending beacons."""
    put_secret(pair, max_beacon_age_s=DAY)
    pair.order("beacon", time=NOW, owner=1)
    assert withheld(pair) == "beacon-missing"
    pair.order("beacon", time=NOW)
    pair.host_time += 2 * DAY
    pair.order("beacon", time=pair.host_time, owner=1)
    assert withheld(pair) == "beacon-old"


def test_beacons_survive_a_restart(pair: ToyBroker) -> None:
    put_secret(pair, max_beacon_age_s=DAY)
    pair.order("beacon", time=NOW)
    pair.restart()
    worker(pair).named_secret("license")


def test_t9_other_owners_let_time_pass_under_a_host_that_stopped_it(tmp_path: Path) -> None:
    """The host's clock stands still and A is cut off; B and C still come through."""
    owners = [SigningKey.generate() for _ in range(3)]
    mesh = ToyMesh(owners=owners, threshold=2)
    with closing(ToyBroker(mesh, tmp_path / "three.db")) as broker:
        put_secret(broker, max_beacon_age_s=DAY)
        broker.order("beacon", time=NOW)
        worker(broker).named_secret("license")
        for owner in (1, 2):
            broker.order("beacon-ahead", time=NOW + 2 * DAY, owner=owner)
        assert withheld(broker) == "beacon-old"


# The judgement itself


def standing(**known: int) -> Standing:
    return Standing(**({"uses": 0, "now": NOW, "beacon": None} | known))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["model", "secret"])
def test_without_terms_nothing_ends(kind: str, mesh: ToyMesh) -> None:
    line: Line = mesh.line() if kind == "model" else mesh.secret()
    refuse_over(line, standing(now=2**40))
    refuse_spent(line, standing(uses=2**40))


def test_an_owners_own_word_on_the_time_counts_for_its_lines(mesh: ToyMesh) -> None:
    """It ends what this owner gave, however far behind the broker's clock is."""
    line = mesh.secret(terms=ReleaseTerms(not_after=NOW + 5))
    refuse_over(line, standing(beacon=NOW + 5))
    with pytest.raises(PolicyDenied) as caught:
        refuse_over(line, standing(beacon=NOW + 6))
    assert caught.value.rule == "line-expired"


def test_a_beacon_from_the_future_is_not_old(mesh: ToyMesh) -> None:
    line = mesh.secret(terms=ReleaseTerms(max_beacon_age_s=1))
    refuse_over(line, standing(beacon=NOW + 100))
    refuse_over(line, standing(beacon=NOW - 1))
    with pytest.raises(PolicyDenied):
        refuse_over(line, standing(beacon=NOW - 2))
